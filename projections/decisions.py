"""Read model `decisions`: what was decided about the fleet, by which rule, on what evidence."""

from collections.abc import Iterable
from datetime import datetime

from projections.read_model import Place, Statement
from schemas.fleet import (
    DomainLeftOut,
    MailboxLeftOut,
    ReceiverEased,
    ReceiverThrottled,
    RouteRecovered,
    RouteTripped,
    StartOrdered,
    StopOrdered,
)
from schemas.health import Evidence, GateClosed, GateOpened, HealthChanged, ListChanged
from schemas.registry import Fact
from schemas.reputation import ReputationChanged
from schemas.sending import SendGivenUp, SendTurnedAway

_IN_WORDS = {"active": "back", "watched": "watched", "unhealthy": "left out", "probation": "on probation"}
_INSERT = """
insert into decisions (journal, partition, seq, n, decided_at, client, scope, subject, decision, rule, until, evidence)
values (%(journal)s, %(partition)s, %(seq)s, %(n)s, %(at)s, %(client)s, %(scope)s, %(subject)s, %(decision)s,
    %(rule)s, %(until)s, %(evidence)s)
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case MailboxLeftOut():
            yield _row(place, fact.client, "mailbox", fact.mailbox, "left out", fact.rule, fact.until, fact.evidence)
        case DomainLeftOut():
            yield _row(place, fact.client, "domain", fact.domain, "left out", fact.rule, fact.until, fact.evidence)
        case GateClosed() | GateOpened():
            decision = f"{'closed' if isinstance(fact, GateClosed) else 'opened'} over {fact.route or 'every route'}"
            why = fact.evidence
            yield _row(place, fact.client, "domain", fact.domain, decision, why.rule, None, why.said)
        case ListChanged():
            why = fact.evidence
            yield _row(
                place, fact.client, "list", f"{fact.client}/{fact.list_id}", fact.now, why.rule, fact.until, why.said
            )
        case HealthChanged():
            name = f"{fact.client}/{fact.name}" if fact.scope == "route" else fact.name or fact.client
            why = fact.evidence
            yield _row(place, fact.client, fact.scope, name, _IN_WORDS[fact.now], why.rule, fact.until, _numbers(why))
        case ReputationChanged():
            why = fact.evidence
            decision = f"{fact.feed} {fact.now}"
            yield _row(place, fact.client, "domain", fact.domain, decision, why.rule, None, _numbers(why))
        case RouteTripped():
            name = f"{fact.client}/{fact.route}"
            yield _row(place, fact.client, "route", name, "tripped", fact.rule, fact.until, _said(fact))
        case RouteRecovered():
            name, evidence = f"{fact.client}/{fact.route}", fact.evidence
            yield _row(place, fact.client, "route", name, "recovered", "a mail went through", None, evidence)
        case ReceiverThrottled():
            name, decision = f"{fact.client}/{fact.route}", f"{fact.receiver} rests, no. {fact.times} in a row"
            yield _row(place, fact.client, "route", name, decision, fact.rule, fact.until, _said(fact))
        case ReceiverEased(over=True):
            name, decision = f"{fact.client}/{fact.route}", f"{fact.receiver} as before"
            yield _row(place, fact.client, "route", name, decision, "it takes our mail again", None, fact.evidence)
        case StopOrdered() | StartOrdered() if _is_told_once(fact, place):
            decision = "stopped" if isinstance(fact, StopOrdered) else "started"
            yield _row(place, fact.client, fact.scope, fact.name or "all", decision, f"by {fact.by}")
        case SendGivenUp():
            name = f"{fact.ref.client}/{fact.ref.send_id}"
            yield _row(place, fact.ref.client, "send", name, "given up", fact.rule)
        case SendTurnedAway():
            name = f"{fact.ref.client}/{fact.ref.send_id}"
            yield _row(place, fact.ref.client, "send", name, "turned away", fact.reason, None, fact.detail)


def _numbers(why: Evidence) -> str:
    of = f" of {why.denominator:g}" if why.denominator else ""
    counted = f"{why.numerator:g}{of} in {why.window}, against {why.threshold:g}" if why.numerator else ""
    return "; ".join(filter(None, (counted, why.said)))


def _said(fact: RouteTripped | ReceiverThrottled) -> str:
    return "; ".join(filter(None, (_numbers(fact.why) if fact.why is not None else "", fact.evidence)))


def _is_told_once(fact: StopOrdered | StartOrdered, place: Place) -> bool:
    """A stop of all or of a domain stands in every partition of both journals."""
    everywhere = fact.scope in ("all", "domain")
    return "fleet" in place.journal and (not everywhere or place.partition == 0)


def _row(
    place: Place,
    client: str,
    scope: str,
    subject: str,
    decision: str,
    rule: str,
    until: datetime | None = None,
    evidence: str = "",
) -> Statement:
    return (
        _INSERT,
        {
            "journal": place.journal,
            "partition": place.partition,
            "seq": place.seq,
            "n": place.n,
            "at": place.at,
            "client": client,
            "scope": scope,
            "subject": subject,
            "decision": decision,
            "rule": rule,
            "until": until,
            "evidence": evidence,
        },
    )
