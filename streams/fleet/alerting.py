"""Which decisions wake a person: how grave it is, under which name, and what to read then.

An alert's name is its story: a sender's ends when it is active again, a route's when a mail goes through.
"""

from collections.abc import Iterable

from schemas.fleet import ReceiverEased, ReceiverThrottled, RouteRecovered, RouteTripped
from schemas.health import (
    AlertRaised,
    AlertResolved,
    CapacityPlanned,
    Evidence,
    GateClosed,
    GateOpened,
    HealthChanged,
    HealthState,
    ListChanged,
    ReserveState,
    Scope,
    Severity,
    SignCounted,
)
from schemas.registry import Fact
from schemas.reputation import Feed, ReputationChanged
from schemas.sending import SendAssigned, SendEnded, SendQueued
from streams.fleet.routes import is_provider
from streams.fleet.state import FleetState

SEVERITY: dict[tuple[Scope, HealthState], Severity] = {
    ("mailbox", "unhealthy"): "warning",
    ("domain", "watched"): "warning",
    ("domain", "unhealthy"): "critical",
    ("route", "watched"): "warning",
    ("route", "unhealthy"): "critical",
    ("client", "watched"): "warning",
    ("client", "unhealthy"): "critical",
}
"""A watched mailbox wakes nobody: it is one of hundreds, and slower already."""
TOLD_FROM_TIMES = 3
"""A provider that throttles again after two rests wakes a person: slower mail alone does not help."""
IN_WORDS = {"watched": "is watched", "unhealthy": "is out of rotation"}


def alerts(state: FleetState, facts: Iterable[Fact]) -> list[Fact]:
    """Return the alerts that decided facts raise or resolve, in order."""
    found: list[Fact] = []
    for fact in facts:
        match fact:
            case SignCounted() | SendAssigned() | SendEnded() | SendQueued():  # the most there are
                pass
            case HealthChanged():
                found += _of_sender(fact)
            case CapacityPlanned():
                found += _of_reserve(fact, state.roster_of(fact.client).reserve)
            case RouteTripped():
                found.append(_of_trip(fact))
            case ReceiverThrottled() if fact.times >= TOLD_FROM_TIMES and is_provider(fact.receiver):
                found.append(_of_throttle(fact))
            case ReceiverEased(over=True) if is_provider(fact.receiver):
                row = state.route(fact.client, fact.route)
                rest = row.rests.get(fact.receiver) if row is not None else None
                if rest is not None and rest.times >= TOLD_FROM_TIMES:
                    found.append(AlertResolved(fact.client, _throttle_name(fact), "it takes our mail again"))
            case GateClosed() | GateOpened():
                found.append(_of_gate(fact))
            case ReputationChanged():
                found.append(_of_reputation(fact))
            case ListChanged():
                found += _of_list(fact)
            case RouteRecovered():
                row = state.route(fact.client, fact.route)
                if row is not None and row.trips:
                    found.append(AlertResolved(fact.client, _trip_name(fact), "a mail went through again"))
    return found


def _of_sender(fact: HealthChanged) -> list[Fact]:
    name = f"{fact.scope}_health/{fact.client if fact.scope in ('route', 'client') else fact.name}"
    if fact.scope == "route":
        name += f"/{fact.name}"
    severity = SEVERITY.get((fact.scope, fact.now))
    if severity is not None:
        title = f"{fact.scope} {fact.name or fact.client} {IN_WORDS[fact.now]}: {fact.evidence.rule}"
        return [AlertRaised(fact.client, name, severity, title, _detail(fact), f"{fact.scope}_health")]
    if fact.now == "active" and (fact.scope != "mailbox" or fact.was != "watched"):
        return [AlertResolved(fact.client, name, fact.evidence.rule)]
    return []


def _detail(fact: HealthChanged) -> str:
    lines = [numbers(fact.evidence)]
    if fact.now == "unhealthy" and fact.until is None:
        name = f"{fact.client}/{fact.name}" if fact.scope == "route" else fact.name or fact.client
        lines.append(f"It comes back by `mailfleet resume {fact.scope} {name}`.")
    elif fact.until is not None:
        lines.append(f"It comes back by itself ({fact.then}) at {fact.until:%Y-%m-%d %H:%M} UTC.")
    elif fact.share < 1:
        lines.append(f"Until it is better it may send {fact.share:.0%} of its quota.")
    return " ".join(filter(None, lines))


def numbers(why: Evidence) -> str:
    """Return the numbers of a decision as a sentence, "" when there are none."""
    text = why.said
    if why.numerator or why.denominator:
        of = f" of {why.denominator:g} ({why.numerator / why.denominator:.2%})" if why.denominator else ""
        limit = f"{why.threshold:.2%}" if why.denominator and why.threshold <= 1 else f"{why.threshold:g}"
        counted = f"{why.numerator:g}{of} in {why.window}" if why.window else f"{why.numerator:g}{of}"
        text = f"{counted}, against {limit}. {why.said}"
    return f"{text.strip()} (policy {why.policy})".strip()


def _of_gate(fact: GateClosed | GateOpened) -> Fact:
    name = "/".join(filter(None, ("dns_gate", fact.client, fact.domain, fact.route, fact.check)))
    if isinstance(fact, GateOpened):
        return AlertResolved(fact.client, name, fact.evidence.rule)
    way = f" over route {fact.route}" if fact.route else ""
    title = f"domain {fact.domain} sends nothing{way}: {fact.evidence.rule}"
    return AlertRaised(fact.client, name, "critical", title, f"{fact.fix}. {fact.evidence.said}", "dns_gate")


FEEDS: dict[Feed, str] = {
    "gmail_spam": "Gmail's users call mail of {} spam",
    "dmarc_own": "own mail of {} fails authentication",
    "dmarc_unknown": "others send in the name of {}",
}


def _of_reputation(fact: ReputationChanged) -> Fact:
    """A feed's story goes on until it is good again; its page has the feed's name."""
    name = f"{fact.feed}/{fact.client}/{fact.domain}"
    if fact.now == "good":
        return AlertResolved(fact.client, name, fact.evidence.rule)
    title = f"{FEEDS[fact.feed].format(fact.domain)}: {fact.evidence.rule}"
    detail = f"{numbers(fact.evidence)} {fact.fix[:1].upper()}{fact.fix[1:]}."
    return AlertRaised(fact.client, name, "warning", title, detail, fact.feed)


def _of_list(fact: ListChanged) -> list[Fact]:
    name = f"list_held/{fact.client}/{fact.list_id}"
    if fact.now == "held":
        title = f"list {fact.list_id} of {fact.client} is held: {fact.evidence.rule}"
        detail = f"{numbers(fact.evidence)} It goes on by `mailfleet release-list {fact.client} {fact.list_id}`."
        return [AlertRaised(fact.client, name, "warning", title, detail, "list_held")]
    return [AlertResolved(fact.client, name, fact.evidence.rule)] if fact.was == "held" else []


def _of_reserve(fact: CapacityPlanned, before: ReserveState) -> list[Fact]:
    """The reserve runs low days before it is gone, or is gone; the same again wakes nobody."""
    name = f"reserve/{fact.client}"
    if fact.reserve == before:
        return []
    if fact.reserve in ("low", "exhausted"):
        severity: Severity = "warning" if fact.reserve == "low" else "critical"
        title = f"the reserve of {fact.client} is {fact.reserve}: {fact.evidence.numerator:g} mailboxes"
        detail = f"{fact.capacity} mails a day can be carried, {fact.demand} are wanted. {fact.evidence.said}."
        return [AlertRaised(fact.client, name, severity, title, detail, "reserve")]
    return [AlertResolved(fact.client, name, fact.evidence.rule)] if before in ("low", "exhausted") else []


def _of_throttle(fact: ReceiverThrottled) -> AlertRaised:
    title = f"{fact.receiver} throttles {fact.client} over route {fact.route}, time {fact.times} in a row: {fact.rule}"
    detail = (
        f"{fact.evidence} Its mail waits until {fact.until:%Y-%m-%d %H:%M} UTC and is then tried with one; mail to "
        "others goes on. Send it less, or better wanted, mail."
    )
    return AlertRaised(fact.client, _throttle_name(fact), "warning", title, detail, "receiver_throttles")


def _throttle_name(fact: ReceiverThrottled | ReceiverEased) -> str:
    return f"receiver_throttles/{fact.client}/{fact.route}/{fact.receiver}"


def _of_trip(fact: RouteTripped) -> AlertRaised:
    title = f"route {fact.route} of {fact.client} does not work: {fact.rule}"
    counted = f" {numbers(fact.why)}." if fact.why is not None else ""
    detail = f"{fact.evidence}{counted} Its next try is at {fact.until:%Y-%m-%d %H:%M:%S} UTC."
    return AlertRaised(fact.client, _trip_name(fact), "warning", title, detail, "route_tripped")


def _trip_name(fact: RouteTripped | RouteRecovered) -> str:
    return f"route_tripped/{fact.client}/{fact.route}"
