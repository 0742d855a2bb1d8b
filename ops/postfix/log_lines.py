"""Reads Postfix's log: which line belongs to which send, and what it says. Pure but for the year and zone of a date.

A send is known by its token: in the envelope sender (VERP, b+TOKEN@) that qmgr logs each time a mail becomes active,
else in the Message-ID that cleanup logs once. Only lines of delivery agents that speak to other hosts count: what
`virtual` delivers here is the bounces, which strangers write.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from adapters.interface import without_addresses
from schemas.reports import MtaLineSeen, MtaStatus

MOST_MAILS = 200_000  # followed at once; beyond, the oldest are forgotten
AGENTS = ("smtp", "error", "lmtp")  # the services `smtp`, `relay`, `google` ... run smtp; `retry` runs error
STATUSES: Mapping[str, MtaStatus] = {"sent": "sent", "deferred": "deferred", "bounced": "bounced"}

_LINE = re.compile(
    r"(?P<at>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) \S+ "
    r"postfix\S*/(?P<program>[a-z]+)\[\d+\]: (?P<queue_id>[0-9A-Za-z]{6,}): (?P<rest>.*)"
)
_TOKEN = r"([a-z2-7]{39})"
_VERP = re.compile(rf"from=<b\+{_TOKEN}@[^>]*>")
_MESSAGE_ID = re.compile(rf"message-id=<{_TOKEN}@[^>]*>")
_TRY = re.compile(
    r"to=<[^>]*>, (?:orig_to=<[^>]*>, )?relay=(?P<relay>.+?), (?:conn_use=\d+, )?delay=\S+, delays=\S+, "
    r"dsn=(?P<dsn>[245]\.\d{1,3}\.\d{1,3}), status=(?P<status>sent|deferred|bounced) \((?P<text>.*)"
)
_EXPIRED = re.compile(r"from=<[^>]*>, status=(?:force-)?expired, returned to sender")


class Followed(msgspec.Struct):
    """A mail in the MTA's queue and its last try."""

    token: str
    dsn: str = ""
    relay: str = ""
    text: str = ""


class MtaLog:
    """Takes the lines in order. `mails` (by queue id) is all it remembers."""

    def __init__(
        self,
        mails: dict[str, Followed] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.mails = {} if mails is None else mails
        self._clock = clock

    def read(self, line: str) -> MtaLineSeen | None:
        """Return what the line says of a send, if it does."""
        found = _LINE.match(line)
        if found is None:
            return None
        program, queue_id, rest = found["program"], found["queue_id"], found["rest"]
        if program == "cleanup":
            self._follow(queue_id, _MESSAGE_ID.match(rest))
        elif program == "qmgr" and rest == "removed":
            self.mails.pop(queue_id, None)
        elif program == "qmgr" and _EXPIRED.match(rest):
            self._follow(queue_id, _VERP.match(rest))
            mail = self.mails.get(queue_id)
            if mail is not None:
                at = time_of(found["at"], self._clock())
                return MtaLineSeen(mail.token, queue_id, "expired", at, mail.dsn, mail.relay, mail.text)
        elif program == "qmgr":
            self._follow(queue_id, _VERP.match(rest))
        elif program in AGENTS:
            return self._tried(queue_id, rest, found["at"])
        return None

    def _follow(self, queue_id: str, found: re.Match[str] | None) -> None:
        if found is None or queue_id in self.mails:
            return
        self.mails[queue_id] = Followed(found[1])
        if len(self.mails) > MOST_MAILS:
            del self.mails[next(iter(self.mails))]

    def _tried(self, queue_id: str, rest: str, at: str) -> MtaLineSeen | None:
        found, mail = _TRY.match(rest), self.mails.get(queue_id)
        if found is None or mail is None:
            return None
        mail.dsn, mail.text = found["dsn"], without_addresses(found["text"].removesuffix(")"))
        mail.relay = "" if found["relay"] == "none" else found["relay"]
        status = STATUSES[found["status"]]
        return MtaLineSeen(mail.token, queue_id, status, time_of(at, self._clock()), mail.dsn, mail.relay, mail.text)


def time_of(text: str, now: datetime) -> datetime:
    """Return the time of a line: RFC 3339, or syslog's, which has neither year nor zone and means this host's."""
    if text[0].isdigit():
        return datetime.fromisoformat(text).astimezone(UTC)
    for year in (now.year + 1, now.year, now.year - 1):
        try:
            at = datetime.strptime(f"{year} {text}", "%Y %b %d %H:%M:%S").astimezone(UTC)
        except ValueError:
            continue  # 29 February of a year without one
        if at <= now + timedelta(days=1):
            return at
    return now
