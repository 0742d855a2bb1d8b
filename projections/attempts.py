"""Read model `attempts`: one row per try to hand a send to a route."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.registry import Fact
from schemas.sending import (
    AttemptAccepted,
    AttemptAssigned,
    AttemptMissed,
    AttemptNotSent,
    AttemptRefused,
    AttemptUnknown,
    Reply,
    SendRef,
    SubmissionStarted,
)

_INSERT = """
insert into attempts (client, send_id, attempt, mailbox, route, quota_day, rule, not_before, not_after, assigned_at)
values (%(client)s, %(send_id)s, %(attempt)s, %(mailbox)s, %(route)s, %(quota_day)s, %(rule)s, %(not_before)s,
    %(not_after)s, %(at)s)
"""
_START = """
update attempts set outcome = 'started', started_at = %(at)s, claimed_clock = %(clock)s
where client = %(client)s and send_id = %(send_id)s and attempt = %(attempt)s
"""
_SETTLE = """
update attempts set outcome = %(outcome)s, reply_code = %(code)s, reply_enhanced = %(enhanced)s,
    reply_text = %(text)s, reply_class = %(class)s, fault = %(fault)s, verdict_rule = %(rule)s, what = %(what)s,
    settled_at = %(at)s
where client = %(client)s and send_id = %(send_id)s and attempt = %(attempt)s
"""
_NOTHING_SAID = dict.fromkeys(("code", "enhanced", "text", "class", "fault", "rule", "what"))


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case AttemptAssigned(ref, a):
            yield (
                _INSERT,
                _named(ref, a.attempt, place)
                | {
                    "mailbox": a.sender.mailbox,
                    "route": a.call.route,
                    "quota_day": a.quota_day,
                    "rule": a.rule,
                    "not_before": a.not_before,
                    "not_after": a.not_after,
                },
            )
        case SubmissionStarted():
            yield _START, _named(fact.ref, fact.attempt, place) | {"clock": fact.clock}
        case AttemptAccepted():
            yield _settle(fact.ref, fact.attempt, place, "accepted", _said(fact.reply))
        case AttemptRefused():
            said = _said(fact.reply) | {
                "class": fact.verdict.reply_class,
                "fault": fact.verdict.fault,
                "rule": fact.verdict.rule,
            }
            yield _settle(fact.ref, fact.attempt, place, "refused", said)
        case AttemptNotSent():
            yield _settle(fact.ref, fact.attempt, place, "not_sent", {"what": f"{fact.stage}: {fact.what}"})
        case AttemptMissed():
            yield _settle(fact.ref, fact.attempt, place, "missed", {})
        case AttemptUnknown():
            yield _settle(fact.ref, fact.attempt, place, "unknown", {"what": fact.what})


def _named(ref: SendRef, attempt: int, place: Place) -> dict[str, object]:
    return {"client": ref.client, "send_id": ref.send_id, "attempt": attempt, "at": place.at}


def _said(reply: Reply) -> dict[str, object]:
    return {"code": reply.code, "enhanced": reply.enhanced, "text": reply.text}


def _settle(ref: SendRef, attempt: int, place: Place, outcome: str, said: dict[str, object]) -> Statement:
    return _SETTLE, _named(ref, attempt, place) | _NOTHING_SAID | said | {"outcome": outcome}
