"""What was decided about a sender, as a person would say it."""

from schemas.fleet import ReceiverEased, ReceiverThrottled, RouteRecovered, RouteTripped
from schemas.health import (
    Evidence,
    GateClosed,
    GateOpened,
    HealthChanged,
    ListChanged,
    ReserveChanged,
    RestBegan,
    WarmUpStepped,
)
from schemas.registry import TYPE_OF, Fact
from schemas.reputation import ReputationChanged


def sentence(fact: Fact) -> str:
    """Return one sentence, for whatever fact."""
    match fact:
        case HealthChanged():
            back = f", until {fact.until:%Y-%m-%d %H:%M}" if fact.until else ""
            return f"{fact.scope} {fact.name or fact.client}: {fact.was} → {fact.now}{back}: {held(fact.evidence)}"
        case WarmUpStepped():
            return f"{fact.scope} {fact.name}: {fact.was} → {fact.now} a day from {fact.day}: {held(fact.evidence)}"
        case ListChanged():
            return f"list {fact.list_id} of {fact.client}: {fact.was} → {fact.now}: {held(fact.evidence)}"
        case RestBegan():
            return f"{fact.scope} {fact.name} rests until {fact.until:%Y-%m-%d %H:%M}: {_stays(fact.evidence)}"
        case ReserveChanged():
            word = "goes into the reserve" if fact.now == "reserve" else "joins from the reserve"
            return f"mailbox {fact.mailbox} {word}: {held(fact.evidence)}"
        case GateClosed():
            over = f" over {fact.route}" if fact.route else ""
            return f"domain {fact.domain}{over} is closed: {held(fact.evidence)}; {fact.fix}"
        case GateOpened():
            over = f" over {fact.route}" if fact.route else ""
            return f"domain {fact.domain}{over} is open again: {held(fact.evidence)}"
        case ReputationChanged():
            return f"domain {fact.domain}, {fact.feed}: {fact.was} → {fact.now}: {held(fact.evidence)}"
        case RouteTripped():
            return f"route {fact.route} of {fact.client} is out until {fact.until:%Y-%m-%d %H:%M}: {fact.rule}"
        case RouteRecovered():
            return f"route {fact.route} of {fact.client} works again"
        case ReceiverThrottled():
            until = f"{fact.until:%Y-%m-%d %H:%M}"
            return (
                f"{fact.receiver} throttles route {fact.route} of {fact.client}, time {fact.times} in a row: its mail "
                f"waits until {until}: {fact.rule} ({fact.evidence})"
            )
        case ReceiverEased():
            more = "nothing bounds it any more" if fact.over else f"{fact.passed + 1} at a time from now on"
            return f"{fact.receiver} takes mail over route {fact.route} of {fact.client} again: {more}"
        case _:
            return TYPE_OF[type(fact)].replace(".", " ").replace("_", " ")


def _stays(why: Evidence) -> str:
    said = f"; {why.said}" if why.said else ""
    return (
        f"{why.rule}; {why.numerator:,.0f} mails a day can be sent without it, the floor is {why.threshold:,.0f}{said}"
    )


def held(evidence: Evidence) -> str:
    """Return the evidence: what was held against which threshold."""
    said = f" ({evidence.said})" if evidence.said else ""
    if not evidence.denominator:
        counted = f": {evidence.numerator:g} against {evidence.threshold:g}" if evidence.threshold else ""
        return f"{evidence.rule}{counted}{_in(evidence)}{said}"
    share = evidence.numerator / evidence.denominator
    return (
        f"{evidence.rule}: {evidence.numerator:g} of {evidence.denominator:g} ({share:.1%}; threshold "
        f"{_threshold(evidence)}){_in(evidence)}{said}"
    )


def _threshold(evidence: Evidence) -> str:
    return f"{evidence.threshold:.1%}" if 0 < evidence.threshold < 1 else f"{evidence.threshold:g}"


def _in(evidence: Evidence) -> str:
    return f" in {evidence.window}" if evidence.window else ""
