"""Who waits: one client's sends in their order, and its mailboxes by when they can be used again.

Entries of the heaps are never searched: one that no longer agrees with its row is skipped when it comes up.
"""

import heapq
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from schemas.ids import CampaignId, DomainName, MailboxAddress, RouteId
from schemas.sending import WaitLimit


class Waiting(NamedTuple):
    """A send's place: lower priority first, then who asked first. Valid while its row has this attempt."""

    priority: int
    requested_at: datetime
    id: str
    attempt: int


class Free(NamedTuple):
    """A mailbox that can be used since `since`. Valid while its version is the newest."""

    since: datetime
    mailbox: MailboxAddress
    version: int


class Asleep(NamedTuple):
    """A mailbox that is looked at again at `wake_at`; `why` is what holds it until then."""

    wake_at: datetime
    mailbox: MailboxAddress
    version: int
    why: WaitLimit


class SendQueue:
    """A client's waiting sends."""

    def __init__(self) -> None:
        self.later: list[tuple[datetime, Waiting]] = []
        self.due: dict[CampaignId, list[Waiting]] = {}
        self.sticky: dict[MailboxAddress, list[Waiting]] = {}
        self.ready: dict[MailboxAddress, None] = {}  # mailboxes whose own sends are due, in order
        self.served: dict[CampaignId, int] = {}
        self.spread: dict[DomainName, datetime] = {}  # the next free time that is promised to nobody

    def put_later(self, when: datetime, send: Waiting) -> None:
        """Wait for a time."""
        heapq.heappush(self.later, (when, send))

    def put_due(self, campaign: CampaignId, send: Waiting) -> None:
        """Wait for a mailbox."""
        heap = self.due.setdefault(campaign, [])
        if not heap:  # a campaign that was idle starts level with the others
            others = [self.served.get(name, 0) for name, waiting in self.due.items() if waiting]
            self.served[campaign] = max(self.served.get(campaign, 0), min(others, default=0))
        heapq.heappush(heap, send)

    def put_sticky(self, mailbox: MailboxAddress, send: Waiting) -> None:
        """Wait for one mailbox."""
        heapq.heappush(self.sticky.setdefault(mailbox, []), send)
        self.ready[mailbox] = None

    def come_due(self, at: datetime) -> Iterator[Waiting]:
        """Take out what has waited for a time that has come."""
        while self.later and self.later[0][0] <= at:
            yield heapq.heappop(self.later)[1]

    def campaigns(self) -> list[CampaignId]:
        """The campaigns that have due sends: the most urgent first, then the least served."""
        waiting = [(heap[0].priority, self.served.get(name, 0), name) for name, heap in self.due.items() if heap]
        return [name for _, _, name in sorted(waiting)]


class Boxes:
    """A client's mailboxes that are neither at work nor switched off, by their routes."""

    def __init__(self) -> None:
        self.version: dict[MailboxAddress, int] = {}
        self.free: dict[tuple[RouteId, ...], list[Free]] = {}
        self.asleep: list[Asleep] = []

    def touch(self, mailbox: MailboxAddress) -> int:
        """Make all entries of a mailbox stale; return its new version."""
        self.version[mailbox] = self.version.get(mailbox, 0) + 1
        return self.version[mailbox]

    def put_asleep(self, wake_at: datetime, mailbox: MailboxAddress, why: WaitLimit) -> None:
        """Look at the mailbox again at that time."""
        heapq.heappush(self.asleep, Asleep(wake_at, mailbox, self.version[mailbox], why))

    def put_free(self, routes: tuple[RouteId, ...], entry: Free) -> None:
        """Offer the mailbox."""
        heapq.heappush(self.free.setdefault(routes, []), entry)

    def wake(self, at: datetime) -> Iterator[Asleep]:
        """Take out whom it is time to look at."""
        while self.asleep and self.asleep[0].wake_at <= at:
            entry = heapq.heappop(self.asleep)
            if self.version.get(entry.mailbox) == entry.version:
                yield entry

    def next_awake(self) -> Asleep | None:
        """The mailbox that wakes first."""
        while self.asleep and self.version.get(self.asleep[0].mailbox) != self.asleep[0].version:
            heapq.heappop(self.asleep)
        return self.asleep[0] if self.asleep else None

    def groups(self) -> list[tuple[RouteId, ...]]:
        """The groups with a free mailbox, the one that has been free the longest first."""
        found: list[tuple[datetime, tuple[RouteId, ...]]] = []
        for routes, heap in self.free.items():
            while heap and self.version.get(heap[0].mailbox) != heap[0].version:
                heapq.heappop(heap)
            if heap:
                found.append((heap[0].since, routes))
        return [routes for _, routes in sorted(found)]
