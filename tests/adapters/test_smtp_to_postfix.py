"""The SMTP adapter against a real Postfix with Dovecot's logins: what it says on the wire is what we take it for."""

import dataclasses
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.interface import Mail, RouteUnfit
from adapters.mail.smtp import SmtpAdapter
from adapters.secrets import Secrets
from schemas.ids import RouteId
from schemas.sending import Accepted, NotSent, Outcome, Refused, RouteCall
from streams.delivery.verdict import verdict
from tests.adapters.benches import all_hung_up, until
from tests.adapters.samples import mail_of, request_of
from tests.conftest import Mta


@dataclass
class Way:
    """A route to the run's MTA, and the adapter."""

    mta: Mta
    adapter: SmtpAdapter
    call: RouteCall
    folder: Path

    async def send(self, mail: Mail, *, yes: bool = True) -> Outcome:
        """Submit one mail."""

        async def claim() -> bool:
            return yes

        return await self.adapter.submit(self.call, mail, claim)

    def queue_ids(self, message_id: str) -> list[str]:
        """Return the queue ids under which the MTA logged a Message-ID."""
        found = (re.search(rf"cleanup\[\d+\]: (\w+): message-id={message_id}", line) for line in self.log())
        return [match[1] for match in found if match]

    def log(self) -> list[str]:
        """Return the lines since this test began."""
        return list(self.mta.postfix.lines())[self.begin :]

    begin: int = 0


@pytest_asyncio.fixture(params=["starttls", "implicit"])
async def way(request: pytest.FixtureRequest, mta: Mta, tmp_path: Path) -> AsyncIterator[Way]:
    """A route with STARTTLS, then one with implicit TLS."""
    (tmp_path / "password").write_text(mta.password)
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "ca.pem").write_bytes(mta.postfix.certificate.read_bytes())
    adapter = SmtpAdapter(Secrets(tmp_path))
    call = RouteCall(
        RouteId("own"),
        "smtp",
        host="127.0.0.1",
        port=mta.postfix.ports["submission" if request.param == "starttls" else "submissions"],
        tls=request.param,
        username=mta.user,
        secret_ref="file:password",
        ca_file_ref="file:ca.pem",
    )
    yield Way(mta, adapter, call, tmp_path, begin=len(mta.postfix.lines()))
    await adapter.close()
    await all_hung_up()


def to(recipient: str, token: str) -> Mail:
    """Return a mail whose Message-ID no other test has."""
    return mail_of(request_of(to=recipient), token)


@pytest.fixture
def token() -> str:
    """A token of this test's own."""
    return next(TOKENS)


TOKENS = (f"{number:039d}" for number in range(10**6))


async def test_the_queue_id_of_the_250_is_the_one_in_the_log(way: Way, token: str) -> None:
    outcome = await way.send(to("anna@takes.test", token))
    assert isinstance(outcome, Accepted)
    assert (outcome.reply.code, outcome.reply.enhanced) == (250, "2.0.0")
    assert await until(lambda: way.queue_ids(f"<{token}@firm.test>") == [outcome.provider_id])
    assert await until(
        lambda: any(f"{outcome.provider_id}: to=" in line and "status=sent" in line for line in way.log())
    )


async def test_many_mails_go_over_one_connection_and_one_login(way: Way) -> None:
    tokens = [next(TOKENS) for _ in range(6)]
    outcomes = [await way.send(to(f"p{n}@takes.test", token)) for n, token in enumerate(tokens)]
    ids = [outcome.provider_id for outcome in outcomes if isinstance(outcome, Accepted)]
    assert len(set(ids)) == 6
    await way.adapter.close()
    assert await until(lambda: any("disconnect from" in line and "mail=6" in line for line in way.log()))
    (line,) = [line for line in way.log() if "disconnect from" in line and "mail=6" in line]
    assert " auth=1 " in line
    assert " data=6 " in line


async def test_a_recipient_that_does_not_exist_is_refused_at_rcpt_for_good(way: Way, token: str) -> None:
    outcome = await way.send(to("nobody@bounces.agency.test", token))
    assert isinstance(outcome, Refused)
    reply = outcome.reply
    assert (reply.stage, reply.code, reply.enhanced) == ("rcpt", 550, "5.1.1")
    assert reply.text == "<recipient>: Recipient address rejected: User unknown in virtual mailbox table"
    said = verdict(reply)
    assert (said.reply_class, said.fault, said.action) == ("hard", "recipient", "suppress")


async def test_a_recipient_that_has_to_wait_is_refused_at_rcpt_for_now(way: Way, token: str) -> None:
    outcome = await way.send(to("later@takes.test", token))
    assert isinstance(outcome, Refused)
    assert (outcome.reply.stage, outcome.reply.code, outcome.reply.enhanced) == ("rcpt", 450, "4.2.1")
    assert verdict(outcome.reply).fault != "message"
    assert isinstance(await way.send(to("anna@takes.test", next(TOKENS))), Accepted)


async def test_a_mail_over_the_size_limit_is_refused_and_the_next_goes(way: Way, token: str) -> None:
    small = to("anna@takes.test", token)
    big = dataclasses.replace(
        small, raw=small.raw + b"a line of seventy characters or so, again and again\r\n" * 45_000
    )
    assert len(big.raw) > 2_097_152
    outcome = await way.send(big)
    assert isinstance(outcome, Refused)
    assert (outcome.reply.code, outcome.reply.enhanced) == (552, "5.3.4")
    assert isinstance(await way.send(small), Accepted)


async def test_a_wrong_password_is_refused_at_auth(way: Way, token: str) -> None:
    (way.folder / "password").write_text("wrong")
    outcome = await way.send(to("anna@takes.test", token))
    assert isinstance(outcome, Refused)
    assert (outcome.reply.stage, outcome.reply.code, outcome.reply.enhanced) == ("auth", 535, "5.7.8")
    assert verdict(outcome.reply).fault == "mailbox"
    with pytest.raises(RouteUnfit, match="535"):
        await way.adapter.check(way.call)


async def test_a_claim_that_says_no_leaves_nothing_in_the_queue(way: Way, token: str) -> None:
    outcome = await way.send(to("anna@takes.test", token), yes=False)
    assert isinstance(outcome, NotSent)
    assert await until(lambda: any("lost connection after DATA" in line for line in way.log()))
    assert not any(line.endswith("queue active)") for line in way.log())


async def test_the_check_logs_in_and_sends_nothing(way: Way) -> None:
    assert "takes the login" in await way.adapter.check(way.call)
    assert not any("message-id=" in line for line in way.log())
