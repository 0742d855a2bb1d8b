"""Read model `sends` and `refusals`: one row per admitted send, one per refused request.

A send_id that was used for two recipients is admitted twice, by two partitions, until the fleet stage turns one away.
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
    SendAdmitted,
    SendAssumedSent,
    SendBounced,
    SendCancelled,
    SendDelivered,
    SendExpired,
    SendFailed,
    SendRef,
    SendRefused,
    SendReturned,
    SendWithdrawn,
    SubmissionStarted,
)

_INSERT = """
insert into sends (client, send_id, campaign, recipient, recipient_domain, receiver, state, requested_at, admitted_at,
    changed_at)
values (%(client)s, %(send_id)s, %(campaign)s, %(recipient)s, %(domain)s, %(receiver)s, 'admitted', %(requested)s,
    %(at)s, %(at)s)
"""
_STATE = """
update sends set state = %(state)s, reason = %(reason)s, changed_at = %(at)s,
    ended_at = case when %(ends)s then %(at)s end
where client = %(client)s and send_id = %(send_id)s and recipient = %(recipient)s
"""
_CAME_BACK = """
update sends set state = %(state)s, reason = %(reason)s, changed_at = %(at)s, ended_at = %(at)s
where client = %(client)s and send_id = %(send_id)s and recipient = %(recipient)s
    and array_position(%(order)s, state) < array_position(%(order)s, %(state)s)
"""
_ORDER = ["accepted", "assumed_sent", "delivered", "bounced", "replied", "unsubscribed", "complained"]
"""What came back in whatever order: the state further down stays, as in streams.delivery.state.AFTER_250."""
_ASSIGN = """
update sends set state = 'assigned', reason = %(reason)s, attempts = %(attempt)s, mailbox = %(mailbox)s,
    route = %(route)s, changed_at = %(at)s
where client = %(client)s and send_id = %(send_id)s and recipient = %(recipient)s
"""
_ACCEPT = """
update sends set state = 'accepted', reason = '', provider_message_id = %(provider_id)s, accepted_at = %(at)s,
    ended_at = %(at)s, changed_at = %(at)s
where client = %(client)s and send_id = %(send_id)s and recipient = %(recipient)s
"""
_REFUSE = """
insert into refusals (journal, partition, seq, n, client, send_id, reason, detail, refused_at)
values (%(journal)s, %(partition)s, %(seq)s, %(n)s, %(client)s, %(send_id)s, %(reason)s, %(detail)s, %(at)s)
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case SendAdmitted(request):
            yield (
                _INSERT,
                {
                    "client": request.ref.client,
                    "send_id": request.ref.send_id,
                    "campaign": request.campaign,
                    "recipient": request.ref.recipient,
                    "domain": request.recipient_domain,
                    "receiver": request.receiver,
                    "requested": request.requested_at,
                    "at": place.at,
                },
            )
        case SendRefused():
            yield (
                _REFUSE,
                {
                    "journal": place.journal,
                    "partition": place.partition,
                    "seq": place.seq,
                    "n": place.n,
                    "client": fact.client,
                    "send_id": fact.send_id,
                    "reason": fact.reason,
                    "detail": fact.detail,
                    "at": place.at,
                },
            )
        case AttemptAssigned(ref, assignment):
            yield (
                _ASSIGN,
                _named(ref, place)
                | {
                    "reason": assignment.rule,
                    "attempt": assignment.attempt,
                    "mailbox": assignment.sender.mailbox,
                    "route": assignment.call.route,
                },
            )
        case AttemptAccepted():
            yield _ACCEPT, _named(fact.ref, place) | {"provider_id": fact.provider_id}
        case SubmissionStarted():
            yield _state(fact.ref, place, "started", "")
        case AttemptRefused():
            yield _state(fact.ref, place, "admitted", f"refused: {fact.verdict.rule}")
        case AttemptNotSent():
            yield _state(fact.ref, place, "admitted", f"not sent at {fact.stage}: {fact.what}")
        case AttemptMissed():
            yield _state(fact.ref, place, "admitted", "missed its slot")
        case AttemptUnknown():
            yield _state(fact.ref, place, "unknown", fact.what)
        case SendFailed() | SendExpired():
            yield _state(fact.ref, place, "failed" if isinstance(fact, SendFailed) else "expired", fact.rule, ends=True)
        case SendReturned():
            yield _state(fact.ref, place, "admitted", f"returned: {fact.verdict.rule}")
        case SendBounced():
            yield _came_back(fact.ref, place, "bounced", fact.verdict.rule)
        case SendReplied():
            yield _came_back(fact.ref, place, "replied", "a person wrote back")
        case SendUnsubscribed():
            yield _came_back(fact.ref, place, "unsubscribed", fact.source)
        case SendComplained():
            yield _came_back(fact.ref, place, "complained", fact.feedback or fact.source)
        case SendCancelled():
            yield _state(fact.ref, place, "cancelled", fact.by, ends=True)
        case SendWithdrawn():
            yield _state(fact.ref, place, "refused", fact.reason, ends=True)
        case SendAssumedSent():
            yield _state(fact.ref, place, "assumed_sent", "no evidence in 24 h", ends=True)
        case SendDelivered():
            yield _came_back(fact.ref, place, "delivered", fact.rule)


def _named(ref: SendRef, place: Place) -> dict[str, object]:
    return {"client": ref.client, "send_id": ref.send_id, "recipient": ref.recipient, "at": place.at}


def _state(ref: SendRef, place: Place, state: str, reason: str, *, ends: bool = False) -> Statement:
    return _STATE, _named(ref, place) | {"state": state, "reason": reason, "ends": ends}


def _came_back(ref: SendRef, place: Place, state: str, reason: str) -> Statement:
    return _CAME_BACK, _named(ref, place) | {"state": state, "reason": reason, "order": _ORDER}
