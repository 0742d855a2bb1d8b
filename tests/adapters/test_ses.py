"""Amazon SES beyond the contract: what is asked of the API, its errors, keys, options, connections and checks."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.interface import Mail, RouteUnfit, Sought
from adapters.mail import claimed_request
from adapters.mail.claimed_request import Connections, Exchange, Gate, Origin
from adapters.mail.ses import ATTEMPT_TAG, TOKEN_TAG, SesAdapter
from adapters.secrets import Secrets
from schemas.ids import RouteId
from schemas.sending import Accepted, NotSent, Outcome, Refused, RouteCall, Unknown
from streams.delivery.verdict import verdict
from tests.adapters.benches import SesBench, until
from tests.adapters.claims import Asked, submit
from tests.adapters.conftest import PATIENCE_S, running
from tests.adapters.samples import DATE, TOKEN, mail_of, request_of
from tests.adapters.scripted_smtp import Cut, Raw, Silence
from tests.adapters.ses_server import COMMON_ERRORS, OPERATIONS, Drip, Fault, Identity

ERRORS = {shape.name: shape.metadata["error"]["httpStatusCode"] for shape in OPERATIONS["SendEmail"].error_shapes}
REFUSALS = {**ERRORS, **{name: status for name, status in COMMON_ERRORS.items() if status < 500}}


def tagged(**fields: Any) -> Mail:
    """Return a mail with its token, as the hands make it."""
    return mail_of(request_of(**fields))


async def send(bench: SesBench, mail: Mail | None = None) -> Outcome:
    """Submit one mail with a claim that says yes."""
    mail = mail or tagged()
    return await submit(bench, mail, Asked(bench, mail))


def with_options(bench: SesBench, **options: str) -> RouteCall:
    """Return the bench's route with these options changed; "" takes one away."""
    changed = {**bench.call.options, **options}
    return msgspec.structs.replace(bench.call, options={name: value for name, value in changed.items() if value})


async def hang_up(bench: SesBench, *, politely: bool) -> None:
    """End all connections, and let the loop take the steps that this needs."""
    bench.server.hang_up(politely=politely)
    for _turn_of_the_loop in range(20):
        await asyncio.sleep(0)


def write_keys(bench: SesBench, text: str) -> None:
    """Rotate the keys of the route."""
    bench.keys_file.write_text(text)


# ── what is asked ────────────────────────────────────────────────────────────────────────────────


async def test_a_mail_goes_with_token_and_attempt_as_tags_its_configuration_set_and_one_recipient(
    ses_bench: SesBench,
) -> None:
    mail = tagged()
    outcome = await send(ses_bench, mail)
    (taken,) = ses_bench.server.taken
    assert isinstance(outcome, Accepted)
    assert outcome.provider_id == taken.message_id
    assert taken.tags == {TOKEN_TAG: TOKEN, ATTEMPT_TAG: "1"}
    assert taken.configuration_set == "fleet"
    assert taken.recipients == (mail.recipient,)
    assert taken.feedback_to == mail.envelope_from


async def test_without_token_and_configuration_set_none_is_named(ses_bench: SesBench) -> None:
    call, mail = with_options(ses_bench, configuration_set=""), dataclasses.replace(tagged(), token="")
    assert isinstance(await ses_bench.adapter.submit(call, mail, Asked(ses_bench, mail)), Accepted)
    (taken,) = ses_bench.server.taken
    assert (taken.tags, taken.configuration_set) == ({}, "")
    assert ses_bench.server.records == []


async def test_ses_writes_message_id_and_date_anew_and_the_message_id_is_kept(ses_bench: SesBench) -> None:
    outcome = await send(ses_bench)
    (taken,) = ses_bench.server.taken
    assert isinstance(outcome, Accepted)
    asked, delivered = message_from_bytes(taken.raw), message_from_bytes(taken.delivered)
    assert delivered.get_all("Message-ID") == [f"<{outcome.provider_id}@eu-west-1.amazonses.com>"]
    assert delivered.get_all("Date") != asked.get_all("Date")
    assert delivered.get_payload() == asked.get_payload()


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("success", ["Send", "Delivery"]),
        ("bounce", ["Send", "Bounce"]),
        ("bounce+label", ["Send", "Bounce"]),
        ("suppressionlist", ["Send", "Bounce"]),
        ("complaint", ["Send", "Delivery", "Complaint"]),
    ],
)
async def test_the_simulators_addresses_have_their_events_with_token_and_attempt(
    ses_bench: SesBench, name: str, events: list[str]
) -> None:
    assert isinstance(await send(ses_bench, tagged(to=f"{name}@simulator.amazonses.com")), Accepted)
    records = ses_bench.server.records
    assert [record["eventType"] for record in records] == events
    assert all(record["mail"]["tags"][TOKEN_TAG] == [TOKEN] for record in records)
    assert all(record["mail"]["tags"][ATTEMPT_TAG] == ["1"] for record in records)
    assert json.loads(json.dumps(records)) == records


async def test_many_mails_at_the_same_time_all_arrive(ses_bench: SesBench) -> None:
    async def yes() -> bool:
        return True

    mails = [tagged(to=f"p{n}@customer.test") for n in range(150)]
    outcomes = await asyncio.gather(*(ses_bench.adapter.submit(ses_bench.call, mail, yes) for mail in mails))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert sorted(taken.recipients[0] for taken in ses_bench.server.taken) == sorted(mail.recipient for mail in mails)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", REFUSALS)
async def test_every_error_of_the_api_is_a_refusal_with_status_name_and_message(ses_bench: SesBench, name: str) -> None:
    ses_bench.server.script["request"] = Fault(name, "so it is")
    outcome = await send(ses_bench)
    assert isinstance(outcome, Refused)
    assert (outcome.reply.provider, outcome.reply.stage, outcome.reply.code) == ("ses", "request", REFUSALS[name])
    assert outcome.reply.text == f"{name}: so it is"
    assert ses_bench.server.log.count("POST /v2/email/outbound-emails") == 1


@pytest.mark.parametrize("name", ERRORS)
async def test_every_error_of_send_email_has_a_rule_of_its_own(ses_bench: SesBench, name: str) -> None:
    ses_bench.server.script["request"] = Fault(name)
    outcome = await send(ses_bench)
    assert isinstance(outcome, Refused)
    meant = verdict(outcome.reply)
    assert meant.rule.startswith("ses-")
    assert meant.fault != "recipient"


@pytest.mark.parametrize("name", ["TooManyRequestsException", "InternalFailure", "ServiceUnavailable"])
async def test_nothing_is_ever_asked_twice(ses_bench: SesBench, name: str) -> None:
    ses_bench.server.script["request"] = Fault(name)
    await send(ses_bench)
    assert ses_bench.server.log == ["claim", "POST /v2/email/outbound-emails"]


async def test_an_answer_that_was_lost_behind_a_mail_that_was_taken_is_unknown(ses_bench: SesBench) -> None:
    ses_bench.server.script["answer"] = Cut()
    assert isinstance(await send(ses_bench), Unknown)
    assert len(ses_bench.server.taken) == 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7), (" 120 ", 120), ("soon", None), ("", None), ("-3", None), ("99999999999999999999", 999999999)],
)
async def test_retry_after_in_seconds_is_kept(ses_bench: SesBench, said: str, seconds: int | None) -> None:
    ses_bench.server.script["request"] = Fault("TooManyRequestsException", headers={"Retry-After": said})
    outcome = await send(ses_bench)
    assert isinstance(outcome, Refused)
    assert outcome.reply.retry_after_seconds == seconds


async def test_retry_after_as_a_date_is_kept(ses_bench: SesBench) -> None:
    until_then = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    ses_bench.server.script["request"] = Fault("TooManyRequestsException", headers={"Retry-After": until_then})
    outcome = await send(ses_bench)
    assert isinstance(outcome, Refused)
    assert 80 <= (outcome.reply.retry_after_seconds or 0) <= 90


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>too much</html>", "<html>too much</html>"),
        (b"[]", "[]"),
        (b"\xff\xfe", "??"),
        (b'{"message": null}', '{"message": null}'),
        (b'{"__type": "com.amazon#MessageRejected", "Message": "no"}', "MessageRejected: no"),
        (b"", ""),
    ],
)
async def test_a_4xx_in_any_words_is_a_refusal(ses_bench: SesBench, body: bytes, said: str) -> None:
    head = f"HTTP/1.1 413 No\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    ses_bench.server.script["answer"] = Raw(head + body)
    outcome = await send(ses_bench)
    assert isinstance(outcome, Refused)
    assert (outcome.reply.code, outcome.reply.text.replace("\ufffd", "?")) == (413, said)


async def test_a_server_that_answers_slowly_is_waited_for(ses_bench: SesBench) -> None:
    ses_bench.server.script["answer"] = Drip(0.001)
    assert isinstance(await send(ses_bench), Accepted)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    octets=st.binary(max_size=80)
    | st.builds(
        lambda status, head, body: b"HTTP/1.1 %d x\r\n%s\r\n\r\n%s" % (status, head, body),
        st.integers(0, 999),
        st.sampled_from([b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Content-Length: -1", b"X", b""]),
        st.sampled_from([b"{}", b"[]", b"3\r\n{} \r\n0\r\n\r\n", b"null", b"\xff", b'{"MessageId": 3}']),
    )
)
async def test_no_answer_whatever_it_is_makes_an_accepted_or_a_not_sent(ses_bench: SesBench, octets: bytes) -> None:
    ses_bench.server.script["answer"] = Raw(octets)
    outcome = await ses_bench.adapter.submit(ses_bench.call, tagged(), Asked(ses_bench, tagged()))
    assert isinstance(outcome, Refused | Unknown)
    if isinstance(outcome, Refused):
        assert 400 <= outcome.reply.code < 500


async def test_an_account_says_no_as_it_stands(ses_bench: SesBench) -> None:
    server = ses_bench.server
    for change, rule in (
        ({"sending": False}, "ses-sending-paused"),
        ({"suspended": True}, "ses-account-suspended"),
        ({"max_24_hours": 0.0}, "ses-quota"),
        ({"production": False}, "ses-identity-not-verified"),
    ):
        before = server.account
        server.account = dataclasses.replace(before, **change)
        outcome = await send(ses_bench)
        server.account = before
        assert isinstance(outcome, Refused)
        assert verdict(outcome.reply).rule == rule
    server.identities["firm.test"] = Identity(mail_from="bounce.firm.test", mail_from_status="FAILED")
    outcome = await send(ses_bench)
    assert isinstance(outcome, Refused)
    assert verdict(outcome.reply).rule == "ses-identity-not-verified"
    assert server.taken == []


# ── the claim ────────────────────────────────────────────────────────────────────────────────────


async def test_when_the_claim_is_asked_the_connection_stands_and_not_an_octet_is_there(ses_bench: SesBench) -> None:
    seen: list[tuple[int, list[str]]] = []

    async def claim() -> bool:
        await until(lambda: ses_bench.server.connections == 1)
        seen.append((ses_bench.server.connections, list(ses_bench.server.log)))
        return False

    assert await ses_bench.adapter.submit(ses_bench.call, tagged(), claim) == NotSent("claim", "the claim was refused")
    assert seen == [(1, [])]
    await ses_bench.adapter.close()
    assert ses_bench.server.log == []


async def test_a_server_that_hangs_up_within_the_claim_is_not_sent(ses_bench: SesBench) -> None:
    for politely in (False, True):

        async def claim(politely: bool = politely) -> bool:
            await until(ses_bench.server.is_connected)
            await hang_up(ses_bench, politely=politely)
            return True

        outcome = await ses_bench.adapter.submit(ses_bench.call, tagged(), claim)
        assert isinstance(outcome, NotSent)
        assert outcome.stage == "claim"
    assert ses_bench.server.log == []


async def test_a_yes_that_comes_too_late_sends_nothing(ses_bench: SesBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimed_request, "CLAIM_S", 0.05)

    async def claim() -> bool:
        await asyncio.sleep(0.3)
        return True

    outcome = await ses_bench.adapter.submit(ses_bench.call, tagged(), claim)
    assert isinstance(outcome, NotSent)
    assert ses_bench.server.taken == []


async def test_a_submit_that_ends_within_the_claim_lets_its_thread_and_connection_go_at_once(
    ses_bench: SesBench,
) -> None:
    async def broken() -> bool:
        await until(ses_bench.server.is_connected)
        raise RuntimeError("the claim cannot be asked")

    with pytest.raises(RuntimeError):
        await ses_bench.adapter.submit(ses_bench.call, tagged(), broken)
    assert await until(lambda: not ses_bench.server.is_connected(), 3.0)
    assert ses_bench.server.log == []


async def test_a_submit_cancelled_after_the_yes_leaves_the_mail_on_its_way_once(ses_bench: SesBench) -> None:
    ses_bench.server.script["answer"] = Silence()
    submitting = asyncio.ensure_future(send(ses_bench))
    assert await until(lambda: len(ses_bench.server.taken) == 1)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert ses_bench.server.log.count("POST /v2/email/outbound-emails") == 1


async def test_closing_ends_who_waits_for_an_answer(ses_bench: SesBench) -> None:
    ses_bench.server.script["answer"] = Silence()
    submitting = asyncio.ensure_future(send(ses_bench))
    assert await until(lambda: len(ses_bench.server.taken) == 1)
    await ses_bench.adapter.close()
    assert isinstance(await asyncio.wait_for(submitting, PATIENCE_S / 4), Unknown)


async def test_an_exchange_sends_once_whatever_a_library_does(ses_bench: SesBench, tmp_path: Path) -> None:
    bench = SesBench(secure=False)
    async with running(bench, tmp_path, PATIENCE_S):
        gate = Gate(asyncio.get_running_loop())
        gate.settle(yes=True)
        exchange, connections = Exchange(gate), Connections()
        origin = Origin("127.0.0.1", bench.server.port, None)

        def twice() -> None:
            for _time in range(2):
                exchange.run(connections.take(origin), "GET", "/v2/email/account", {}, b"")

        with pytest.raises(claimed_request.FAILURES, match="sends once"):
            await asyncio.to_thread(twice)
        assert bench.server.log == ["GET /v2/email/account"]
        exchange.end(connections, understood=False)


# ── connections ──────────────────────────────────────────────────────────────────────────────────


async def test_a_connection_is_used_again(ses_bench: SesBench) -> None:
    for _mail in range(3):
        assert isinstance(await send(ses_bench), Accepted)
    ses_bench.server.script["request"] = Fault("MessageRejected")
    assert isinstance(await send(ses_bench), Refused)
    ses_bench.relent()
    assert isinstance(await send(ses_bench), Accepted)
    assert ses_bench.server.connections == 1


async def test_a_connection_that_ended_while_idle_is_replaced(ses_bench: SesBench) -> None:
    for politely in (True, False):
        assert isinstance(await send(ses_bench), Accepted)
        await hang_up(ses_bench, politely=politely)
    assert isinstance(await send(ses_bench), Accepted)
    assert ses_bench.server.connections == 3


async def test_a_connection_idle_for_long_is_not_used(ses_bench: SesBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimed_request, "IDLE_S", 0.0)
    assert isinstance(await send(ses_bench), Accepted)
    assert isinstance(await send(ses_bench), Accepted)
    assert ses_bench.server.connections == 2


async def test_plain_http_goes_to_loopback_only(tmp_path: Path) -> None:
    bench = SesBench(secure=False)
    async with running(bench, tmp_path, PATIENCE_S):
        assert isinstance(await send(bench), Accepted)
        outcome = await bench.adapter.submit(
            with_options(bench, endpoint_url="http://ses.firm.test"), tagged(), Asked(bench, tagged())
        )
        assert isinstance(outcome, NotSent)
        assert "https" in outcome.what


async def test_an_untrusted_certificate_is_not_sent_and_not_an_octet_leaves(ses_bench: SesBench) -> None:
    stranger = msgspec.structs.replace(ses_bench.call, ca_file_ref="")
    outcome = await ses_bench.adapter.submit(stranger, tagged(), Asked(ses_bench, tagged()))
    assert isinstance(outcome, NotSent)
    assert outcome.stage == "tls"
    assert ses_bench.server.log == []
    with pytest.raises(RouteUnfit, match="fails at tls"):
        await ses_bench.adapter.check(stranger)


# ── keys and options ─────────────────────────────────────────────────────────────────────────────


async def test_keys_in_json_with_a_session_token_are_taken(ses_bench: SesBench) -> None:
    ses_bench.server.session_tokens[ses_bench.access_key] = "session/token+1=="
    keys = {"access_key_id": ses_bench.access_key, "secret_access_key": ses_bench.secret}
    write_keys(ses_bench, json.dumps(keys))
    assert isinstance(await send(ses_bench), Refused)
    write_keys(ses_bench, json.dumps(keys | {"session_token": "session/token+1=="}))
    assert isinstance(await send(ses_bench), Accepted)


async def test_rotated_keys_are_used_from_the_next_mail_on(ses_bench: SesBench) -> None:
    assert isinstance(await send(ses_bench), Accepted)
    ses_bench.server.keys = {"AKIANEW": "new secret".replace(" ", "/")}
    outcome = await send(ses_bench)
    assert isinstance(outcome, Refused)
    assert (outcome.reply.code, verdict(outcome.reply).rule) == (403, "aws-keys-refused")
    write_keys(ses_bench, "AKIANEW:new/secret")
    assert isinstance(await send(ses_bench), Accepted)


async def test_keys_of_the_route_go_before_the_mailboxs_secret(ses_bench: SesBench) -> None:
    call = msgspec.structs.replace(
        with_options(ses_bench, secret_ref=ses_bench.call.secret_ref), secret_ref="file:smtp"
    )
    assert isinstance(await ses_bench.adapter.submit(call, tagged(), Asked(ses_bench, tagged())), Accepted)
    assert "sending is on" in await ses_bench.adapter.check(call)


async def test_a_wrong_secret_makes_a_wrong_signature(ses_bench: SesBench) -> None:
    write_keys(ses_bench, f"{ses_bench.access_key}:another")
    outcome = await send(ses_bench)
    assert isinstance(outcome, Refused)
    assert outcome.reply.text.startswith("InvalidSignatureException")
    with pytest.raises(RouteUnfit, match="refuses the keys"):
        await ses_bench.adapter.check(ses_bench.call)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AKIA",
        "AKIA:",
        ":topsecret",
        "AKIA:top secret",
        "AKIA:topsecret\x00",
        "{topsecret",
        '{"access_key_id": "AKIA"}',
        '{"access_key_id": "AKIA", "secret_access_key": 3}',
        '{"access_key_id": "AKIA", "secret_access_key": "topsecret", "session_token": "a\\nb"}',
        "[]",
    ],
)
async def test_what_holds_no_keys_is_not_sent_and_not_shown(ses_bench: SesBench, text: str) -> None:
    write_keys(ses_bench, text)
    claim = Asked(ses_bench, tagged())
    outcome = await submit(ses_bench, tagged(), claim)
    assert isinstance(outcome, NotSent)
    assert (outcome.stage, claim.times) == ("auth", 0)
    with pytest.raises(RouteUnfit, match="holds no keys") as unfit:
        await ses_bench.adapter.check(ses_bench.call)
    for said in (repr(outcome), str(unfit.value)):
        assert "topsecret" not in said
        assert "AKIA" not in said


async def test_keys_that_others_may_read_are_not_used(ses_bench: SesBench) -> None:
    ses_bench.keys_file.chmod(0o644)
    outcome = await send(ses_bench)
    assert isinstance(outcome, NotSent)
    assert "chmod 600" in outcome.what


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"region": ""}, "region is missing"),
        ({"region": "not a region"}, ""),
        ({"flavour": "sweet"}, "option flavour is not known"),
        ({"endpoint_url": "somewhere"}, "endpoint_url"),
    ],
)
async def test_options_that_cannot_be_used_are_not_sent_and_named(
    ses_bench: SesBench, options: dict[str, str], said: str
) -> None:
    call = with_options(ses_bench, **options)
    claim = Asked(ses_bench, tagged())
    outcome = await ses_bench.adapter.submit(call, tagged(), claim)
    assert isinstance(outcome, NotSent)
    assert said in outcome.what
    assert claim.times == 0
    with pytest.raises(RouteUnfit, match=said or "check region"):
        await ses_bench.adapter.check(call)


async def test_the_machines_own_aws_settings_change_nothing(
    ses_bench: SesBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings_of_another = tmp_path / "aws-config"
    settings_of_another.write_text("[profile other]\nregion = us-east-1\nretry_mode = standard\nmax_attempts = 9\n")
    for name, value in {
        "AWS_PROFILE": "missing",
        "AWS_CONFIG_FILE": str(settings_of_another),
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "AKIAOTHER",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_MAX_ATTEMPTS": "9",
        "HTTPS_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    assert isinstance(await send(ses_bench), Accepted)


async def test_no_address_body_or_key_comes_into_a_log(ses_bench: SesBench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await send(ses_bench, tagged(text="the very words\n"))
        ses_bench.server.script["request"] = Fault("MessageRejected", "no anna@customer.test")
        await send(ses_bench)
        ses_bench.relent()
        await ses_bench.adapter.check(ses_bench.call)
    for word in ("@", "the very words", ses_bench.access_key, ses_bench.secret):
        assert word not in caplog.text


# ── check and find ───────────────────────────────────────────────────────────────────────────────


async def test_a_good_route_is_described_without_sending_mail(ses_bench: SesBench) -> None:
    ses_bench.server.account.sent_24_hours = 1200
    said = await ses_bench.adapter.check(ses_bench.call)
    assert said == (
        "eu-west-1: sending is on, 48800 of 50000 mails left in 24 hours, 14 a second; "
        "configuration set fleet is there; identity firm.test is verified and signs"
    )
    assert ses_bench.server.taken == []
    assert ses_bench.server.connections == 1


async def test_an_account_under_review_or_without_quota_is_fit(ses_bench: SesBench) -> None:
    ses_bench.server.account.enforcement = "PROBATION"
    ses_bench.server.account.max_24_hours = -1
    said = await ses_bench.adapter.check(with_options(ses_bench, configuration_set="", identity=""))
    assert said == "eu-west-1: sending is on (AWS reviews the account: PROBATION), no quota a day, 14 a second"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sending": False}, "paused"),
        ({"enforcement": "SHUTDOWN", "sending": False}, "shut"),
        ({"production": False}, "sandbox"),
        ({"sent_24_hours": 50_000.0}, "used up"),
    ],
)
async def test_an_account_that_cannot_send_is_unfit(ses_bench: SesBench, changes: dict[str, Any], said: str) -> None:
    ses_bench.server.account = dataclasses.replace(ses_bench.server.account, **changes)
    with pytest.raises(RouteUnfit, match=said):
        await ses_bench.adapter.check(ses_bench.call)


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        (Identity(verified=False), "not verified"),
        (Identity(dkim="PENDING"), "DKIM: PENDING"),
        (Identity(signs=False), "does not sign"),
        (Identity(mail_from="bounce.firm.test", mail_from_status="FAILED"), "MAIL FROM domain bounce.firm.test"),
    ],
)
async def test_an_identity_that_cannot_send_is_unfit(ses_bench: SesBench, identity: Identity, said: str) -> None:
    ses_bench.server.identities["firm.test"] = identity
    with pytest.raises(RouteUnfit, match=said):
        await ses_bench.adapter.check(ses_bench.call)


async def test_what_the_account_does_not_have_is_named(ses_bench: SesBench) -> None:
    with pytest.raises(RouteUnfit, match="configuration set other is not known"):
        await ses_bench.adapter.check(with_options(ses_bench, configuration_set="other"))
    with pytest.raises(RouteUnfit, match=r"identity other\.test is not known"):
        await ses_bench.adapter.check(with_options(ses_bench, identity="other.test"))
    ses_bench.server.configuration_sets["fleet"] = False
    with pytest.raises(RouteUnfit, match="off for configuration set fleet"):
        await ses_bench.adapter.check(ses_bench.call)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (Cut(), "no usable answer"),
        (Fault("InternalFailure"), "no usable answer"),
        (Fault("BadRequestException"), "400"),
    ],
)
async def test_a_check_that_fails_says_so(ses_bench: SesBench, trouble: Cut | Fault, said: str) -> None:
    ses_bench.server.script["request"] = trouble
    with pytest.raises(RouteUnfit, match=said):
        await ses_bench.adapter.check(ses_bench.call)
    ses_bench.server.stop_listening()
    ses_bench.server.hang_up()
    with pytest.raises(RouteUnfit, match=r"fails at (connect|claim)|no usable answer"):
        await ses_bench.adapter.check(ses_bench.call)


async def test_ses_has_no_records_to_search(ses_bench: SesBench) -> None:
    sought = Sought("bob@firm.test", TOKEN, "<x@firm.test>", DATE)
    assert await ses_bench.adapter.find(ses_bench.call, sought) is None
    assert ses_bench.server.log == []


# ── the real one ─────────────────────────────────────────────────────────────────────────────────

LIVE = ("MAILFLEET_SES_KEYS", "MAILFLEET_SES_REGION", "MAILFLEET_SES_FROM")


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[tuple[SesAdapter, RouteCall, str]]:
    """The real SES: keys as ACCESS_KEY_ID:SECRET_ACCESS_KEY, a region and an address of a verified domain."""
    missing = [name for name in LIVE if not os.environ.get(name)]
    if missing:
        pytest.skip(f"the mailbox simulator of the real SES is not asked: set {', '.join(missing)}")
    adapter = SesAdapter(Secrets(tmp_path))
    options = {"region": os.environ["MAILFLEET_SES_REGION"]}
    yield (
        adapter,
        RouteCall(RouteId("live"), "ses", secret_ref="env:MAILFLEET_SES_KEYS", options=options),
        os.environ[LIVE[2]],
    )
    await adapter.close()


@pytest.mark.parametrize("name", ["success", "bounce", "complaint", "suppressionlist"])
async def test_the_real_mailbox_simulator_takes_a_mail(live: tuple[SesAdapter, RouteCall, str], name: str) -> None:
    adapter, call, sender = live
    message = Message()
    for header, value in {"From": sender, "To": f"{name}@simulator.amazonses.com", "Subject": "mailfleet"}.items():
        message[header] = value
    message.set_payload("A test.\r\n")

    async def yes() -> bool:
        return True

    raw = message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    outcome = await adapter.submit(call, Mail(sender, f"{name}@simulator.amazonses.com", raw, TOKEN), yes)
    assert isinstance(outcome, Accepted)
    assert outcome.provider_id
    with contextlib.suppress(RouteUnfit):  # an account in the sandbox may use the simulator
        assert call.options["region"] in await adapter.check(call)
