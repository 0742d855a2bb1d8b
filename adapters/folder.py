"""A folder as an object store: for a disk of one's own, a mounted share, and tests."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile

from adapters.objects import ObjectMissing, Stored, StoreFailed

UNFINISHED = ".unfinished-"


class FolderStore:
    """Objects are files below `folder`. A file appears whole, by a link that fails when the name is taken."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put_new(self, name: str, body: bytes) -> bool:
        """Write an object unless there is one of that name."""
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=path.parent, prefix=UNFINISHED) as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
                os.link(file.name, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise StoreFailed(f"{path}: {error.strerror}") from error
        return True

    def get(self, name: str) -> bytes:
        """Return an object. Raises ObjectMissing."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError as error:
            raise ObjectMissing(f"{name} is not in the store") from error
        except OSError as error:
            raise StoreFailed(f"{name}: {error.strerror}") from error

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose name begins so."""
        top, _, begin = prefix.rpartition("/")
        below = (path for found in (self._folder / top).glob(f"{begin}*") for path in (found, *found.rglob("*")))
        for path in sorted(below):
            name = path.relative_to(self._folder).as_posix()
            if path.name.startswith(UNFINISHED) or not path.is_file():
                continue
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue  # deleted meanwhile
            yield Stored(name, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def delete(self, name: str) -> None:
        """Remove an object."""
        (self._folder / name).unlink(missing_ok=True)
