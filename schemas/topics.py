"""The topic catalogue: every topic with its key, partition count, retention, writers and readers.

Partition counts are for life: a stage refuses a topic that has another count (design section 2).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

DELIVERY_PARTITIONS = 32
FLEET_PARTITIONS = 16
REQUEST_PARTITIONS = 8
OBSERVATION_PARTITIONS = 4

FILLER = b"mailfleet.filler"
"""The key of a record without value that a restore writes where an offset must be taken and nothing stood."""

MAX_RECORD_BYTES = 1_400_000  # a 700 kB message grows under JSON escaping


@dataclass(frozen=True)
class Topic:
    """One topic. `retention_ms` None means kept without limit; `broker_time` means LogAppendTime.

    `archive`: kept without limit, sealed (encrypted, and deleted after `retention_ms`), or no.
    """

    name: str
    about: str
    key: str
    partitions: int
    retention_ms: int | None
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    facts: tuple[str, ...] = ()
    broker_time: bool = False
    journal: bool = False
    segment_ms: int | None = None
    compacted: bool = False  # only the last record of a key has to stay; never where order or history counts
    archive: Literal["kept", "sealed", "no"] = "kept"

    def config(self, *, replicas: int = 1, flush_each_append: bool = True) -> dict[str, str]:
        """Return the Kafka topic settings (strings, as the admin protocol wants them).

        A journal on a single broker is flushed at each append: Kafka acknowledges from the page
        cache, and a power cut could otherwise undo a claim whose mail has left (design section 2).
        """
        settings = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(-1 if self.retention_ms is None else self.retention_ms),
            "retention.bytes": "-1",
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "message.timestamp.type": "LogAppendTime" if self.broker_time else "CreateTime",
            "unclean.leader.election.enable": "false",
            "min.insync.replicas": str(max(1, replicas - 1)),
        }
        if self.segment_ms is not None:
            settings["segment.ms"] = str(self.segment_ms)
        if self.journal and replicas == 1 and flush_each_append:
            settings["flush.messages"] = "1"
        return settings


SEND_REQUESTS = Topic(
    "send-requests",
    "What upstream asks for: sends and cancels. The only place where addresses and bodies live.",
    key="any",
    partitions=REQUEST_PARTITIONS,
    retention_ms=14 * DAY_MS,
    writers=("upstream",),
    readers=("intake", "hands", "operators"),
    broker_time=True,
    archive="sealed",
    segment_ms=DAY_MS,  # Kafka deletes whole segments: with its usual week a body would stay 21 days
)
DELIVERY_INPUTS = Topic(
    "delivery-inputs",
    "What the delivery stage reads: requests, assignments, reports, cancels.",
    key="recipient",
    partitions=DELIVERY_PARTITIONS,
    retention_ms=14 * DAY_MS,
    writers=("intake", "fleet stage", "hands", "operators", "mta log reader", "mail reader", "door"),
    readers=("delivery stage",),
    facts=(
        "send.requested",
        "request.rejected",
        "send.assigned",
        "send.turned_away",
        "send.given_up",
        "send.lapsed",
        "cancel.ordered",
        "outcome.reported",
        "suppression.imported",
        "mta.line_seen",
        "report.seen",
        "report.forged",
        "report.uncorrelated",
        "suppress.ordered",
        "unsuppress.ordered",
        "domain.suppress_ordered",
        "stop.ordered",
        "start.ordered",
    ),
    broker_time=True,
)
DELIVERY_JOURNAL = Topic(
    "delivery-journal",
    "What the delivery stage saw and decided.",
    key="partition",
    partitions=DELIVERY_PARTITIONS,
    retention_ms=None,
    writers=("delivery stage",),
    readers=("delivery stage", "projector", "verify", "operators"),
    broker_time=True,
    journal=True,
)
DELIVERY_TICKS = Topic(
    "delivery-ticks",
    "One record a second and partition: time as a fact.",
    key="partition",
    partitions=DELIVERY_PARTITIONS,
    retention_ms=HOUR_MS,
    writers=("delivery stage",),
    readers=("delivery stage", "telegram"),
    broker_time=True,
    segment_ms=10 * MINUTE_MS,
    archive="no",
)
FLEET_INPUTS = Topic(
    "fleet-inputs",
    "What the fleet stage reads: admitted sends, settled attempts, cancels, the fleet file, the state of domains.",
    key="client",
    partitions=FLEET_PARTITIONS,
    retention_ms=30 * DAY_MS,
    writers=("delivery stage", "fleet stage", "intake", "fleet file", "operators", "dns watcher", "mail reader"),
    readers=("fleet stage",),
    facts=(
        "send.admitted",
        "attempt.accepted",
        "attempt.refused",
        "attempt.not_sent",
        "attempt.unknown",
        "attempt.missed",
        "send.cancelled",
        "send.expired",
        "send.withdrawn",
        "send.assumed_sent",
        "send.delivered",
        "send.bounced",
        "send.returned",
        "send.replied",
        "send.unsubscribed",
        "send.complained",
        "cancel.requested",
        "client.declared",
        "policy.applied",
        "domain.declared",
        "route.declared",
        "mailbox.declared",
        "cost.declared",
        "stop.ordered",
        "start.ordered",
        "pause.ordered",
        "resume.ordered",
        "account.tripped",
        "mailbox.warmed",
        "domain.observed",
        "spam.rates_told",
        "dmarc.reported",
        "list.release_ordered",
    ),
    broker_time=True,
)
FLEET_JOURNAL = Topic(
    "fleet-journal",
    "What the fleet stage saw and decided.",
    key="partition",
    partitions=FLEET_PARTITIONS,
    retention_ms=None,
    writers=("fleet stage",),
    readers=("fleet stage", "projector", "verify", "fleet file", "dns watcher", "operators", "mail reader", "door"),
    broker_time=True,
    journal=True,
)
FLEET_TICKS = Topic(
    "fleet-ticks",
    "One record a second and partition: time as a fact.",
    key="partition",
    partitions=FLEET_PARTITIONS,
    retention_ms=HOUR_MS,
    writers=("fleet stage",),
    readers=("fleet stage", "telegram"),
    broker_time=True,
    segment_ms=10 * MINUTE_MS,
    archive="no",
)
DNS_OBSERVATIONS = Topic(
    "dns-observations",
    "What the domain name system says of each sending domain and its routes, every hour; daily what Gmail says of it.",
    key="domain",
    partitions=OBSERVATION_PARTITIONS,
    retention_ms=90 * DAY_MS,
    writers=("dns watcher",),
    readers=("dns watcher",),
    facts=("domain.observed", "spam.rates_told"),
)
MAIL_POSITIONS = Topic(
    "mail-positions",
    "How far each mailbox is read, which cannot be read, what was passed on: the last word of each stays.",
    key="mailbox",
    partitions=OBSERVATION_PARTITIONS,
    retention_ms=None,
    writers=("mail reader",),
    readers=("mail reader", "projector"),
    facts=("mailbox.read", "mailbox.unreadable", "replies.forwarded"),
    compacted=True,
    segment_ms=DAY_MS,
)
LOG_POSITIONS = Topic(
    "log-positions",
    "How far the event logs of providers are read: a restart reads on from there.",
    key="provider and domain",
    partitions=1,
    retention_ms=90 * DAY_MS,
    writers=("door",),
    readers=("door",),
    facts=("provider.log_read",),
)
ALERT_POSTS = Topic(
    "alert-posts",
    "What people were told of alerts, and what they answered.",
    key="post",
    partitions=1,
    retention_ms=90 * DAY_MS,
    writers=("telegram",),
    readers=("telegram",),
    facts=("alert.posting", "alert.posted", "alert.acknowledged"),
    broker_time=True,
)
SEND_RESULTS = Topic(
    "send-results",
    "The answer to upstream: every change of a send's state, with its reason.",
    key="send",
    partitions=REQUEST_PARTITIONS,
    retention_ms=30 * DAY_MS,
    writers=("delivery stage", "fleet stage"),
    readers=("upstream",),
    facts=("send.result",),
)
ALERTS = Topic(
    "alerts",
    "What a person should know or do, and that it is over.",
    key="client",
    partitions=1,
    retention_ms=30 * DAY_MS,
    writers=("fleet stage",),
    readers=("telegram", "operators"),
    facts=("alert.raised", "alert.resolved"),
)
DEAD_LETTERS = Topic(
    "dead-letters",
    "What could not be read: position, hash and reason, never content.",
    key="source topic",
    partitions=1,
    retention_ms=90 * DAY_MS,
    writers=("intake", "delivery stage", "fleet stage"),
    readers=("projector", "verify", "operators"),
    facts=("letter.died",),
)

CATALOGUE: Mapping[str, Topic] = {
    t.name: t
    for t in (
        SEND_REQUESTS,
        DELIVERY_INPUTS,
        DELIVERY_JOURNAL,
        DELIVERY_TICKS,
        FLEET_INPUTS,
        FLEET_JOURNAL,
        FLEET_TICKS,
        DNS_OBSERVATIONS,
        MAIL_POSITIONS,
        LOG_POSITIONS,
        SEND_RESULTS,
        ALERTS,
        ALERT_POSTS,
        DEAD_LETTERS,
    )
}

Stage = Literal["delivery", "fleet"]


def partition_of(key: bytes, count: int) -> int:
    """Return the partition of `key` among `count`: our own hash, never a client's default."""
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") % count
