"""Mailgun beyond the contract: the form, the words of its answers, waiting times, its log and a domain's fitness."""

import asyncio
import dataclasses
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from adapters.interface import RouteUnfit, Sought
from adapters.mail import mailgun
from adapters.mail.mailgun import MailgunAdapter
from adapters.secrets import Secrets
from schemas.ids import RouteId
from schemas.sending import Accepted, NotSent, Outcome, Refused, RouteCall, Unknown
from tests.adapters.benches import MailgunBench, until
from tests.adapters.claims import Asked, submit
from tests.adapters.conftest import PATIENCE_S, running
from tests.adapters.mailgun_server import Answer, Drip
from tests.adapters.samples import TOKEN, mail_of, request_of
from tests.adapters.scripted_smtp import Cut

MESSAGE_ID = f"{TOKEN}@firm.test"
HOUR = timedelta(hours=1)


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[MailgunBench]:
    """Mailgun's API on loopback."""
    made = MailgunBench()
    async with running(made, tmp_path, PATIENCE_S):
        yield made


async def sent(bench: MailgunBench, **fields: Any) -> Outcome:
    """Submit a mail to Anna."""
    mail = mail_of(request_of(**fields))
    return await submit(bench, mail, Asked(bench, mail))


def with_options(bench: MailgunBench, **options: str) -> None:
    """Change options of the bench's route; an empty one goes."""
    merged = {name: value for name, value in (bench.call.options | options).items() if value}
    bench.call = msgspec.structs.replace(bench.call, options=merged)


def sought(claimed_at: datetime | None = None, attempt: int = 1) -> Sought:
    """Return what is known of an attempt that was claimed just now."""
    return Sought("bob@firm.test", TOKEN, f"<{MESSAGE_ID}>", claimed_at or datetime.now(UTC), attempt)


# ── the request ──────────────────────────────────────────────────────────────────────────────────


async def test_the_form_names_recipient_token_and_attempt_and_asks_for_no_tracking(bench: MailgunBench) -> None:
    await sent(bench)
    assert dict(bench.server.kept[0].fields) == {
        "to": ("anna@customer.test",),
        "v:mailfleet-token": (TOKEN,),
        "v:mailfleet-attempt": ("1",),
        "o:tracking": ("no",),
        "o:tracking-clicks": ("no",),
        "o:tracking-opens": ("no",),
    }


async def test_options_of_the_route_ask_for_tls_and_for_test_mode(bench: MailgunBench) -> None:
    with_options(bench, require_tls="yes", test_mode="yes")
    await sent(bench)
    fields = bench.server.kept[0].fields
    assert (fields["o:require-tls"], fields["o:testmode"]) == (("yes",), ("yes",))


async def test_the_id_is_mailguns_own(bench: MailgunBench) -> None:
    bench.server.own_message_ids = True
    outcome = await sent(bench)
    assert isinstance(outcome, Accepted)
    assert outcome.provider_id == f"20261125120000.{1:016x}@firm.test"
    assert outcome.reply.text == "Queued. Thank you."


@pytest.mark.parametrize("region", ["us", "eu"])
async def test_a_region_has_its_own_address(bench: MailgunBench, region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mailgun.REGIONS == {"us": "https://api.mailgun.net", "eu": "https://api.eu.mailgun.net"}
    here = bench.call.options["base_url"]
    monkeypatch.setattr(mailgun, "REGIONS", {"us": "https://127.0.0.1:1", "eu": "https://127.0.0.1:1", region: here})
    with_options(bench, base_url="", region="" if region == "us" else region)
    assert isinstance(await sent(bench), Accepted)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"domain": ""}, "domain"),
        ({"base_url": "", "region": "mars"}, "region"),
        ({"base_url": "http://api.mailgun.net"}, "https"),
        ({"base_url": "https://api.mailgun.net:port"}, "base_url"),
        ({"secret_ref": "file:no-such-key"}, "no-such-key"),
    ],
    ids=lambda value: str(value),
)
async def test_a_route_that_says_too_little_sends_nothing_and_says_why(
    bench: MailgunBench, options: dict[str, str], word: str
) -> None:
    with_options(bench, **options)
    mail = mail_of()
    claim = Asked(bench, mail)
    outcome = await submit(bench, mail, claim)
    assert isinstance(outcome, NotSent)
    assert word in outcome.what
    assert claim.times == 0
    with pytest.raises(RouteUnfit, match=word):
        await bench.adapter.check(bench.call)
    assert await bench.adapter.find(bench.call, sought()) is None


async def test_a_certificate_that_nobody_vouches_for_ends_before_the_claim(bench: MailgunBench) -> None:
    bench.call = msgspec.structs.replace(bench.call, ca_file_ref="")
    mail = mail_of()
    claim = Asked(bench, mail)
    outcome = await submit(bench, mail, claim)
    assert isinstance(outcome, NotSent)
    assert (outcome.stage, claim.times) == ("tls", 0)


async def test_a_new_key_holds_from_the_next_mail_on(bench: MailgunBench, tmp_path: Path) -> None:
    assert isinstance(await sent(bench), Accepted)
    bench.server.key = "key-of-tomorrow"
    refused = await sent(bench)
    assert isinstance(refused, Refused)
    assert (refused.reply.code, refused.reply.text) == (401, "Forbidden")
    (tmp_path / "mailgun-key").write_text("key-of-tomorrow\n")
    assert isinstance(await sent(bench), Accepted)


async def test_the_routes_own_secret_goes_before_the_mailboxs(bench: MailgunBench, tmp_path: Path) -> None:
    (tmp_path / "mailbox-password").write_text("a password of SMTP")
    (tmp_path / "mailbox-password").chmod(0o600)
    bench.call = msgspec.structs.replace(bench.call, secret_ref="file:mailbox-password")
    with_options(bench, secret_ref="file:mailgun-key")
    assert isinstance(await sent(bench), Accepted)


async def test_not_an_octet_of_the_request_is_there_when_the_claim_says_no(bench: MailgunBench) -> None:
    mail = mail_of()
    await submit(bench, mail, Asked(bench, mail, answer=False))
    assert await until(lambda: bench.server.connections == 0)  # it has read all that came
    assert bench.server.told == []


# ── connections ──────────────────────────────────────────────────────────────────────────────────


async def test_mails_one_after_the_other_go_over_one_connection(bench: MailgunBench) -> None:
    for number in range(4):
        assert isinstance(await sent(bench, to=f"p{number}@customer.test"), Accepted)
    assert bench.server.met == 1


async def test_an_idle_connection_that_the_server_closed_is_replaced(bench: MailgunBench) -> None:
    assert isinstance(await sent(bench), Accepted)
    bench.server.hang_up()
    assert await until(lambda: bench.server.connections == 0)
    assert isinstance(await sent(bench), Accepted)
    assert bench.server.met == 2


@pytest.mark.parametrize("first", [True, False], ids=["a new connection", "a used one"])
async def test_a_server_that_hangs_up_while_the_claim_is_asked_was_sent_nothing(
    bench: MailgunBench, first: bool
) -> None:
    if not first:
        await sent(bench)
    mail = mail_of()

    async def hang_up() -> None:
        bench.server.end()
        assert await until(lambda: bench.server.connections == 0)

    outcome = await submit(bench, mail, Asked(bench, mail, then=hang_up))
    assert outcome == NotSent("claim", "the server hung up before the request")
    assert bench.steps_after_claim() == []


async def test_an_answer_that_drips_for_ever_is_unknown_in_time(bench: MailgunBench, tmp_path: Path) -> None:
    bench.server.script["verdict"] = Drip()
    bench.adapter = MailgunAdapter(Secrets(tmp_path), answer_s=0.5)
    async with asyncio.timeout(5):
        outcome = await sent(bench)
    assert isinstance(outcome, Unknown)


async def test_an_answer_is_waited_for_from_the_claims_yes_on(bench: MailgunBench, tmp_path: Path) -> None:
    bench.adapter = MailgunAdapter(Secrets(tmp_path), connect_s=5, answer_s=0.5)

    async def take_long() -> None:
        await asyncio.sleep(0.8)

    mail = mail_of()
    assert isinstance(await submit(bench, mail, Asked(bench, mail, then=take_long)), Accepted)


async def test_a_slow_answer_counts(bench: MailgunBench) -> None:
    bench.server.script["answer"] = Answer(200, b'{"id": "<1@firm.test>", "message": "Queued."}', pause_s=0.7)
    assert isinstance(await sent(bench), Accepted)


async def test_a_refusal_that_comes_before_the_body_is_through_is_a_refusal(bench: MailgunBench) -> None:
    bench.server.script["headers"] = Answer(413, "Request Entity Too Large")
    big = dataclasses.replace(mail_of(), raw=mail_of().raw + b"a line of the body\r\n" * 100_000)
    outcome = await submit(bench, big, Asked(bench, big))
    assert isinstance(outcome, Refused)
    assert outcome.reply.code == 413


# ── no ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "text", "headers", "seconds"),
    [
        (429, "Domain firm.test is not allowed to send: account-requests-per-sec limit exceeded, try again after "
         "120 seconds", {}, 120),
        (429, "Domain firm.test is not allowed to send: recipient limit exceeded, try again after "
         "Mon, 20 Dec 2021 20:33:21 UTC", {"Date": "Mon, 20 Dec 2021 20:23:21 GMT"}, 600),
        (420, "Domain firm.test is not allowed to send: recipient limit exceeded, try again after "
         "Wed, 22 Feb 2023 10:04:01 UTC", {"Date": "Wed, 22 Feb 2023 10:03:32 GMT"}, 29),
        (429, "Domain firm.test is not allowed to send: request limit exceeded, try again after 120 seconds",
         {"Retry-After": "17"}, 17),
        (429, "Too many requests", {"Retry-After": "Mon, 20 Dec 2021 20:33:21 GMT",
                                    "Date": "Mon, 20 Dec 2021 20:33:01 GMT"}, 20),
        (429, "try again after Mon, 20 Dec 2021 20:33:21 UTC", {"Date": "Tue, 21 Dec 2021 20:33:21 GMT"}, 0),
        (429, "Too many requests", {"Retry-After": "soon", "Date": "never"}, None),
        (500, "Internal Server Error", {}, None),
    ],
)  # fmt: skip
async def test_a_limit_says_when_to_come_again(
    bench: MailgunBench, status: int, text: str, headers: dict[str, str], seconds: int | None
) -> None:
    bench.server.script["verdict"] = Answer(status, text, headers)
    outcome = await sent(bench)
    assert isinstance(outcome, Refused)
    assert (outcome.reply.code, outcome.reply.text) == (status, text)
    assert outcome.reply.retry_after_seconds == seconds


async def test_a_server_that_repeats_the_key_does_not_get_it_into_facts(bench: MailgunBench) -> None:
    bench.server.script["verdict"] = Answer(401, f"Invalid key {bench.key} in {bench.secret_words[1]}")
    outcome = await sent(bench)
    assert isinstance(outcome, Refused)
    assert outcome.reply.text == "Invalid key <secret> in <secret>"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_mail_is_not_sent_on_to_another_address(bench: MailgunBench, status: int) -> None:
    elsewhere = bench.call.options["base_url"] + "/v3/firm.test/messages.mime"
    bench.server.script["verdict"] = Answer(status, b"moved", {"Location": elsewhere})
    assert isinstance(await sent(bench), Refused)
    assert len(bench.server.told) == 1


@pytest.mark.parametrize(
    ("state", "reason"),
    [("unverified", "The domain is unverified and requires DNS configuration"), ("disabled", "bad customer")],
)
async def test_a_domain_that_may_not_send_is_a_refusal(bench: MailgunBench, state: str, reason: str) -> None:
    domain = bench.server.domains["firm.test"]["domain"]
    domain["state"] = state
    if state == "disabled":
        domain["disabled"] = {"code": "blacklisted", "reason": "bad customer", "permanently": True}
    outcome = await sent(bench)
    assert isinstance(outcome, Refused)
    assert outcome.reply.text.startswith(f"Domain firm.test is not allowed to send: {reason}")
    assert bench.arrived() == []


async def test_a_domain_of_nobody_is_a_refusal(bench: MailgunBench) -> None:
    with_options(bench, domain="../other.test")
    outcome = await sent(bench)
    assert isinstance(outcome, Refused)
    assert (outcome.reply.code, outcome.reply.text) == (404, "Domain not found: ..%2Fother.test")


async def test_a_message_past_25_megabytes_is_a_refusal(bench: MailgunBench) -> None:
    big = dataclasses.replace(mail_of(), raw=mail_of().raw + b"a line of the body\r\n" * 1_400_000)
    outcome = await submit(bench, big, Asked(bench, big))
    assert isinstance(outcome, Refused)
    assert outcome.reply.code == 413


async def test_a_recipient_that_is_no_address_is_a_refusal(bench: MailgunBench) -> None:
    wrong = dataclasses.replace(mail_of(), recipient="anna at customer")
    outcome = await submit(bench, wrong, Asked(bench, wrong))
    assert isinstance(outcome, Refused)
    assert outcome.reply.text == "to parameter is not a valid address. please check documentation"


# ── what became of an attempt ────────────────────────────────────────────────────────────────────


def note(bench: MailgunBench, event: str, token: str = TOKEN, attempt: int = 0, **more: Any) -> None:
    """Write an entry about the send into Mailgun's log; without a number it is one of before attempts had any."""
    fields = {"v:mailfleet-token": (token,)} if token else {}
    if attempt:
        fields["v:mailfleet-attempt"] = (str(attempt),)
    known_as = more.pop("message_id", MESSAGE_ID)
    bench.server.record(event, "firm.test", "anna@customer.test", known_as, fields, **more)


async def test_a_mail_whose_answer_was_cut_off_is_found_by_its_token(bench: MailgunBench) -> None:
    bench.server.script["answer"] = Cut()
    claimed_at = datetime.now(UTC)
    assert isinstance(await sent(bench), Unknown)
    bench.relent()
    found = await bench.adapter.find(bench.call, sought(claimed_at))
    assert isinstance(found, Accepted)
    assert found.provider_id == MESSAGE_ID


async def test_a_mail_that_mailgun_gave_an_id_of_its_own_is_found_by_its_token(bench: MailgunBench) -> None:
    bench.server.own_message_ids = True
    await sent(bench)
    found = await bench.adapter.find(bench.call, sought())
    assert isinstance(found, Accepted)
    assert found.provider_id.startswith("20261125120000.")


async def test_a_mail_that_was_never_taken_is_not_found(bench: MailgunBench) -> None:
    bench.server.script["verdict"] = Cut()
    assert isinstance(await sent(bench), Unknown)
    bench.relent()
    assert await bench.adapter.find(bench.call, sought()) is None


async def test_an_entry_that_is_late_is_found_when_it_is_there(bench: MailgunBench) -> None:
    await sent(bench)
    bench.server.late_events = 1
    assert await bench.adapter.find(bench.call, sought()) is None
    bench.server.late_events = 0
    assert isinstance(await bench.adapter.find(bench.call, sought()), Accepted)


@pytest.mark.parametrize("before", [0, 99, 100, 250])
async def test_the_log_is_read_page_by_page(bench: MailgunBench, before: int) -> None:
    for number in range(before):
        note(bench, "accepted", token="another" + "a" * 32, message_id=f"{number}@firm.test")
    note(bench, "accepted", message_id="of-mailgun@firm.test")
    found = await bench.adapter.find(bench.call, sought())
    assert isinstance(found, Accepted)
    assert found.provider_id == "of-mailgun@firm.test"


async def test_a_log_without_an_end_is_left_in_time(bench: MailgunBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailgun, "MOST_PAGES", 2)
    for number in range(300):
        note(bench, "accepted", token="another" + "a" * 32, message_id=f"{number}@firm.test")
    note(bench, "accepted", message_id="of-mailgun@firm.test")
    assert await bench.adapter.find(bench.call, sought()) is None


async def test_entries_of_another_time_or_of_another_send_are_not_taken_for_it(bench: MailgunBench) -> None:
    note(bench, "accepted", at=datetime.now(UTC) - 3 * HOUR)
    note(bench, "failed", token="another" + "a" * 32, severity="permanent")  # the same Message-ID, forged
    assert await bench.adapter.find(bench.call, sought()) is None


async def test_an_entry_without_variables_is_known_by_the_message_id(bench: MailgunBench) -> None:
    note(bench, "accepted", token="")
    assert isinstance(await bench.adapter.find(bench.call, sought()), Accepted)


async def test_variables_as_a_json_text_are_read(bench: MailgunBench) -> None:
    note(bench, "accepted", message_id="of-mailgun@firm.test", user_variables=f'{{"mailfleet-token": "{TOKEN}"}}')
    assert isinstance(await bench.adapter.find(bench.call, sought()), Accepted)


BOUNCE = {"code": 550, "enhanced-code": "5.1.1", "message": "5.1.1 <anna@customer.test>: User unknown"}
SUPPRESSED = {"code": 605, "message": "", "description": "Not delivering to previously bounced address"}


@pytest.mark.parametrize(
    ("event", "more", "said"),
    [
        ("failed", {"severity": "permanent", "reason": "bounce", "delivery_status": BOUNCE},
         ("dot", 550, "5.1.1", "<recipient>: User unknown")),
        ("failed", {"severity": "permanent", "reason": "suppress-bounce", "delivery_status": SUPPRESSED},
         ("dot", 605, "", "Not delivering to previously bounced address")),
        ("failed", {"severity": "permanent", "reason": "old", "delivery_status": {"code": "499"}},
         ("dot", 499, "", "old")),
        ("failed", {"severity": "permanent"}, ("dot", 0, "", "failed")),
        ("rejected", {"reject": {"reason": "Sandbox subdomains are for test purposes only.", "description": ""}},
         ("request", 0, "", "Sandbox subdomains are for test purposes only.")),
        ("rejected", {}, ("request", 0, "", "rejected")),
    ],
)  # fmt: skip
async def test_a_recorded_refusal_is_a_refusal_with_its_reply(
    bench: MailgunBench, event: str, more: dict[str, Any], said: tuple[str, int, str, str]
) -> None:
    note(bench, "accepted")
    note(bench, event, **more)
    found = await bench.adapter.find(bench.call, sought())
    assert isinstance(found, Refused)
    reply = found.reply
    assert (reply.stage, reply.code, reply.enhanced, reply.text) == said


async def test_a_failure_before_the_taking_is_an_earlier_attempts(bench: MailgunBench) -> None:
    earlier = datetime.now(UTC) - timedelta(seconds=50)
    note(bench, "failed", at=earlier, severity="permanent", delivery_status=BOUNCE)
    assert await bench.adapter.find(bench.call, sought()) is None
    note(bench, "accepted")
    assert isinstance(await bench.adapter.find(bench.call, sought()), Accepted)


@pytest.mark.parametrize("event", ["accepted", "delivered", "failed", "rejected"])
@pytest.mark.parametrize("text", [False, True], ids=["object", "json text"])
async def test_an_entry_of_another_attempt_says_nothing_of_this_one(
    bench: MailgunBench, event: str, text: bool
) -> None:
    variables = {"mailfleet-token": TOKEN, "mailfleet-attempt": "1"}
    more: dict[str, Any] = {"user_variables": json.dumps(variables)} if text else {}
    note(bench, "accepted", attempt=1, **more)
    note(bench, event, attempt=1, severity="permanent", delivery_status=BOUNCE, **more)
    assert await bench.adapter.find(bench.call, sought(attempt=2)) is None
    assert await bench.adapter.find(bench.call, sought(attempt=1)) is not None
    note(bench, "accepted", attempt=2)
    assert isinstance(await bench.adapter.find(bench.call, sought(attempt=2)), Accepted)


async def test_a_failure_that_names_the_attempt_needs_no_taking_beside_it(bench: MailgunBench) -> None:
    note(bench, "failed", attempt=2, severity="permanent", delivery_status=BOUNCE)
    assert await bench.adapter.find(bench.call, sought(attempt=1)) is None
    assert isinstance(await bench.adapter.find(bench.call, sought(attempt=2)), Refused)


async def test_a_temporary_failure_proves_that_mailgun_has_the_mail(bench: MailgunBench) -> None:
    note(bench, "failed", severity="temporary", delivery_status={"code": 452, "message": "4.2.2 full"})
    assert isinstance(await bench.adapter.find(bench.call, sought()), Accepted)


async def test_a_delivery_outweighs_a_later_bounce(bench: MailgunBench) -> None:
    note(bench, "accepted")
    note(bench, "delivered", delivery_status={"code": 250, "message": "OK"})
    note(bench, "failed", severity="permanent", delivery_status=BOUNCE, flags={"is-delayed-bounce": True})
    found = await bench.adapter.find(bench.call, sought())
    assert isinstance(found, Accepted)
    assert (found.reply.code, found.reply.text) == (250, "OK")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, b"Forbidden"),
        Answer(429, "Too many requests"),
        Answer(500, "Internal Server Error"),
        Answer(200, b"<html>"),
        Answer(200, b'{"items": [{"event": 7}]}'),
        Answer(200, b'{"items": null}'),
        Cut(),
    ],
    ids=str,
)
async def test_records_that_cannot_be_had_prove_nothing(bench: MailgunBench, answer: Answer | Cut) -> None:
    await sent(bench)
    bench.server.script["verdict"] = answer
    assert await bench.adapter.find(bench.call, sought()) is None


# ── is the route fit ─────────────────────────────────────────────────────────────────────────────


async def test_a_domain_that_is_set_up_well_is_fit(bench: MailgunBench) -> None:
    assert await bench.adapter.check(bench.call) == (
        f"firm.test is active at {bench.call.options['base_url']} and its DNS is right"
    )
    assert bench.arrived() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "unverified"}, "unverified"),
        ({"state": "disabled"}, "disabled"),
        ({"is_disabled": True}, "disabled"),
        ({"disabled": {"code": "blacklisted", "reason": "bad customer"}}, "bad customer"),
        ({"type": "sandbox"}, "sandbox"),
    ],
    ids=str,
)
async def test_a_domain_in_a_bad_state_is_unfit(bench: MailgunBench, change: dict[str, Any], words: str) -> None:
    bench.server.domains["firm.test"]["domain"].update(change)
    with pytest.raises(RouteUnfit, match=words):
        await bench.adapter.check(bench.call)


@pytest.mark.parametrize(("record", "name"), [(0, "TXT firm.test"), (1, "TXT mx._domainkey.firm.test")])
async def test_a_wrong_spf_or_dkim_record_is_named(bench: MailgunBench, record: int, name: str) -> None:
    bench.server.domains["firm.test"]["sending_dns_records"][record]["valid"] = "invalid"
    with pytest.raises(RouteUnfit, match=name):
        await bench.adapter.check(bench.call)


@pytest.mark.parametrize(("record", "valid"), [(2, "invalid"), (0, "unknown")], ids=["tracking", "unchecked"])
async def test_a_record_of_tracking_or_one_not_checked_is_no_fault(
    bench: MailgunBench, record: int, valid: str
) -> None:
    bench.server.domains["firm.test"]["sending_dns_records"][record]["valid"] = valid
    await bench.adapter.check(bench.call)


async def test_unsubscribe_tracking_is_unfit(bench: MailgunBench) -> None:
    bench.server.unsubscribe_tracking = True
    with pytest.raises(RouteUnfit, match="unsubscribe tracking"):
        await bench.adapter.check(bench.call)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(401, "Invalid private key"), "secret_ref and region"),
        (Answer(404, "Domain not found"), "domain and region"),
        (Answer(500, "Internal Server Error"), "try again later"),
        (Answer(200, b"<html>Welcome to our hotel's network</html>"), "base_url"),
        (Cut(), "cannot be reached"),
    ],
    ids=str,
)
async def test_an_api_that_says_no_is_unfit_and_says_what_to_do(
    bench: MailgunBench, answer: Answer | Cut, words: str
) -> None:
    bench.server.script["verdict"] = answer
    with pytest.raises(RouteUnfit, match=words) as caught:
        await bench.adapter.check(bench.call)
    assert not any(word in str(caught.value) for word in bench.secret_words)


# ── the real one ─────────────────────────────────────────────────────────────────────────────────

LIVE = ("MAILGUN_API_KEY", "MAILGUN_DOMAIN", "MAILGUN_TO")


@pytest.mark.skipif(
    not all(name in os.environ for name in LIVE),
    reason=f"needs an account of Mailgun: set {', '.join(LIVE)} (and MAILGUN_REGION=eu); the mail goes in test mode",
)
async def test_the_real_mailgun_takes_a_mail_in_test_mode(tmp_path: Path) -> None:
    options = {
        "domain": os.environ["MAILGUN_DOMAIN"],
        "region": os.environ.get("MAILGUN_REGION", "us"),
        "test_mode": "yes",
    }
    call = RouteCall(RouteId("live"), "mailgun", secret_ref="env:MAILGUN_API_KEY", options=options)
    adapter = MailgunAdapter(Secrets(tmp_path))
    asked = []

    async def yes() -> bool:
        asked.append(True)
        return True

    mail = mail_of(request_of(to=os.environ["MAILGUN_TO"]))
    try:
        await adapter.check(call)
        outcome = await adapter.submit(call, mail, yes)
    finally:
        await adapter.close()
    assert isinstance(outcome, Accepted)
    assert asked == [True]
