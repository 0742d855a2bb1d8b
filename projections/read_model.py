"""What a read model is: SQL statements that follow from a journaled fact. One file per read model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.registry import Fact


@dataclass(frozen=True)
class Place:
    """Where a fact stands: the n-th of entry `seq`; `at` is the entry's time."""

    journal: str
    partition: int
    seq: int
    n: int
    at: datetime


Statement = tuple[str, Mapping[str, Any]]
Project = Callable[[Fact, Place], Iterable[Statement]]
"""A read model's function: it runs once per fact, inside the transaction that moves the offset."""
