"""Read models `sender_states`, `warm_up_steps`, `alerts`: who is in rotation and why, caps, what wakes a person."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.health import AlertRaised, AlertResolved, Evidence, HealthChanged, WarmUpStepped
from schemas.registry import Fact

_END = """
update sender_states set to_at = %(at)s
where client = %(client)s and scope = %(scope)s and name = %(name)s and to_at is null
"""
_BEGIN = """
insert into sender_states (client, scope, name, state, from_at, until, then_state, quota_share, rule, policy,
    window_text, numerator, denominator, threshold, said, partition, seq, n)
values (%(client)s, %(scope)s, %(name)s, %(state)s, %(at)s, %(until)s, %(then)s, %(share)s, %(rule)s, %(policy)s,
    %(window)s, %(numerator)s, %(denominator)s, %(threshold)s, %(said)s, %(partition)s, %(seq)s, %(n)s)
"""
_MAILBOX = """
update mailboxes set out_until = %(until)s, out_rule = %(out_rule)s, out_evidence = %(out_evidence)s,
    changed_at = %(at)s
where mailbox = %(name)s
"""
_DOMAIN = """
update domains set out_until = %(until)s, out_rule = %(out_rule)s, out_evidence = %(out_evidence)s,
    changed_at = %(at)s
where client = %(client)s and domain = %(name)s
"""
_STEP = """
insert into warm_up_steps (client, scope, name, day, was, now, anew, decided_at, rule, policy, window_text, numerator,
    denominator, threshold, partition, seq, n)
values (%(client)s, %(scope)s, %(name)s, %(day)s, %(was)s, %(now)s, %(anew)s, %(at)s, %(rule)s, %(policy)s,
    %(window)s, %(numerator)s, %(denominator)s, %(threshold)s, %(partition)s, %(seq)s, %(n)s)
"""
_RAISE = """
insert into alerts (client, alert, severity, title, detail, runbook, raised_at, last_raised_at, times)
values (%(client)s, %(alert)s, %(severity)s, %(title)s, %(detail)s, %(runbook)s, %(at)s, %(at)s, 1)
on conflict (client, alert) do update set severity = excluded.severity, title = excluded.title,
    detail = excluded.detail, runbook = excluded.runbook, last_raised_at = excluded.last_raised_at, how = '',
    raised_at = case when alerts.resolved_at is null then alerts.raised_at else excluded.raised_at end,
    times = case when alerts.resolved_at is null then alerts.times + 1 else 1 end, resolved_at = null
"""
_RESOLVE = """
update alerts set resolved_at = %(at)s, how = %(how)s
where client = %(client)s and alert = %(alert)s and resolved_at is null
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case HealthChanged():
            yield from _changed(fact, place)
        case WarmUpStepped():
            named = {"client": fact.client, "scope": fact.scope, "name": fact.name, "day": fact.day}
            caps = {"was": fact.was, "now": fact.now, "anew": fact.anew}
            yield _STEP, named | caps | evidence_values(fact.evidence) | place_values(place)
        case AlertRaised():
            told = {"severity": fact.severity, "title": fact.title, "detail": fact.detail, "runbook": fact.runbook}
            yield _RAISE, told | {"client": fact.client, "alert": fact.alert, "at": place.at}
        case AlertResolved():
            yield _RESOLVE, {"client": fact.client, "alert": fact.alert, "how": fact.how, "at": place.at}


def _changed(fact: HealthChanged, place: Place) -> Iterable[Statement]:
    values: dict[str, object] = {"client": fact.client, "scope": fact.scope, "name": fact.name or fact.client}
    values |= {"state": fact.now, "until": fact.until, "then": fact.then, "share": fact.share}
    values |= evidence_values(fact.evidence) | place_values(place)
    yield _END, values
    yield _BEGIN, values
    out = fact.now == "unhealthy"
    values |= {"out_rule": fact.evidence.rule if out else "", "out_evidence": fact.evidence.said if out else ""}
    if fact.scope == "mailbox":
        yield _MAILBOX, values
    elif fact.scope == "domain":
        yield _DOMAIN, values


def evidence_values(why: Evidence) -> dict[str, object]:
    """Return the values of an evidence's columns."""
    return {
        "rule": why.rule,
        "policy": why.policy,
        "window": why.window,
        "numerator": why.numerator,
        "denominator": why.denominator,
        "threshold": why.threshold,
        "said": why.said,
    }


def place_values(place: Place) -> dict[str, object]:
    """Return the values of the columns that say where a fact stands."""
    return {"partition": place.partition, "seq": place.seq, "n": place.n, "at": place.at}
