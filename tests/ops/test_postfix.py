"""The MTA that mailfleet ships: Postfix knows every line of it, it relays for nobody without a login over TLS,
takes bounces in, signs what leaves, and leaves nothing unsigned."""

import os
import shutil
import signal
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ops.embedded.postfix import SHIPPED, EmbeddedPostfix
from ops.embedded.process import port_for, start, stop, wait_until
from tests.adapters.benches import until
from tests.adapters.samples import mail_of, raw_of, request_of
from tests.conftest import Mta, answers, running_mta

TOKEN = "abcdefghijklmnopqrstuvwxyz234567abcdefg"


@contextmanager
def client(mta: Mta, service: str = "submission", *, login: bool = True) -> Iterator[smtplib.SMTP]:
    """Yield a client after STARTTLS, logged in or not."""
    made = smtplib.SMTP("127.0.0.1", mta.postfix.ports[service], timeout=30)
    try:
        made.starttls(context=ssl.create_default_context(cafile=str(mta.postfix.certificate)))
        if login:
            made.login(mta.user, mta.password)
        yield made
    finally:
        made.close()


def logged(postfix: EmbeddedPostfix, *words: str) -> Callable[[], bool]:
    """Return whether a line of the log has all these words."""
    return lambda: any(all(word in line for word in words) for line in postfix.lines())


# ── the files ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def files(tmp_path: Path, needs: Callable[[str, str], None]) -> Path:
    """The shipped files in a folder of their own."""
    needs("postconf", "postfix")
    for name in ("main.cf", "master.cf", "receivers"):
        shutil.copy2(SHIPPED / name, tmp_path / name)
    return tmp_path


def postconf(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run postconf on a folder of files."""
    return subprocess.run(["postconf", "-c", str(folder), *arguments], capture_output=True, text=True, check=True)


def test_postfix_knows_every_line(files: Path) -> None:
    for arguments in (["-n"], ["-M"], ["-P"]):
        assert postconf(files, *arguments).stderr == ""


def test_this_check_sees_a_misspelled_line(files: Path) -> None:
    with (files / "main.cf").open("a") as file:
        file.write("smtp_tls_securty_level = encrypt\n")
    os.utime(files / "main.cf", (0, 0))
    assert "unused parameter: smtp_tls_securty_level" in postconf(files, "-n").stderr


def test_the_check_of_a_whole_instance_finds_nothing(mta: Mta) -> None:
    assert mta.postfix.run("postfix", "check") == ""


def test_a_queued_mail_ends_before_no_bounce_means_delivered(files: Path) -> None:
    said = postconf(files, "-h", "maximal_queue_lifetime", "bounce_queue_lifetime").stdout.split()
    assert said == ["1d", "1d"]  # the delivery stage waits 48 hours


def test_the_answer_to_the_final_dot_is_waited_for_ten_minutes(files: Path) -> None:
    assert postconf(files, "-h", "smtp_data_done_timeout").stdout.strip() == "600s"


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("google.com", "google"),
        ("outlook.com", "microsoft"),
        ("yahoodns.net", "yahoo"),
        ("icloud.com", "apple"),
        ("mimecast.com", "mimecast"),
        ("orange.fr", "orange"),
    ],
)
def test_a_receiver_that_names_its_limits_has_a_service_of_its_own(files: Path, host: str, service: str) -> None:
    command = ["postmap", "-c", str(files), "-q", host, f"texthash:{files}/receivers"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == f"FILTER {service}:"
    (line,) = postconf(files, "-M", f"{service}/unix").stdout.splitlines()
    assert int(line.split()[6]) <= 10


def test_dovecot_knows_every_line(needs: Callable[[str, str], None], tmp_path: Path) -> None:
    needs("doveconf", "dovecot-imapd")
    config = tmp_path / "dovecot.conf"
    config.write_text((SHIPPED / "dovecot.conf").read_text())
    done = subprocess.run(["doveconf", "-n", "-c", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


# ── who may do what ──────────────────────────────────────────────────────────────────────────────


def test_without_a_login_nothing_is_relayed(mta: Mta) -> None:
    for service in ("submission", "smtp"):
        with client(mta, service, login=False) as stranger, pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            stranger.sendmail("x@firm.test", ["anna@takes.test"], b"A: b\r\n\r\nc\r\n")
        (said,) = refused.value.recipients.values()
        assert said[0] == 554


def test_a_login_is_offered_over_tls_only_and_never_to_strangers(mta: Mta) -> None:
    with smtplib.SMTP("127.0.0.1", mta.postfix.ports["submission"], timeout=10) as plain:
        plain.ehlo()
        assert not plain.has_extn("auth")
        assert plain.docmd("MAIL FROM:<a@firm.test>")[0] == 530
    with client(mta, login=False) as safe:
        safe.ehlo()
        assert safe.has_extn("auth")
        assert safe.has_extn("dsn")
    with client(mta, "smtp", login=False) as stranger:
        stranger.ehlo()
        assert not stranger.has_extn("auth")


def test_a_mail_has_one_recipient(mta: Mta) -> None:
    with client(mta) as good:
        refused = good.sendmail("b@firm.test", ["anna@takes.test", "otto@takes.test"], b"A: b\r\n\r\nc\r\n")
    assert refused["otto@takes.test"][0] == 452


def test_implicit_tls_takes_the_same_login(mta: Mta) -> None:
    context = ssl.create_default_context(cafile=str(mta.postfix.certificate))
    with smtplib.SMTP_SSL("127.0.0.1", mta.postfix.ports["submissions"], timeout=10, context=context) as safe:
        assert safe.login(mta.user, mta.password)[0] == 235


async def test_a_bounce_from_a_stranger_is_taken_in_and_other_mail_is_not(mta: Mta) -> None:
    box = mta.postfix.folder / "mail" / "Maildir" / "new"
    before = len(list(box.glob("*")))
    with client(mta, "smtp", login=False) as stranger:
        stranger.sendmail("", [f"b+{TOKEN}@bounces.agency.test"], b"Subject: undelivered\r\n\r\nno\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            stranger.sendmail("", ["anna@bounces.agency.test"], b"Subject: spam\r\n\r\nno\r\n")
    (said,) = refused.value.recipients.values()
    assert said[0] == 550
    assert await until(lambda: len(list(box.glob("*"))) == before + 1)
    newest = max(box.glob("*"), key=lambda path: path.stat().st_mtime_ns)
    assert f"Delivered-To: b+{TOKEN}@bounces.agency.test" in newest.read_text()


async def test_a_receiver_is_known_by_its_mx_host(run_folder: Path, sinks: dict[str, int]) -> None:
    """A domain without MX is its own host (RFC 5321 5.1): .test has none anywhere (RFC 6761)."""
    known = f"check_recipient_mx_access inline:{{ {{ yahoo.test=FILTER yahoo:[127.0.0.1]:{sinks['takes.test']} }} }}"
    settings = {"submission_recipient_restrictions": f"{known}, permit_sasl_authenticated, reject"}
    with running_mta(run_folder / "by-mx", sinks, settings) as mta:
        with client(mta) as good:
            good.sendmail("b@firm.test", ["anna@yahoo.test"], b"A: b\r\n\r\nc\r\n")
        assert await until(logged(mta.postfix, "postfix/yahoo/smtp", "<anna@yahoo.test>", "status=sent"))


# ── DKIM ─────────────────────────────────────────────────────────────────────────────────────────


class Signer:
    """opendkim as ops/postfix/opendkim.conf has it, for firm.test, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = port_for(folder, None, "opendkim")
        key = rsa.generate_private_key(65537, 2048)
        pem, encryption = serialization.Encoding.PEM, serialization.NoEncryption()
        private = folder / "key.pem"
        private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, encryption))
        private.chmod(0o600)
        public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.record = b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])
        (folder / "key.table").write_text(f"firm firm.test:s1:{private}\n")
        (folder / "signing.table").write_text("*@firm.test firm\n")
        ours = {
            "Socket": f"inet:{self.port}@127.0.0.1",
            "UserID": "root",
            "PidFile": str(folder / "pid"),
            "Syslog": "no",
            "KeyTable": f"refile:{folder}/key.table",
            "SigningTable": f"refile:{folder}/signing.table",
            "RequireSafeKeys": "no",  # the folders of a test belong to whoever runs it
        }
        lines = [line for line in (SHIPPED / "opendkim.conf").read_text().splitlines() if line.split()[:1]]
        kept = [line for line in lines if line.split()[0] not in ours]
        config = folder / "opendkim.conf"
        config.write_text("\n".join([*kept, *(f"{name} {value}" for name, value in ours.items()), ""]))
        self.process = start(["opendkim", "-f", "-x", config], folder / "log")
        wait_until(lambda: answers(self.port), self.process, "opendkim", folder / "log", 10)

    def stop(self) -> None:
        """End it; asked kindly, it takes five seconds."""
        stop(self.process, signal.SIGKILL)


@pytest.fixture
def signer(privileged: None, needs: Callable[[str, str], None], tmp_path: Path) -> Iterator[Signer]:
    """A running signer."""
    needs("opendkim", "opendkim")
    made = Signer(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def signing(signer: Signer, sinks: dict[str, int], run_folder: Path) -> Iterator[Mta]:
    """An MTA of its own with the signer behind it."""
    folder = run_folder / f"signing-{signer.port}"
    with running_mta(folder, sinks, {"dkim_milter": f"inet:127.0.0.1:{signer.port}"}) as made:
        yield made


async def test_what_leaves_is_signed_with_both_headers_of_one_click(signing: Mta, signer: Signer) -> None:
    mail = mail_of(request_of(to=f"b+{TOKEN}@bounces.agency.test", subject="Grüße"))
    with client(signing) as good:
        good.sendmail("bob@firm.test", [mail.recipient], mail.raw)
    box = signing.postfix.folder / "mail" / "Maildir" / "new"
    assert await until(lambda: any(b"DKIM-Signature" in path.read_bytes() for path in box.glob("*")))
    (arrived,) = [raw for path in box.glob("*") if b"DKIM-Signature" in (raw := path.read_bytes())]
    signed = {name.strip().lower() for name in _tag(arrived, "h").split(":")}
    assert {"from", "to", "subject", "date", "message-id", "list-unsubscribe", "list-unsubscribe-post"} <= signed

    def record(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"s1._domainkey.firm.test."
        return signer.record

    crlf = arrived.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert dkim.verify(crlf, dnsfunc=record)
    assert not dkim.verify(crlf.replace(b"unsubscribe.firm.test/a/", b"unsubscribe.evil.test/a/"), dnsfunc=record)
    assert not dkim.verify(crlf.replace(b"List-Unsubscribe-Post:", b"X-Was:"), dnsfunc=record)


def _tag(raw: bytes, name: str) -> str:
    header = "".join(str(message_from_bytes(raw)["DKIM-Signature"]).split())
    return dict(part.partition("=")[::2] for part in header.split(";") if part)[name]


def test_without_its_signer_the_mta_takes_nothing(signing: Mta, signer: Signer) -> None:
    signer.stop()
    with pytest.raises(smtplib.SMTPResponseException) as refused, client(signing) as good:
        good.sendmail("bob@firm.test", ["anna@takes.test"], raw_of(request_of()))
    assert 400 <= refused.value.smtp_code < 500
