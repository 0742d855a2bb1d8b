"""Our DKIM signatures: dkimpy and opendkim accept them, and no header of one-click can be changed or added."""

import re
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from adapters.dkim_sign import CannotSign, Signer, signed
from adapters.secrets import SecretMissing, Secrets
from schemas.ids import RouteId
from schemas.sending import RouteCall
from tests.adapters.samples import raw_of, request_of

AT = datetime.now(UTC)
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
OPEN = serialization.NoEncryption()
KEY = rsa.generate_private_key(65537, 2048)
PRIVATE = KEY.private_bytes(PEM, PKCS8, OPEN).decode()
RECORD = b"v=DKIM1; k=rsa; p=" + b"".join(
    KEY.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).splitlines()[1:-1]
)
REQUEST = request_of(
    subject="Grüße 🌊 an alle, die diese lange Betreffzeile lesen, und an alle anderen auch",
    to_name="Änne Müller, Dr.",
    text="Zeile  mit   Leerraum \n\n.\nFrom hier\n\n\n",
    html="<b>ß</b>\n\n",
    headers={"Reply-To": "ben@firm.test", "Feedback-ID": "a:b:c:firm"},
)


def verifies(raw: bytes) -> bool:
    """Return what dkimpy says."""

    def record(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"s1._domainkey.firm.test."
        return RECORD

    return bool(dkim.verify(raw, dnsfunc=record))


def made(raw: bytes | None = None) -> bytes:
    """Return a signed mail."""
    return signed(raw if raw is not None else raw_of(REQUEST), "firm.test", "s1", PRIVATE, AT)


def test_a_signed_mail_verifies_and_is_otherwise_the_same() -> None:
    raw = raw_of(REQUEST)
    whole = made(raw)
    assert verifies(whole)
    assert whole.endswith(raw)
    assert whole.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=firm.test; s=s1;\r\n\t")
    assert max(len(line) for line in whole.removesuffix(raw).split(b"\r\n")) <= 78


@pytest.mark.parametrize(
    "raw",
    [
        b"From: a@firm.test\r\n\r\n",
        b"From: a@firm.test\r\nTo:\tb@c.test  \r\nSubject:  many   blanks\t\r\n\t and folds\r\n \t here\r\n\r\nx",
        b"From: a@firm.test\r\nReferences: <a@b>\r\nReferences: <c@d>\r\n\r\n \r\n\r\nx \t y\r\n\r\n",
    ],
    ids=["no body", "blanks and folds", "a header twice"],
)
def test_odd_mails_verify(raw: bytes) -> None:
    assert verifies(made(raw))


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (b"unsubscribe.firm.test/a/", b"unsubscribe.evil.test/a/"),
        (b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", b""),
        (b"\r\nSubject:", b"\r\nList-Unsubscribe: <https://evil.test/>\r\nSubject:"),
        (b"\r\nSubject:", b"\r\nList-Unsubscribe-Post: x\r\nSubject:"),
        (b"\r\nSubject:", b"\r\nFrom: evil@evil.test\r\nSubject:"),
        (b"Message-ID: <", b"Message-ID: <x"),
        (b"Leerraum", b"leerraum"),
    ],
)
def test_what_is_changed_or_added_on_the_way_does_not_verify(was: bytes, now: bytes) -> None:
    whole = made()
    assert was in whole
    assert not verifies(whole.replace(was, now, 1))


def test_a_header_that_is_not_signed_may_be_added_by_an_mta() -> None:
    assert verifies(b"Received: from mx.firm.test\r\n" + made())


def test_opendkim_accepts_it_too(needs: Callable[[str, str], None], tmp_path: Path) -> None:
    needs("opendkim", "opendkim")
    (tmp_path / "keys").write_bytes(b"s1._domainkey.firm.test " + RECORD + b"\n")
    config = tmp_path / "opendkim.conf"
    config.write_text(f"Mode v\nTestPublicKeys {tmp_path}/keys\nSocket local:{tmp_path}/x\n")
    for raw, said in ((made(), "succeeded"), (made().replace(b"One-Click", b"Two-Click"), "failed")):
        (tmp_path / "mail").write_bytes(raw)
        command = ["opendkim", "-x", str(config), "-t", str(tmp_path / "mail")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert re.search(rf"verification .*{said}", done.stdout)


def test_a_signature_takes_less_than_a_third_of_dkimpys() -> None:
    raw, key = raw_of(REQUEST), PRIVATE.encode()

    def least(sign: Callable[[], object]) -> float:
        took = []
        for _ in range(15):
            began = time.perf_counter()
            sign()
            took.append(time.perf_counter() - began)
        return min(took)

    made()  # the key is read
    ours = least(made)
    theirs = least(lambda: dkim.sign(raw, b"s1", b"firm.test", key))
    assert ours < theirs / 3


# ── what a route asks for ────────────────────────────────────────────────────────────────────────


def route(**options: str) -> RouteCall:
    """Return a route with these options."""
    return RouteCall(RouteId("own"), "smtp", options=options)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """A signer with one key."""
    (tmp_path / "firm.dkim").write_text(PRIVATE)
    (tmp_path / "firm.dkim").chmod(0o600)
    return Signer(Secrets(tmp_path))


def test_a_route_that_asks_for_it_is_signed_and_no_other(signer: Signer) -> None:
    raw = raw_of(REQUEST)
    asked = route(dkim_domain="firm.test", dkim_selector="s1", dkim_key_ref="file:firm.dkim")
    assert verifies(signer.sign(raw, asked))
    assert signer.sign(raw, route()) == raw


def test_a_route_that_asks_by_half_is_not_sent_unsigned(signer: Signer) -> None:
    with pytest.raises(CannotSign, match="dkim_selector and dkim_key_ref"):
        signer.sign(raw_of(REQUEST), route(dkim_domain="firm.test"))
    with pytest.raises(SecretMissing, match=r"gone\.dkim"):
        signer.sign(raw_of(REQUEST), route(dkim_domain="firm.test", dkim_selector="s1", dkim_key_ref="file:gone.dkim"))


@pytest.mark.parametrize(
    "key",
    [
        "no key at all",
        ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, OPEN).decode(),
        KEY.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"secret")).decode(),
        "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n",
    ],
    ids=["text", "elliptic", "locked", "broken"],
)
def test_a_key_that_cannot_sign_is_named_but_not_shown(key: str) -> None:
    with pytest.raises(CannotSign) as error:
        signed(raw_of(REQUEST), "firm.test", "s1", key, AT)
    assert "DKIM key" in str(error.value)
    assert key not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(("domain", "selector"), [("firm.test; x=1", "s1"), ("firm.test", "s1\r\nX: y"), ("", "s1")])
def test_no_tag_can_be_injected(domain: str, selector: str) -> None:
    with pytest.raises(CannotSign):
        signed(raw_of(REQUEST), domain, selector, PRIVATE, AT)
