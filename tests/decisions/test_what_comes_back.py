"""Bounces, complaints, replies and orders in the delivery stage: whose they are, what they do, in any order."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.health import HealthChanged
from schemas.ids import ClientId, DomainName, MailboxAddress, Recipient, SendId
from schemas.registry import Fact
from schemas.reports import (
    DomainSuppressOrdered,
    DomainSwept,
    Letter,
    RecipientUnsuppressed,
    ReportForged,
    ReportSeen,
    ReportTaken,
    ReportUncorrelated,
    SendAnsweredByMachine,
    SendComplained,
    SendReplied,
    SendUnsubscribed,
    SuppressOrdered,
    UnsuppressOrdered,
    UnsuppressRefused,
)
from schemas.sending import (
    Accepted,
    AttemptAccepted,
    CancelRequested,
    Carried,
    ClaimAsked,
    OutcomeSeen,
    RecipientSuppressed,
    Reply,
    SendAdmitted,
    SendAssigned,
    SendBounced,
    SendCancelled,
    SendDelivered,
    SendEnded,
    SendQueued,
    SendRef,
    SendRefused,
    SendRequested,
    SendRequeued,
    SendResult,
    SendReturned,
    SubmissionStarted,
    Unknown,
)
from schemas.topics import DELIVERY_INPUTS, FLEET_INPUTS, partition_of
from streams.delivery.mind import DeliveryMind, result_of
from streams.delivery.state import MOST_LETTERS, QUEUED_FOR, SendRow
from streams.fleet.mind import FleetMind
from tests.decisions.bounds import bounded
from tests.decisions.world import (
    ACME,
    ANNA,
    BERT,
    DAY,
    HOUR,
    MINUTE,
    NO_SUCH_USER,
    NOW,
    OK,
    OWN,
    SECOND,
    TAKEN,
    Ledger,
    assignment,
    client,
    digest,
    domain,
    mailbox,
    ref_of,
    request,
    route,
)

BOLT = ClientId("bolt")
REF = ref_of()
LATER = NOW + 10 * MINUTE
LETTER = Letter(ANNA, "INBOX", 7, 418, "<r1@there.test>")
UNUSUAL = Reply("memory", "dot", 550, "5.4.6", "Unusual sending activity detected. Please try after sometime.")
FULL = Reply("gmail", "rcpt", 452, "4.2.2", "The recipient's inbox is out of storage space")
NEVER_SEEN = Reply("gmail", "dot", 554, "", "Transaction failed")


def token(send_id: str) -> str:
    return f"token-of-{send_id}"


def asked(send_id: str = "s1", recipient: str = "rita", **more: Any) -> SendRequested:
    """A request that has a token."""
    return request(send_id, recipient, token=token(send_id), **more)


def sent(*requests: SendRequested, box: MailboxAddress = ANNA) -> Ledger:
    """These sends, all accepted over one mailbox."""
    led = Ledger(DeliveryMind())
    for one in requests or (asked(),):
        go_out(led, one, box=box)
    return led


def go_out(led: Ledger, one: SendRequested, box: MailboxAddress = ANNA, **sender: Any) -> None:
    given_to = assignment(1, one.ref, led.at, box)
    given_to = msgspec.structs.replace(given_to, sender=msgspec.structs.replace(given_to.sender, **sender))
    led.given(one, given_to, ClaimAsked(one.ref, 1, led.at, "h"), OutcomeSeen(one.ref, 1, "h", TAKEN))


def report(kind: Any = "bounce", reply: Reply | None = None, send_id: str = "s1", **more: Any) -> ReportSeen:
    said: dict[str, Any] = {"token": token(send_id), "mailbox": ANNA, "at": LATER, "event_id": f"e-{kind}"}
    if kind == "bounce":
        said["reply"] = reply or NO_SUCH_USER
    if kind == "reply":
        said["letter"] = LETTER
    return ReportSeen(kind=kind, source=more.pop("source", "bounce_mail"), **{**said, **more})


def without_token(kind: Any = "bounce", recipient: str = "rita", **more: Any) -> ReportSeen:
    who = Recipient(digest(recipient))
    return report(kind, **{"token": "", "recipient": who, "recipient_loose": who, **more})


def kinds(facts: list[Fact]) -> list[type[Fact]]:
    return [type(fact) for fact in facts]


def state(led: Ledger, name: str = "acme/s1") -> str:
    row = led.row("send", name)
    assert isinstance(row, SendRow)
    return row.state


def suppressions(led: Ledger) -> set[tuple[str, str, str]]:
    """Everything suppressed: (recipient, client, reason)."""
    rows = [(key[1], row) for key, row in led.rows.all() if key[0] == "recipient"]
    return {(who, s.client, s.reason) for who, row in rows for s in row.suppressions}  # type: ignore[attr-defined]


# ── which send ───────────────────────────────────────────────────────────────────────────────────


def test_a_token_finds_its_send_whatever_else_the_report_says() -> None:
    led = sent(asked(), asked("s2"))
    (bounced, *_) = led.sees(report(send_id="s1", recipient=Recipient(digest("else")), mailbox=BERT))
    assert isinstance(bounced, SendBounced)
    assert bounced.ref == REF
    assert bounced.carried == Carried(ANNA, OWN, sent_at=NOW)


def test_without_a_token_recipient_mailbox_and_time_find_the_last_send() -> None:
    led = sent(asked())
    led.at += DAY
    go_out(led, asked("s2"))
    (bounced, *_) = led.sees(without_token(at=led.at + HOUR))
    assert isinstance(bounced, SendBounced)
    assert bounced.ref.send_id == "s2"
    (bounced, *_) = led.sees(without_token(at=NOW + HOUR, reply=FULL))
    assert isinstance(bounced, SendBounced)
    assert bounced.ref.send_id == "s1", "what is older than the second can only be of the first"


def test_without_a_token_the_providers_id_finds_its_send_whatever_mailbox_it_was_read_in() -> None:
    led = Ledger(DeliveryMind())
    for n, one in enumerate((asked(), asked("s2"))):
        led.given(one, assignment(1, one.ref), ClaimAsked(one.ref, 1, NOW, "h"))
        led.given(OutcomeSeen(one.ref, 1, "h", Accepted(f"id-{n}", OK)))
    (bounced, *_) = led.sees(without_token(provider_id="id-0", mailbox=MailboxAddress("")))
    assert isinstance(bounced, SendBounced)
    assert bounced.ref.send_id == "s1"


@pytest.mark.parametrize(
    "stray",
    [
        without_token(recipient="nobody"),
        without_token(mailbox=BERT),
        without_token(at=NOW + 14 * DAY + SECOND),
        without_token(at=NOW - 2 * HOUR),
        without_token(client=BOLT),
        report(send_id="s9"),
    ],
)
def test_what_finds_no_send_is_uncorrelated_and_suppresses_nobody(stray: ReportSeen) -> None:
    led = sent()
    assert kinds(led.sees(stray)) == [ReportUncorrelated]
    assert state(led) == "accepted"
    assert suppressions(led) == set()


def test_a_report_about_a_send_that_never_left_settles_nothing() -> None:
    led = Ledger(DeliveryMind()).given(asked())
    assert kinds(led.sees(report())) == [ReportUncorrelated]
    assert state(led) == "admitted"


def test_a_forged_report_is_decided_as_itself_and_nothing_follows() -> None:
    led = sent()
    before = led.all_rows()
    forged = ReportForged("bounce_mail", "e1", LATER, ANNA)
    assert led.sees(forged) == [forged]
    assert led.all_rows() == before


def test_who_answers_under_another_spelling_is_found() -> None:
    loose = Recipient(digest("loose"))
    led = sent(asked(recipient="rita+news", recipient_loose=loose))
    from_main = without_token("reply", recipient=loose, recipient_loose=loose)
    assert kinds(led.sees(from_main)) == [SendReplied]


# ── bounces ──────────────────────────────────────────────────────────────────────────────────────


def test_a_hard_bounce_suppresses_for_all_clients_and_cancels_what_waits() -> None:
    led = sent().given(request("s2"), request("s3", client=BOLT), request("s4", "rolf"))
    facts = led.sees(report())
    assert kinds(facts) == [SendBounced, RecipientSuppressed, SendCancelled, SendCancelled]
    assert suppressions(led) == {(REF.recipient, "", "hard_bounce")}
    assert (state(led), state(led, "acme/s4")) == ("bounced", "admitted")
    assert led.sees(report()) == []


@pytest.mark.parametrize("reply", [FULL, NEVER_SEEN])
def test_a_soft_or_unknown_bounce_suppresses_nobody(reply: Reply) -> None:
    led = sent()
    assert kinds(led.sees(report(reply=reply))) == [SendBounced]
    assert suppressions(led) == set()


def test_a_delay_is_no_bounce() -> None:
    assert sent().sees(report(reply=FULL, action="delayed")) == []


def test_a_bounce_of_another_attempt_settles_nothing_though_a_dead_address_is_dead() -> None:
    led = sent()
    assert led.sees(report(reply=FULL, attempt=2)) == []
    assert kinds(led.sees(report(attempt=2))) == [RecipientSuppressed]
    assert state(led) == "accepted"


def unknown() -> Ledger:
    led = Ledger(DeliveryMind())
    return led.given(asked(), assignment(), ClaimAsked(REF, 1, NOW, "h"), OutcomeSeen(REF, 1, "h", Unknown("cut")))


def test_an_unknown_attempt_goes_again_only_on_the_providers_own_word() -> None:
    led = unknown()
    own = report(reply=msgspec.structs.replace(FULL, provider="memory"))
    assert kinds(led.sees(own)) == [AttemptAccepted, SendReturned], "its quota is spent: the provider had the mail"
    assert (state(led), led.open) == ("admitted", {})
    led = unknown()
    assert kinds(led.sees(report(reply=FULL))) == [AttemptAccepted, SendBounced], "a server behind it had the mail"


@pytest.mark.parametrize("kind", ["accepted", "delivered", "complaint", "unsubscribe", "reply", "auto_reply"])
def test_whatever_only_an_arrived_mail_can_bring_proves_an_unknown_attempt(kind: str) -> None:
    led = unknown()
    assert isinstance(led.sees(report(kind))[0], AttemptAccepted)
    assert not led.open


def test_a_report_that_overtakes_the_hand_settles_the_attempt_and_the_hand_changes_nothing_more() -> None:
    led = Ledger(DeliveryMind()).given(asked(), assignment(), ClaimAsked(REF, 1, NOW, "h"))
    assert kinds(led.sees(report("delivered"))) == [AttemptAccepted, SendDelivered]
    assert led.sees(OutcomeSeen(REF, 1, "h", Unknown("cut"))) == []
    assert not led.open


# ── returned by the provider ─────────────────────────────────────────────────────────────────────


def again(led: Ledger, attempt: int, at: timedelta) -> None:
    when = led.at + at
    led.given_at(when, assignment(attempt, at=when), ClaimAsked(REF, attempt, when, "h"))
    led.given(OutcomeSeen(REF, attempt, "h", TAKEN))


def test_what_the_provider_itself_gives_back_waits_again_at_most_twice() -> None:
    led = sent()
    for attempt in (1, 2):
        (returned,) = led.sees(report(reply=UNUSUAL, at=led.at + MINUTE))
        assert isinstance(returned, SendReturned)
        assert (returned.attempt, returned.verdict.fault, state(led)) == (attempt, "mailbox", "admitted")
        assert led.row("recipient", REF.recipient).waiting == ("acme/s1",)
        again(led, attempt + 1, HOUR)
    assert kinds(led.sees(report(reply=UNUSUAL, at=led.at + MINUTE))) == [SendBounced]


def test_the_same_return_told_again_by_whatever_way_makes_no_second_copy() -> None:
    led = sent()
    first = report(reply=UNUSUAL, at=NOW + MINUTE)
    assert kinds(led.sees(first)) == [SendReturned]
    assert led.sees(first) == []
    again(led, 2, HOUR)
    assert led.sees(msgspec.structs.replace(first, event_id="in another folder")) == []
    assert state(led) == "accepted"


def test_a_return_told_again_makes_no_second_copy_even_if_the_reporters_clock_is_hours_ahead() -> None:
    led = sent()
    first = report(reply=UNUSUAL, at=NOW + 5 * HOUR)
    assert kinds(led.sees(first)) == [SendReturned]
    again(led, 2, HOUR)
    assert led.sees(msgspec.structs.replace(first, event_id="in another folder")) == []


@pytest.mark.parametrize(
    "said",
    [
        report(reply=msgspec.structs.replace(UNUSUAL, provider="zoho")),  # of somebody else's account, behind us
        report(reply=FULL),
        report(reply=msgspec.structs.replace(NO_SUCH_USER, provider="memory")),
    ],
)
def test_a_refusal_by_others_or_of_the_recipient_returns_nothing(said: ReportSeen) -> None:
    assert isinstance(sent().sees(said)[0], SendBounced)


def test_nothing_is_returned_past_its_expiry_or_to_the_suppressed_or_after_its_delivery() -> None:
    late = sent(asked(expires_at=NOW + HOUR))
    late.at += 2 * HOUR
    assert kinds(late.sees(report(reply=UNUSUAL))) == [SendBounced]
    gone = sent().given(report("unsubscribe"))
    assert kinds(gone.sees(report(reply=UNUSUAL))) == [SendBounced]
    shut = sent().given(order())
    assert kinds(shut.sees(report(reply=UNUSUAL))) == [SendBounced]
    there = sent().given(report("delivered"))
    assert kinds(there.sees(report(reply=UNUSUAL))) == [SendBounced]


def test_a_returned_send_that_arrived_after_all_is_not_sent_again() -> None:
    led = sent().given(report(reply=UNUSUAL))
    assert led.sees(report("delivered", at=LATER + HOUR)) == [SendCancelled(REF, "it arrived after all")]


def test_the_fleet_stage_plans_a_returned_send_anew_under_the_next_number() -> None:
    led = Ledger(FleetMind()).given(client(), route(), domain(), mailbox(), mailbox(BERT))
    led.given(SendAdmitted(asked()))
    first = next(fact for fact in led.ticks(NOW) if isinstance(fact, SendAssigned))
    box = first.sender.mailbox
    led.given(AttemptAccepted(REF, 1, box, OWN, "1", OK))
    delivery = sent()
    (back,) = delivery.sees(report(reply=UNUSUAL))
    assert isinstance(back, SendReturned)
    back = msgspec.structs.replace(back, mailbox=box)
    decided = led.sees(back, NOW + MINUTE)
    assert kinds(decided[:2]) == [SendQueued, SendRequeued]
    (out,) = [fact for fact in decided if isinstance(fact, HealthChanged)]
    assert (out.name, out.now, out.until) == (box, "unhealthy", None), "its provider blocks it: a person must look"
    assert led.sees(back) == []
    assert not [fact for fact in led.ticks(NOW + 2 * MINUTE) if isinstance(fact, SendAssigned)]
    second = next(fact for fact in led.ticks(NOW + HOUR) if isinstance(fact, SendAssigned))
    assert (second.attempt, second.sender.mailbox != box) == (2, True)
    led.given(AttemptAccepted(REF, 2, second.sender.mailbox, OWN, "2", OK))
    assert led.sees(back) == [], "an older attempt's return queues nothing"
    assert [f.state for _, f in led.facts() if isinstance(f, SendEnded)] == ["accepted", "accepted"]


# ── what a person says ───────────────────────────────────────────────────────────────────────────


def test_a_complaint_is_for_all_clients_and_all_spellings_and_cancels_what_waits() -> None:
    loose = Recipient(digest("loose"))
    led = sent(asked(recipient="rita+news", recipient_loose=loose))
    led.given(request("s2", client=BOLT, recipient="rita", recipient_loose=loose))
    facts = led.sees(report("complaint", source="webhook", action="abuse"))
    assert kinds(facts) == [SendComplained, RecipientSuppressed, RecipientSuppressed, SendCancelled]
    (refused,) = led.sees(request("s3", "rita+offers", recipient_loose=loose))
    assert isinstance(refused, SendRefused)
    assert (refused.reason, refused.detail) == ("suppressed", "complaint")


@pytest.mark.parametrize("feedback", ["not-spam", "auth-failure"])
def test_a_report_that_is_no_complaint_suppresses_nobody(feedback: str) -> None:
    assert sent().sees(report("complaint", action=feedback)) == []


def test_an_unsubscribe_is_for_its_client_and_cancels_only_its_sends() -> None:
    led = sent().given(request("s2"), request("s3", client=BOLT))
    facts = led.sees(report("unsubscribe", source="one_click"))
    assert kinds(facts) == [SendUnsubscribed, RecipientSuppressed, SendCancelled]
    assert (state(led, "acme/s2"), state(led, "bolt/s3")) == ("cancelled", "admitted")
    assert isinstance(led.sees(request("s4"))[0], SendRefused)
    assert isinstance(led.sees(request("s5", client=BOLT))[0], SendAdmitted)


def test_a_client_may_have_unsubscribes_count_for_the_whole_agency() -> None:
    led = Ledger(DeliveryMind())
    go_out(led, asked(), unsubscribe_from_all=True)
    led.given(report("unsubscribe"))
    assert suppressions(led) == {(REF.recipient, "", "unsubscribe")}
    fleet = Ledger(FleetMind())
    fleet.given(msgspec.structs.replace(client(), unsubscribe_from_all=True), route(), domain(), mailbox())
    fleet.given(SendAdmitted(asked()))
    given_to = next(fact for fact in fleet.ticks(NOW) if isinstance(fact, SendAssigned))
    assert given_to.sender.unsubscribe_from_all


@pytest.mark.parametrize("kind", ["complaint", "unsubscribe"])
def test_who_wants_no_mail_gets_none_even_if_nobody_finds_the_send(kind: str) -> None:
    led = Ledger(DeliveryMind())
    facts = led.sees(without_token(kind, client=ACME))
    assert kinds(facts) == [ReportUncorrelated, RecipientSuppressed]


def test_a_reply_stops_the_threads_follow_ups_here_and_in_the_fleet_stage_and_tells_upstream_where_it_lies() -> None:
    led = sent(asked(thread_id="t1")).given(request("s2", thread_id="t1"), request("s3", thread_id="t2"))
    facts = led.sees(report("reply"))
    assert kinds(facts) == [SendCancelled, SendReplied], "the fleet stage hears of the cancels first"
    assert (state(led), state(led, "acme/s2"), state(led, "acme/s3")) == ("replied", "cancelled", "admitted")
    told = [out.fact for out in led.mind.forwards(facts[1], NOW)]
    assert told[:2] == [facts[1], CancelRequested(ACME, thread_id="t1", by="reply")]
    answer = told[2]
    assert isinstance(answer, SendResult)
    assert (answer.state, answer.letter, answer.mailbox) == ("replied", LETTER, ANNA)
    assert led.sees(report("reply")) == [], "the same letter is read once"
    second = msgspec.structs.replace(LETTER, uid=419)
    assert kinds(led.sees(report("reply", letter=second))) == [SendReplied]


# ── a message that is read again ─────────────────────────────────────────────────────────────────


def elsewhere(fact: ReportSeen, at: datetime) -> ReportSeen:
    """The same message under another UIDVALIDITY, with another time of arrival."""
    lies = None if fact.letter is None else msgspec.structs.replace(fact.letter, uid_validity=8, uid=1)
    return msgspec.structs.replace(fact, event_id="elsewhere", letter=lies, at=at)


@pytest.mark.parametrize("named", [True, False], ids=["by its token", "by its recipient"])
@pytest.mark.parametrize(
    "kind", ["bounce", "delivered", "complaint", "unsubscribe", "reply", "auto_reply", "challenge"]
)
def test_a_message_that_lies_elsewhere_as_well_changes_nothing_not_even_a_later_send(kind: str, named: bool) -> None:
    led = sent(asked(thread_id="t1"))
    first = (report if named else without_token)(kind, letter_id="m1/0", reply=FULL)
    facts = led.sees(first)
    assert facts[-1] == ReportTaken(REF.recipient, "m1/0")
    assert len(facts) > 1
    led.at += DAY
    if kind not in ("complaint", "unsubscribe"):
        go_out(led, asked("s2", thread_id="t1"))
        led.given(request("s3", thread_id="t1"))
    rows = dict(led.rows.all())
    assert led.sees(elsewhere(first, led.at + HOUR)) == []
    assert dict(led.rows.all()) == rows
    assert led.sees(msgspec.structs.replace(elsewhere(first, led.at + HOUR), letter_id="m1/1")) != []


def test_a_return_read_anew_with_a_later_time_makes_no_third_copy() -> None:
    led = sent()
    first = report(reply=UNUSUAL, at=NOW + MINUTE, letter_id="m1/0")
    assert SendReturned in kinds(led.sees(first))
    again(led, 2, HOUR)
    assert led.sees(elsewhere(first, led.at + HOUR)) == []
    assert state(led) == "accepted"


def test_a_hard_bounce_that_a_person_took_back_does_not_suppress_anew_when_it_is_read_anew() -> None:
    first = report(letter_id="m1/0")
    led = sent().given(first, take_back())
    assert led.sees(elsewhere(first, LATER + DAY)) == []
    assert not suppressions(led)


def test_a_message_about_nobodys_send_is_counted_once() -> None:
    led = Ledger(DeliveryMind())
    first = without_token(letter_id="m1/0")
    assert kinds(led.sees(first)) == [ReportUncorrelated, ReportTaken]
    assert led.sees(elsewhere(first, LATER + DAY)) == []


def test_a_reply_that_was_told_before_messages_had_names_is_not_told_again_from_its_place() -> None:
    led = sent().given(report("reply"))
    assert kinds(led.sees(report("reply", letter_id="m1/0"))) == [ReportTaken]


def test_the_names_of_messages_are_bounded_in_their_row() -> None:
    led = sent()
    for n in range(MOST_LETTERS + 50):
        led.sees(report("reply", letter_id=f"{n:032}/0", letter=msgspec.structs.replace(LETTER, uid=n)))
    letters = led.row("recipient", REF.recipient).letters
    assert (len(letters), letters[-1]) == (MOST_LETTERS, f"{MOST_LETTERS + 49:032}/0")


@pytest.mark.parametrize("kind", ["auto_reply", "challenge"])
def test_a_machines_answer_stops_nothing(kind: str) -> None:
    led = sent(asked(thread_id="t1")).given(request("s2", thread_id="t1"))
    assert kinds(led.sees(report(kind))) == [SendAnsweredByMachine]
    assert (state(led), state(led, "acme/s2")) == ("accepted", "admitted")
    assert led.sees(report(kind)) == []


def test_a_later_success_erases_no_suppression_and_no_worse_state() -> None:
    led = sent().given(report("complaint"), report())
    assert led.sees(report("delivered")) == []
    assert state(led) == "complained"
    assert {reason for _, _, reason in suppressions(led)} == {"complaint", "hard_bounce"}


@pytest.mark.parametrize(
    ("kind", "told"),
    [("bounce", "bounced"), ("complaint", "complained"), ("unsubscribe", "unsubscribed"), ("delivered", "delivered")],
)
def test_upstream_and_the_fleet_stage_hear_of_what_comes_back(kind: str, told: str) -> None:
    fact = sent().sees(report(kind))[0]
    out = DeliveryMind().forwards(fact, NOW)
    assert out[0].topic is FLEET_INPUTS
    assert fact.carried == Carried(ANNA, OWN, sent_at=NOW)  # type: ignore[attr-defined]  # each of the four has it
    answer = result_of(fact, NOW)
    assert answer is not None
    assert answer.state == told


# ── orders ───────────────────────────────────────────────────────────────────────────────────────


def order(reason: Any = "manual", recipient: str = "rita", client_: str = "") -> SuppressOrdered:
    who = Recipient(digest(recipient))
    return SuppressOrdered(who, who, ClientId(client_), reason, "asked by phone", "lena")


def take_back(client_: str = "") -> UnsuppressOrdered:
    return UnsuppressOrdered(REF.recipient, REF.recipient, ClientId(client_), "a mistake", "lena")


def test_an_order_suppresses_once_cancels_what_waits_and_names_who_gave_it() -> None:
    led = Ledger(DeliveryMind()).given(request(), request("s2", client=BOLT))
    facts = led.sees(order(client_="acme"))
    assert facts == [
        RecipientSuppressed(REF.recipient, "manual", "asked by phone", ACME, "lena"),
        SendCancelled(REF, "suppression"),
    ]
    assert led.sees(order(client_="acme")) == []


def test_a_manual_suppression_and_a_hard_bounce_are_taken_back() -> None:
    led = sent().given(report(), order())
    assert led.sees(take_back()) == [RecipientUnsuppressed(REF.recipient, ClientId(""), "a mistake", "lena")]
    assert isinstance(led.sees(request("s2"))[0], SendAdmitted)
    assert kinds(led.sees(take_back())) == [UnsuppressRefused]


@pytest.mark.parametrize("reason", ["complaint", "unsubscribe"])
def test_a_complaint_and_an_unsubscribe_are_never_taken_back(reason: str) -> None:
    led = Ledger(DeliveryMind()).given(order(reason), order())
    (refused,) = led.sees(take_back())
    assert isinstance(refused, UnsuppressRefused)
    assert reason in refused.why
    assert isinstance(led.sees(request())[0], SendRefused)


def test_a_complaint_stays_in_its_row_whatever_is_folded() -> None:
    led = Ledger(DeliveryMind()).given(order("complaint"), order())
    kept = led.mind.evolve(
        ("recipient", REF.recipient),
        led.row("recipient", REF.recipient),
        RecipientUnsuppressed(REF.recipient, ClientId(""), "", ""),
        NOW,
    )
    assert [s.reason for s in kept.suppressions] == ["complaint"]  # type: ignore[attr-defined]  # a recipient's row


# ── whole domains ────────────────────────────────────────────────────────────────────────────────


def no_mail_to(name: str, client_: str = "", *, suppressed: bool = True) -> DomainSuppressOrdered:
    return DomainSuppressOrdered(DomainName(name), ClientId(client_), suppressed, "asked by the company", "lena")


def sweep(led: Ledger) -> list[Fact]:
    """Let the ticks of half a minute pass; return the cancels."""
    came = [fact for second in range(30) for fact in led.ticks(led.at + SECOND * (second > 0))]
    return [fact for fact in came if isinstance(fact, SendCancelled)]


def test_a_suppressed_domain_reaches_the_queued_sends_of_all_32_partitions() -> None:
    partitions = [Ledger(DeliveryMind()) for _ in range(DELIVERY_INPUTS.partitions)]
    wanted: list[SendRef] = []
    for n in range(200):
        one = request(
            f"s{n}", f"person-{n}", recipient_domain=DomainName(("firm.test", "mail.firm.test", "notfirm.test")[n % 3])
        )
        led = partitions[partition_of(one.ref.recipient[:16].encode(), len(partitions))]
        led.given_at(NOW + n * MINUTE * 10, one)
        if n % 3 < 2:
            wanted.append(one.ref)
    at = NOW + 300 * HOUR
    for led in partitions:
        led.given_at(at, no_mail_to("firm.test"))
    gone = [fact for led in partitions for fact in sweep(led)]
    assert sorted(fact.ref.send_id for fact in gone if isinstance(fact, SendCancelled)) == sorted(
        ref.send_id for ref in wanted
    )
    assert all(isinstance(led.row("sweep", "").sweeps, tuple) and not led.row("sweep", "").sweeps for led in partitions)
    assert [fact for led in partitions for fact in sweep(led)] == []


def test_a_suppressed_domain_is_refused_at_admission_and_in_the_claim_and_may_be_for_one_client() -> None:
    led = Ledger(DeliveryMind())
    led.given(request("s1", recipient_domain=DomainName("mail.firm.test")), assignment())
    led.given(no_mail_to("firm.test", "acme"))
    assert led.sees(ClaimAsked(REF, 1, NOW, "h")) == [SendCancelled(REF, "suppression")]
    (refused,) = led.sees(request("s2", recipient_domain=DomainName("firm.test")))
    assert isinstance(refused, SendRefused)
    assert (refused.reason, refused.detail) == ("suppressed", "domain firm.test")
    other = request("s3", client=BOLT, recipient_domain=DomainName("firm.test"))
    assert isinstance(led.sees(other)[0], SendAdmitted)
    led.given(no_mail_to("firm.test", "acme", suppressed=False))
    assert isinstance(led.sees(request("s2", recipient_domain=DomainName("firm.test")))[0], SendAdmitted)


def test_many_waiting_sends_are_cancelled_in_entries_of_bounded_size() -> None:
    led = Ledger(DeliveryMind())
    for n in range(2500):
        led.given(request(f"s{n}", f"p{n}", recipient_domain=DomainName("firm.test")))
        led.at += SECOND * 10
    led.given(no_mail_to("firm.test"))
    steps = [len(led.ticks(led.at)) for _ in range(30)]
    assert max(steps) < 2500
    assert sum(1 for _, fact in led.facts() if isinstance(fact, SendCancelled)) == 2500
    assert led.ticks(led.at) == [] or not any(isinstance(f, DomainSwept) for f in led.ticks(led.at))
    assert QUEUED_FOR > 13 * DAY


# ── whatever the order ───────────────────────────────────────────────────────────────────────────

PEOPLE = {"rita": "one", "rita+news": "one", "rolf": "two"}
REPORTS = (
    [report(reply=reply, send_id=f"s{n}", at=NOW + n * SECOND) for n in range(6) for reply in (NO_SUCH_USER, UNUSUAL)]
    + [report(kind, send_id=f"s{n}") for n in range(6) for kind in ("complaint", "unsubscribe", "reply", "delivered")]
    + [report(send_id=f"s{n}", attempt=2, at=LATER + DAY) for n in range(6)]
    + [without_token(kind, recipient=who) for who in PEOPLE for kind in ("bounce", "complaint", "unsubscribe")]
)


def world() -> Ledger:
    """Six accepted sends of two clients to three addresses, two of which are one person's; others wait."""
    led = Ledger(DeliveryMind())
    for n in range(6):
        who = list(PEOPLE)[n % 3]
        loose = Recipient(digest(PEOPLE[who]))
        name = ACME if n < 3 else BOLT
        go_out(led, asked(f"s{n}", who, client=name, recipient_loose=loose))
        led.given(request(f"w{n}", who, client=name, recipient_loose=loose))
    return led


@bounded(60)
@given(st.lists(st.sampled_from(REPORTS), max_size=8), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_reports_ends_in_the_same_suppressions(some: list[ReportSeen], chance: Any) -> None:
    straight, mixed = world(), world()
    for fact in some:
        straight.sees(fact)
    shuffled = [*some, *some[::2]]
    chance.shuffle(shuffled)
    for fact in shuffled:
        mixed.sees(fact)
    assert suppressions(mixed) == suppressions(straight)


ORDERS: list[Fact] = [
    *(order(reason, "rita", name) for reason in ("manual", "hard_bounce", "complaint") for name in ("", "acme")),
    *(take_back(name) for name in ("", "acme")),
]


@bounded(60)
@given(st.lists(st.sampled_from([*REPORTS, *ORDERS]), max_size=25))
def test_a_suppression_stays_unless_an_operator_takes_back_what_may_be(some: list[Fact]) -> None:
    led = world()
    for fact in some:
        before = suppressions(led)
        led.sees(fact)
        lost = before - suppressions(led)
        assert not lost or isinstance(fact, UnsuppressOrdered)
        assert {reason for _, _, reason in lost} <= {"manual", "hard_bounce"}


def suppressing(led: Ledger, ref: SendRef) -> set[str]:
    """The reasons by which this send may not go."""
    row = led.row("send", f"{ref.client}/{ref.send_id}")
    who = {ref.recipient: True, row.request.recipient_loose: False}
    return {
        reason
        for recipient, name, reason in suppressions(led)
        if recipient in who and name in ("", ref.client) and (who[recipient] or reason != "hard_bounce")
    }


STEPS = st.lists(st.one_of(st.sampled_from([*REPORTS, *ORDERS]), st.integers(0, 11)), max_size=40)


@bounded(60)
@given(STEPS)
def test_no_suppressed_recipient_is_claimed_and_no_report_makes_a_second_copy(some: list[Fact | int]) -> None:
    """A number lets a send that waits be assigned and claimed; each claim needs proof about the one before."""
    led = world()
    names = [(ACME if n % 6 < 3 else BOLT, f"{'sw'[n // 6]}{n % 6}") for n in range(12)]
    for step in some:
        led.at += MINUTE
        if not isinstance(step, int):
            led.sees(step)
            continue
        name, send_id = names[step]
        row = led.row("send", f"{name}/{send_id}")
        ref = row.request.ref
        led.sees(assignment(row.attempt + 1, ref, led.at))
        claimed = led.sees(ClaimAsked(ref, row.attempt + 1, led.at, "h"))
        if any(isinstance(fact, SubmissionStarted) for fact in claimed):
            assert not suppressing(led, ref)
            led.given(OutcomeSeen(ref, row.attempt + 1, "h", TAKEN))
    taken: dict[tuple[str, SendId], int] = {}
    for _, fact in led.facts():
        if isinstance(fact, AttemptAccepted):
            key = (fact.ref.client, fact.ref.send_id)
            taken[key] = taken.get(key, 0) + 1
            assert taken[key] == 1, f"{key} was taken again without proof"
        if isinstance(fact, SendReturned):
            taken[fact.ref.client, fact.ref.send_id] -= 1
