"""Kafka's jars: by coordinates and SHA-256 from ops/kafka-jars.lock, fetched once into a folder."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from ops.embedded.process import CannotStart


def locked() -> list[tuple[str, str]]:
    """Return (group:artifact:version, sha256) of every jar."""
    lines = files("ops").joinpath("kafka-jars.lock").read_text("utf-8").splitlines()
    return [(parts[0], parts[1]) for line in lines if len(parts := line.split()) == 2]


def ensure_jars(folder: Path, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Path:
    """Return the folder with all jars in it, each with the locked hash. Raises CannotStart."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = locked()
        missing = [(c, h) for c, h in wanted if not _right(folder / _file_name(c), h)]
        for done, (coordinates, digest) in enumerate(missing):
            progress(done, len(missing))
            _fetch(folder, coordinates, digest)
        progress(len(missing), len(missing))
    return folder


def _file_name(coordinates: str) -> str:
    _, artifact, version = coordinates.split(":")
    return f"{artifact}-{version}.jar"


def _right(path: Path, digest: str) -> bool:
    """Whether the jar is there; its hash was checked before it got its name."""
    return path.exists() and path.with_suffix(".sha256").exists() and path.with_suffix(".sha256").read_text() == digest


def _fetch(folder: Path, coordinates: str, digest: str) -> None:
    from jgo.maven import MavenContext  # costs half a second; only the first start needs it

    group, artifact, version = coordinates.split(":")
    context = MavenContext(repo_cache=folder / "m2")
    try:
        found = Path(context.project(group, artifact).at_version(version).artifact().resolve())
        raw = found.read_bytes()
    except (OSError, RuntimeError, ValueError) as error:
        raise CannotStart(f"Kafka's jar {coordinates} could not be fetched ({error}); check the network.") from error
    if hashlib.sha256(raw).hexdigest() != digest:
        found.unlink()
        raise CannotStart(
            f"Kafka's jar {coordinates} does not have the locked hash; run again, then distrust the source."
        )
    target = folder / _file_name(coordinates)
    part = target.with_suffix(".part")
    part.write_bytes(raw)
    part.replace(target)
    target.with_suffix(".sha256").write_text(digest)
    shutil.rmtree(found.parent, ignore_errors=True)
