"""After a restore that may lack the last decisions, nothing that was open goes again; else all goes on."""

from datetime import datetime
from typing import Any

import pytest

from schemas.registry import Fact
from schemas.sending import (
    AttemptAssigned,
    AttemptNotSent,
    AttemptUnknown,
    ClaimAsked,
    JournalContinued,
    NotSent,
    OutcomeSeen,
    SendExpired,
    SubmissionStarted,
    Unknown,
)
from streams.delivery.mind import DeliveryMind
from streams.log.position import Position
from tests.decisions.world import HOUR, MINUTE, NOW, Ledger, assignment, ref_of, request

REF = ref_of()
CLAIM = ClaimAsked(REF, 1, NOW, "hand")


def _restored(led: Ledger, before: datetime | None) -> Ledger:
    """The journal with its opening entry, which no mind decides."""
    fact = JournalContinued({"j": "new"}, {"j": "old"}, {"i": 7}, before)
    led._count(led._entry(fact, [fact], None))
    return led


def _life(*seen: Fact) -> Ledger:
    return Ledger(DeliveryMind()).given(request(), *seen)


@pytest.mark.parametrize(("seen", "then"), [((), assignment()), ((assignment(),), CLAIM)])
def test_what_was_open_when_decisions_were_lost_ends_as_perhaps_sent(seen: tuple[Fact, ...], then: Any) -> None:
    led = _restored(_life(*seen), NOW + MINUTE)
    assert led.sees(then) == [SendExpired(REF, "perhaps_sent")]
    assert led.row("recipient", REF.recipient).waiting == ()
    assert led.open == {}


def test_nothing_is_lost_when_the_archive_was_complete() -> None:
    led = _restored(_life(), None)
    assert isinstance(led.sees(assignment())[0], AttemptAssigned)
    assert led.sees(CLAIM) == [SubmissionStarted(REF, 1, NOW, "hand")]


def test_what_is_asked_for_after_the_restore_is_sent() -> None:
    led = _restored(Ledger(DeliveryMind()), NOW)
    led.given(request(at=NOW), assignment())
    assert led.sees(CLAIM) == [SubmissionStarted(REF, 1, NOW, "hand")]


def test_what_was_claimed_stays_unknown_and_a_proven_refusal_does_not_send_it_again() -> None:
    led = _restored(_life(assignment(), CLAIM), NOW + MINUTE)
    (unknown,) = led.sees(OutcomeSeen(REF, 1, "hand", Unknown("gone")))
    assert isinstance(unknown, AttemptUnknown)
    again = _restored(_life(assignment(), CLAIM), NOW + MINUTE)
    (back,) = again.sees(OutcomeSeen(REF, 1, "hand", NotSent("dot", "cut")))
    assert isinstance(back, AttemptNotSent)
    assert again.sees(assignment(2)) == [SendExpired(REF, "perhaps_sent")]


def test_a_second_restore_moves_the_time_on() -> None:
    led = _restored(_restored(Ledger(DeliveryMind()), NOW), NOW + HOUR)
    led.given(request(at=NOW + MINUTE))
    assert led.sees(assignment()) == [SendExpired(REF, "perhaps_sent")]
    led.resumes()
    assert led.state.perhaps_sent(request(at=NOW + MINUTE))


def test_a_position_takes_the_new_generations_and_never_goes_back() -> None:
    position = Position(causes={"i": 9, "k": 3}, topic_ids={"i": "old", "j": "old"})
    position.continued(JournalContinued({"i": "new"}, {"i": "old"}, {"i": 7, "k": 5}))
    assert position.topic_ids == {"i": "new", "j": "old"}
    assert position.causes == {"i": 9, "k": 5}
