"""Kafka's jars, exactly those of the lock file, fetched once into a folder and checked by hash each time."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from jgo.maven import MavenContext

from ops.embedded.place import CannotStart

CHECKOUT = Path(__file__).parents[2]
LOCK_FILE = Path(__file__).parents[1] / "kafka-jars.lock"
DEFAULT_FOLDER = CHECKOUT / ".mailfleet" / "jars"
TRIES = 3

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Jar:
    """One line of the lock file."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def ensure_jars(folder: Path = DEFAULT_FOLDER, progress: Progress | None = None) -> list[Path]:
    """The jars' paths, fetching those that are missing or damaged. Two at once are safe. Raises CannotStart."""
    jars = locked_jars()
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / ".lock"):
        missing = [jar for jar in jars if not _is_good(folder / jar.file_name, jar)]
        for number, jar in enumerate(missing, 1):
            if progress:
                progress(f"fetching Kafka: jar {number} of {len(missing)}, {jar.artifact}")
            _fetch(jar, folder)
        shutil.rmtree(folder / ".fetched", ignore_errors=True)
    return [folder / jar.file_name for jar in jars]


def locked_jars() -> list[Jar]:
    """The lock file, one "group:artifact:version sha256" a line."""
    return [_read_line(line) for line in LOCK_FILE.read_text().splitlines() if line.strip()]


def _read_line(line: str) -> Jar:
    coordinates, sha256 = line.split()
    group, artifact, version = coordinates.split(":")
    return Jar(group, artifact, version, sha256)


def _fetch(jar: Jar, folder: Path) -> None:
    # A cut download stays in jgo's cache and is taken for whole: the hash finds it, the next try fetches anew.
    for _ in range(TRIES):
        fetched = _download(jar, folder / ".fetched")
        if fetched and _is_good(fetched, jar):
            fetched.replace(folder / jar.file_name)
            return
        shutil.rmtree(folder / ".fetched", ignore_errors=True)
    raise CannotStart(
        f"Kafka's file {jar.file_name} could not be fetched as the lock file wants it ({TRIES} tries); "
        f"check that Maven's central repository can be reached from here and start again."
    )


def _download(jar: Jar, cache: Path) -> Path | None:
    project = MavenContext(repo_cache=cache).project(jar.group, jar.artifact)
    try:
        return Path(project.at_version(jar.version).artifact().resolve())
    except (requests.RequestException, RuntimeError, OSError):
        return None


def _is_good(path: Path, jar: Jar) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
