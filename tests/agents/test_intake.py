"""What intake makes of a record of send-requests: a request, a cancel, a refusal with an answer, or Unreadable."""

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import registry
from schemas.envelope import Unreadable, json_object, to_wire
from schemas.ids import DomainName
from schemas.metrics import REQUESTS
from schemas.registry import Fact
from schemas.requests import MAX_MESSAGE_BYTES
from schemas.sending import CancelRequested, RefusedReason, RequestRejected, SendRequested
from schemas.topics import DELIVERY_INPUTS, FLEET_INPUTS, MAX_RECORD_BYTES, Topic
from streams.agents.intake import LONGEST_LABEL, Intake, read_request, with_receivers
from streams.log.kafka import Connection, Record
from streams.settings import Settings
from tests.decisions.bounds import bounded

KEY = b"k" * 32
ARRIVED = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SEND: dict[str, Any] = {
    "client": "acme",
    "campaign": "news",
    "send_id": "s1",
    "to": "Rita.Reader@Example.test",
    "subject": "Hello",
    "text": "Hello Rita\n{{unsubscribe_url}}\n{{postal_address}}\n",
    "basis": {"type": "express_consent", "source": "form", "captured_at": "2026-01-01T00:00:00Z"},
}
REASONS = get_args(RefusedReason)
GONE = object()

FOOTER = "\n{{unsubscribe_url}}\n{{postal_address}}\n"


def read(raw: bytes | None, offset: int = 7) -> tuple[Topic, bytes, Fact]:
    return read_request(Record("send-requests", 3, offset, ARRIVED, None, raw), "topic-id", KEY)


def asks(type_: object = "send", v: object = 1, **changes: Any) -> bytes:
    """A request as upstream wraps it, with fields changed, or taken out by GONE."""
    data = {name: value for name, value in {**SEND, **changes}.items() if value is not GONE}
    return json.dumps({"type": type_, "v": v, "data": data}).encode()


def cancels(**data: Any) -> bytes:
    return json.dumps({"type": "cancel", "v": 1, "data": data}).encode()


def requested(raw: bytes, offset: int = 7) -> SendRequested:
    topic, key, fact = read(raw, offset)
    assert isinstance(fact, SendRequested), fact
    assert (topic, key) == (DELIVERY_INPUTS, fact.ref.recipient[:16].encode())
    return fact


def rejected(raw: bytes) -> RequestRejected:
    topic, key, fact = read(raw)
    assert isinstance(fact, RequestRejected), fact
    assert topic == DELIVERY_INPUTS
    assert len(key) == 16
    assert (fact.client, fact.send_id) == ("acme", "s1")
    return fact


async def test_each_request_of_a_batch_gets_its_recipients_provider_and_all_are_asked_for_at_once() -> None:
    class Asked:
        """A list of our own at the door."""

        batches: ClassVar[list[set[str]]] = []

        async def of(self, domains: Collection[DomainName]) -> Mapping[DomainName, str]:
            self.batches.append(set(domains))
            return {d: "gmail" if d == "gmail.com" else "" for d in domains}

    known = Asked()
    facts = [requested(asks(to="rita@gmail.com")), rejected(asks(subject=GONE)), requested(asks())]
    first, second, third = await with_receivers(facts, known)
    assert isinstance(first, SendRequested)
    assert isinstance(third, SendRequested)
    assert (first.receiver, third.receiver) == ("gmail", "")
    assert second is facts[1]
    assert known.batches == [{"gmail.com", "example.test"}]
    assert await with_receivers([facts[1]], known) == [facts[1]]
    assert len(known.batches) == 1


# ── what can be sent ─────────────────────────────────────────────────────────────────────────────


def test_a_request_is_passed_on_without_address_or_body() -> None:
    fact = requested(asks(thread_id="t1", priority=2, list_id="l1", recipient_country="DE", entity_type="company"))
    assert (fact.ref.client, fact.ref.send_id, fact.campaign) == ("acme", "s1", "news")
    assert (fact.content.topic_id, fact.content.partition, fact.content.offset) == ("topic-id", 3, 7)
    assert (fact.thread_id, fact.priority, fact.list_id) == ("t1", 2, "l1")
    assert (fact.recipient_country, fact.entity_type, fact.recipient_domain) == ("DE", "company", "example.test")
    assert (fact.requested_at, fact.expires_at) == (ARRIVED, ARRIVED + timedelta(days=13))
    wire = to_wire(fact).lower()
    assert b"rita" not in wire
    assert b"hello" not in wire


def test_a_test_names_its_mailbox_and_is_no_campaign() -> None:
    basis = {"type": "transactional", "source": "test-send", "captured_at": "2026-03-01T00:00:00Z"}
    assert requested(asks(test=True, mailbox="anna@acme.test", basis=basis)).test
    assert rejected(asks(test=True, basis=basis)).reason == "invalid"
    assert rejected(asks(test=True, mailbox="anna@acme.test")).reason == "invalid"


def test_spellings_of_one_address_are_one_recipient() -> None:
    first = requested(asks())
    assert requested(asks(to="rita.reader@EXAMPLE.test")).ref.recipient == first.ref.recipient
    assert requested(asks(to="rita.reader+shop@example.test")).ref.recipient != first.ref.recipient
    assert requested(asks(to="rita.reader+shop@example.test")).recipient_loose == first.recipient_loose


def test_an_honest_repetition_has_the_same_content_and_another_place() -> None:
    first, again = requested(asks()), requested(asks(), offset=8)
    assert first.content_sha256 == again.content_sha256
    assert first.content != again.content
    assert requested(asks(text="other" + FOOTER)).content_sha256 != first.content_sha256


def test_the_order_of_fields_is_no_content() -> None:
    turned = json.dumps({"v": 1, "data": dict(reversed(SEND.items())), "type": "send"}).encode()
    assert requested(turned).content_sha256 == requested(asks()).content_sha256


@pytest.mark.parametrize("days", [0, 13])
def test_a_given_expiry_is_kept_up_to_13_days(days: int) -> None:
    moment = ARRIVED + timedelta(days=days)
    assert requested(asks(expires_at=moment.isoformat())).expires_at == moment


# ── what cannot be answered ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"\xff\xfe",
        b"not json",
        b'{"type": "send"',
        b"NaN",
        b"[]",
        b"1",
        b'"send"',
        b"null",
        b"{}",
        b'{"type": "send", "v": 1}',
        b'{"type": "send", "v": 1, "data": []}',
        b'{"type": "send", "v": "1", "data": {}}',
        b'{"type": 1, "v": 1, "data": {}}',
        b'{"type": "send", "v": 1, "data": {"client": "\\ud800"}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_request_is_unreadable(raw: bytes | None) -> None:
    with pytest.raises(Unreadable):
        read(raw)


@pytest.mark.parametrize("name", ["client", "send_id"])
@pytest.mark.parametrize("value", [GONE, None, "", 5, "a b", "a/b", "a\nb", "a\n", "é", "x" * 129, ["a"]])
def test_without_a_well_formed_client_and_send_id_nobody_can_be_answered(name: str, value: object) -> None:
    with pytest.raises(Unreadable, match="nobody can be answered"):
        read(asks(**{name: value}))


@pytest.mark.parametrize(
    "data",
    [
        {"client": "acme"},
        {"client": "acme", "send_id": "", "thread_id": ""},
        {"client": "acme", "send_id": "s1", "thread_id": "t1"},
        {"client": "acme", "send_id": "s1", "campaign": "c"},
        {"client": "acme", "thread_id": "t1", "campaign": "c"},
        {"client": "acme", "send_id": "s1", "thread_id": "t1", "campaign": "c"},
        {"send_id": "s1"},
        {"client": "", "send_id": "s1"},
        {"client": 5, "send_id": "s1"},
        {"client": "a/b", "send_id": "s1"},
        {"client": "acme", "send_id": "s/1"},
        {"client": "acme", "send_id": ["s1"]},
        {"client": "acme", "thread_id": "x" * (LONGEST_LABEL + 1)},
        {"client": "acme", "campaign": "\0"},
    ],
)
def test_a_cancel_names_a_client_and_exactly_one_of_send_thread_and_campaign(data: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        read(cancels(**data))


@pytest.mark.parametrize("what", [{"send_id": "s1"}, {"thread_id": "t 1"}, {"campaign": "news"}])
def test_a_cancel_goes_to_the_clients_fleet_partition(what: dict[str, Any]) -> None:
    topic, key, fact = read(cancels(client="acme", **what))
    assert (topic, key) == (FLEET_INPUTS, b"acme")
    assert fact == CancelRequested(**{"client": "acme", **what})


def test_a_cancel_of_an_unknown_version_is_no_cancel() -> None:
    raw = json.dumps({"type": "cancel", "v": 2, "data": {"client": "acme", "send_id": "s1"}}).encode()
    assert rejected(raw).reason == "invalid"


# ── what is refused with an answer ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (asks("mail"), "type 'mail' v1 is not known"),
        (asks("send", 2), "type 'send' v2 is not known"),
        (asks("send", 0), "v0 is not known"),
        (asks(to=GONE), "`to`"),
        (asks(to=None), "$.to"),
        (asks(to=""), "an address"),
        (asks(to="rita"), "an address"),
        (asks(to="@example.test"), "an address"),
        (asks(to="rita@"), "domain"),
        (asks(to="rita@localhost"), "host name with a dot"),
        (asks(to="rita@example..test"), "domain"),
        (asks(to="rita@-a.test"), "host name"),
        (asks(to="rita@" + "x" * 64 + ".test"), "domain"),
        (asks(to="rita@" + "a." * 140 + "test"), "host name"),
        (asks(to="rita reader@example.test"), "dot-atom"),
        (asks(to="rita,max@example.test"), "dot-atom"),
        (asks(to="rita@a.test,max@example.test"), "dot-atom"),
        (asks(to="r\nbcc@example.test"), "dot-atom"),
        (asks(to="x" * 65 + "@example.test"), "64"),
        (asks(to=".rita@example.test"), "dot-atom"),
        (asks(to="ríta@example.test"), "ASCII"),
        (asks(subject=GONE), "`subject`"),
        (asks(subject=""), "subject is empty"),
        (asks(subject=" \t"), "subject is empty"),
        (asks(subject="a\r\nBcc: x@y.test"), "line break"),
        (asks(subject="a\u2028b"), "line break"),
        (asks(subject="x" * 901), "longer"),
        (asks(to_name="a\nb"), "display name"),
        (asks(from_name="a\rb"), "display name"),
        (asks(headers={"X-A": "a\nb"}), "header X-A has a line break"),
        (asks(headers={"X A": "a"}), "header name"),
        (asks(headers={"X-A\r\nBcc": "a"}), "header name"),
        (asks(headers={"": "a"}), "header name"),
        (asks(headers={"Bcc": "max@example.test"}), "set by mailfleet"),
        (asks(headers={"message-ID": "<1@example.test>"}), "set by mailfleet"),
        (asks(headers={"DKIM-Signature": "v=1"}), "set by mailfleet"),
        (asks(headers={"X-A": 5}), "headers"),
        (asks(headers=["X-A"]), "headers"),
        (asks(text=GONE), "`text`"),
        (asks(text=5), "$.text"),
        (asks(campaign=GONE), "`campaign`"),
        (asks(priority="high"), "priority"),
        (asks(priority=1.5), "priority"),
        (asks(expires_at="tomorrow"), "expires_at"),
        (asks(expires_at=1772442000), "expires_at"),
        (asks(expires_at="2026-03-03T09:00:00"), "expires_at has no offset"),
        (asks(expires_at="2026-02-30T09:00:00Z"), "expires_at"),
        (asks(not_before="soon"), "not_before"),
        (asks(not_before="2026-03-03T09:00:00"), "not_before has no offset"),
        (asks(expires_at=(ARRIVED + timedelta(days=13, seconds=1)).isoformat()), "13 days"),
        (asks(expires_at="9999-12-31T23:59:59-14:00"), "13 days"),
        (asks(not_before="2026-03-04T09:00:00Z", expires_at="2026-03-04T09:00:00Z"), "not_before is not before"),
        (asks(not_before="2026-03-04T10:00:00+00:30", expires_at="2026-03-04T09:00:00Z"), "not_before is not before"),
        (asks(not_before=(ARRIVED + timedelta(days=14)).isoformat()), "not_before is not before"),
        (asks(basis={"type": "hearsay", "source": "x", "captured_at": "2026-01-01T00:00:00Z"}), "hearsay"),
        (asks(basis={"type": "express_consent", "captured_at": "2026-01-01T00:00:00Z"}), "source"),
        (asks(basis={"type": "express_consent", "source": "x", "captured_at": "2026-01-01T00:00:00"}), "no offset"),
        (asks(basis="yes"), "basis"),
        (asks(thread_id="x" * (LONGEST_LABEL + 1)), "thread_id is longer"),
        (asks(campaign="a\0b"), "campaign has a NUL"),
        (asks(list_id=None), "list_id"),
    ],
)
def test_what_cannot_be_a_send_is_refused_as_invalid_and_says_why(raw: bytes, detail: str) -> None:
    answer = rejected(raw)
    assert answer.reason == "invalid"
    assert detail in answer.detail


@pytest.mark.parametrize("basis", [GONE, None, {}, "", []])
def test_without_a_basis_nobody_may_be_written_to(basis: object) -> None:
    assert rejected(asks(basis=basis)).reason == "no_basis"


def test_a_request_over_the_limit_is_too_large_and_one_at_the_limit_is_not() -> None:
    spare = MAX_MESSAGE_BYTES - len(asks(text=FOOTER))
    assert rejected(asks(text="x" * (spare + 1) + FOOTER)).reason == "too_large"
    assert requested(asks(text="x" * spare + FOOTER)).content.size_bytes == MAX_MESSAGE_BYTES


@pytest.mark.parametrize("name", ["{{unsubscribe_url}}", "{{postal_address}}"])
def test_what_the_law_asks_of_every_mail_must_be_in_it_unless_it_is_transactional(name: str) -> None:
    less = FOOTER.replace(name, "")
    for fields in ({"text": less}, {"html": f"<p>{less}</p>"}):
        refused = rejected(asks(**fields))
        assert (refused.reason, name in refused.detail) == ("policy", True)
    basis = {"type": "transactional", "source": "order 7", "captured_at": "2026-01-15T09:00:00Z"}
    assert requested(asks(text=less, basis=basis))


def test_an_answer_tells_no_address() -> None:
    for raw in (asks(headers={"max@example.test": "a"}), asks("max@example.test"), asks(basis={"type": "m@e.test"})):
        assert b"@" not in to_wire(rejected(raw))


def test_a_request_that_is_nested_deeper_than_it_can_be_written_again_is_invalid() -> None:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    answer = rejected(asks(more=deep))
    assert (answer.reason, answer.detail.startswith("the request is nested too deeply")) == ("invalid", True)


# ── whatever upstream writes ─────────────────────────────────────────────────────────────────────

LONG = 100_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ODD = st.sampled_from(
    ["\0", "\ud800", "\r\n", "x" * LONG, "é" * LONG, "\0" * LONG, "a@b.test", "2026-03-03T09:00:00", 2**63, -(2**70)]
)
FIELDS = st.sampled_from(
    [*SEND, "headers", "not_before", "expires_at", "priority", "thread_id", "html", "to_name", "x"]
)
MORE = {"headers": {"X-A": "b"}, "not_before": "2026-03-03T09:00:00Z", "expires_at": "2026-03-04T09:00:00Z"}


def fits(raw: bytes) -> None:
    """Reading ends in a fact that everybody can carry on, or in Unreadable; nothing else is raised."""
    try:
        _, key, fact = read(raw)
    except Unreadable:
        return
    assert key
    wire = to_wire(fact)
    again = json_object(wire)
    assert registry.fact_of(registry.TYPE_OF[type(fact)], 1, again) == fact
    assert len(wire) < MAX_RECORD_BYTES / 8, "an entry carries it twice, rows and tables again"
    assert b"\\u0000" not in wire, "Postgres takes no NUL"
    if isinstance(fact, RequestRejected):
        assert fact.reason in REASONS
        assert 0 < len(fact.detail) <= 500


@bounded(300)
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_record_is_read_or_unreadable(raw: bytes) -> None:
    fits(raw)


@bounded(500)
@given(
    st.dictionaries(FIELDS, JSON | ODD | st.just(GONE), max_size=3),
    st.sampled_from(["send", "send", "send", "cancel", "x" * LONG]),
)
def test_any_mutated_request_is_read_refused_or_unreadable(changes: dict[str, Any], type_: str) -> None:
    fits(asks(type_, **{**MORE, **changes}))


@bounded(200)
@given(
    st.dictionaries(st.sampled_from(["client", "send_id", "thread_id", "campaign"]), JSON | ODD | st.just("a")),
)
def test_any_mutated_cancel_is_read_or_unreadable(data: dict[str, Any]) -> None:
    fits(cancels(**data))


@bounded(200)
@given(st.data())
def test_any_damaged_request_is_read_refused_or_unreadable(data: st.DataObject) -> None:
    raw = bytearray(asks(**MORE))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    fits(bytes(raw))


@bounded(200)
@given(st.datetimes(timezones=st.timezones() | st.none()), st.sampled_from(["not_before", "expires_at", "captured_at"]))
def test_any_moment_is_taken_or_refused(moment: datetime, name: str) -> None:
    changed: dict[str, Any] = {name: moment.isoformat()}
    fits(asks(basis={**SEND["basis"], **changed}) if name == "captured_at" else asks(**changed))


class Nobody:
    """Knows no receivers."""

    async def of(self, _domains: Collection[DomainName]) -> Mapping[DomainName, str]:
        """Nobody is asked."""
        return {}


async def test_unreadable_requests_are_counted_from_zero(tmp_path: Path) -> None:
    REQUESTS.clear()
    (tmp_path / "fleet.key").write_bytes(KEY)
    settings = Settings(Connection("127.0.0.1:9"), "", tmp_path, "intake-1", key_file=tmp_path / "fleet.key")
    intake = Intake(settings, "topic-id", Nobody())
    intake.stop()
    await intake.run()
    assert {s.labels["result"] for metric in REQUESTS.collect() for s in metric.samples} == {"dead_letter"}
