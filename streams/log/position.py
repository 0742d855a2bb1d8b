"""Where a partition stands in its journal, as a fold of its entries."""

from datetime import UTC, datetime

import msgspec

from schemas.entry import Entry
from schemas.sending import JournalContinued

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Position(msgspec.Struct):
    """The position row. Offsets count within the topic generations in `topic_ids`.

    `causes` holds the last decided offset per input topic, `origins` the last (seq, n) per origin
    partition, `open` the attempts that are assigned (False) or started (True).
    """

    offset: int = 0  # of the next journal record
    seq: int = 0
    last_id: str = ""
    at: datetime = BEGINNING
    causes: dict[str, int] = {}
    topic_ids: dict[str, str] = {}
    origins: dict[str, tuple[int, int]] = {}
    open: dict[str, bool] = {}

    def count(self, entry: Entry, offset: int) -> None:
        """Take in an entry that counts; the open attempts are the mind's to track."""
        self.offset = offset + 1
        self.seq = entry.seq
        self.last_id = entry.id
        self.at = max(self.at, entry.at)
        if entry.cause is not None and entry.cause.topic in self.causes:
            self.causes[entry.cause.topic] = max(self.causes[entry.cause.topic], entry.cause.offset)
        if entry.seen.origin is not None:
            origin = entry.seen.origin
            self.origins[origin.source] = max(self.origin(origin.source), (origin.seq, origin.n))

    def continued(self, fact: JournalContinued) -> None:
        """Take in that the topics were filled from the archive: other generations, the same offsets."""
        self.topic_ids.update(fact.topic_ids)
        for topic, last in fact.causes.items():
            self.causes[topic] = max(self.causes.get(topic, -1), last)

    def origin(self, source: str) -> tuple[int, int]:
        """The last (seq, n) decided from an origin partition."""
        return self.origins.get(source, (-1, -1))
