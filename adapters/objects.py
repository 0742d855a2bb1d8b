"""What an object store is to mailfleet: objects that are written once, read, listed and deleted. No overwriting."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class StoreFailed(Exception):
    """The store did not do what was asked; the text says what it said. To be tried again, or a person's to mend."""


class ObjectMissing(StoreFailed):
    """There is no such object."""


@dataclass(frozen=True)
class Stored:
    """One object of a listing. `modified` is the store's clock, aware UTC."""

    name: str
    size_bytes: int
    modified: datetime


class ObjectStore(Protocol):
    """Implemented by adapters.s3 and adapters.folder. Every method raises StoreFailed and may block."""

    def put_new(self, name: str, body: bytes) -> bool:
        """Write an object unless there is one of that name; return whether it was written."""

    def get(self, name: str) -> bytes:
        """Return an object. Raises ObjectMissing."""

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose name begins so, in the order of their names."""

    def delete(self, name: str) -> None:
        """Remove an object; one that is gone already is no error."""
