"""`mailfleet replay`: writes a role's tables anew from its journals. The workers of the role must stand still."""

import shutil
from collections.abc import Callable

from ops.journals import fold_partition
from schemas.envelope import to_wire
from streams.log.kafka import Reader, Writer
from streams.log.rows import POSITION, encode_row, key_text
from streams.roles import ROLES, Role, changelog_name, places_of
from streams.settings import Settings


async def replay(settings: Settings, role: Role, step: Callable[[int], None] = lambda _n: None) -> int:
    """Fold each partition's journal and write its rows and position; return how many rows.

    Nothing is decided and nothing can be sent. Raises JournalBroken, LogUnreachable, AppendUncertain, TopicsWrong.
    """
    places = places_of(settings, role)
    reader, writer = Reader(settings.connection), Writer(settings.connection)
    topic = changelog_name(settings, role)
    written = 0
    try:
        for partition in range(ROLES[role].journal.partitions):
            folded = await fold_partition(settings, role, partition, reader)
            for key, row in folded.rows.all():
                mark, _ = folded.rows.held(key)
                await writer.append(topic, partition, key_text(partition, key), encode_row(mark, row))
                written += 1
            folded.position.topic_ids = dict(places.topic_ids)
            raw = b'{"m":%d,"r":%b}' % (folded.position.seq, to_wire(folded.position))
            await writer.append(topic, partition, key_text(partition, POSITION), raw)
            step(partition + 1)
    finally:
        await reader.close()
        await writer.close()
    shutil.rmtree(settings.home / "state", ignore_errors=True)  # local copies; the changelog is the truth
    return written
