"""The life of a send in the delivery stage: facts in, facts and rows out."""

import re
from datetime import datetime, timedelta

import pytest

from schemas.ids import ClientId, MailboxAddress
from schemas.registry import Fact
from schemas.reports import MtaLineSeen
from schemas.sending import (
    Accepted,
    AttemptAccepted,
    AttemptAssigned,
    AttemptMissed,
    AttemptNotSent,
    AttemptRefused,
    AttemptUnknown,
    CancelCameTooLate,
    CancelOrdered,
    ClaimAsked,
    EvidenceSeen,
    EvidenceWanted,
    HourDone,
    NotSent,
    Outcome,
    OutcomeReported,
    OutcomeSeen,
    PartitionResumed,
    RecipientSuppressed,
    Refused,
    Reply,
    RequestRejected,
    SendAdmitted,
    SendAssumedSent,
    SendBounced,
    SendCancelled,
    SendDelivered,
    SendExpired,
    SendFailed,
    SendGivenUp,
    SendLapsed,
    SendRefused,
    SendResult,
    SendState,
    SendTurnedAway,
    SendWithdrawn,
    SubmissionStarted,
    Unknown,
)
from schemas.topics import FLEET_INPUTS, SEND_RESULTS
from streams.delivery.mind import DeliveryMind
from streams.delivery.state import DUE_SHARDS, MOST_WAITING, due_key
from streams.delivery.verdict import verdict
from tests.decisions.world import (
    ANNA,
    BERT,
    DAY,
    HOUR,
    MINUTE,
    NO,
    NO_SUCH_USER,
    NOW,
    OK,
    OWN,
    POLICY,
    SECOND,
    TAKEN,
    TRY_LATER,
    Ledger,
    assignment,
    client,
    is_unknown,
    ref_of,
    request,
    was_accepted,
    was_missed,
)

HAND = "hand-1"
REF = ref_of()
NOTHING_LEFT = NotSent("connect", "connection refused")
CUT = Unknown("cut after the final dot")
ENDED: tuple[SendState, ...] = ("failed", "cancelled", "expired", "refused", "assumed_sent", "accepted", "delivered")


def life() -> Ledger:
    """A partition that has seen nothing."""
    return Ledger(DeliveryMind())


def claim(attempt: int = 1, clock: datetime = NOW, hand: str = HAND) -> ClaimAsked:
    return ClaimAsked(REF, attempt, clock, hand)


def seen(outcome: Outcome, attempt: int = 1, hand: str = HAND) -> OutcomeSeen:
    return OutcomeSeen(REF, attempt, hand, outcome)


def bounce(reply: Reply = NO_SUCH_USER) -> OutcomeSeen:
    return seen(Refused(reply))


def in_state(state: SendState, token: str = "") -> Ledger:
    """The send "s1", brought into the state the way it gets there in the field."""
    led = life().given(request(token=token))
    to_started: list[Fact] = [assignment(), claim()]
    ways: dict[SendState, list[Fact]] = {
        "admitted": [],
        "assigned": [assignment()],
        "started": to_started,
        "unknown": [*to_started, seen(CUT)],
        "accepted": [*to_started, seen(TAKEN)],
        "delivered": [*to_started, seen(TAKEN)],
        "failed": [*to_started, bounce(POLICY)],
        "cancelled": [CancelOrdered(REF, "upstream")],
        "expired": [SendLapsed(REF)],
        "refused": [SendTurnedAway(REF, request().content, "unknown_client", "")],
        "assumed_sent": [*to_started, seen(CUT)],
    }
    led.given(*ways[state])
    if state in ("delivered", "assumed_sent"):
        run_hours(led, NOW, 50)
    assert led.row("send", "acme/s1").state == state
    return led


IN_BETWEEN = (HourDone, EvidenceWanted)


def run_hours(led: Ledger, start: datetime, hours: int) -> list[tuple[datetime, Fact]]:
    """Tick through all shards of each hour; return what came due and when, without cursor and look-ups."""
    came: list[tuple[datetime, Fact]] = []
    for hour in range(hours):
        for shard in range(DUE_SHARDS + 1):
            at = start + hour * HOUR + shard * SECOND
            came += [(at, fact) for fact in led.ticks(at) if not isinstance(fact, IN_BETWEEN)]
    return came


# ── admission ────────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_admitted_and_waits() -> None:
    led = life()
    assert led.sees(request()) == [SendAdmitted(request()), HourDone("2026-03-02T08", DUE_SHARDS - 1)]
    assert led.row("send", "acme/s1").state == "admitted"
    assert led.row("recipient", REF.recipient).waiting == ("acme/s1",)


@pytest.mark.parametrize("state", ["admitted", "assigned", "started", "unknown", *ENDED])
def test_another_request_with_the_send_id_is_a_duplicate_in_every_state(state: SendState) -> None:
    led = in_state(state)
    before = led.row("send", "acme/s1")
    (refused,) = led.sees(request(offset=7))
    assert isinstance(refused, SendRefused)
    assert (refused.reason, refused.detail, refused.request) == ("duplicate", "the same request again", "0/7")
    assert led.row("send", "acme/s1") == before


def test_a_send_id_with_other_content_is_a_duplicate_that_says_so() -> None:
    (refused,) = life().given(request()).sees(request(text="other"))
    assert isinstance(refused, SendRefused)
    assert (refused.reason, refused.detail) == ("duplicate", "this send_id was used with other content")


def test_two_clients_may_use_one_send_id() -> None:
    led = life().given(request(), request(client=ClientId("bolt")))
    assert led.row("send", "bolt/s1").state == "admitted"
    assert led.row("recipient", REF.recipient).waiting == ("acme/s1", "bolt/s1")


def test_a_request_that_comes_at_its_expiry_is_expired() -> None:
    (refused,) = life().sees(request(expires_at=NOW))
    assert isinstance(refused, SendRefused)
    assert refused.reason == "expired"
    assert isinstance(life().sees(request(expires_at=NOW + SECOND))[0], SendAdmitted)


def test_a_request_older_than_the_memory_of_send_ids_is_too_old() -> None:
    (refused,) = life().sees(request(at=NOW - 400 * DAY - SECOND, expires_at=NOW + DAY))
    assert isinstance(refused, SendRefused)
    assert refused.reason == "too_old"
    assert isinstance(life().sees(request(at=NOW - 400 * DAY, expires_at=NOW + DAY))[0], SendAdmitted)


def test_a_suppressed_recipient_gets_no_further_send_from_any_client() -> None:
    led = life().given(request(), assignment(), claim(), bounce())
    for other in (request("s2"), request("s2", client=ClientId("bolt"))):
        (refused,) = led.sees(other)
        assert isinstance(refused, SendRefused)
        assert (refused.reason, refused.detail) == ("suppressed", "hard_bounce")
    assert isinstance(led.sees(request("s2", "rolf"))[0], SendAdmitted)


def test_a_refusal_leaves_no_row_so_the_send_id_stays_free() -> None:
    led = life()
    assert isinstance(led.sees(request(expires_at=NOW))[0], SendRefused)
    assert led.all_rows() == {}
    assert isinstance(led.sees(request())[0], SendAdmitted)


def test_what_intake_rejected_is_answered_with_its_reason() -> None:
    rejected = RequestRejected(REF.client, REF.send_id, "too_large", "900000 bytes")
    assert life().sees(rejected) == [SendRefused(REF.client, REF.send_id, "too_large", "900000 bytes")]


# ── assignment ───────────────────────────────────────────────────────────────────────────────────


def test_an_assignment_of_the_next_attempt_is_taken() -> None:
    led = life().given(request())
    assert led.sees(assignment()) == [AttemptAssigned(REF, assignment(), request().content, ANNA)]
    row = led.row("send", "acme/s1")
    assert (row.state, row.attempt, row.hand) == ("assigned", 1, "")
    assert led.open == {"acme/s1/1": False}


@pytest.mark.parametrize("attempt", [0, 2, 3])
def test_an_assignment_of_any_other_attempt_is_not_taken(attempt: int) -> None:
    assert life().given(request()).sees(assignment(attempt)) == []


@pytest.mark.parametrize("state", ["assigned", "started", "unknown", *ENDED])
@pytest.mark.parametrize("attempt", [1, 2])
def test_only_a_send_that_waits_takes_an_assignment(state: SendState, attempt: int) -> None:
    assert in_state(state).sees(assignment(attempt)) == []


def test_an_assignment_of_an_unknown_send_is_not_taken() -> None:
    assert life().sees(assignment()) == []


def test_an_assignment_that_comes_after_its_slot_is_missed_at_once_and_no_attempt_stays_open() -> None:
    led = life().given(request())
    late = led.sees(assignment(), NOW + 3 * MINUTE)
    assert late == [AttemptAssigned(REF, assignment(), request().content, ANNA), was_missed(assignment())]
    assert led.row("send", "acme/s1").state == "admitted"
    assert led.open == {}
    assert isinstance(led.sees(assignment(2, at=led.at))[0], AttemptAssigned)


# ── claim ────────────────────────────────────────────────────────────────────────────────────────


def test_a_claim_inside_the_slot_is_a_yes() -> None:
    led = in_state("assigned")
    last = NOW + 3 * MINUTE - timedelta(microseconds=1)
    assert led.decides(claim(clock=NOW)) == [SubmissionStarted(REF, 1, NOW, HAND)]
    assert led.sees(claim(clock=last)) == [SubmissionStarted(REF, 1, last, HAND)]
    assert led.open == {"acme/s1/1": True}


def test_a_claim_before_the_slot_by_the_hands_own_clock_is_a_no_and_the_attempt_stays() -> None:
    led = in_state("assigned")
    assert led.sees(claim(clock=NOW - SECOND)) == []
    assert led.open == {"acme/s1/1": False}


def test_a_claim_after_the_slot_by_the_hands_own_clock_is_missed_whatever_the_broker_says() -> None:
    led = in_state("assigned")
    assert led.at == NOW
    assert led.sees(claim(clock=NOW + 3 * MINUTE)) == [was_missed(assignment())]
    assert led.open == {}


def test_a_claim_of_a_send_whose_time_is_over_is_a_no_and_the_send_expires() -> None:
    led = life().given(request(expires_at=NOW + MINUTE), assignment())
    assert led.sees(claim(clock=NOW + MINUTE)) == [SendExpired(REF, "expires_at")]
    assert led.open == {}


def test_a_claim_for_a_recipient_who_is_suppressed_meanwhile_cancels_the_send() -> None:
    led = life().given(request(), request("s2"), assignment(), assignment(1, ref_of("s2")))
    suppressing = RecipientSuppressed(REF.recipient, "complaint", "arf")
    for key in led.mind.rows_of(suppressing, NOW):  # the order itself would cancel both at once
        led.rows.put(key, led.seq, led.mind.evolve(key, led.rows.get(key), suppressing, NOW))
    assert led.sees(claim()) == [SendCancelled(REF, "suppression")]
    assert led.open == {"acme/s2/1": False}


@pytest.mark.parametrize("state", ["admitted", "started", "unknown", *ENDED])
def test_a_claim_of_a_send_that_is_not_assigned_is_a_no(state: SendState) -> None:
    assert in_state(state).sees(claim()) == []


@pytest.mark.parametrize("attempt", [0, 2])
def test_a_claim_of_another_attempt_is_a_no(attempt: int) -> None:
    assert in_state("assigned").sees(claim(attempt)) == []


def test_a_claim_of_an_unknown_send_is_a_no() -> None:
    assert life().sees(claim()) == []


# ── outcomes ─────────────────────────────────────────────────────────────────────────────────────

SETTLES: list[tuple[Outcome, type[Fact], SendState]] = [
    (TAKEN, AttemptAccepted, "accepted"),
    (NO, AttemptRefused, "admitted"),
    (NOTHING_LEFT, AttemptNotSent, "admitted"),
    (CUT, AttemptUnknown, "unknown"),
]


@pytest.mark.parametrize("wrap", [OutcomeSeen, OutcomeReported])
@pytest.mark.parametrize("state", ["assigned", "started"])
@pytest.mark.parametrize(("outcome", "settled", "after"), SETTLES)
def test_each_outcome_settles_an_open_attempt(
    wrap: type[OutcomeSeen | OutcomeReported], state: SendState, outcome: Outcome, settled: type[Fact], after: SendState
) -> None:
    led = in_state(state)
    (fact,) = led.sees(wrap(REF, 1, HAND, outcome))
    assert type(fact) is settled
    assert led.row("send", "acme/s1").state == after
    assert led.open == {}


@pytest.mark.parametrize(("outcome", "settled", "after"), SETTLES[:3])
def test_each_definite_outcome_settles_an_unknown_attempt(
    outcome: Outcome, settled: type[Fact], after: SendState
) -> None:
    led = in_state("unknown")
    (fact,) = led.sees(OutcomeReported(REF, 1, HAND, outcome))
    assert type(fact) is settled
    assert led.row("send", "acme/s1").state == after


def test_unknown_is_said_once() -> None:
    assert in_state("unknown").sees(seen(CUT)) == []


@pytest.mark.parametrize("state", ["admitted", *ENDED])
@pytest.mark.parametrize("outcome", [TAKEN, NO, NOTHING_LEFT, CUT])
def test_no_outcome_settles_what_is_not_out(state: SendState, outcome: Outcome) -> None:
    led = in_state(state)
    before = led.all_rows()
    assert led.sees(seen(outcome)) == []
    assert led.all_rows() == before


@pytest.mark.parametrize("first", [TAKEN, NO, NOTHING_LEFT])
@pytest.mark.parametrize("second", [TAKEN, NO, NOTHING_LEFT, CUT])
def test_an_attempt_settles_once(first: Outcome, second: Outcome) -> None:
    led = in_state("started").given(seen(first))
    assert led.sees(seen(second)) == []


@pytest.mark.parametrize("outcome", [TAKEN, NO, NOTHING_LEFT, CUT])
def test_an_outcome_of_an_older_attempt_changes_nothing(outcome: Outcome) -> None:
    led = in_state("started").given(seen(NO), assignment(2), claim(2))
    assert led.sees(seen(outcome, 1)) == []
    assert led.open == {"acme/s1/2": True}


def test_a_fact_about_an_attempt_names_its_mailbox_route_and_what_was_said() -> None:
    assert in_state("started").sees(seen(TAKEN)) == [AttemptAccepted(REF, 1, ANNA, OWN, "4XyZ12", OK)]
    assert in_state("started").sees(seen(NO)) == [AttemptRefused(REF, 1, ANNA, OWN, TRY_LATER, verdict(TRY_LATER))]
    assert in_state("started").sees(seen(NOTHING_LEFT)) == [
        AttemptNotSent(REF, 1, ANNA, OWN, "connect", "connection refused")
    ]


def test_a_refusal_that_time_may_heal_lets_the_send_wait() -> None:
    led = in_state("started").given(seen(NO))
    assert led.row("recipient", REF.recipient).waiting == ("acme/s1",)


def test_a_refusal_for_the_messages_sake_ends_the_send_and_suppresses_nobody() -> None:
    led = in_state("started")
    assert [type(fact) for fact in led.sees(bounce(POLICY))] == [AttemptRefused, SendFailed]
    assert led.row("recipient", REF.recipient).suppressions == ()
    assert led.row("recipient", REF.recipient).waiting == ()


def test_a_hard_bounce_suppresses_the_recipient_and_cancels_all_that_waits_for_them_but_not_what_started() -> None:
    led = life().given(request(), request("s2"), request("s3", client=ClientId("bolt")), request("s4"))
    led.given(request("other", "rolf"), assignment(), claim())
    led.given(assignment(1, ref_of("s2")))
    led.given(assignment(1, ref_of("s4")), ClaimAsked(ref_of("s4"), 1, NOW, "hand-4"))
    decided = led.sees(bounce())
    assert [type(fact) for fact in decided[:3]] == [AttemptRefused, SendFailed, RecipientSuppressed]
    assert decided[3:] == [
        SendCancelled(ref_of("s2"), "suppression"),
        SendCancelled(ref_of("s3", client=ClientId("bolt")), "suppression"),
    ]
    assert led.open == {"acme/s4/1": True}
    assert led.row("send", "acme/other").state == "admitted"
    assert led.row("recipient", REF.recipient).waiting == ("acme/s4",)


def test_a_send_whose_body_is_gone_expires() -> None:
    led = in_state("assigned")
    gone = NotSent("body", "content_gone")
    assert led.sees(seen(gone)) == [
        AttemptNotSent(REF, 1, ANNA, OWN, "body", "content_gone"),
        SendExpired(REF, "content_gone"),
    ]
    assert led.row("send", "acme/s1").state == "expired"
    assert led.open == {}


def test_what_was_accepted_waits_for_nobody_and_keeps_its_provider_id() -> None:
    led = in_state("accepted")
    assert led.row("recipient", REF.recipient).waiting == ()
    assert led.row("send", "acme/s1").provider_id == "4XyZ12"


# ── a new owner ──────────────────────────────────────────────────────────────────────────────────


def test_an_attempt_that_was_started_elsewhere_is_unknown_after_a_resume() -> None:
    led = in_state("started")
    assert led.sees(PartitionResumed(("acme/s1/1",))) == [
        AttemptUnknown(REF, 1, ANNA, OWN, "the process that sent it is gone")
    ]
    assert led.open == {}
    assert led.sees(PartitionResumed(("acme/s1/1",))) == []


@pytest.mark.parametrize("state", ["admitted", "assigned", "unknown", *ENDED])
def test_a_resume_changes_no_attempt_that_has_not_started_or_has_settled(state: SendState) -> None:
    assert in_state(state).sees(PartitionResumed(("acme/s1/1", "acme/s9/1"))) == []


def test_a_resume_changes_no_other_attempt_of_the_send() -> None:
    led = in_state("started").given(seen(NO), assignment(2), claim(2))
    assert led.sees(PartitionResumed(("acme/s1/1",))) == []
    assert isinstance(led.sees(PartitionResumed(("acme/s1/2",)))[0], AttemptUnknown)


def test_what_was_accepted_while_the_partition_moved_settles_the_unknown() -> None:
    led = in_state("started").given(PartitionResumed(("acme/s1/1",)))
    assert isinstance(led.sees(OutcomeReported(REF, 1, HAND, TAKEN))[0], AttemptAccepted)
    assert led.sees(OutcomeReported(REF, 1, HAND, TAKEN)) == []


# ── ends that others decide ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", ["admitted", "assigned"])
def test_a_cancel_before_the_claim_ends_the_send_and_the_claim_after_it_is_a_no(state: SendState) -> None:
    led = in_state(state)
    assert led.sees(CancelOrdered(REF, "operator")) == [SendCancelled(REF, "operator")]
    assert led.sees(claim()) == []
    assert led.open == {}
    assert led.row("recipient", REF.recipient).waiting == ()


@pytest.mark.parametrize("state", ["started", "unknown", *ENDED])
def test_a_cancel_after_the_claim_comes_too_late_and_changes_nothing(state: SendState) -> None:
    led = in_state(state)
    before, held = led.all_rows(), dict(led.open)
    assert led.sees(CancelOrdered(REF, "upstream")) == [CancelCameTooLate(REF, "upstream", state)]
    assert (led.all_rows(), led.open) == (before, held)


def test_a_cancel_of_an_unknown_send_is_nothing() -> None:
    assert life().sees(CancelOrdered(REF, "upstream")) == []


def test_what_the_fleet_stage_turns_away_ends_as_refused() -> None:
    led = in_state("admitted")
    assert led.sees(SendTurnedAway(REF, request().content, "unknown_campaign", "no campaign x")) == [
        SendWithdrawn(REF, "unknown_campaign", "no campaign x")
    ]
    assert led.row("send", "acme/s1").state == "refused"


def test_turning_away_another_request_of_the_send_id_does_not_touch_this_send() -> None:
    other = request(offset=9).content
    assert in_state("admitted").sees(SendTurnedAway(REF, other, "invalid", "")) == []


def test_a_send_that_the_fleet_stage_gives_up_fails() -> None:
    assert in_state("admitted").sees(SendGivenUp(REF, 5, "patience over")) == [SendFailed(REF, "patience over")]


def test_a_send_whose_time_is_over_expires() -> None:
    assert in_state("admitted").sees(SendLapsed(REF)) == [SendExpired(REF, "expires_at")]


@pytest.mark.parametrize("state", ["assigned", "started", "unknown", *ENDED])
@pytest.mark.parametrize(
    "fact", [SendLapsed(REF), SendGivenUp(REF, 1, ""), SendTurnedAway(REF, request().content, "invalid", "")]
)
def test_the_fleet_stage_ends_only_what_waits(state: SendState, fact: Fact) -> None:
    assert in_state(state).sees(fact) == []


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_tick_begins_at_the_hour_that_is_past() -> None:
    led = life()
    assert led.ticks(NOW + 5 * MINUTE) == [HourDone("2026-03-02T08", DUE_SHARDS - 1)]
    assert led.ticks(NOW + 6 * MINUTE) == []


def test_each_tick_decides_one_shard_of_a_past_hour_and_stops_at_the_present_one() -> None:
    led = life()
    led.ticks(NOW)
    done = [fact for second in range(60) for fact in led.ticks(NOW + 2 * HOUR + second * SECOND)]
    assert done == [HourDone(f"2026-03-02T{hour:02}", shard) for hour in (9, 10) for shard in range(DUE_SHARDS)]


def test_what_stays_unknown_is_assumed_sent_after_24_hours_and_not_before() -> None:
    led = in_state("unknown")
    ((when, fact),) = run_hours(led, NOW, 30)
    assert fact == SendAssumedSent(REF, 1)
    assert NOW + 24 * HOUR <= when < NOW + 26 * HOUR
    assert led.row("send", "acme/s1").state == "assumed_sent"
    assert led.row("recipient", REF.recipient).waiting == ()


def test_what_was_accepted_is_delivered_after_48_hours_without_a_bounce_and_not_before() -> None:
    led = in_state("accepted")
    ((when, fact),) = run_hours(led, NOW, 54)
    assert isinstance(fact, SendDelivered)
    assert NOW + 48 * HOUR <= when < NOW + 50 * HOUR


def test_what_became_known_in_time_is_not_assumed_sent() -> None:
    led = in_state("unknown").given(OutcomeReported(REF, 1, HAND, TAKEN))
    ((_, fact),) = run_hours(led, NOW, 54)
    assert isinstance(fact, SendDelivered)


def test_an_unknown_attempt_that_was_proven_unsent_is_not_assumed_sent_while_the_next_one_is_unknown() -> None:
    led = in_state("unknown").given(OutcomeReported(REF, 1, HAND, NO))
    run_hours(led, NOW, 10)
    led.given(assignment(2, at=led.at), ClaimAsked(REF, 2, led.at, HAND), seen(CUT, 2))
    second = led.at
    ((when, fact),) = run_hours(led, led.at, 30)
    assert fact == SendAssumedSent(REF, 2)
    assert when >= second + 24 * HOUR


def test_what_was_due_while_no_tick_came_is_decided_later() -> None:
    led = in_state("unknown")
    led.ticks(NOW)
    came = [fact for second in range(80 * DUE_SHARDS) for fact in led.ticks(NOW + 72 * HOUR + second * SECOND)]
    assert [fact for fact in came if not isinstance(fact, IN_BETWEEN)] == [SendAssumedSent(REF, 1)]


def test_what_was_due_before_the_first_tick_of_all_is_decided_too() -> None:
    led = in_state("unknown")
    came = [fact for second in range(80 * DUE_SHARDS) for fact in led.ticks(NOW + 72 * HOUR + second * SECOND)]
    assert [fact for fact in came if not isinstance(fact, IN_BETWEEN)] == [SendAssumedSent(REF, 1)]


def test_an_unknown_attempt_is_looked_up_after_1_6_and_22_hours() -> None:
    led = in_state("unknown")
    looks = [
        hour
        for hour in range(30)
        for shard in range(DUE_SHARDS + 1)
        for fact in led.ticks(NOW + hour * HOUR + shard * SECOND)
        if fact == EvidenceWanted(REF, 1)
    ]
    assert looks == [2, 7, 23]  # in the hour after it is due: an hour is decided when it is over


@pytest.mark.parametrize(("said", "state"), [(TAKEN, "accepted"), (NO, "admitted")])
def test_the_providers_own_record_settles_an_unknown_attempt_once(said: Accepted | Refused, state: SendState) -> None:
    led = in_state("unknown")
    assert led.sees(EvidenceSeen(REF, 1, said, "mailgun records"))
    assert led.row("send", "acme/s1").state in (state, "failed")
    assert led.sees(EvidenceSeen(REF, 1, TAKEN, "mailgun records")) == []


@pytest.mark.parametrize("state", ["admitted", "assigned", "started", *ENDED])
def test_a_record_about_an_attempt_that_is_not_unknown_changes_nothing(state: SendState) -> None:
    assert in_state(state).sees(EvidenceSeen(REF, 1, TAKEN, "mailgun records")) == []


def test_a_recipient_for_whom_200_sends_wait_gets_no_more_of_them() -> None:
    led = life()
    for number in range(MOST_WAITING):
        led.given(request(f"s{number}"))
    (refused,) = led.sees(request("one-more"))
    assert isinstance(refused, SendRefused)
    assert refused.reason == "policy"


def test_what_has_come_due_leaves_its_row_empty() -> None:
    led = in_state("unknown")
    kind, id_ = due_key(NOW + 24 * HOUR, REF.recipient)
    assert len(led.row(kind, id_).due) == 1
    run_hours(led, NOW, 30)
    assert led.row(kind, id_).due == ()


# ── what others hear ─────────────────────────────────────────────────────────────────────────────


def heard(led: Ledger, topic: str) -> list[tuple[bytes, Fact]]:
    """What the partition has told on a topic, in order."""
    out = [o for entry, fact in led.facts() for o in led.mind.forwards(fact, entry.at)]
    return [(o.key, o.fact) for o in out if o.topic.name == topic]


def test_the_fleet_stage_hears_of_admission_and_settled_attempts_under_the_clients_key() -> None:
    led = life().given(request(), assignment(), claim(), seen(NO), assignment(2), claim(2), seen(CUT, 2))
    led.given(OutcomeReported(REF, 2, HAND, TAKEN))
    told = heard(led, FLEET_INPUTS.name)
    assert {key for key, _ in told} == {b"acme"}
    assert [type(fact) for _, fact in told] == [SendAdmitted, AttemptRefused, AttemptUnknown, AttemptAccepted]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ([CancelOrdered(REF, "upstream")], [SendCancelled]),
        ([SendLapsed(REF)], [SendExpired]),
        ([SendTurnedAway(REF, request().content, "invalid", "")], [SendWithdrawn]),
        ([assignment(), seen(NotSent("body", "content_gone"))], [AttemptNotSent, SendExpired]),
        ([assignment(), claim(clock=NOW + HOUR)], [AttemptMissed]),
    ],
)
def test_the_fleet_stage_hears_of_each_end_that_frees_a_mailbox(how: list[Fact], told: list[type[Fact]]) -> None:
    led = life().given(request(), *how)
    assert [type(fact) for _, fact in heard(led, FLEET_INPUTS.name)] == [SendAdmitted, *told]


def test_upstream_hears_of_every_change_of_state() -> None:
    led = life().given(request(offset=3), assignment(), claim(), seen(NO), assignment(2, box=BERT), claim(2))
    led.given(seen(CUT, 2), CancelOrdered(REF, "upstream"), OutcomeReported(REF, 2, HAND, TAKEN))
    run_hours(led, NOW, 54)
    told = heard(led, SEND_RESULTS.name)
    assert {key for key, _ in told} == {b"acme/s1"}
    results = [fact for _, fact in told if isinstance(fact, SendResult)]
    assert [(r.state, r.attempt, r.mailbox) for r in results] == [
        ("admitted", 0, ""),
        ("assigned", 1, ANNA),
        ("admitted", 1, ANNA),
        ("assigned", 2, BERT),
        ("unknown", 2, BERT),
        ("unknown", 0, ""),
        ("accepted", 2, BERT),
        ("delivered", 0, ""),
    ]
    assert results[0].request == "0/3"
    assert results[2].reason == "refused: temporary"
    assert results[5].reason == "too_late"


@pytest.mark.parametrize("state", ["failed", "cancelled", "expired", "refused", "assumed_sent"])
def test_upstream_hears_of_each_end(state: SendState) -> None:
    last = heard(in_state(state), SEND_RESULTS.name)[-1][1]
    assert isinstance(last, SendResult)
    assert last.state == state


def test_a_refused_request_is_answered_with_its_place_so_that_upstream_can_tell_two_apart() -> None:
    led = life().given(request(), request(offset=5))
    answer = heard(led, SEND_RESULTS.name)[-1][1]
    assert isinstance(answer, SendResult)
    assert (answer.state, answer.reason, answer.request) == ("refused", "duplicate", "0/5")


def test_upstream_hears_of_an_attempt_that_gave_nothing() -> None:
    """A send that was said to be assigned waits again: every change of state is answered (design section 6)."""
    for how in ([seen(NOTHING_LEFT)], [claim(clock=NOW + HOUR)]):
        led = in_state("assigned").given(*how)
        answer = heard(led, SEND_RESULTS.name)[-1][1]
        assert isinstance(answer, SendResult)
        assert answer.state == "admitted"
        assert re.search("not sent|missed", answer.reason)


@pytest.mark.parametrize("fact", [client(), was_accepted(assignment()), is_unknown(assignment())])
def test_a_fact_that_is_no_input_of_the_stage_decides_nothing(fact: Fact) -> None:
    assert in_state("started").sees(fact) == []


# ── what an own MTA's log says ───────────────────────────────────────────────────────────────────

TOKEN = "a" * 39
GONE = "host mx.firm.test[192.0.2.1] said: 550 5.1.1 <recipient>: Recipient address rejected: User unknown"


def with_token(state: SendState) -> Ledger:
    """A send of this state whose token is known."""
    led = in_state(state, token=TOKEN)
    assert led.row("token", TOKEN).send == "acme/s1"
    return led


def line(status: str, text: str = "250 2.0.0 Ok", dsn: str = "2.0.0", token: str = TOKEN) -> MtaLineSeen:
    return MtaLineSeen(token, "4XyZ12", status, NOW, dsn, "mx.firm.test[192.0.2.1]:25", text)  # type: ignore[arg-type]


def test_the_receivers_250_delivers_an_accepted_send_and_proves_an_unknown_one() -> None:
    (delivered,) = with_token("accepted").sees(line("sent"))
    assert isinstance(delivered, SendDelivered)
    proven = with_token("unknown").sees(line("sent"))
    assert [type(fact) for fact in proven] == [AttemptAccepted, SendDelivered]


def test_a_deferred_mail_and_a_forged_token_change_nothing() -> None:
    assert with_token("accepted").sees(line("deferred", "451 4.7.1 later", "4.7.1")) == []
    assert with_token("accepted").sees(line("bounced", GONE, "5.1.1", token="b" * 39)) == []


def test_a_bounce_of_an_unknown_user_suppresses_the_recipient_and_cancels_what_waits_for_them() -> None:
    led = with_token("accepted").given(request("s2"))
    facts = led.sees(line("bounced", GONE, "5.1.1"))
    assert [type(fact) for fact in facts] == [SendBounced, RecipientSuppressed, SendCancelled]
    assert led.row("send", "acme/s1").state == "bounced"
    assert led.sees(line("bounced", GONE, "5.1.1")) == [], "a line may be reported twice"


def test_a_bounce_proves_that_the_mta_had_the_mail_of_an_unknown_attempt() -> None:
    taken, bounced, *_ = with_token("unknown").sees(line("bounced", GONE, "5.1.1"))
    assert (type(taken), type(bounced)) == (AttemptAccepted, SendBounced)


@pytest.mark.parametrize("state", ["admitted", "assigned", "failed", "cancelled"])
def test_a_bounce_of_what_never_left_changes_nothing(state: SendState) -> None:
    assert with_token(state).sees(line("bounced", GONE, "5.1.1")) == []


def test_the_message_id_keeps_the_domain_of_the_first_mailbox_whoever_carries_later_attempts() -> None:
    led = life().given(request(), assignment(), claim(), seen(NO))
    assert led.row("send", "acme/s1").first_mailbox == ANNA
    (taken,) = led.sees(assignment(2, box=MailboxAddress("else@other.test")))
    assert isinstance(taken, AttemptAssigned)
    assert taken.first_mailbox == ANNA


def test_a_send_id_for_another_recipient_of_the_same_partition_is_invalid_as_everywhere() -> None:
    led = life().given(request())
    (refused,) = led.sees(request("s1", "other", offset=3))
    assert isinstance(refused, SendRefused)
    assert (refused.reason, refused.detail) == ("invalid", "this send_id was used for another recipient")
    assert led.row("send", "acme/s1").request == request()
