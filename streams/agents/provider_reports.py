"""Makes facts of what providers tell, and publishes each to the partition that its token or recipient belongs to.

Addresses become keyed hashes here.
"""

from adapters.reports.provider_event import ProviderEvent
from schemas.reports import ReportForged, ReportSeen, ReportSource, ReportUncorrelated
from schemas.topics import DELIVERY_INPUTS
from streams.agents.facts import append
from streams.agents.seen import Seen
from streams.delivery.identity import delivery_key, key_in, key_of_nobody, recipients_named, token_is_ours
from streams.log.kafka import Writer
from streams.settings import Settings

Report = ReportSeen | ReportForged | ReportUncorrelated


def report_of(event: ProviderEvent, source: ReportSource, key: bytes) -> tuple[bytes, Report]:
    """Return the Kafka key and the fact: forged when the token is not ours, uncorrelated when nothing names a send."""
    if event.token and not token_is_ours(event.token, key):
        return key_in(event.token), ReportForged(source, event.event_id, event.at)
    who, loosely = recipients_named(event.recipient, key)
    if not event.token and not who:
        why = "the event names neither a send of ours nor a recipient"
        return key_of_nobody(event.event_id), ReportUncorrelated(event.kind, source, event.event_id, event.at, why)
    seen = ReportSeen(
        kind=event.kind,
        source=source,
        event_id=event.event_id,
        at=event.at,
        token=event.token,
        attempt=event.attempt,
        recipient=who,
        recipient_loose=loosely,
        provider_id=event.provider_id,
        reported_by=event.reported_by,
        action=event.action,
        reply=event.reply,
    )
    return key_in(event.token) if event.token else delivery_key(who), seen


class Publisher:
    """Appends reports to delivery-inputs. What it published is not published again, as far as it is remembered."""

    def __init__(self, settings: Settings, writer: Writer, by: str) -> None:
        self._settings = settings
        self._writer = writer
        self._by = f"{by}/{settings.name}"
        self._key = settings.fleet_key()
        self._published = Seen()

    def is_ours(self, token: str) -> bool:
        """Whether a token carries our MAC."""
        return token_is_ours(token, self._key)

    async def event(self, event: ProviderEvent, source: ReportSource) -> str:
        """Publish what an event reports; return "published", "duplicate" or "forged". Raises AppendUncertain."""
        if event.event_id in self._published:
            return "duplicate"
        key, fact = report_of(event, source, self._key)
        await self.fact(key, fact)
        self._published.add(event.event_id)
        return "forged" if isinstance(fact, ReportForged) else "published"

    async def fact(self, key: bytes, fact: Report) -> None:
        """Publish, until Kafka has acknowledged. Raises AppendUncertain."""
        await append(self._writer, self._settings, DELIVERY_INPUTS, fact, key, self._by)
