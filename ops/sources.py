"""What the read models are made of: journals and dead letters, as the cluster has them."""

from projections.projector import Source
from schemas.topics import DEAD_LETTERS, DELIVERY_JOURNAL, FLEET_JOURNAL, MAIL_POSITIONS
from streams.log.topics import check
from streams.settings import Settings


def read_model_sources(settings: Settings) -> list[Source]:
    """Return the projector's sources. Blocks; raises TopicsWrong."""
    wanted = {settings.topic(t): t for t in (DELIVERY_JOURNAL, FLEET_JOURNAL, DEAD_LETTERS, MAIL_POSITIONS)}
    ids = check(settings.connection, wanted)
    return [Source(name, ids[name], t.partitions, t.journal) for name, t in wanted.items()]
