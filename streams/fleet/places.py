"""How a client's mailboxes stand today: what each can carry, who is warm, well, resting or in reserve."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from schemas.ids import ClientId, DomainName, MailboxAddress
from schemas.policy import Policy
from streams.fleet import lists
from streams.fleet.health import allowed, is_well
from streams.fleet.organisation import organisation_of
from streams.fleet.state import FleetState, MailboxRow, SenderRow, domain_of
from streams.fleet.warmup import cap_of, days_to_target, ramp_of_domain, ramp_of_mailbox
from streams.fleet.windows import Buckets, Counts, since

A_WEEK = timedelta(days=7)


class Place(NamedTuple):
    """A mailbox. `usual` is what it carries a day when it is well and at work, `today` what it can now."""

    mailbox: MailboxAddress
    domain: DomainName
    usual: int
    today: int
    warm: bool  # at its target
    well: bool  # active, its domain and client too
    worked: bool  # it sent on an earlier day
    resting: bool
    in_reserve: bool
    at: datetime
    buckets: Buckets
    ready_in: int = 0  # days until it is warm, when it is used

    @property
    def week(self) -> Counts:
        """What was counted of it in a week: asked of few."""
        return since(self.buckets, self.at - A_WEEK)


def places_of(state: FleetState, client: ClientId, policy: Policy, at: datetime) -> list[Place]:
    """Return how the client's mailboxes stand today."""
    of_domain: dict[DomainName, list[SenderRow]] = {}
    found: list[Place] = []
    for row in state.mailboxes_of(client):
        domain = domain_of(row.declared.mailbox)
        wide = of_domain.get(domain)
        if wide is None:
            names = dict.fromkeys((domain, organisation_of(domain)))
            wide = of_domain[domain] = [state.sender("domain", client, name) for name in names]
        found.append(_place(state, row, wide, policy, at))
    return found


def _place(state: FleetState, row: MailboxRow, of_domain: list[SenderRow], policy: Policy, at: datetime) -> Place:
    declared = row.declared
    own = state.sender("mailbox", declared.client, declared.mailbox)
    usual, warm, ready_in = declared.daily_quota, True, 0
    if policy.warm_up.enabled:
        ramp = ramp_of_mailbox(policy.warm_up, declared.daily_quota)
        first = ramp.target if own.warmed else ramp.start  # as long as it has not begun
        usual = cap_of(own, ramp) if own.cap else first
        warm = usual >= ramp.target
        ready_in = 0 if warm else days_to_target(own, ramp, at.isoformat()[:10])
    senders = [own, *of_domain, state.sender("client", declared.client, "")]
    resting = any(rests(sender, at) for sender in (own, *of_domain))
    today = min(allowed(usual, sender, policy.health) for sender in senders)
    return Place(
        declared.mailbox,
        domain_of(declared.mailbox),
        usual,
        0 if resting else min(today, policy.reserve.trickle_per_day) if own.reserve else today,
        warm,
        all(is_well(sender) for sender in senders),
        any(row.used.values()),
        resting,
        own.reserve,
        at,
        own.buckets,
        ready_in,
    )


def bounds_of(state: FleetState, client: ClientId, policy: Policy, places: Iterable[Place]) -> dict[DomainName, int]:
    """Return what each domain that has a bound may send a day: its quota, its warm-up, the share of its state."""
    found: dict[DomainName, int] = {}
    for name in dict.fromkeys(place.domain for place in places):
        row, sender = state.domain(client, name), state.sender("domain", client, name)
        most = row.declared.daily_quota if row is not None else 0
        if policy.warm_up.enabled:
            ramp = ramp_of_domain(policy.warm_up, most)
            most = cap_of(sender, ramp) if sender.cap else ramp.start
        if most:
            found[name] = max(1, int(most * sender.share))
    return found


class Load:
    """What mailboxes carry today, each domain's together no more than its bound."""

    def __init__(self, places: Iterable[Place], bounds: Mapping[DomainName, int]) -> None:
        self._bounds = bounds
        self._mails: Counter[DomainName] = Counter()
        for place in places:
            self._mails[place.domain] += place.today
        self.total = sum(self._of(domain) for domain in self._mails)

    def _of(self, domain: DomainName) -> int:
        return min(self._mails[domain], self._bounds.get(domain, self._mails[domain]))

    def with_more(self, place: Place, mails: int) -> int:
        """Return the total if the place carried so many more (or fewer)."""
        now = self._mails[place.domain]
        more = min(now + mails, self._bounds.get(place.domain, now + mails))
        return self.total - self._of(place.domain) + more

    def take(self, place: Place, mails: int) -> None:
        """Let the place carry so many more (or fewer)."""
        self.total = self.with_more(place, mails)
        self._mails[place.domain] += mails


def rests(sender: SenderRow, at: datetime) -> bool:
    """Whether the sender rests."""
    return sender.rests_until is not None and at < sender.rests_until


def demand_of(state: FleetState, client: ClientId, day: str, at: datetime) -> int:
    """Return the mails that the client wants on a day: what was asked for today so far, or on one of the last days.

    What a held list, a canary or a stopped campaign keeps back is not wanted yet: more mailboxes would not carry it.
    """
    used: dict[str, int] = {}
    for row in state.mailboxes_of(client):
        for one, count in row.used.items():
            used[one] = used.get(one, 0) + count
    earlier = max((count for one, count in used.items() if one < day), default=0)
    return max(earlier, used.get(day, 0) + _could_go(state, client, at))


def _could_go(state: FleetState, client: ClientId, at: datetime) -> int:
    """How many of the client's sends wait for nothing but a mailbox."""
    requests = [row.request for row in state.due_rows(client, at).values() if row.request is not None]
    stopped = {name for name in {r.campaign for r in requests} if state.stopped("campaign", f"{client}/{name}")}
    by_list = Counter(lists.list_of(request) for request in requests if request.campaign not in stopped)
    rules = state.policy(client).lists
    return sum(
        min(count, lists.room(state.list_row(client, name), rules)) if name else count
        for name, count in by_list.items()
    )
