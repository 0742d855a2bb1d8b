"""A modelled mail world: lists of stated quality, receivers that throttle, reputations that rise and fall.

A model, not a forecast: its numbers are plausible, and what it is for is to see the rules at work.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from random import Random

from schemas.ids import ClientId, MailboxAddress, RouteId
from schemas.registry import Fact
from schemas.reports import SendComplained
from schemas.sending import (
    AttemptAccepted,
    AttemptNotSent,
    AttemptRefused,
    Carried,
    Reply,
    SendAssigned,
    SendBounced,
    SendDelivered,
    SendRequested,
)
from streams.delivery.verdict import verdict
from streams.fleet.state import domain_of

FINAL = ("suppress", "fail")
NO_SUCH_USER = Reply("smtp", "rcpt", 550, "5.1.1", "<recipient>: Recipient address rejected: User unknown")
LATE_BOUNCE = Reply("mta", "dot", 550, "5.1.1", "The email account that you tried to reach does not exist")
THROTTLES = {
    "gmail": Reply("smtp", "dot", 421, "4.7.28", "Our system has detected an unusual rate of unsolicited mail"),
    "microsoft": Reply("smtp", "mail", 451, "4.7.500", "Server busy. Please try again later (S77719)"),
    "yahoo": Reply("smtp", "mail", 421, "4.7.0", "[TSS04] Messages temporarily deferred due to unexpected volume"),
}
THROTTLED = Reply("smtp", "rcpt", 450, "4.7.1", "Too many messages, slow down")
BLOCKS = {
    "microsoft": Reply("smtp", "mail", 550, "5.7.1", "part of their network is on our block list (S3150)"),
    "gmail": Reply("smtp", "dot", 550, "5.7.1", "Our system has detected that this message is likely unsolicited mail"),
}
BLOCKED = Reply("smtp", "dot", 554, "5.7.1", "Service unavailable; sender has a poor reputation")
_verdict = lru_cache(verdict)  # this world says few different things
DOMAIN_OF = {"gmail": "gmail.com", "microsoft": "outlook.com", "yahoo": "yahoo.com"}


@dataclass(frozen=True)
class Quality:
    """What a list is worth, as shares of 1: dead addresses, complaints; where its people read their mail."""

    dead: float = 0.008
    complaints: float = 0.0002
    receivers: tuple[tuple[str, float], ...] = (("gmail", 0.2), ("microsoft", 0.15), ("yahoo", 0.05), ("", 0.6))


GOOD, BOUGHT = Quality(), Quality(dead=0.14, complaints=0.004)


@dataclass(frozen=True)
class Outage:
    """From `begin` to `end` a route (or a receiver) answers nobody, or throttles everybody."""

    begin: datetime
    end: datetime
    route: str = ""
    receiver: str = ""  # with `throttles`
    throttles: bool = False


@dataclass
class Standing:
    """A reputation between 0 and 1, and what was sent in the hour and on the day."""

    value: float = 0.6
    hour: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, change: float) -> None:
        """Rise or fall within 0 and 1."""
        self.value = min(1.0, max(0.0, self.value + change))


class MailWorld:
    """Answers every assignment with what becomes of it, and when."""

    def __init__(self, seed: int, quality_of: Callable[[ClientId, str], Quality], outages: tuple[Outage, ...]) -> None:
        self._random = Random(seed)
        self._quality_of = quality_of
        self._outages = outages
        self.boxes: dict[MailboxAddress, Standing] = {}
        self.domains: dict[str, Standing] = {}
        self.counts: Counter[str] = Counter()

    def outcomes(self, given: SendAssigned, request: SendRequested) -> Iterator[tuple[datetime, Fact]]:
        """Yield the facts that follow from an assignment, each with its time."""
        box, route = given.sender.mailbox, given.call.route
        at = given.not_before + timedelta(seconds=self._random.uniform(1, 6))
        ref, attempt = given.ref, given.attempt
        quality = self._quality_of(ref.client, request.list_id)
        if any(o.route == route and o.begin <= at < o.end and not o.throttles for o in self._outages):
            self.counts["not sent"] += 1
            yield at, AttemptNotSent(ref, attempt, box, route, "connect", "connection refused")
            return
        reply = self._refusal(box, request.receiver, quality, at, route)
        if reply is not None:
            yield at, AttemptRefused(ref, attempt, box, route, reply, _verdict(reply))
            return
        self.counts["accepted"] += 1
        said = Reply("smtp", "dot", 250, "2.0.0", "queued")
        yield at, AttemptAccepted(ref, attempt, box, route, "q", said)
        yield from self._afterwards(given, request, quality, at)

    def _refusal(
        self, box: MailboxAddress, receiver: str, quality: Quality, at: datetime, route: RouteId
    ) -> Reply | None:
        mine, ours = self._standings(box)
        hour = (receiver, at.strftime("%d%H"))
        ours.hour[hour] += 1
        if any(
            o.throttles and o.receiver in ("", receiver) and o.route in ("", route) and o.begin <= at < o.end
            for o in self._outages
        ):
            self.counts["throttled"] += 1
            return THROTTLES.get(receiver, THROTTLED)
        standing = (mine.value + ours.value) / 2
        if self._random.random() < max(0.0, 0.25 - standing):
            self.counts["blocked"] += 1
            return BLOCKS.get(receiver, BLOCKED)
        if receiver and ours.hour[hour] > 100 + 900 * ours.value:
            self.counts["throttled"] += 1
            return THROTTLES.get(receiver, THROTTLED)
        if self._random.random() < quality.dead * 0.7:
            self._bad(box, mailbox=-0.02, domain=-0.002)
            self.counts["hard"] += 1
            return NO_SUCH_USER
        return None

    def _afterwards(
        self, given: SendAssigned, request: SendRequested, quality: Quality, at: datetime
    ) -> Iterator[tuple[datetime, Fact]]:
        box, route, dice = given.sender.mailbox, given.call.route, self._random
        carried = Carried(box, route, request.receiver, request.list_id, at)
        if dice.random() < quality.dead * 0.3:
            self._bad(box, mailbox=-0.02, domain=-0.002)
            self.counts["late bounce"] += 1
            later = at + timedelta(minutes=dice.uniform(2, 600))
            yield later, SendBounced(given.ref, given.attempt, LATE_BOUNCE, _verdict(LATE_BOUNCE), carried)
            return
        if dice.random() < quality.complaints:
            self._bad(box, mailbox=-0.15, domain=-0.02)
            self.counts["complaint"] += 1
            later = at + timedelta(hours=dice.uniform(0.2, 40))
            yield later, SendComplained(given.ref, given.attempt, "webhook", "abuse", carried)
        else:
            self._bad(box, mailbox=0.004, domain=0.0002)
        yield at + timedelta(hours=48), SendDelivered(given.ref, given.attempt, "no bounce in 48 h", carried)

    def _standings(self, box: MailboxAddress) -> tuple[Standing, Standing]:
        domain = str(domain_of(box))
        if box not in self.boxes:
            self.boxes[box] = Standing()
        if domain not in self.domains:
            self.domains[domain] = Standing()
        return self.boxes[box], self.domains[domain]

    def _bad(self, box: MailboxAddress, *, mailbox: float, domain: float) -> None:
        mine, ours = self._standings(box)
        mine.add(mailbox)
        ours.add(domain)
