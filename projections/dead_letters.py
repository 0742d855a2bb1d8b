"""Read model `dead_letters`: records that could not be read."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.registry import Fact
from schemas.sending import LetterDied

_INSERT = """
insert into dead_letters (topic, partition, record_offset, sha256, size_bytes, reason, died_at)
values (%(topic)s, %(partition)s, %(offset)s, %(sha256)s, %(size)s, %(reason)s, %(at)s)
on conflict (topic, partition, record_offset) do nothing
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes; a letter repeated after a crash is the same letter."""
    if isinstance(fact, LetterDied):
        yield (
            _INSERT,
            {
                "topic": fact.topic,
                "partition": fact.partition,
                "offset": fact.offset,
                "sha256": fact.sha256,
                "size": fact.size_bytes,
                "reason": fact.reason,
                "at": place.at,
            },
        )
