"""Every metric of every process: name, unit, labels and meaning stand here and nowhere else."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "mailfleet_requests_total", "Requests that intake read: passed_on, cancel, rejected or dead_letter", ["result"]
)
ENTRIES = Counter(
    "mailfleet_entries_total",
    "Journal appends: counted, void (another owner was quicker) or uncertain (no usable answer)",
    ["journal", "result"],
)
APPEND_SECONDS = Histogram(
    "mailfleet_append_seconds",
    "Seconds from an append to its acknowledgement",
    ["topic"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 10),
)
PARTITIONS = Gauge(
    "mailfleet_partitions",
    "Partitions held: ready, waiting or stopped (a person must look)",
    ["state"],
)
INPUTS_BEHIND = Gauge("mailfleet_inputs_behind", "Input records of the held partitions that are not decided yet")
HANDS_BUSY = Gauge("mailfleet_hands_busy", "Hands that are at work on an attempt")
CLAIMS = Counter("mailfleet_claims_total", "Claims that hands asked for: yes, no or late", ["answer"])
OUTCOMES = Counter(
    "mailfleet_outcomes_total",
    "Outcomes as the adapters said them: accepted, refused, not_sent or unknown",
    ["provider", "outcome"],
)
SUBMIT_SECONDS = Histogram(
    "mailfleet_submit_seconds",
    "Seconds that an adapter took for one submission, its connection and the claim included",
    ["provider"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300),
)
PROJECTED = Counter("mailfleet_projected_records_total", "Kafka records applied to Postgres", ["topic"])
PROJECTOR_WAITS = Counter("mailfleet_projector_waits_total", "Times that Postgres or Kafka was lost and waited for")
DNS_FINDINGS = Counter(
    "mailfleet_dns_findings_total",
    "Findings of the DNS watcher: good, broken, missing or could_not_be_checked",
    ["check", "verdict"],
)
POSTMASTER_POLLS = Counter(
    "mailfleet_postmaster_polls_total",
    "Questions to Google for a domain's spam rate: told, no_data, refused (for this domain) or silent (for all)",
    ["result"],
)
MAIL_READ = Counter(
    "mailfleet_mail_read_total",
    "What the mail reader found in messages: bounce, complaint, reply, dmarc ... or unknown, once for each recipient",
    ["kind"],
)
MAIL_FORGED = Counter("mailfleet_mail_forged_total", "Messages read that carry a token which is not ours")
REPLIES_FORWARDED = Counter(
    "mailfleet_replies_forwarded_total",
    "Letters of people passed on: forwarded, failed (nothing left) or in_doubt (never tried again)",
    ["result"],
)
MAILBOXES_UNREADABLE = Gauge("mailfleet_mailboxes_unreadable", "Mailboxes that cannot be read: a person must look")
MAIL_OLDEST_LOOK_SECONDS = Gauge(
    "mailfleet_mail_oldest_look_seconds", "Seconds since the mailbox that waits longest was read to its end"
)
DOOR_EVENTS = Counter(
    "mailfleet_door_events_total",
    "What providers and recipients told (mailgun, mailgun_log, sns, one_click): published, duplicate, forged, ignored",
    ["source", "event", "result"],
)
DOOR_REFUSED = Counter(
    "mailfleet_door_refused_total",
    "What the door did not take: path, signature, stale, topic, unreadable, token, too_large, too_slow, too_many ...",
    ["why"],
)
DOOR_HEARD_TIMESTAMP = Gauge(
    "mailfleet_door_heard_timestamp_seconds",
    "When a provider whose webhooks the door expects was last believed; at first when the door began to listen",
    ["provider"],
)
MAILGUN_LOG_BEHIND_SECONDS = Gauge(
    "mailfleet_mailgun_log_behind_seconds",
    "Seconds of a domain's log at Mailgun that are not read for good",
    ["domain"],
)
ARCHIVED = Counter("mailfleet_archived_records_total", "Kafka records written to the archive", ["topic"])
ARCHIVE_WAITS = Counter(
    "mailfleet_archive_waits_total", "Times that the archive's store or Kafka did not answer and was waited for"
)
ARCHIVE_OLDEST = Gauge(
    "mailfleet_archive_oldest_seconds", "Age of the oldest record read from Kafka that is not in the archive yet"
)
ARCHIVE_LOST = Counter(
    "mailfleet_archive_lost_records_total", "Records that Kafka deleted before they were archived", ["topic"]
)

TELEGRAM_CALLS = Counter("mailfleet_telegram_calls_total", "Messages sent or edited by the Telegram bot", ["what"])
TELEGRAM_WAITS = Counter("mailfleet_telegram_waits_total", "Times that Telegram or Kafka was lost and waited for")

METRICS = (
    REQUESTS,
    ENTRIES,
    APPEND_SECONDS,
    PARTITIONS,
    INPUTS_BEHIND,
    HANDS_BUSY,
    CLAIMS,
    OUTCOMES,
    SUBMIT_SECONDS,
    PROJECTED,
    PROJECTOR_WAITS,
    DNS_FINDINGS,
    POSTMASTER_POLLS,
    MAIL_READ,
    MAIL_FORGED,
    REPLIES_FORWARDED,
    MAILBOXES_UNREADABLE,
    MAIL_OLDEST_LOOK_SECONDS,
    DOOR_EVENTS,
    DOOR_REFUSED,
    DOOR_HEARD_TIMESTAMP,
    MAILGUN_LOG_BEHIND_SECONDS,
    TELEGRAM_CALLS,
    TELEGRAM_WAITS,
    ARCHIVED,
    ARCHIVE_WAITS,
    ARCHIVE_OLDEST,
    ARCHIVE_LOST,
)
