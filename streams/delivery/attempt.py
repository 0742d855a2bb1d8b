"""What a definite answer means for an attempt, whoever brings it: a hand, a provider's records, a report."""

from schemas.ids import ClientId
from schemas.registry import Fact
from schemas.sending import (
    Accepted,
    AttemptAccepted,
    AttemptRefused,
    Refused,
    Reply,
    SendAssigned,
    SendFailed,
)
from streams.delivery.state import DeliveryState, SendRow
from streams.delivery.suppression import suppress
from streams.delivery.verdict import verdict

FOR_ALL = ClientId("")


def answered(state: DeliveryState, row: SendRow, assignment: SendAssigned, said: Accepted | Refused) -> list[Fact]:
    """Return what follows from a server's yes or no to the attempt that is out."""
    if isinstance(said, Accepted):
        return [accepted(assignment, said.provider_id, said.reply)]
    ref, box, route = assignment.ref, assignment.sender.mailbox, assignment.call.route
    means = verdict(said.reply)
    found: list[Fact] = [AttemptRefused(ref, assignment.attempt, box, route, said.reply, means)]
    if means.action in ("fail", "suppress"):
        found.append(SendFailed(ref, means.rule))
    if means.action == "suppress":
        who = (ref.recipient, row.request.recipient_loose)
        name = f"{ref.client}/{ref.send_id}"
        found += suppress(state, who, FOR_ALL, "hard_bounce", means.rule, but=name)
    return found


def accepted(assignment: SendAssigned, provider_id: str, reply: Reply) -> AttemptAccepted:
    """The attempt was taken."""
    box, route = assignment.sender.mailbox, assignment.call.route
    return AttemptAccepted(assignment.ref, assignment.attempt, box, route, provider_id, reply)
