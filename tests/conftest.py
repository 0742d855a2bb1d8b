"""One real Kafka, Postgres and Postfix for the whole run; a topic prefix and a database per test."""

import os
import shutil
import signal
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.embedded import EmbeddedKafka, EmbeddedPostgres
from ops.embedded.postfix import EmbeddedDovecot, EmbeddedPostfix
from ops.embedded.process import port_for, start, stop, wait_until
from ops.site import Site

ROOT = Path(__file__).parent.parent
WITHOUT_SOCKETS = ("tests/decisions", "tests/schemas")


@pytest.fixture(scope="session")
def run_folder() -> Iterator[Path]:
    """A folder for this run, removed at its end."""
    folder = ROOT / ".mailfleet" / "test" / str(os.getpid())
    folder.mkdir(parents=True)
    yield folder
    if not os.environ.get("MAILFLEET_KEEP"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(run_folder: Path) -> Iterator[EmbeddedKafka]:
    """The run's broker."""
    broker = EmbeddedKafka(run_folder / "kafka", jars=ROOT / ".mailfleet" / "jars")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def postgres(run_folder: Path) -> Iterator[EmbeddedPostgres]:
    """The run's Postgres."""
    server = EmbeddedPostgres(run_folder / "postgres")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"t{uuid.uuid4().hex[:12]}"
    postgres.create_database(name)
    yield postgres.url_of(name)
    postgres.drop_database(name)


@dataclass(frozen=True)
class Mta:
    """An agency's own MTA as ops/postfix has it, with one login, and its ways to receivers of three kinds."""

    postfix: EmbeddedPostfix
    dovecot: EmbeddedDovecot
    user: str = "bob@firm.test"
    password: str = "correct horse battery"


SINKS = {
    "takes.test": [],
    "refuses.test": ["-f", "RCPT", "-B", "550 5.1.1 <anna@refuses.test>: Recipient address rejected: User unknown"],
    "waits.test": ["-r", "RCPT", "-b", "450 4.2.1 <anna@waits.test>: Recipient is receiving mail too quickly"],
}
"""Domain → how its mail server, Postfix's smtp-sink, answers."""


@pytest.fixture(scope="session")
def privileged(needs: Callable[[str, str], None]) -> None:
    """Postfix and Dovecot are there, and this is root, without whom they do not start."""
    needs("postfix", "postfix")
    needs("smtp-sink", "postfix")
    needs("dovecot", "dovecot-imapd")
    if os.geteuid() != 0:
        sentence = "Postfix and Dovecot start as root only: run the tests as root, or in a container"
        if os.environ.get("CI") == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)


@pytest.fixture(scope="session")
def sinks(privileged: None, run_folder: Path) -> Iterator[dict[str, int]]:
    """Domain → port of a mail server that answers as SINKS says."""
    ports, running = {}, []
    for domain, arguments in SINKS.items():
        folder = run_folder / domain
        folder.mkdir()
        ports[domain] = port = port_for(folder, None, "smtp-sink")
        command = ["smtp-sink", "-u", "nobody", *arguments, f"127.0.0.1:{port}", "100"]
        sink = start(command, folder / "log")
        wait_until(lambda port=port: answers(port), sink, "smtp-sink", folder / "log", 10)  # type: ignore[misc]
        running.append(sink)
    yield ports
    for sink in running:
        stop(sink, signal.SIGTERM)


def answers(port: int) -> bool:
    """Return whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


@contextmanager
def running_mta(folder: Path, sinks: Mapping[str, int], settings: Mapping[str, str]) -> Iterator[Mta]:
    """Run an MTA with these settings over the shipped ones. It looks no MX up: receivers are those of SINKS."""
    ways = " ".join(f"{{ {domain}=smtp:[127.0.0.1]:{port} }}" for domain, port in sinks.items())
    later = "{ later@takes.test=450 4.2.1 The user is receiving mail too quickly }"
    usual = {
        "transport_maps": f"inline:{{ {ways} }}",
        "submission_recipient_restrictions": f"check_recipient_access inline:{{ {later} }}, "
        "permit_sasl_authenticated, reject",
        "smtp_tls_security_level": "none",
    }
    made = EmbeddedPostfix(folder, {**usual, **settings})
    logins = EmbeddedDovecot(folder / "logins", {Mta.user: Mta.password}, made.queue)
    try:
        made.start()
        logins.start()
        yield Mta(made, logins)
    finally:
        made.stop()
        logins.stop()


@pytest.fixture(scope="session")
def mta(sinks: dict[str, int], run_folder: Path) -> Iterator[Mta]:
    """The run's MTA."""
    with running_mta(run_folder / "mta", sinks, {}) as made:
        yield made


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:8]}-"


@pytest.fixture
def site(kafka: EmbeddedKafka, database: str, topic_prefix: str, run_folder: Path) -> Iterator[Site]:
    """A whole fleet of its own on the run's servers: topics and receiver are there, no process runs yet."""
    folder = run_folder / topic_prefix
    made = Site(folder, kafka.bootstrap, database, topic_prefix)
    made.prepare()
    made.start_receiver()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_sockets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of the pure parts may not open a connection."""
    here = request.path.relative_to(ROOT).as_posix()
    if here.startswith(WITHOUT_SOCKETS):

        def refuse(*_args: object) -> None:
            raise AssertionError("a test of the mind opened a connection")

        monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="session")
def needs() -> Callable[[str, str], None]:
    """Skip with a sentence that names the Debian package of a missing program; with CI=true fail."""

    def check(program: str, package: str) -> None:
        if shutil.which(program) is None:
            sentence = f"{program} is missing: apt-get install {package}"
            if os.environ.get("CI") == "true":
                pytest.fail(sentence)
            pytest.skip(sentence)

    return check
