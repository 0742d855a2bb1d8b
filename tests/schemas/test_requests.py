"""What upstream may ask: the rule for ids, the limits, and that the published schema says the same as the code."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ops.schemas import REQUESTS, request_schema
from schemas.envelope import Unreadable
from schemas.requests import MAX_MESSAGE_BYTES, asked, who_asks
from schemas.sending import CancelRequested, RequestRejected, SendRequested
from schemas.topics import DELIVERY_INPUTS, FLEET_INPUTS, MAX_RECORD_BYTES
from streams.agents.intake import read_request
from streams.log.kafka import Record
from tests.schemas.samples import ASKED, Example, ids

ARRIVED = datetime(2026, 3, 2, 8, 15, 30, tzinfo=UTC)
KEY = b"k" * 32
CHECKERS = {kind: Draft202012Validator(request_schema(kind)) for kind in REQUESTS}
SEND = next(e.value for e in ASKED if e.file == "send.v1.json")
ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=140)


def send(**fields: Any) -> dict[str, Any]:
    """Return the published example with other fields; None leaves a field out."""
    data = {**SEND["data"], **fields}
    return {**SEND, "data": {key: value for key, value in data.items() if value is not None}}


def read(request: Any) -> tuple[str, Any]:
    """Return (topic, fact) that intake makes of a request."""
    record = Record("send-requests", 3, 182044, ARRIVED, None, orjson.dumps(request))
    topic, _, fact = read_request(record, "topic-id", KEY)
    return topic.name, fact


def refused(request: Any) -> tuple[str, str]:
    """Return (reason, detail) of a request that intake answers with a no."""
    topic, fact = read(request)
    assert topic == DELIVERY_INPUTS.name
    assert isinstance(fact, RequestRejected)
    return fact.reason, fact.detail


@pytest.mark.parametrize("example", ASKED, ids=ids(ASKED))
def test_intake_takes_every_published_request(example: Example) -> None:
    topic, fact = read(example.value)
    if example.type == "send":
        assert topic == DELIVERY_INPUTS.name
        assert isinstance(fact, SendRequested)
        assert (fact.content.partition, fact.content.offset) == (3, 182044)
    else:
        assert topic == FLEET_INPUTS.name
        assert isinstance(fact, CancelRequested)


@pytest.mark.parametrize("name", ["a", "A.b:c-d_e", "0" * 128, "spring-2026.0001"])
def test_an_id_of_1_to_128_letters_digits_and_four_signs_is_taken(name: str) -> None:
    _, fact = read(send(send_id=name))
    assert fact.ref.send_id == name


@pytest.mark.parametrize("name", ["", "0" * 129, "a b", "a/b", "a\n", "ä", "a\x00b", 7, ["a"], {}])
def test_another_id_leaves_nobody_to_answer(name: Any) -> None:
    for field in ("send_id", "client"):
        with pytest.raises(Unreadable, match="nobody can be answered"):
            read(send(**{field: name}))


@given(client=ANY_TEXT, send_id=ANY_TEXT)
def test_schema_and_code_have_one_rule_for_ids(client: str, send_id: str) -> None:
    value = send(client=client, send_id=send_id)
    assert CHECKERS["send"].is_valid(value) == (who_asks(value["data"]) is not None)


@pytest.mark.parametrize("missing", ["campaign", "to", "subject", "text"])
def test_a_request_without_a_needed_field_is_invalid_for_schema_and_code(missing: str) -> None:
    value = send(**{missing: None})
    reason, detail = refused(value)
    assert reason == "invalid"
    assert missing in detail
    assert not CHECKERS["send"].is_valid(value)


def test_a_request_without_a_basis_has_its_own_reason() -> None:
    assert refused(send(basis=None))[0] == "no_basis"
    assert refused(send(basis={}))[0] == "no_basis"
    assert refused(send(basis={"type": "because", "source": "x", "captured_at": "2026-01-01T00:00:00Z"}))[0] == (
        "invalid"
    )


def test_a_request_may_have_700000_bytes_and_no_more() -> None:
    footer = "{{unsubscribe_url}}{{postal_address}}"
    room = MAX_MESSAGE_BYTES - len(orjson.dumps(send(text=footer)))
    assert isinstance(read(send(text="x" * room + footer))[1], SendRequested)
    reason, detail = refused(send(text="x" * (room + 1) + footer))
    assert (reason, detail) == ("too_large", "the request has 700001 bytes, the limit is 700000")
    assert MAX_RECORD_BYTES >= 2 * MAX_MESSAGE_BYTES


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"expires_at": (ARRIVED + timedelta(days=13, seconds=1)).isoformat()}, "more than 13 days"),
        ({"expires_at": "2026-03-05T08:00:00"}, "expires_at has no offset from UTC"),
        ({"not_before": "2026-03-05T08:00:00"}, "not_before has no offset from UTC"),
        ({"not_before": (ARRIVED + timedelta(days=13)).isoformat()}, "not_before is not before expires_at"),
        ({"not_before": "2026-03-05T08:00:00Z", "expires_at": "2026-03-05T08:00:00Z"}, "not_before is not before"),
        ({"not_before": "soon"}, "not_before"),
        ({"to": "no address"}, "with an @ between"),
        ({"priority": "high"}, "priority"),
        ({"headers": {"X": 1}}, "headers"),
    ],
)
def test_a_limit_that_is_passed_is_named(fields: dict[str, Any], says: str) -> None:
    reason, detail = refused(send(**fields))
    assert reason == "invalid"
    assert says in detail


def test_a_send_waits_13_days_when_nothing_else_is_said() -> None:
    _, fact = read(send())
    assert fact.expires_at == ARRIVED + timedelta(days=13)
    _, fact = read(send(expires_at=(ARRIVED + timedelta(days=13)).isoformat()))
    assert fact.expires_at == ARRIVED + timedelta(days=13)


@pytest.mark.parametrize(("kind", "version"), [("send", 2), ("send", 0), ("sends", 1), ("", 1)])
def test_another_type_or_version_is_answered_as_invalid(kind: str, version: int) -> None:
    reason, detail = refused({**SEND, "type": kind, "v": version})
    assert reason == "invalid"
    assert "send v1 and cancel v1" in detail


@pytest.mark.parametrize("raw", [None, b"", b"[]", b"{}", b'{"type":"send","v":1}', b'{"type":"send","v":1,"data":[]}'])
def test_what_is_no_request_is_unreadable(raw: bytes | None) -> None:
    with pytest.raises(Unreadable):
        asked(raw)


def cancel(**data: Any) -> dict[str, Any]:
    """Return a cancel."""
    return {"type": "cancel", "v": 1, "data": data}


@pytest.mark.parametrize(
    "data",
    [
        {"client": "acme"},
        {"client": "acme", "send_id": "a", "campaign": "b"},
        {"client": "acme", "thread_id": "a", "send_id": "b"},
        {"send_id": "a"},
        {"client": "", "send_id": "a"},
        {"client": "acme/x", "send_id": "a"},
        {"client": "acme", "send_id": "a/b"},
        {"client": "acme", "send_id": "0" * 129},
        {"client": 1, "send_id": "a"},
    ],
)
def test_a_cancel_names_a_client_and_exactly_one_thing_by_the_rule_for_ids(data: dict[str, Any]) -> None:
    assert not CHECKERS["cancel"].is_valid(cancel(**data))
    with pytest.raises(Unreadable):
        read(cancel(**data))


def test_content_is_the_same_whatever_the_order_of_its_fields() -> None:
    turned = {**SEND, "data": dict(reversed(SEND["data"].items()))}
    first, second = read(SEND)[1], read(turned)[1]
    assert first.content_sha256 == second.content_sha256
    assert first.content.sha256 != second.content.sha256
