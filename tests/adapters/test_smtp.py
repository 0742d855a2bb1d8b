"""SMTP beyond the contract: TLS, connections used again, replies of every shape, servers that misbehave at random."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.interface import Mail
from adapters.mail import smtp_session
from schemas.sending import Accepted, NotSent, Outcome, Refused, RouteCall, Unknown
from tests.adapters.benches import STEPS, SmtpBench, until
from tests.adapters.claims import Asked, submit
from tests.adapters.conftest import PATIENCE_S, running
from tests.adapters.samples import TOKEN, mail_of, request_of
from tests.adapters.scripted_smtp import Behaviour, Cut, Raw, Say, Silence, Step


async def send(bench: SmtpBench, mail: Mail | None = None) -> Outcome:
    """Submit one mail with a claim that says yes."""
    mail = mail or mail_of()
    return await submit(bench, mail, Asked(bench, mail))


@pytest_asyncio.fixture(params=["starttls", "implicit", "none"])
async def any_tls(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SmtpBench]:
    """The SMTP bench in each way of protecting the connection."""
    made = SmtpBench(request.param)
    async with running(made, tmp_path, PATIENCE_S):
        yield made


# ── TLS and AUTH ─────────────────────────────────────────────────────────────────────────────────


async def test_a_mail_goes_over_starttls_implicit_tls_and_plainly(any_tls: SmtpBench) -> None:
    assert isinstance(await send(any_tls), Accepted)
    assert isinstance(await send(any_tls), Accepted)
    assert any_tls.server.per_connection() == [2]


async def test_an_untrusted_certificate_is_not_sent_and_no_password_leaves(tmp_path: Path) -> None:
    for mode in ("starttls", "implicit"):
        bench = SmtpBench(mode)
        folder = tmp_path / mode
        folder.mkdir()
        async with running(bench, folder, PATIENCE_S):
            stranger = RouteCall(
                bench.call.route,
                "smtp",
                host="127.0.0.1",
                port=bench.call.port,
                tls=mode,
                username=bench.user,
                secret_ref="file:smtp-password",
            )
            outcome = await bench.adapter.submit(stranger, mail_of(), Asked(bench, mail_of()))
            assert isinstance(outcome, NotSent)
            assert outcome.stage in {"connect", "tls"}
            assert "AUTH" not in bench.server.events


async def test_a_server_without_starttls_never_sees_the_password(tmp_path: Path) -> None:
    bench = SmtpBench("starttls")
    async with running(bench, tmp_path, PATIENCE_S):
        bench.server.script["ehlo"] = Say("250 mx.scripted.test\nAUTH PLAIN")
        outcome = await send(bench)
        assert isinstance(outcome, NotSent)
        assert outcome.stage == "tls"
        assert "AUTH" not in bench.server.events


async def test_words_put_before_the_handshake_are_not_taken_for_the_servers(smtp_bench: SmtpBench) -> None:
    smtp_bench.server.script["starttls"] = Raw(b"220 go ahead\r\n250-evil.test\r\n250 AUTH PLAIN\r\n")
    assert isinstance(await send(smtp_bench), Accepted)


async def test_a_missing_secret_is_not_sent_at_auth(smtp_bench: SmtpBench, tmp_path: Path) -> None:
    (tmp_path / "smtp-password").unlink()
    outcome = await send(smtp_bench)
    assert isinstance(outcome, NotSent)
    assert outcome.stage == "auth"
    assert "smtp-password" in outcome.what


async def test_a_secret_that_is_no_text_is_not_sent_at_auth(smtp_bench: SmtpBench, tmp_path: Path) -> None:
    (tmp_path / "smtp-password").write_bytes(b"\xff\xfe\xfd")
    outcome = await send(smtp_bench)
    assert isinstance(outcome, NotSent)
    assert outcome.stage == "auth"
    assert "0xff" not in outcome.what


async def test_a_missing_or_broken_certificate_file_is_not_sent(smtp_bench: SmtpBench, tmp_path: Path) -> None:
    for content in (None, b"no certificate"):
        (tmp_path / "receiver-ca.pem").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "receiver-ca.pem").write_bytes(content)
        outcome = await send(smtp_bench)
        assert isinstance(outcome, NotSent)
        if content is None:
            assert outcome.what.startswith("certificate file:receiver-ca.pem is not there: put it into")


async def test_a_changed_password_is_used_for_the_next_connection(smtp_bench: SmtpBench, tmp_path: Path) -> None:
    (tmp_path / "smtp-password").write_text("an old one")
    outcome = await send(smtp_bench)
    assert isinstance(outcome, Refused)
    assert (outcome.reply.stage, outcome.reply.code) == ("auth", 535)
    (tmp_path / "smtp-password").write_text(smtp_bench.password)
    assert isinstance(await send(smtp_bench), Accepted)


async def test_an_access_token_logs_in_by_xoauth2_and_a_renewed_one_from_the_next_connection_on(
    smtp_bench: SmtpBench, tmp_path: Path
) -> None:
    smtp_bench.call = msgspec.structs.replace(smtp_bench.call, options={"auth": "xoauth2"})
    (tmp_path / "smtp-password").write_text("ya29.of-an-hour-ago")
    outcome = await send(smtp_bench)
    assert isinstance(outcome, Refused)
    assert (outcome.reply.stage, outcome.reply.code) == ("auth", 535)
    words = f"user={smtp_bench.user}\1auth=Bearer ya29.of-an-hour-ago\1\1"
    spoken = base64.b64encode(words.encode()).decode()
    smtp_bench.server.script["auth"] = Say("535 5.7.8 what is " + spoken.rstrip("="))
    refused = await send(smtp_bench)
    assert isinstance(refused, Refused)
    assert refused.reply.text == "what is <secret>"
    smtp_bench.relent()
    (tmp_path / "smtp-password").write_text(smtp_bench.password)
    assert isinstance(await send(smtp_bench), Accepted)


async def test_a_server_that_repeats_the_login_does_not_bring_the_secret_into_the_outcome(
    smtp_bench: SmtpBench,
) -> None:
    for code in (435, 535):
        for secret in smtp_bench.secret_words:
            smtp_bench.server.script["auth"] = Say(f"{code} 5.5.2 bad command: AUTH PLAIN {secret}")
            outcome = await send(smtp_bench)
            assert isinstance(outcome, Refused)
            assert outcome.reply.text.startswith("bad command")


async def test_a_bad_challenge_is_an_outcome(smtp_bench: SmtpBench) -> None:
    smtp_bench.server.script["ehlo_tls"] = Say("250 mx.scripted.test\nAUTH CRAM-MD5")
    smtp_bench.server.script["auth"] = Raw(b"334 \xff\xfe!\r\n")
    assert isinstance(await send(smtp_bench), NotSent | Refused)


async def test_a_server_that_offers_dsn_is_asked_for_reports_that_name_the_attempt(smtp_bench: SmtpBench) -> None:
    smtp_bench.server.script["ehlo_tls"] = Say("250 mx.scripted.test\nDSN\nAUTH PLAIN")
    mail = mail_of(attempt=3)
    assert isinstance(await submit(smtp_bench, mail, Asked(smtp_bench, mail)), Accepted)
    asked = [line for line in smtp_bench.server.commands if line.startswith(("MAIL", "RCPT"))]
    assert asked == [
        f"MAIL FROM:<{mail.envelope_from}> RET=HDRS ENVID={TOKEN}.3",
        f"RCPT TO:<{mail.recipient}> NOTIFY=FAILURE,DELAY",
    ]


async def test_a_server_that_does_not_offer_dsn_is_asked_for_nothing(smtp_bench: SmtpBench) -> None:
    assert isinstance(await send(smtp_bench), Accepted)
    assert not any("RET=" in line or "NOTIFY=" in line for line in smtp_bench.server.commands)


# ── connections ──────────────────────────────────────────────────────────────────────────────────


async def test_a_connection_is_used_again(smtp_bench: SmtpBench) -> None:
    for _ in range(4):
        assert isinstance(await send(smtp_bench), Accepted)
    assert smtp_bench.server.per_connection() == [4]
    assert smtp_bench.server.events.count("AUTH") == 1


async def test_a_connection_carries_a_bounded_number_of_mails(
    smtp_bench: SmtpBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_session, "MAILS_PER_CONNECTION", 3)
    for _ in range(7):
        assert isinstance(await send(smtp_bench), Accepted)
    assert smtp_bench.server.per_connection() == [3, 3, 1]


async def test_a_connection_is_not_used_again_after_its_idle_time(
    smtp_bench: SmtpBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_session, "IDLE_S", 0.0)
    assert isinstance(await send(smtp_bench), Accepted)
    assert isinstance(await send(smtp_bench), Accepted)
    assert smtp_bench.server.per_connection() == [1, 1]
    assert await until(lambda: 1 in smtp_bench.server.ended)


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
@pytest.mark.parametrize("last_words", [b"", b"421 4.4.2 idle too long\r\n"], ids=["reset", "421"])
async def test_a_connection_that_died_while_idle_is_replaced(
    smtp_bench: SmtpBench, seen: bool, last_words: bytes
) -> None:
    assert isinstance(await send(smtp_bench), Accepted)
    smtp_bench.server.hang_up(last_words)
    if seen:
        assert await until(lambda: 1 in smtp_bench.server.ended)
    assert isinstance(await send(smtp_bench), Accepted)
    assert smtp_bench.server.per_connection() == [1, 1]


@pytest.mark.parametrize(
    "how",
    [Cut(), Raw(b"\xff\xff\r\n"), Say("421 4.7.0 too many mails on this connection")],
    ids=["cut", "garbage", "421"],
)
async def test_a_used_connection_that_fails_at_its_next_mail_is_replaced(smtp_bench: SmtpBench, how: Behaviour) -> None:
    assert isinstance(await send(smtp_bench), Accepted)
    smtp_bench.server.script["mail", 1] = how
    assert isinstance(await send(smtp_bench), Accepted)
    assert smtp_bench.server.per_connection() == [1, 1]


async def test_a_used_connection_that_has_gone_silent_is_replaced(tmp_path: Path) -> None:
    bench = SmtpBench()
    async with running(bench, tmp_path, 0.6):
        assert isinstance(await send(bench), Accepted)
        bench.server.script["mail", 1] = Silence()
        assert isinstance(await send(bench), Accepted)
        assert bench.server.per_connection() == [1, 1]


@pytest.mark.parametrize("step", ["rcpt", "data", "dot"])
async def test_after_a_refused_mail_the_connection_carries_the_next_in_a_new_transaction(
    smtp_bench: SmtpBench, step: Step
) -> None:
    smtp_bench.server.script[step] = Say("550 5.1.1 no")
    assert isinstance(await send(smtp_bench), Refused)
    smtp_bench.server.script.clear()
    assert isinstance(await send(smtp_bench, mail_of(request_of(to="otto@customer.test"))), Accepted)
    assert smtp_bench.server.connections == 1
    assert smtp_bench.server.shared_transactions == 0
    assert [kept.recipients for kept in smtp_bench.server.kept] == [("otto@customer.test",)]


@pytest.mark.parametrize("how", [Cut(), Say("500 5.5.1 what?"), Raw(b"\xff\r\n")], ids=["cut", "refused", "garbage"])
async def test_a_connection_that_cannot_be_reset_is_given_up(smtp_bench: SmtpBench, how: Behaviour) -> None:
    smtp_bench.server.script["rcpt", 1] = Say("550 5.1.1 no")
    smtp_bench.server.script["rset"] = how
    assert isinstance(await send(smtp_bench), Refused)
    assert isinstance(await send(smtp_bench), Accepted)
    assert smtp_bench.server.connections == 2


async def test_closing_hangs_up_the_idle_connections(smtp_bench: SmtpBench) -> None:
    await send(smtp_bench)
    await smtp_bench.adapter.close()
    assert await until(lambda: smtp_bench.server.ended == {1})


@pytest.mark.parametrize("step", [*STEPS, "dot"])
async def test_a_cancelled_submit_hangs_up(smtp_bench: SmtpBench, step: Step) -> None:
    smtp_bench.server.script[step] = Silence()
    verb = {"banner": "", "handshake": "STARTTLS", "ehlo_tls": "EHLO", "dot": "dot"}.get(step, step.upper())
    mail = mail_of()
    submitting = asyncio.ensure_future(smtp_bench.adapter.submit(smtp_bench.call, mail, Asked(smtp_bench, mail)))
    reached = smtp_bench.server.events
    times = 2 if step == "ehlo_tls" else 1
    assert await until(lambda: smtp_bench.server.connections == 1 and (not verb or reached.count(verb) == times))
    submitting.cancel()
    if step == "banner":
        await asyncio.wait([submitting], timeout=1.0)
        submitting.cancel()  # Python 3.11's wait_for loses a cancel that meets the moment of the connection
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert await until(lambda: smtp_bench.server.ended == {1}, 3.0)


# ── replies ──────────────────────────────────────────────────────────────────────────────────────


async def test_replies_of_many_lines_are_read_whole(smtp_bench: SmtpBench) -> None:
    script = smtp_bench.server.script
    script["banner"] = Say("220 mx.scripted.test\nno spam here\nESMTP")
    script["mail"] = script["rcpt"] = Say("250 2.1.0 one\n2.1.0 two")
    script["data"] = Say("354 go\nahead")
    script["dot"] = Say("250 2.0.0 Ok\n2.0.0 queued as 4XyZ12")
    outcome = await send(smtp_bench)
    assert isinstance(outcome, Accepted)
    assert outcome.provider_id == "4XyZ12"
    script["rcpt"] = Say("550 5.1.1 The email account that you tried to reach\n5.1.1 does not exist")
    refused = await send(smtp_bench)
    assert isinstance(refused, Refused)
    assert refused.reply.enhanced == "5.1.1"
    assert refused.reply.text.endswith("does not exist")


async def test_slow_answers_are_waited_for(smtp_bench: SmtpBench) -> None:
    usual: dict[Step, str] = {
        "banner": "220 mx.scripted.test",
        "mail": "250 ok",
        "rcpt": "250 one\ntwo",
        "data": "354 go",
        "dot": "250 queued as 1A",
    }
    smtp_bench.server.script.update({step: Say(text, pause_s=0.004) for step, text in usual.items()})
    outcome = await send(smtp_bench)
    assert isinstance(outcome, Accepted)
    assert outcome.provider_id == "1A"


@pytest.mark.parametrize("step", ["mail", "data", "dot"])
async def test_a_mail_that_is_too_large_is_refused(smtp_bench: SmtpBench, step: Step) -> None:
    smtp_bench.server.script[step] = Say("552 5.3.4 Message size exceeds fixed limit")
    outcome = await send(smtp_bench)
    assert isinstance(outcome, Refused)
    assert (outcome.reply.code, outcome.reply.enhanced) == (552, "5.3.4")
    assert smtp_bench.server.kept == []


async def test_a_server_that_refuses_within_the_body_and_goes_is_not_sent(smtp_bench: SmtpBench) -> None:
    smtp_bench.server.script["body"] = Say("552 5.3.4 too large")
    smtp_bench.server.script["dot"] = Cut()
    outcome = await send(smtp_bench)
    assert isinstance(outcome, NotSent | Refused | Unknown)  # how much is read of it is a race; never accepted


@pytest.mark.parametrize(
    ("step", "octets"),
    [
        ("data", b"354 go\r\n250 2.0.0 Ok: queued\r\n"),
        ("data", b"354 go\r\n250-2.0.0 Ok"),
        ("rcpt", b"250 ok\r\n354 go\r\n"),
        ("mail", b"250 ok\r\n250 ok\r\n354 go\r\n"),
    ],
)
async def test_an_answer_that_was_not_asked_for_is_not_taken_for_the_last_one(
    smtp_bench: SmtpBench, step: Step, octets: bytes
) -> None:
    smtp_bench.server.script[step] = Raw(octets)
    smtp_bench.server.script["dot"] = Say("554 5.7.1 no")
    outcome = await send(smtp_bench)
    assert isinstance(outcome, NotSent)


async def test_an_answer_that_was_not_asked_for_does_not_reach_the_next_mail(smtp_bench: SmtpBench) -> None:
    smtp_bench.server.script["dot", 1] = Raw(b"250 2.0.0 Ok\r\n421 4.4.2 bye\r\n")
    assert isinstance(await send(smtp_bench), Accepted)
    assert isinstance(await send(smtp_bench), Accepted)
    assert smtp_bench.server.connections == 2


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("250 2.0.0 Ok: queued as 4XyZ12", "4XyZ12"),
        ("250 OK id=1rABcd-000123-4X", "1rABcd-000123-4X"),
        ("250 2.0.0 Message accepted: valid recipient", ""),
        ("250 ok", ""),
        ("251 2.1.5 user not local; will forward", ""),
    ],
)
async def test_the_servers_own_id_is_found_where_it_names_one(smtp_bench: SmtpBench, said: str, found: str) -> None:
    smtp_bench.server.script["dot"] = Say(said)
    outcome = await send(smtp_bench)
    assert isinstance(outcome, Accepted)
    assert outcome.provider_id == found


async def test_an_address_that_smtp_cannot_carry_is_an_outcome(smtp_bench: SmtpBench) -> None:
    for recipient in ("anna@münchen.example", "änna@customer.test", "an\tna@customer.test"):
        mail = Mail("bob@firm.test", recipient, b"A: b\r\n\r\nc\r\n")
        outcome = await smtp_bench.adapter.submit(smtp_bench.call, mail, Asked(smtp_bench, mail))
        assert isinstance(outcome, NotSent)
    assert smtp_bench.server.kept == []


@pytest.mark.parametrize("local", ["o'neil", "a+b", "a=b/c", "{x}|y", "#!$%&'*+/=?^_`{|}~-", "A.b"])
async def test_every_address_that_is_admitted_is_the_one_that_is_named(smtp_bench: SmtpBench, local: str) -> None:
    assert isinstance(await send(smtp_bench, mail_of(request_of(to=f"{local}@customer.test"))), Accepted)
    assert [kept.recipients for kept in smtp_bench.server.kept] == [(f"{local}@customer.test",)]


@pytest.mark.parametrize(
    "raw",
    [
        b"A: b\r\n\r\n.\r\n",
        b"A: b\r\n\r\n..\r\n.x\r\n",
        b"A: b\r\n\r\nend",
        b".\r\n",
        b"A: b\n\nx\r.\n.\ry\n",
        b"A: b\r\n\r\nx\n\r.",
        b"A: b\r\n\r\nx\r\r\n.\n",
        b"A: b\r\n\r\n\r\n",
    ],
)
async def test_dots_and_line_ends_cannot_end_the_body_early(smtp_bench: SmtpBench, raw: bytes) -> None:
    mail = Mail("bob@firm.test", "anna@customer.test", raw)
    outcome = await smtp_bench.adapter.submit(smtp_bench.call, mail, Asked(smtp_bench, mail))
    assert isinstance(outcome, Accepted)
    (kept,) = smtp_bench.server.kept
    whole = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert kept.raw == (whole if whole.endswith(b"\r\n") else whole + b"\r\n")


# ── servers that misbehave at random ─────────────────────────────────────────────────────────────

Script = dict[Step | tuple[Step, int], Behaviour]
STEPS_AT_RANDOM: tuple[Step, ...] = ("banner", "ehlo", "mail", "rcpt", "data", "dot", "rset")
ODD: tuple[Behaviour, ...] = (
    Cut(),
    Cut(politely=True),
    Silence(),
    Say("250 2.0.0 Ok"),
    Say("354 go"),
    Say("421 4.3.2 shutting down"),
    Say("451 4.7.1 later"),
    Say("550 5.7.1 never"),
    Say("334 "),
    Raw(b"\r\n"),
    Raw(b"\xff\xfe\r\n"),
    Raw(b"25\r\n"),
    Raw(b"250"),
    Raw(b"250-more\r\n"),
    Raw(b"250 ok\r\n250 ok\r\n"),
    Raw(b"354 go\r\n250 queued\r\n"),
    Raw(b"250 ok\r\n550 no\r\n"),
    Raw(b"x" * 40_000 + b"\r\n"),
)
PLACES = st.tuples(st.sampled_from(STEPS_AT_RANDOM), st.integers(1, 2))


async def _story(folder: Path, script: Script, yes: list[bool]) -> None:
    bench = SmtpBench("none")
    async with running(bench, folder, 0.1):
        bench.call = RouteCall(bench.call.route, "smtp", host="127.0.0.1", port=bench.call.port, tls="none")
        bench.server.script.update(script)
        for number, answer in enumerate(yes):
            asked: list[bool] = []

            async def claim(answer: bool = answer, asked: list[bool] = asked) -> bool:
                asked.append(answer)
                return answer

            mail = mail_of(request_of(to=f"p{number}@customer.test", subject=f"no {number}"))
            outcome = await bench.adapter.submit(bench.call, mail, claim)
            there = [kept for kept in bench.server.kept if kept.recipients == (mail.recipient,)]
            assert len(asked) <= 1
            assert len(there) <= 1
            assert all(kept.raw == mail.raw and kept.envelope_from == mail.envelope_from for kept in there)
            match outcome:
                case Accepted():
                    assert there
                    assert asked == [True]
                case Refused() | NotSent():
                    assert not there
                case Unknown():
                    assert asked == [True]
    assert bench.server.shared_transactions == 0


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.dictionaries(PLACES, st.sampled_from(ODD), max_size=4),
    yes=st.lists(st.sampled_from([True, True, True, False]), min_size=1, max_size=3),
)
def test_no_server_makes_an_outcome_say_what_is_not_so(tmp_path: Path, script: Script, yes: list[bool]) -> None:
    asyncio.run(_story(tmp_path, script, yes))
