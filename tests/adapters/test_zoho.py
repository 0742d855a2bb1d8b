"""Zoho's Sent folder on a real Dovecot: a hit is evidence, a miss and every trouble are none, no secret gets out."""

import asyncio
import contextlib
import io
import logging
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from imapclient import IMAPClient

from adapters.interface import RouteUnfit, Sought
from adapters.mail import zoho
from adapters.mail.zoho import ZohoAdapter, imap_host
from adapters.message import identity
from adapters.secrets import Secrets
from ops.embedded.postfix import EmbeddedDovecot
from schemas.ids import RouteId
from schemas.sending import Accepted, RouteCall
from tests.adapters.benches import ZohoBench, until
from tests.adapters.claims import Asked, submit
from tests.adapters.conftest import PATIENCE_S, running
from tests.adapters.samples import TOKEN, mail_of, raw_of, request_of

AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
USER = "zoe@firm.test"
PASSWORD = 'p"ss \\word 1'
USERS = {
    USER: PASSWORD,
    "uwe@firm.test": "Grüße",
    "carl@firm.test": ZohoBench.password,  # the same as at the SMTP server
    ZohoBench.user: "another than at the SMTP server",
}
SOUGHT = Sought(USER, TOKEN, identity(TOKEN, USER).message_id, AT)


@pytest.fixture(scope="session")
def imap(privileged: None, run_folder: Path) -> Iterator[EmbeddedDovecot]:
    """The run's IMAP server."""
    server = EmbeddedDovecot(run_folder / "imap", USERS)
    server.start()
    yield server
    server.stop()


@dataclass
class Box:
    """Zoe's mailbox, and the adapter that looks into it."""

    server: EmbeddedDovecot
    adapter: ZohoAdapter
    call: RouteCall
    folder: Path
    out: io.StringIO

    def logged(self) -> str:
        """Return all that was logged."""
        return self.out.getvalue()

    @contextlib.contextmanager
    def client(self) -> Iterator[IMAPClient]:
        """Yield a client that is logged in."""
        with logged_in(self.server, USER, PASSWORD) as client:
            yield client

    def keep(self, raw: bytes, folder: str = "Sent", at: datetime = AT) -> None:
        """Keep a copy, as Zoho does with what it took."""
        with self.client() as client:
            keep(client, raw, folder, at)

    def route(self, **options: str) -> RouteCall:
        """Return the route with these options changed."""
        return msgspec.structs.replace(self.call, options={**self.call.options, **options})


@contextlib.contextmanager
def logged_in(server: EmbeddedDovecot, user: str, password: str) -> Iterator[IMAPClient]:
    """Yield a client."""
    context = ssl.create_default_context(cafile=str(server.certificate))
    with IMAPClient("127.0.0.1", server.port, ssl_context=context) as client:
        client.plain_login(user, password)
        yield client


def keep(client: IMAPClient, raw: bytes, folder: str = "Sent", at: datetime = AT) -> None:
    """Put a message into a folder, as one that came there at that time."""
    if not client.folder_exists(folder):
        client.create_folder(folder)
    client.append(folder, raw, msg_time=at)


@pytest_asyncio.fixture
async def box(imap: EmbeddedDovecot, tmp_path: Path) -> AsyncIterator[Box]:
    """Zoe's mailbox, emptied; no secret of it may stand in any log line."""
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "ca.pem").write_bytes(imap.certificate.read_bytes())
    call = RouteCall(
        RouteId("z"),
        "zoho",
        host="smtp.zoho.test",
        port=587,
        username=USER,
        secret_ref="file:password",
        ca_file_ref="file:ca.pem",
        options={"imap_host": "127.0.0.1", "imap_port": str(imap.port)},
    )
    out = io.StringIO()
    made = Box(imap, ZohoAdapter(Secrets(tmp_path)), call, tmp_path, out)
    with made.client() as client:
        for _, _, name in client.list_folders():
            if name != "INBOX":
                client.delete_folder(name)
    handler, root = logging.StreamHandler(out), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield made
    root.removeHandler(handler)
    root.setLevel(level)
    assert PASSWORD not in out.getvalue()
    assert 'p\\"ss' not in out.getvalue()  # as LOGIN quotes it


# ── the record ───────────────────────────────────────────────────────────────────────────────────


async def test_a_copy_of_an_earlier_attempt_says_nothing_of_this_one(box: Box) -> None:
    box.keep(raw_of(request_of()), at=AT - timedelta(minutes=10))
    assert await box.adapter.find(box.call, SOUGHT) is None
    box.keep(raw_of(request_of()), at=AT - timedelta(minutes=1))  # a clock that is a little behind
    found = await box.adapter.find(box.call, SOUGHT)
    assert isinstance(found, Accepted)
    assert found.reply.text == "found in the Sent folder (UID 2)"


async def test_a_copy_in_the_sent_folder_is_accepted(box: Box) -> None:
    box.keep(raw_of(request_of()))
    found = await box.adapter.find(box.call, SOUGHT)
    assert isinstance(found, Accepted)
    assert (found.reply.provider, found.reply.stage, found.reply.code) == ("zoho", "dot", 250)
    assert found.reply.text == "found in the Sent folder (UID 1)"


async def test_a_sent_folder_without_it_proves_nothing(box: Box) -> None:
    box.keep(raw_of(request_of(), token="b" + TOKEN[1:]))
    assert await box.adapter.find(box.call, SOUGHT) is None


async def test_a_copy_in_another_folder_is_no_evidence(box: Box) -> None:
    box.keep(raw_of(request_of()), folder="Drafts")
    box.keep(raw_of(request_of(), token="b" + TOKEN[1:]))
    assert await box.adapter.find(box.call, SOUGHT) is None


async def test_a_reply_that_only_refers_to_it_is_no_evidence(box: Box) -> None:
    reply = b"Message-ID: <x@firm.test>\r\nIn-Reply-To: %s\r\nReferences: %s\r\n\r\nhi\r\n"
    box.keep(reply % ((SOUGHT.message_id.encode(),) * 2))
    assert await box.adapter.find(box.call, SOUGHT) is None


async def test_a_sent_folder_by_another_name_is_found_by_the_option(box: Box) -> None:
    box.keep(raw_of(request_of()), folder="Gesendete Objekte & Mehr")
    assert await box.adapter.find(box.call, SOUGHT) is None
    named = box.route(sent_folder="Gesendete Objekte & Mehr")
    assert isinstance(await box.adapter.find(named, SOUGHT), Accepted)


async def test_looking_changes_nothing(box: Box) -> None:
    box.keep(raw_of(request_of()))
    await box.adapter.find(box.call, SOUGHT)
    with box.client() as client:
        client.select_folder("Sent")
        assert client.search("UNSEEN") == [1]


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_wrong_password_proves_nothing(box: Box) -> None:
    box.keep(raw_of(request_of()))
    (box.folder / "password").write_text("an old one")
    assert await box.adapter.find(box.call, SOUGHT) is None


async def test_a_password_of_other_letters_is_taken(box: Box) -> None:
    user = "uwe@firm.test"
    with logged_in(box.server, user, USERS[user]) as client:
        keep(client, raw_of(request_of()))
    (box.folder / "password").write_text(USERS[user])
    assert isinstance(await box.adapter.find(msgspec.structs.replace(box.call, username=user), SOUGHT), Accepted)


async def test_an_untrusted_certificate_gets_no_password(box: Box) -> None:
    box.keep(raw_of(request_of()))
    stranger = msgspec.structs.replace(box.call, ca_file_ref="")
    log = box.server.log
    before = len(log.read_text())
    assert await box.adapter.find(stranger, SOUGHT) is None
    assert await until(lambda: "alert unknown ca" in log.read_text()[before:])
    assert "auth attempts" not in log.read_text()[before:].replace("no auth attempts", "")


async def test_nobody_listening_a_missing_secret_and_an_odd_port_prove_nothing(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert await box.adapter.find(box.route(imap_port=str(port)), SOUGHT) is None
    assert await box.adapter.find(box.route(imap_port="imaps"), SOUGHT) is None
    assert await box.adapter.find(msgspec.structs.replace(box.call, secret_ref="file:gone"), SOUGHT) is None
    assert await box.adapter.find(msgspec.structs.replace(box.call, secret_ref=""), SOUGHT) is None


async def test_a_server_that_says_nothing_is_not_waited_for_without_end(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoho, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert await box.adapter.find(box.route(imap_port=str(port)), SOUGHT) is None


async def test_a_server_that_repeats_the_login_does_not_get_it_into_log_or_sentence(box: Box) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK at your service\r\n")
        while line := await reader.readline():
            tag, _, said = line.partition(b" ")
            if said.startswith(b"CAPABILITY"):
                writer.write(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK done\r\n")
            else:
                writer.write(tag + b" NO I do not understand " + said)
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(box.server.certificate, box.server.folder / "receiver.key")
    (box.folder / "password").write_text("correct horse")
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as parrot:
        route = box.route(imap_port=str(parrot.sockets[0].getsockname()[1]))
        assert await box.adapter.find(route, SOUGHT) is None
    (warning,) = [line for line in box.logged().splitlines() if "cannot be searched" in line]
    assert "I do not understand LOGIN" in warning
    assert "correct horse" not in warning
    assert USER not in warning


@pytest.mark.parametrize(
    ("host", "imap"),
    [
        ("smtp.zoho.com", "imap.zoho.com"),
        ("smtp.zoho.eu", "imap.zoho.eu"),
        ("smtppro.zoho.com.au", "imappro.zoho.com.au"),
        ("smtp.zohocloud.ca", "imap.zohocloud.ca"),
    ],
)
def test_the_records_stand_in_the_region_of_the_smtp_host(host: str, imap: str) -> None:
    assert imap_host(RouteCall(RouteId("z"), "zoho", host=host)) == imap


async def test_a_host_that_is_not_zohos_needs_the_option(box: Box) -> None:
    call = msgspec.structs.replace(box.call, host="mx.firm.test", options={})
    assert await box.adapter.find(call, SOUGHT) is None


# ── submission and check ─────────────────────────────────────────────────────────────────────────


class CarlsBench(ZohoBench):
    """A mailbox whose SMTP and IMAP passwords are one."""

    user = "carl@firm.test"


@contextlib.asynccontextmanager
async def with_imap(bench: ZohoBench, imap: EmbeddedDovecot, folder: Path) -> AsyncIterator[None]:
    """Run a bench whose route knows the IMAP server as well."""
    for name in ("receiver-ca.pem", "receiver.key"):  # both servers have one certificate
        shutil.copyfile(imap.folder / name, folder / name)
    async with running(bench, folder, PATIENCE_S):
        options = {"imap_host": "127.0.0.1", "imap_port": str(imap.port)}
        bench.call = msgspec.structs.replace(bench.call, options=options)
        yield


@pytest_asyncio.fixture(params=["starttls", "implicit"])
async def whole(request: pytest.FixtureRequest, imap: EmbeddedDovecot, tmp_path: Path) -> AsyncIterator[ZohoBench]:
    """A scripted SMTP server on the terms of port 587, then of 465, with the IMAP server beside it."""
    bench = CarlsBench(request.param)
    async with with_imap(bench, imap, tmp_path):
        yield bench


async def test_mail_goes_on_the_terms_of_both_ports(whole: ZohoBench) -> None:
    mail = mail_of()
    assert isinstance(await submit(whole, mail, Asked(whole, mail)), Accepted)


async def test_the_check_logs_in_at_both_servers(whole: ZohoBench, imap: EmbeddedDovecot) -> None:
    with logged_in(imap, whole.user, whole.password) as client:
        keep(client, raw_of(request_of()))
    said = await whole.adapter.check(whole.call)
    assert "takes the login" in said
    assert "shows the Sent folder" in said
    assert whole.arrived() == []


async def test_the_check_says_when_smtp_takes_the_login_and_imap_does_not(
    imap: EmbeddedDovecot, tmp_path: Path
) -> None:
    bench = ZohoBench()
    async with with_imap(bench, imap, tmp_path):
        with pytest.raises(RouteUnfit) as unfit:
            await bench.adapter.check(bench.call)
    said = str(unfit.value)
    assert "AUTHENTICATIONFAILED" in said
    assert "enable IMAP" in said
    assert bench.password not in said


async def test_the_check_says_when_smtp_refuses(whole: ZohoBench) -> None:
    whole.refuse("auth", 535, "Authentication Failed")
    with pytest.raises(RouteUnfit, match="535 Authentication Failed"):
        await whole.adapter.check(whole.call)
