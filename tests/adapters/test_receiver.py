"""The receiver of demo and tests is a real server: TLS, AUTH, refusals by name, a line for each copy it takes."""

import asyncio
import hashlib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from adapters.catalogue import PROVIDERS
from adapters.interface import Mail
from adapters.mail.smtp import SmtpAdapter
from adapters.secrets import Secrets
from ops.receiver import PASSWORD, controller, copies, make_certificate
from schemas.ids import RouteId
from schemas.sending import Accepted, NotSent, Outcome, Refused, RouteCall
from tests.adapters.benches import all_hung_up
from tests.adapters.samples import TOKEN, mail_of, request_of


@dataclass
class Receiver:
    """A running receiver and a route to it."""

    folder: Path
    call: RouteCall

    def client(self) -> smtplib.SMTP:
        """Return a plain client after EHLO."""
        client = smtplib.SMTP("127.0.0.1", self.call.port, timeout=10)
        client.ehlo()
        return client

    def context(self) -> ssl.SSLContext:
        """Return a context that trusts it."""
        return ssl.create_default_context(cafile=str(self.folder / "receiver-ca.pem"))

    def lines(self) -> list[dict[str, object]]:
        """Return what it wrote down."""
        path = self.folder / "received.jsonl"
        return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def submit(self, *mails: Mail, yes: bool = True) -> list[Outcome]:
        """Submit one after the other through the catalogue's SMTP adapter."""

        async def claim() -> bool:
            return yes

        async def go() -> list[Outcome]:
            adapter = PROVIDERS["smtp"](Secrets(self.folder))
            try:
                return [await adapter.submit(self.call, mail, claim) for mail in mails]
            finally:
                await adapter.close()
                await all_hung_up()

        return asyncio.run(go())


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    server = controller(tmp_path, port)
    server.start()
    yield Receiver(
        tmp_path,
        RouteCall(
            RouteId("r"),
            "smtp",
            host="127.0.0.1",
            port=port,
            username="bob@firm.test",
            secret_ref="file:password",
            ca_file_ref="file:receiver-ca.pem",
        ),
    )
    server.stop()


def to(local: str) -> Mail:
    """Return a mail to this local part."""
    return mail_of(request_of(to=f"{local}@customer.test", text=".\n..\nGrüße\n"))


def test_what_is_accepted_is_kept_byte_for_byte(receiver: Receiver) -> None:
    mail = to("anna")
    (outcome,) = receiver.submit(mail)
    assert isinstance(outcome, Accepted)
    (line,) = receiver.lines()
    assert line["sha256"] == hashlib.sha256(mail.raw).hexdigest()
    assert line["size"] == len(mail.raw)
    assert line["to"] == ["anna@customer.test"]
    assert line["from"] == mail.envelope_from
    assert outcome.provider_id == str(line["sha256"])[:12]


def test_copies_are_counted_by_message_id(receiver: Receiver) -> None:
    assert copies(receiver.folder) == {}
    other = mail_of(request_of(), token="z" * 39)
    receiver.submit(to("anna"), to("anna"), other)
    assert copies(receiver.folder) == {f"<{TOKEN}@firm.test>": 2, f"<{'z' * 39}@firm.test>": 1}


def test_some_are_unknown_there(receiver: Receiver) -> None:
    refused, accepted = receiver.submit(to("nouser7"), to("anna"))
    assert isinstance(refused, Refused)
    assert (refused.reply.stage, refused.reply.code, refused.reply.enhanced) == ("rcpt", 550, "5.1.1")
    assert refused.reply.text.startswith("<recipient>:")
    assert isinstance(accepted, Accepted)
    assert len(receiver.lines()) == 1


def test_some_are_greylisted_the_first_time(receiver: Receiver) -> None:
    first, second, other = receiver.submit(to("grey1"), to("grey1"), to("grey2"))
    assert isinstance(first, Refused)
    assert (first.reply.stage, first.reply.code, first.reply.enhanced) == ("rcpt", 451, "4.7.1")
    assert isinstance(second, Accepted)
    assert isinstance(other, Refused)


def test_without_a_claim_nothing_is_kept(receiver: Receiver) -> None:
    (outcome,) = receiver.submit(to("anna"), yes=False)
    assert isinstance(outcome, NotSent)
    assert receiver.lines() == []


def test_a_wrong_password_is_refused(receiver: Receiver) -> None:
    (receiver.folder / "password").write_text("wrong")
    (outcome,) = receiver.submit(to("anna"))
    assert isinstance(outcome, Refused)
    assert (outcome.reply.stage, outcome.reply.code) == ("auth", 535)
    assert "wrong" not in outcome.reply.text


def test_no_mail_is_taken_without_tls_and_none_without_a_login(receiver: Receiver) -> None:
    with receiver.client() as client:
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")
        code, said = client.mail("bob@firm.test")
        assert (code, b"STARTTLS" in said) == (530, True)
        client.starttls(context=receiver.context())
        client.ehlo()
        assert client.has_extn("auth")
        code, said = client.mail("bob@firm.test")
        assert (code, b"Authentication required" in said) == (530, True)


def test_its_certificate_is_made_once_and_its_key_is_its_owners(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    before = certificate.read_bytes()
    assert make_certificate(tmp_path) == (certificate, key)
    assert certificate.read_bytes() == before
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_connection_to_the_receiver_is_used_again(receiver: Receiver) -> None:
    async def go() -> None:
        adapter = SmtpAdapter(Secrets(receiver.folder))

        async def yes() -> bool:
            return True

        for _ in range(3):
            assert isinstance(await adapter.submit(receiver.call, to("anna"), yes), Accepted)
        assert [len(held) for held in adapter._idle.values()] == [1]
        await adapter.close()
        await all_hung_up()

    asyncio.run(go())
