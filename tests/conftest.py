"""One real Kafka and one real Postgres for the whole run; a topic prefix and a database per test."""

import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.embedded import EmbeddedKafka, EmbeddedPostgres
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
