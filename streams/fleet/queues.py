"""Who waits: one client's sends in their order, and its mailboxes by when they can be used again.

Entries of the heaps are never searched: one that no longer agrees with its row is skipped when it comes up.
"""

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from schemas.ids import CampaignId, DomainName, MailboxAddress, RouteId
from schemas.sending import WaitLimit


class Lane(NamedTuple):
    """Sends that the same limits hold: one that is closed is passed by without a look at its sends."""

    campaign: CampaignId
    list_id: str = ""
    receiver: str = ""


class Group(NamedTuple):
    """Mailboxes that can do the same: of one domain, over the same routes."""

    domain: DomainName
    routes: tuple[RouteId, ...]


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
        self.due: dict[Lane, list[Waiting]] = {}
        self.sticky: dict[MailboxAddress, list[Waiting]] = {}
        self.ready: dict[MailboxAddress, None] = {}  # mailboxes whose own sends are due, in order
        self.served: dict[CampaignId, int] = {}
        self.spread: dict[DomainName, datetime] = {}  # the next free time that is promised to nobody

    def put_later(self, when: datetime, send: Waiting) -> None:
        """Wait for a time."""
        heapq.heappush(self.later, (when, send))

    def put_due(self, lane: Lane, send: Waiting) -> None:
        """Wait for a mailbox. A campaign that was idle starts level with the others."""
        if not self.due.get(lane) and not any(self._waiting(lane.campaign)):
            self.level(lane.campaign)
        heapq.heappush(self.due.setdefault(lane, []), send)

    def level(self, campaign: CampaignId) -> None:
        """Let a campaign that could not be served begin where the least served of the others is."""
        others = [
            self.served.get(lane.campaign, 0) for lane, heap in self.due.items() if heap and lane.campaign != campaign
        ]
        self.served[campaign] = max(self.served.get(campaign, 0), min(others, default=0))

    def all_in(self, campaign: CampaignId, lanes: Collection[Lane]) -> bool:
        """Whether all due sends of the campaign stand in these lanes."""
        return all(lane in lanes for lane in self._waiting(campaign))

    def _waiting(self, campaign: CampaignId) -> Iterator[Lane]:
        return (lane for lane, heap in self.due.items() if heap and lane.campaign == campaign)

    def drop_empty(self) -> None:
        """Forget lanes without sends: lists come and go."""
        for lane in [lane for lane, heap in self.due.items() if not heap]:
            del self.due[lane]

    def put_sticky(self, mailbox: MailboxAddress, send: Waiting) -> None:
        """Wait for one mailbox."""
        heapq.heappush(self.sticky.setdefault(mailbox, []), send)
        self.ready[mailbox] = None

    def come_due(self, at: datetime) -> Iterator[Waiting]:
        """Take out what has waited for a time that has come."""
        while self.later and self.later[0][0] <= at:
            yield heapq.heappop(self.later)[1]

    def lanes(self, planned: Mapping[CampaignId, int], is_gone: Callable[[Waiting], bool]) -> list[Lane]:
        """The lanes that have due sends: the most urgent first, then those of the least served campaign.

        `planned` counts what the tick in hand serves; what is gone stands in no line.
        """
        for heap in self.due.values():
            while heap and is_gone(heap[0]):
                heapq.heappop(heap)
        served = {name: count + planned.get(name, 0) for name, count in self.served.items()}
        waiting = [
            (heap[0].priority, served.get(lane.campaign, 0), heap[0], lane) for lane, heap in self.due.items() if heap
        ]
        return [lane for *_, lane in sorted(waiting)]

    def serve(self, campaign: CampaignId) -> None:
        """Count a send that was assigned."""
        self.served[campaign] = self.served.get(campaign, 0) + 1


class Boxes:
    """A client's mailboxes that are neither at work nor switched off, by their routes."""

    def __init__(self) -> None:
        self.version: dict[MailboxAddress, int] = {}
        self.free: dict[Group, list[Free]] = {}
        self.asleep: list[Asleep] = []
        self._line: list[tuple[datetime, Group]] = []

    def touch(self, mailbox: MailboxAddress) -> int:
        """Make all entries of a mailbox stale; return its new version."""
        self.version[mailbox] = self.version.get(mailbox, 0) + 1
        return self.version[mailbox]

    def put_asleep(self, wake_at: datetime, mailbox: MailboxAddress, why: WaitLimit) -> None:
        """Look at the mailbox again at that time."""
        heapq.heappush(self.asleep, Asleep(wake_at, mailbox, self.version[mailbox], why))

    def put_free(self, group: Group, entry: Free) -> None:
        """Offer the mailbox."""
        heapq.heappush(self.free.setdefault(group, []), entry)

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

    def groups(self) -> list[Group]:
        """The groups with a free mailbox, the one that has been free the longest first."""
        return [group for _, group in sorted((heap[0].since, group) for group, heap in self._waiting())]

    def _waiting(self) -> Iterator[tuple[Group, list[Free]]]:
        return ((group, self.free[group]) for group in self.free if self._first(group) is not None)

    def _first(self, group: Group) -> Free | None:
        heap = self.free[group]
        while heap and self.version.get(heap[0].mailbox) != heap[0].version:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def line_up(self) -> None:
        """Put the groups into a line, for a tick in which mailboxes are only taken."""
        self._line = [(heap[0].since, group) for group, heap in self._waiting()]
        heapq.heapify(self._line)

    def next_in_line(self) -> Group | None:
        """Take the group out of the line whose first mailbox has been free the longest; None when all are out."""
        while self._line:
            since, group = heapq.heappop(self._line)
            first = self._first(group)
            if first is not None and first.since == since:
                return group
            self.back_in_line(group)
        return None

    def back_in_line(self, group: Group) -> None:
        """Put a group back, at the place of the mailbox that is its first by now."""
        first = self._first(group)
        if first is not None:
            heapq.heappush(self._line, (first.since, group))
