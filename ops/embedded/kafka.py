"""One Apache Kafka broker (KRaft, combined mode, loopback only) in a folder."""

import base64
import signal
import subprocess
import time
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from ops.embedded.jars import DEFAULT_FOLDER, Progress, ensure_jars
from ops.embedded.java import Java, find_java
from ops.embedded.place import LOOPBACK, Place, is_free
from ops.embedded.process import Program, end, launch, run

START_SECONDS = 90.0
STOP_SECONDS = 20.0

# Small and fast: one broker on a small machine. The dedupe buffer's default of 128 MB kills a small heap.
SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes=1500000
default.replication.factor=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
controlled.shutdown.enable=true
broker.heartbeat.interval.ms=250
broker.session.timeout.ms=1500
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.threads=1
num.network.threads=1
num.io.threads=2
num.recovery.threads.per.data.dir=1
background.threads=2
"""

LOGGING = """\
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1} %m%n
"""


class EmbeddedKafka:
    """A broker that keeps its port and its data between starts on the same folder."""

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        jars: Path = DEFAULT_FOLDER,
        heap_mb: int = 256,
        progress: Progress | None = None,
    ) -> None:
        self._place = Place(folder, "Kafka")
        self._wanted_port = port
        self._jars = jars
        self._heap_mb = heap_mb
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = port

    @property
    def bootstrap(self) -> str:
        """The address for clients; known from the first start on."""
        if self._port is None:
            raise RuntimeError("Kafka's port is known only after start()")
        return f"{LOOPBACK}:{self._port}"

    @property
    def log(self) -> Path:
        """What the broker wrote: warnings and errors."""
        return self._place.log

    @property
    def pid(self) -> int | None:
        """The broker's process, if it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Return when clients can use the broker and every partition has a leader. Raises CannotStart."""
        if self._process and self._process.poll() is None:
            return
        self.kill()
        self._place.claim()
        try:
            self._start()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _start(self) -> None:
        java = find_java()
        ensure_jars(self._jars, self._progress)
        self._write_settings()
        if not (self._data / "meta.properties").exists():
            self._format(java)
        self._process = launch(self._java_program(java, "kafka.Kafka", str(self._settings)), self.log)
        self._place.note_process(self._process.pid)
        self._wait_until_usable(self._process)

    def _end(self, how: signal.Signals) -> None:
        if self._process:
            end(self._process, how, STOP_SECONDS)
            self._process = None
        self._place.release()

    @property
    def _data(self) -> Path:
        return self._place.folder / "data"

    @property
    def _settings(self) -> Path:
        return self._place.folder / "server.properties"

    @property
    def _logging(self) -> Path:
        return self._place.folder / "log4j2.properties"

    def _write_settings(self) -> None:
        self._port = self._place.port("clients", self._wanted_port)
        controller_port = self._place.port("controller")
        for port in (self._port, controller_port):
            self._place.require_free(port)
        self._logging.write_text(LOGGING)
        self._settings.write_text(
            SETTINGS.format(host=LOOPBACK, port=self._port, controller_port=controller_port, data=self._data)
        )

    def _format(self, java: Java) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        words = ("format", "--ignore-formatted", "-t", cluster, "-c", str(self._settings))
        if run(self._java_program(java, "kafka.tools.StorageTool", *words), self.log) != 0:
            raise self._place.failure("could not prepare its folder")

    def _java_program(self, java: Java, main_class: str, *arguments: str) -> Program:
        words = (
            java.path,
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            *java.quiet_flags,
            f"-Dlog4j2.configurationFile={self._logging}",
            "-cp",
            f"{self._jars.absolute()}/*",
            main_class,
            *arguments,
        )
        return Program(words, self._place.folder)

    def _wait_until_usable(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if process.poll() is not None:
                raise self._place.failure("stopped while starting")
            if time.monotonic() > deadline:
                raise self._place.failure(f"did not answer within {START_SECONDS:.0f} s")
            time.sleep(0.05)

    def _answers(self) -> bool:
        assert self._port is not None
        return not is_free(self._port) and has_leaders(self.bootstrap)


def has_leaders(bootstrap: str) -> bool:
    """Whether the cluster answers and every partition of every topic has a leader."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        cluster = client.list_topics(timeout=2)
    except KafkaException:
        return False
    partitions = [one for topic in cluster.topics.values() for one in topic.partitions.values()]
    return bool(cluster.brokers) and all(one.leader >= 0 for one in partitions)
