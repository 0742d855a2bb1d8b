"""Each read model: these journaled facts give these rows."""

from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest

from projections import sends
from schemas.ids import SendId
from schemas.mail import MailboxRead, MailboxUnreadable
from schemas.registry import Fact
from schemas.sending import RequestRejected, SendAdmitted, SendRef
from streams.delivery.state import AFTER_250
from tests.projections.facts import AT, about, admitted, apply, example, one, rows
from tests.schemas.samples import FACTS

JANE: SendRef = example("send.admitted.v1").request.ref


def test_an_admitted_send_has_a_row_without_any_address(models: str) -> None:
    apply(models, example("send.admitted.v1"))
    assert one(models, "sends", "client", "send_id", "campaign", "recipient", "recipient_domain") == (
        "acme",
        "spring-2026.0001",
        "spring-2026",
        JANE.recipient,
        "example.com",
    )
    requested = datetime(2026, 3, 2, 8, 15, 30, 412000, tzinfo=UTC)
    times = one(models, "sends", "state", "attempts", "requested_at", "admitted_at", "changed_at", "ended_at")
    at = AT + timedelta(minutes=1)
    assert times == ("admitted", 0, requested, at, at, None)


def test_a_send_that_was_accepted_and_delivered(models: str) -> None:
    steps = ("send.admitted", "attempt.assigned", "submission.started", "attempt.accepted", "send.delivered")
    states = []
    for seq, name in enumerate(steps, 1):
        apply(models, example(f"{name}.v1"), first_seq=seq)
        states.append(one(models, "sends", "state"))
    assert states == ["admitted", "assigned", "started", "accepted", "delivered"]
    row = one(models, "sends", "attempts", "mailbox", "route", "provider_message_id", "accepted_at", "ended_at")
    at = [AT + timedelta(minutes=seq) for seq in range(6)]
    assert row == (1, "anna@acme.test", "own", "4bXyzK1q2Rz9sP", at[4], at[5])
    attempt = (
        "outcome",
        "rule",
        "quota_day",
        "reply_code",
        "reply_enhanced",
        "assigned_at",
        "started_at",
        "settled_at",
    )
    assert one(models, "attempts", *attempt) == (
        "accepted",
        "round robin: free the longest",
        "2026-03-02",
        250,
        "2.0.0",
        at[2],
        at[3],
        at[4],
    )
    clock = datetime(2026, 3, 2, 8, 16, 4, 918221, tzinfo=UTC)
    assert one(models, "attempts", "claimed_clock") == clock


SETTLED = [
    ("attempt.not_sent.v1", "admitted", "not sent at connect: connection refused by mail.acme.test:587", "not_sent"),
    ("attempt.missed.v1", "admitted", "missed its slot", "missed"),
    ("attempt.unknown.v1", "unknown", "the process that sent it is gone", "unknown"),
    ("attempt.refused.v1.2", "admitted", "refused: greylisted", "refused"),
]


@pytest.mark.parametrize(("file", "state", "reason", "outcome"), SETTLED, ids=[row[0] for row in SETTLED])
def test_a_settled_attempt_says_why(models: str, file: str, state: str, reason: str, outcome: str) -> None:
    apply(models, example("send.admitted.v1"), example("attempt.assigned.v1"), about(example(file), JANE))
    assert one(models, "sends", "state", "reason", "ended_at") == (state, reason, None)
    assert one(models, "attempts", "outcome") == outcome


def test_a_refused_attempt_keeps_the_reply_and_the_verdict(models: str) -> None:
    apply(models, example("send.admitted.v1"), example("attempt.assigned.v1"), example("attempt.refused.v1.2"))
    columns = ("reply_code", "reply_enhanced", "reply_class", "fault", "verdict_rule")
    assert one(models, "attempts", *columns) == (450, "4.2.0", "greylisted", "network", "greylisted")
    assert "<recipient>" in one(models, "attempts", "reply_text")


ENDS = [
    ("send.failed.v1", "failed", "no-such-user-text"),
    ("send.expired.v1.2", "expired", "content_gone"),
    ("send.cancelled.v1", "cancelled", "upstream"),
    ("send.withdrawn.v1", "refused", "unknown_client"),
    ("send.assumed_sent.v1", "assumed_sent", "no evidence in 24 h"),
]


@pytest.mark.parametrize(("file", "state", "reason"), ENDS, ids=[row[0] for row in ENDS])
def test_an_end_has_its_state_reason_and_time(models: str, file: str, state: str, reason: str) -> None:
    apply(models, example("send.admitted.v1"), about(example(file), JANE))
    assert one(models, "sends", "state", "reason", "ended_at") == (state, reason, AT + timedelta(minutes=2))


def test_a_second_attempt_has_a_row_of_its_own(models: str) -> None:
    first = example("attempt.assigned.v1")
    again = msgspec.structs.replace(first, assignment=msgspec.structs.replace(first.assignment, attempt=2))
    apply(models, example("send.admitted.v1"), first, example("attempt.missed.v1"), again)
    assert rows(models, "select attempt, outcome from attempts order by 1") == [(1, "missed"), (2, "open")]
    assert one(models, "sends", "attempts", "state") == (2, "assigned")


def test_a_refusal_does_not_touch_an_earlier_send_of_that_id(models: str) -> None:
    apply(models, example("send.admitted.v1"), example("send.refused.v1"), example("send.refused.v1"))
    assert one(models, "sends", "state") == "admitted"
    assert rows(models, "select seq, n, client, send_id, reason, detail from refusals order by seq") == [
        (seq, 0, "acme", "spring-2026.0001", "duplicate", "the same request again") for seq in (2, 3)
    ]


def test_one_send_id_for_two_recipients_gives_two_rows_and_only_the_second_is_withdrawn(models: str) -> None:
    """Each recipient's partition admits its own; the fleet stage then turns the second away."""
    first, second = admitted("s1", "aa" * 32), admitted("s1", "bb" * 32)
    apply(models, first)
    apply(models, second, about(example("send.withdrawn.v1"), second.request.ref), partition=1)
    found = rows(models, "select recipient, state from sends order by 1")
    assert found == [("aa" * 32, "admitted"), ("bb" * 32, "refused")]


def test_a_dead_letter_is_one_row_however_often_it_was_told(models: str) -> None:
    letter = example("letter.died.v1.2")
    apply(models, letter, letter, example("letter.died.v1"), journal="dead-letters")
    found = rows(models, "select topic, partition, record_offset, size_bytes, reason from dead_letters order by 1")
    assert found == [
        ("fleet-inputs", 2, 14, 212, "unknown type 'mailbox.painted'"),
        ("send-requests", 5, 771, 0, "empty record"),
    ]


def carried_through(*names: str) -> list[Fact]:
    """A send that was accepted, and then these."""
    before = ("send.admitted", "attempt.assigned", "submission.started", "attempt.accepted")
    return [example(f"{name}.v1") for name in before] + [about(example(f"{name}.v1"), JANE) for name in names]


COMES_BACK = [
    ("send.bounced", "bounced"),
    ("send.replied", "replied"),
    ("send.unsubscribed", "unsubscribed"),
    ("send.complained", "complained"),
]


@pytest.mark.parametrize(("name", "state"), COMES_BACK)
def test_what_comes_back_is_the_sends_state_and_a_later_success_does_not_hide_it(
    models: str, name: str, state: str
) -> None:
    apply(models, *carried_through(name, "send.delivered"))
    assert one(models, "sends", "state") == state


def test_the_order_of_states_is_the_minds_own() -> None:
    assert tuple(sends._ORDER) == AFTER_250


def test_a_bounce_says_class_rule_status_and_what_was_said(models: str) -> None:
    apply(models, *carried_through(), about(example("send.bounced.v1.2"), JANE))
    columns = ("send_id", "bounce_class", "hard", "rule", "status", "reply_code", "mailbox", "receiver", "sent_again")
    row = (JANE.send_id, "hard", True, "no such user", "5.1.1", 550, "anna@acme-mail.com", "gmail", False)
    assert one(models, "bounces", *columns) == row


def test_a_returned_send_waits_again_and_is_a_bounce_that_is_sent_again(models: str) -> None:
    apply(models, *carried_through("send.returned"))
    assert one(models, "sends", "state", "ended_at") == ("admitted", None)
    assert one(models, "bounces", "fault", "sent_again") == ("mailbox", True)


def test_a_reply_says_where_it_lies_and_an_analyst_sees_no_message_id(models: str) -> None:
    apply(models, *carried_through("send.replied", "send.answered_by_machine"))
    found = rows(models, "select kind, mailbox, folder, uid from replies order by seq")
    assert found[0] == ("reply", "anna@acme-mail.com", "INBOX", 418)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        rows(models, "select message_id from analyst.replies")


def test_complaints_and_unsubscribes_are_counted_by_kind(models: str) -> None:
    apply(models, *carried_through("send.complained", "send.unsubscribed"))
    assert rows(models, "select kind from complaints order by seq") == [("complaint",), ("unsubscribe",)]


def test_a_suppression_ends_only_when_it_is_taken_back_and_a_complaint_never(models: str) -> None:
    manual = example("recipient.suppressed.v1.3")
    complaint = msgspec.structs.replace(manual, reason="complaint", by="")
    end = msgspec.structs.replace(
        example("recipient.unsuppressed.v1"), recipient=manual.recipient, client=manual.client, by="max"
    )
    apply(models, manual, complaint, end, example("unsuppress.refused.v1"))
    found = rows(models, "select reason, ordered_by, ended_by from suppressions order by since")
    assert found == [("manual", "lena", "max"), ("complaint", "", None)]
    assert rows(models, "select count(*) from unsuppress_refusals") == [(1,)]


def test_a_suppressed_domain_is_one_row_though_all_partitions_say_so(models: str) -> None:
    order = example("domain.suppress_ordered.v1")
    for partition in range(3):
        apply(models, order, partition=partition)
    assert one(models, "suppressed_domains", "domain", "suppressed") == (order.domain, True)
    apply(models, msgspec.structs.replace(order, suppressed=False), first_seq=2)
    assert one(models, "suppressed_domains", "suppressed") is False


def test_a_stray_report_is_counted_once_however_often_it_was_told(models: str) -> None:
    stray, forged = example("report.uncorrelated.v1"), example("report.forged.v1")
    apply(models, stray, stray, forged, forged)
    assert rows(models, "select what, kind from stray_reports order by what") == [
        ("forged", ""),
        ("uncorrelated", "bounce"),
    ]


def test_a_mailbox_is_unreadable_until_it_is_read_again(models: str) -> None:
    read: MailboxRead = example("mailbox.read.v1")
    told = MailboxUnreadable(read.mailbox, read.client, AT, "the server refuses the login")
    columns = "client, last_uid, unreadable_since, unreadable_why"
    apply(models, told, journal="mail-positions")
    assert rows(models, f"select {columns} from mailbox_reading") == [("acme", 0, AT, "the server refuses the login")]
    apply(models, read, journal="mail-positions")
    assert rows(models, f"select {columns} from mailbox_reading") == [("acme", 420, None, "")]
    apply(models, told, journal="mail-positions")
    assert rows(models, "select last_uid, unreadable_since from analyst.mailbox_reading") == [(420, AT)]


def test_a_cost_is_one_row_and_ends_when_the_file_names_it_no_more(models: str) -> None:
    cost = example("cost.declared.v1")
    apply(models, cost, msgspec.structs.replace(cost, monthly_usd=5.0))
    assert one(models, "costs", "client", "item", "monthly_usd", "active") == ("acme", "domains", 5.0, True)
    apply(models, msgspec.structs.replace(cost, active=False), first_seq=3)
    assert one(models, "costs", "active") is False


def test_every_published_fact_can_be_projected(models: str) -> None:
    """No statement names a column that is not there."""
    for seq, sample in enumerate(FACTS, 1):
        fact: Fact = example(sample.file.removesuffix(".json"))
        if isinstance(fact, SendAdmitted):
            fact = admitted(f"s{seq}")
        elif hasattr(fact, "ref"):
            fact = about(fact, SendRef(JANE.client, SendId(f"s{seq}"), JANE.recipient))
        apply(models, fact, journal="fleet-journal", partition=seq)


def test_the_example_of_a_rejected_request_is_no_row_by_itself(models: str) -> None:
    assert isinstance(example("request.rejected.v1"), RequestRejected)
    apply(models, example("request.rejected.v1"))
    assert rows(models, "select * from refusals") == []
