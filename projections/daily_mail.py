"""Read model `daily_mail`: counts by day, client, campaign, domain, mailbox, route and receiver.

What comes of a mail counts on the local day on which it was assigned, however late it comes: so rates are true.
"""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.registry import Fact
from schemas.reports import SendComplained, SendReplied, SendUnsubscribed
from schemas.sending import (
    AttemptAccepted,
    AttemptAssigned,
    AttemptMissed,
    AttemptNotSent,
    AttemptRefused,
    AttemptUnknown,
    SendAssumedSent,
    SendBounced,
    SendDelivered,
    SendRef,
    SendReturned,
    Verdict,
)

COUNTS = (
    "assigned",
    "accepted",
    "refused",
    "deferred",
    "not_sent",
    "missed",
    "unknown",
    "assumed_sent",
    "delivered",
    "hard_bounced",
    "soft_bounced",
    "returned",
    "complained",
    "unsubscribed",
    "replied",
)
LATER = ("retry", "retry_same_mailbox")
_COUNT = """
insert into daily_mail (day, client, campaign, domain, mailbox, route, receiver, {count})
select a.quota_day::date, a.client, s.campaign, split_part(a.mailbox, '@', 2), a.mailbox, a.route, s.receiver, 1
from attempts a join sends s on s.client = a.client and s.send_id = a.send_id and s.recipient = %(recipient)s
where a.client = %(client)s and a.send_id = %(send_id)s and a.attempt = %(attempt)s{only}
on conflict (day, client, mailbox, route, campaign, receiver) do update set {count} = daily_mail.{count} + 1
"""
_FIRST_REPLY = """
    and 1 = (select count(*) from replies r where r.client = a.client and r.send_id = a.send_id
        and r.recipient = s.recipient and r.kind = 'reply')"""
_SQL = {count: _COUNT.format(count=count, only=_FIRST_REPLY if count == "replied" else "") for count in COUNTS}


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes: after `sends`, `attempts` and `reports`, whose rows it counts by."""
    match fact:
        case AttemptAssigned(ref, assignment):
            yield _one(ref, assignment.attempt, "assigned")
        case AttemptAccepted():
            yield _one(fact.ref, fact.attempt, "accepted")
        case AttemptRefused():
            yield _one(fact.ref, fact.attempt, "deferred" if fact.verdict.action in LATER else "refused")
            if _is_hard(fact.verdict):
                yield _one(fact.ref, fact.attempt, "hard_bounced")
        case AttemptNotSent():
            yield _one(fact.ref, fact.attempt, "not_sent")
        case AttemptMissed():
            yield _one(fact.ref, fact.attempt, "missed")
        case AttemptUnknown():
            yield _one(fact.ref, fact.attempt, "unknown")
        case SendAssumedSent():
            yield _one(fact.ref, fact.attempt, "assumed_sent")
        case SendDelivered():
            yield _one(fact.ref, fact.attempt, "delivered")
        case SendBounced():
            yield _one(fact.ref, fact.attempt, "hard_bounced" if _is_hard(fact.verdict) else "soft_bounced")
        case SendReturned():
            yield _one(fact.ref, fact.attempt, "returned")
        case SendComplained():
            yield _one(fact.ref, fact.attempt, "complained")
        case SendUnsubscribed():
            yield _one(fact.ref, fact.attempt, "unsubscribed")
        case SendReplied():
            yield _one(fact.ref, fact.attempt, "replied")


def _is_hard(verdict: Verdict) -> bool:
    return verdict.action == "suppress"


def _one(ref: SendRef, attempt: int, count: str) -> Statement:
    named = {"client": ref.client, "send_id": ref.send_id, "recipient": ref.recipient, "attempt": attempt}
    return _SQL[count], named
