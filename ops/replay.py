"""`mailfleet replay`: writes a role's tables anew from its journals. The workers of the role must stand still."""

import shutil
from collections.abc import Callable, Mapping

from ops.bulk import Bulk
from ops.journals import Folded, Hear, fold_partition
from schemas.envelope import to_wire
from streams.log.kafka import Reader
from streams.log.rows import POSITION, encode_row, key_text
from streams.log.topics import TopicsWrong
from streams.roles import ROLES, Role, changelog_name, places_of
from streams.settings import Settings


async def replay(
    settings: Settings,
    role: Role,
    step: Callable[[int], None] = lambda _n: None,
    *,
    topic_ids: Mapping[str, str] | None = None,
    hear: Hear = lambda _role, _partition, _entry, _facts: None,
) -> int:
    """Fold each partition's journal and write its rows and position; return how many rows.

    Nothing is decided and nothing can be sent. Raises JournalBroken, LogUnreachable, AppendUncertain, TopicsWrong.
    """
    ids = dict(places_of(settings, role).topic_ids if topic_ids is None else topic_ids)
    reader, writer = Reader(settings.connection), Bulk(settings.connection)
    topic = changelog_name(settings, role)
    written = 0
    try:
        for partition in range(ROLES[role].journal.partitions):
            folded = await fold_partition(settings, role, partition, reader, hear=hear)
            _check(folded, ids)
            for key, row in folded.rows.all():
                mark, _ = folded.rows.held(key)
                writer.put(topic, partition, key_text(partition, key), encode_row(mark, row))
                written += 1
            writer.flush()  # the position may not pass a row by
            folded.position.topic_ids = dict(ids)
            raw = b'{"m":%d,"r":%b}' % (folded.position.seq, to_wire(folded.position))
            writer.put(topic, partition, key_text(partition, POSITION), raw)
            step(partition + 1)
        writer.flush()
    finally:
        await reader.close()
    shutil.rmtree(settings.home / "state", ignore_errors=True)  # local copies; the changelog is the truth
    return written


def _check(folded: Folded, ids: Mapping[str, str]) -> None:
    """Raise TopicsWrong when the journal speaks of another generation of its inputs than the cluster has."""
    for topic, known in folded.position.topic_ids.items():
        if topic in ids and ids[topic] != known:
            raise TopicsWrong(
                f"topic {topic} was deleted and made again (id {ids[topic]}, the journal knows {known}): its offsets "
                "mean something else now. Fill an empty Kafka with `mailfleet restore`, or begin a new fleet with a "
                "new prefix."
            )
