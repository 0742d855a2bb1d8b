"""What every way out promises, run over every provider of the catalogue."""

import asyncio
import dataclasses
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from adapters.catalogue import PROVIDERS
from adapters.interface import Sought, reply_of, without_addresses
from adapters.message import identity
from adapters.secrets import Secrets
from schemas.sending import Accepted, NotSent, Refused, Stage, Unknown
from streams.delivery.verdict import verdict
from tests.adapters.benches import BENCHES, Arrived, Bench, Trouble
from tests.adapters.claims import Asked, ClaimBroke, submit
from tests.adapters.samples import SENDER, TOKEN, mail_of, request_of

EVERY_PROVIDER = pytest.mark.parametrize("bench", BENCHES, indirect=True)
SEARCHED = ("mailgun",)
"""Whose stand-in keeps records; Zoho's, an IMAP server, has tests of its own, and the others have no search."""
BIG = b"X: y\r\n\r\n" + b"0123456789abcdef" * 4 + b"\r\n" + (b"a line of the body" * 3 + b"\r\n") * 300_000


def refusals(*codes: int) -> pytest.MarkDecorator:
    """Parametrise over every stage at which a provider's server can say no."""
    return pytest.mark.parametrize(
        ("bench", "stage", "code"),
        [
            (name, stage, bench().statuses.get(code, code))
            for name, bench in BENCHES.items()
            for stage in bench().refusals
            for code in codes
        ],
        indirect=["bench"],
    )


def troubles(*, after_claim: bool) -> pytest.MarkDecorator:
    """Parametrise over everything that can go wrong with a provider before, or after, the claim."""
    return pytest.mark.parametrize(
        ("bench", "trouble"),
        [(n, t) for n, bench in BENCHES.items() for t in bench().troubles if t.after_claim is after_claim],
        indirect=["bench"],
        ids=lambda value: value.name if isinstance(value, Trouble) else str(value),
    )


def test_every_provider_of_the_catalogue_has_a_bench() -> None:
    assert set(BENCHES) == set(PROVIDERS)


@EVERY_PROVIDER
async def test_the_bench_holds_the_adapter_that_the_catalogue_makes(bench: Bench, tmp_path: Path) -> None:
    assert type(bench.adapter) is type(PROVIDERS[bench.call.provider](Secrets(tmp_path)))


# ── yes ──────────────────────────────────────────────────────────────────────────────────────────


@EVERY_PROVIDER
async def test_an_accepted_mail_arrives_once_and_byte_for_byte(bench: Bench) -> None:
    mail = mail_of(request_of(text=".\n..\n.dot\n\nFrom me\n" + "x" * 2000))
    outcome = await submit(bench, mail, Asked(bench, mail))
    assert isinstance(outcome, Accepted)
    assert 200 <= outcome.reply.code < 300
    assert outcome.provider_id
    assert bench.arrived() == [Arrived(mail.envelope_from, mail.recipient, mail.raw)]


@EVERY_PROVIDER
async def test_the_claim_is_asked_once_and_directly_before_the_last_word(bench: Bench) -> None:
    mail = mail_of()
    claim = Asked(bench, mail)
    await submit(bench, mail, claim)
    assert claim.times == 1
    assert claim.already_there == 0
    assert len(bench.steps_after_claim()) <= 1
    assert len(bench.arrived()) == 1


@EVERY_PROVIDER
async def test_letters_of_all_kinds_and_an_international_domain_arrive(bench: Bench) -> None:
    request = request_of(
        to="anna@münchen.example",
        to_name="Änne Müller, Dr.",
        subject="Grüße 🌊",
        text="Für Änne: ∑ €\n",
        html="<b>ß</b>",
    )
    mail = mail_of(request)
    assert isinstance(await submit(bench, mail, Asked(bench, mail)), Accepted)
    (arrived,) = bench.arrived()
    assert arrived.recipient == "anna@xn--mnchen-3ya.example"
    assert arrived.raw.isascii()
    message = message_from_bytes(arrived.raw, policy=SMTP)
    assert isinstance(message, EmailMessage)
    assert str(message["Subject"]) == "Grüße 🌊"
    body = message.get_body(("plain",))
    assert isinstance(body, EmailMessage)
    assert body.get_content().strip() == "Für Änne: ∑ €"


@EVERY_PROVIDER
async def test_mails_one_after_the_other_never_mix(bench: Bench) -> None:
    mails = [mail_of(request_of(to=f"p{n}@customer.test", subject=f"no {n}")) for n in range(5)]
    for mail in mails:
        assert isinstance(await submit(bench, mail, Asked(bench, mail)), Accepted)
    assert bench.arrived() == [Arrived(mail.envelope_from, mail.recipient, mail.raw) for mail in mails]


@EVERY_PROVIDER
async def test_mails_at_the_same_time_never_mix(bench: Bench) -> None:
    mails = [mail_of(request_of(to=f"p{n}@customer.test", subject=f"no {n}")) for n in range(5)]

    async def yes() -> bool:
        await asyncio.sleep(0)
        return True

    outcomes = await asyncio.gather(*(bench.adapter.submit(bench.call, mail, yes) for mail in mails))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    there = sorted(bench.arrived(), key=lambda arrived: arrived.recipient)
    assert there == [Arrived(mail.envelope_from, mail.recipient, mail.raw) for mail in mails]


@EVERY_PROVIDER
async def test_a_record_of_another_attempt_never_settles_this_one(bench: Bench) -> None:
    claimed_at = datetime.now(UTC)
    first = mail_of(attempt=1)
    assert isinstance(await submit(bench, first, Asked(bench, first)), Accepted)
    known_as = identity(TOKEN, SENDER.mailbox).message_id
    second = Sought(SENDER.mailbox, TOKEN, known_as, claimed_at, attempt=2)
    assert await bench.adapter.find(bench.call, second) is None
    found = await bench.adapter.find(bench.call, dataclasses.replace(second, attempt=1))
    assert found is None if bench.call.provider not in SEARCHED else isinstance(found, Accepted)


# ── no ───────────────────────────────────────────────────────────────────────────────────────────


@refusals(451, 550)
async def test_a_refusal_says_stage_and_reply_and_nothing_arrives(bench: Bench, stage: Stage, code: int) -> None:
    bench.refuse(stage, code, f"{code // 100}.7.1 not today")
    mail = mail_of()
    claim = Asked(bench, mail)
    outcome = await submit(bench, mail, claim)
    assert isinstance(outcome, Refused)
    reply = outcome.reply
    assert (reply.provider, reply.stage, reply.code) == (bench.call.provider, stage, code)
    if stage == "request":  # an API puts the error's name, if it has one, before its words
        assert f"{reply.enhanced} {reply.text}".endswith(f"{code // 100}.7.1 not today")
    else:
        assert (reply.enhanced, reply.text) == (f"{code // 100}.7.1", "not today")
    assert bench.arrived() == []
    assert claim.times == (1 if stage in ("dot", "request") else 0)


@refusals(421)
async def test_a_server_that_closes_its_service_is_a_refusal_at_any_stage(
    bench: Bench, stage: Stage, code: int
) -> None:
    bench.refuse(stage, code, "4.3.2 shutting down")
    mail = mail_of()
    assert isinstance(await submit(bench, mail, Asked(bench, mail)), Refused)
    assert bench.arrived() == []


@refusals(550)
async def test_addresses_in_a_refusal_are_replaced(bench: Bench, stage: Stage, code: int) -> None:
    bench.refuse(stage, code, "5.1.1 <anna@customer.test>: no, bob@firm.test, there is no anna@customer.test.")
    mail = mail_of()
    outcome = await submit(bench, mail, Asked(bench, mail))
    assert isinstance(outcome, Refused)
    assert "@" not in outcome.reply.text
    assert "<recipient>: no, <recipient>, there is no <recipient>" in outcome.reply.text


@refusals(550)
async def test_a_refusal_in_any_octets_can_be_written_down(bench: Bench, stage: Stage, code: int) -> None:
    bench.refuse(stage, code, "5.7.1 Empf\udce4nger\x00 unbekannt \x07" + "x" * 900)
    mail = mail_of()
    outcome = await submit(bench, mail, Asked(bench, mail))
    assert isinstance(outcome, Refused)
    assert outcome.reply.text.isprintable()
    assert len(outcome.reply.text) <= 500


@refusals(550)
async def test_after_a_refusal_the_next_mail_goes(bench: Bench, stage: Stage, code: int) -> None:
    bench.refuse(stage, code, "5.7.1 not this one")
    mail = mail_of()
    await submit(bench, mail, Asked(bench, mail))
    bench.relent()
    other = mail_of(request_of(to="otto@customer.test", subject="another"))
    assert isinstance(await submit(bench, other, Asked(bench, other)), Accepted)
    assert bench.arrived() == [Arrived(other.envelope_from, other.recipient, other.raw)]


@EVERY_PROVIDER
async def test_an_oversize_mail_is_refused_as_the_messages_own_fault_and_the_next_one_goes(bench: Bench) -> None:
    bench.refuse(bench.refusals[-1], bench.statuses.get(550, 550), "5.3.4 Message size exceeds fixed limit")
    mail = dataclasses.replace(mail_of(), raw=BIG)
    outcome = await submit(bench, mail, Asked(bench, mail))
    assert isinstance(outcome, Refused)
    meant = verdict(outcome.reply)
    assert (meant.fault, meant.action) == ("message", "fail")
    assert bench.arrived() == []
    bench.relent()
    other = mail_of(request_of(to="otto@customer.test"))
    assert isinstance(await submit(bench, other, Asked(bench, other)), Accepted)


@EVERY_PROVIDER
@pytest.mark.parametrize("recipient", ["jürgen@customer.test", "用户@customer.test"])
async def test_a_local_part_that_needs_smtputf8_ends_clearly_before_the_claim(bench: Bench, recipient: str) -> None:
    mail = dataclasses.replace(mail_of(), recipient=recipient)
    claim = Asked(bench, mail)
    outcome = await submit(bench, mail, claim)
    assert isinstance(outcome, NotSent)
    assert "SMTPUTF8" in outcome.what
    assert recipient not in outcome.what
    assert (claim.times, bench.arrived()) == (0, [])


@EVERY_PROVIDER
async def test_when_the_claim_says_no_nothing_arrives(bench: Bench) -> None:
    mail = mail_of()
    outcome = await submit(bench, mail, Asked(bench, mail, answer=False))
    assert isinstance(outcome, NotSent)
    assert outcome.stage == "claim"
    assert bench.steps_after_claim() == []
    other = mail_of(request_of(to="otto@customer.test"))
    assert isinstance(await submit(bench, other, Asked(bench, other)), Accepted)
    assert bench.arrived() == [Arrived(other.envelope_from, other.recipient, other.raw)]


@EVERY_PROVIDER
async def test_when_the_claim_cannot_be_asked_nothing_arrives(bench: Bench) -> None:
    mail = mail_of()
    with pytest.raises(ClaimBroke):
        await submit(bench, mail, Asked(bench, mail, answer=ClaimBroke()))
    other = mail_of(request_of(to="otto@customer.test"))
    assert isinstance(await submit(bench, other, Asked(bench, other)), Accepted)
    assert bench.arrived() == [Arrived(other.envelope_from, other.recipient, other.raw)]


@EVERY_PROVIDER
async def test_a_submit_cancelled_within_the_claim_sends_nothing(bench: Bench) -> None:
    mail = mail_of()
    stands = asyncio.Event()

    async def never() -> bool:
        stands.set()
        await asyncio.Event().wait()
        return True

    submitting = asyncio.ensure_future(bench.adapter.submit(bench.call, mail, never))
    await asyncio.wait_for(stands.wait(), 10)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    other = mail_of(request_of(to="otto@customer.test"))
    assert isinstance(await submit(bench, other, Asked(bench, other)), Accepted)
    assert bench.arrived() == [Arrived(other.envelope_from, other.recipient, other.raw)]


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────


@troubles(after_claim=False)
async def test_trouble_before_the_claim_is_not_sent(bench: Bench, trouble: Trouble) -> None:
    bench.trouble(trouble)
    mail = dataclasses.replace(mail_of(), raw=BIG) if trouble.big_mail else mail_of()
    claim = Asked(bench, mail)
    outcome = await submit(bench, mail, claim)
    assert isinstance(outcome, NotSent)
    assert outcome.stage == trouble.stage
    assert claim.times == 0
    assert bench.arrived() == []


@EVERY_PROVIDER
@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
async def test_a_connection_that_breaks_within_the_claim_never_counts_as_accepted(bench: Bench, seen: bool) -> None:
    mail = mail_of()

    async def vanish() -> None:
        bench.vanish()
        for _turn_of_the_loop in range(20 if seen else 0):  # unseen, the last word is written into the break
            await asyncio.sleep(0)

    outcome = await submit(bench, mail, Asked(bench, mail, then=vanish))
    if isinstance(outcome, Accepted):
        assert len(bench.arrived()) == 1  # a provider without connections
    else:
        assert isinstance(outcome, NotSent | Unknown)
        assert bench.arrived() == []


@troubles(after_claim=True)
async def test_trouble_after_the_claim_is_unknown(bench: Bench, trouble: Trouble) -> None:
    bench.trouble(trouble)
    mail = mail_of()
    claim = Asked(bench, mail)
    outcome = await submit(bench, mail, claim)
    assert isinstance(outcome, Unknown)
    assert outcome.what
    assert claim.times == 1


@troubles(after_claim=True)
async def test_after_trouble_the_next_mail_does_not_inherit_it(bench: Bench, trouble: Trouble) -> None:
    bench.trouble(trouble)
    mail = mail_of()
    await submit(bench, mail, Asked(bench, mail))
    bench.relent()
    other = mail_of(request_of(to="otto@customer.test", subject="another"))
    assert isinstance(await submit(bench, other, Asked(bench, other)), Accepted)
    assert bench.arrived()[-1] == Arrived(other.envelope_from, other.recipient, other.raw)


@EVERY_PROVIDER
async def test_closing_twice_is_no_trouble(bench: Bench) -> None:
    mail = mail_of()
    await submit(bench, mail, Asked(bench, mail))
    await bench.adapter.close()
    await bench.adapter.close()


# ── the words of a reply ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "enhanced", "said"),
    [
        ("5.1.1 no\n5.1.1 such user", "5.1.1", "no 5.1.1 such user"),
        ("5.7.515 Access denied", "5.7.515", "Access denied"),
        ("no enhanced code 5.1.1", "", "no enhanced code 5.1.1"),
        ("", "", ""),
        ("2.0.0\tOk", "2.0.0", "Ok"),
        ("rfc822;a.b+c@d-e.test (a@b.test)", "", "rfc822;<recipient> (<recipient>)"),
    ],
)
def test_a_reply_is_one_line_with_its_enhanced_code_apart(text: str, enhanced: str, said: str) -> None:
    reply = reply_of("smtp", "rcpt", 550, text)
    assert (reply.enhanced, reply.text) == (enhanced, said)


def test_what_went_wrong_is_one_printable_line_without_addresses() -> None:
    assert without_addresses("lost\r\n<anna@customer.test>\udcff\x00") == "lost <recipient>??"
