"""The message is RFC 5322 whatever upstream asks for: read back with the standard library, nothing is added or lost."""

import re
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.message import OWN_HEADERS, HeaderInvalid, check_headers, envelope_recipient, envelope_sender, identity
from schemas.requests import SendRequest
from schemas.sending import Sender
from streams.delivery.identity import normalise
from tests.adapters.samples import DATE, SENDER, TOKEN, raw_of, request_of

OURS = ["from", "to", "subject", "date", "message-id", "list-unsubscribe", "list-unsubscribe-post"]
BODY = ["content-type", "content-transfer-encoding", "mime-version"]
ENCODED_INJECTION = "=?utf-8?q?hi=0D=0ABcc=3A_evil=40x=2Etest=0D=0A=0D=0Abody?="
TWO_ADDRESSES = "Doe, John <evil@x.test>, " * 7

ANY_TEXT = st.text(max_size=150) | st.text('ab ,<>@"\\=?\r\n\tä\u2028:;()', max_size=150)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True).filter(lambda n: n.lower() not in OWN_HEADERS)


def parsed(raw: bytes) -> EmailMessage:
    """Return the message as a reader sees it."""
    message = message_from_bytes(raw, policy=SMTP)
    assert isinstance(message, EmailMessage)
    return message


def text_of(raw: bytes, kind: str = "plain") -> str:
    """Return the plain or html body."""
    part = parsed(raw).get_body((kind,))
    assert isinstance(part, EmailMessage)
    return str(part.get_content()).replace("\r\n", "\n")


def header_names(raw: bytes) -> list[str]:
    """Return the names that stand at the start of the header lines, read without any library."""
    head = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return [line.partition(b":")[0].decode().lower() for line in head if line[:1] not in b" \t"]


def assert_fit_for_the_wire(raw: bytes) -> None:
    """CRLF only, 7-bit, no line over 998 octets, no blank continuation."""
    assert raw.isascii()
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert b"\n" not in raw.replace(b"\r\n", b"")
    lines = raw.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert not any(line and not line.strip() for line in raw.partition(b"\r\n\r\n")[0].split(b"\r\n"))


def attempt(request: SendRequest) -> bytes | None:
    """Return the message, None when it is refused as the contract allows."""
    try:
        return raw_of(request)
    except HeaderInvalid:
        return None


# ── nothing can be injected ──────────────────────────────────────────────────────────────────────


@given(subject=ANY_TEXT)
@example(ENCODED_INJECTION)
@example("a" * 900)
@example("ä" * 900)
@example("x" + " " * 300 + "y")
def test_no_subject_adds_a_header_line(subject: str) -> None:
    raw = attempt(request_of(subject=subject))
    if raw is None:
        return
    assert header_names(raw) == OURS + BODY
    assert_fit_for_the_wire(raw)
    assert parsed(raw)["Subject"] == subject.replace("\t", " ").strip() or "=?" in subject or not subject.isascii()


@given(to_name=ANY_TEXT, from_name=ANY_TEXT)
@example(ENCODED_INJECTION, ENCODED_INJECTION)
@example(TWO_ADDRESSES, TWO_ADDRESSES)
@example("a" * 200, "ä, <x@y.test>" * 15)
@example('"', "\\")
def test_no_display_name_adds_an_address_or_a_header_line(to_name: str, from_name: str) -> None:
    raw = attempt(request_of(to_name=to_name, from_name=from_name))
    if raw is None:
        return
    assert header_names(raw) == OURS + BODY
    assert_fit_for_the_wire(raw)
    message = parsed(raw)
    assert [a.addr_spec for a in message["To"].addresses] == ["anna@customer.test"]
    assert [a.addr_spec for a in message["From"].addresses] == ["bob@firm.test"]


@given(address=ANY_TEXT | st.builds(lambda a, b: f"{a}@{b}.test", ANY_TEXT, ANY_TEXT))
@example("a\r\nBcc: evil@x.test\r\n@customer.test")
@example("anna@customer.test\r\nBcc: evil@x.test")
@example("=?utf-8?q?hi=0D=0ABcc=3A?=@customer.test")
def test_no_address_adds_a_header_line(address: str) -> None:
    raw = attempt(request_of(to=address))
    if raw is not None:
        assert header_names(raw) == OURS + BODY
        assert_fit_for_the_wire(raw)


@given(
    local=st.from_regex(
        r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,12}(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,12}){0,3}", fullmatch=True
    )
)
@example("o'neil")
@example("=?x?q?a?=")
def test_every_admitted_address_is_the_one_in_the_header(local: str) -> None:
    address = normalise(f"{local}@customer.test")
    raw = raw_of(request_of(to=address, to_name="Anna"))
    assert f"To: Anna <{address}>\r\n".encode() in raw.replace(b"\r\n ", b" ")


@given(headers=st.dictionaries(NAMES, ANY_TEXT, max_size=3))
@example({"X-A": ENCODED_INJECTION})
@example({"Reply-To": ENCODED_INJECTION + " <a@b.test>"})
@example({"X-Long": "a" * 900})
@example({"X-Empty": ""})
def test_no_header_value_adds_a_header_line(headers: dict[str, str]) -> None:
    raw = attempt(request_of(headers=headers))
    if raw is None:
        return
    assert header_names(raw) == OURS + [name.lower() for name in headers] + BODY
    assert_fit_for_the_wire(raw)


@given(name=st.text(max_size=30))
@example("X-A: b\r\nBcc")
@example("X-A\n")
@example("")
@example("X A")
def test_a_header_name_is_a_token_that_is_not_ours_or_refused(name: str) -> None:
    raw = attempt(request_of(headers={name: "v"}))
    if raw is not None:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name)
        assert header_names(raw) == [*OURS, name.lower(), *BODY]


@pytest.mark.parametrize("name", sorted(OWN_HEADERS | {"BCC", "Message-ID"}))
def test_a_request_cannot_set_a_header_of_ours(name: str) -> None:
    with pytest.raises(HeaderInvalid, match="set by mailfleet"):
        raw_of(request_of(headers={name: "v"}))


@pytest.mark.parametrize("mark", ["\r", "\n", "\r\n", "\0", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x07"])
def test_what_any_reader_takes_for_a_line_break_is_refused_when_it_is_asked_for(mark: str) -> None:
    with pytest.raises(HeaderInvalid, match="subject"):
        check_headers(f"a{mark}b", (), {})
    with pytest.raises(HeaderInvalid, match="display name"):
        check_headers("s", (f"a{mark}b",), {})
    with pytest.raises(HeaderInvalid, match="header X-A"):
        check_headers("s", (), {"X-A": f"a{mark}b"})


def test_too_long_a_subject_name_or_header_is_refused() -> None:
    for subject, name, value in (("s" * 901, "", ""), ("s", "n" * 201, ""), ("s", "", "v" * 901)):
        with pytest.raises(HeaderInvalid, match="longer than"):
            check_headers(subject, (name,), {"X-A": value})


def test_a_header_named_twice_is_refused() -> None:
    with pytest.raises(HeaderInvalid, match="twice"):
        check_headers("s", (), {"Reply-To": "a@b.test", "reply-to": "c@d.test"})


def test_an_empty_subject_is_refused() -> None:
    with pytest.raises(HeaderInvalid, match="subject is empty"):
        check_headers(" \t", (), {})


def test_a_line_break_in_the_fleet_file_is_refused_too() -> None:
    broken = msgspec.structs.replace(SENDER, unsubscribe_url="https://u.test/\r\nBcc: evil@x.test")
    with pytest.raises(HeaderInvalid, match="List-Unsubscribe"):
        raw_of(request_of(), broken)


@given(text=st.text(max_size=400), html=st.text(max_size=400))
@example("." * 3 + "\n.\n..\n.", ".\r\nMAIL FROM:<x@y.test>\r\n")
@example("a" * 3000, "ä" * 3000)
@example("From here\n", "\r")
def test_no_body_leaves_its_place(text: str, html: str) -> None:
    raw = raw_of(request_of(text=text, html=html))
    assert_fit_for_the_wire(raw)
    names = header_names(raw)
    assert sorted(names) == sorted(OURS + (["content-type", "mime-version"] if html else BODY))


# ── what is said arrives ─────────────────────────────────────────────────────────────────────────


@given(text=st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=300))
@example("Grüße aus München 🌊\n" + "ß" * 2000)
def test_the_text_is_read_back_as_it_was_written(text: str) -> None:
    assert text_of(raw_of(request_of(text=text))).rstrip("\n") == text.rstrip("\n")


@given(subject=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"]), max_size=200))
@example("Grüße  aus =?utf-8?q?x?= Köln — 25 % off")
@example("日本語" * 60)
def test_the_subject_is_read_back_as_it_was_written(subject: str) -> None:
    raw = attempt(request_of(subject=subject))
    if raw is not None:
        assert str(parsed(raw)["Subject"]) == subject.strip()


@pytest.mark.parametrize(
    "name",
    [
        "Anna",
        "Anna O'Neil",
        "Doe, John",
        "Dr. Anna Müller",
        'Anna "Ann" B.',
        "A\\B",
        "山田太郎" * 10,
        "a@b.test",
        "=?x?=",
    ],
)
def test_a_display_name_is_read_back_as_it_was_written(name: str) -> None:
    said = message_from_bytes(raw_of(request_of(to_name=name)))["To"].replace("\r\n", "")
    phrase, address = parseaddr(said)  # headerregistry of CPython 3.11 keeps the space between two encoded words
    assert str(make_header(decode_header(phrase))) == name
    assert address == "anna@customer.test"


def test_encoded_words_are_never_longer_than_75_octets() -> None:
    raw = raw_of(request_of(subject="Überraschung für alle " * 20, to_name="Ä" * 100))
    assert max(len(word) for word in re.findall(rb"=\?[^ ]+\?=", raw)) <= 75


def test_long_message_ids_and_addresses_of_upstream_stay_whole() -> None:
    outlook = "<AM0PR04MB6433B4D3B7C8E8D5B3A2F0C1D2E3F@AM0PR04MB6433.eurprd04.prod.outlook.com>"
    raw = raw_of(request_of(headers={"In-Reply-To": outlook, "References": f"<first@firm.test> {outlook}"}))
    unfolded = raw.replace(b"\r\n ", b" ")
    assert f"In-Reply-To: {outlook}\r\n".encode() in unfolded
    assert f"References: <first@firm.test> {outlook}\r\n".encode() in unfolded


def test_a_reply_to_with_an_umlaut_keeps_its_address() -> None:
    message = parsed(raw_of(request_of(headers={"Reply-To": "Jörg Müller <jm@firm.test>"})))
    assert [(a.display_name, a.addr_spec) for a in message["Reply-To"].addresses] == [("Jörg Müller", "jm@firm.test")]


# ── what mailfleet fills in ──────────────────────────────────────────────────────────────────────


def test_the_message_says_who_when_and_to_whom() -> None:
    message = parsed(raw_of(request_of(to_name="Anna")))
    assert message["From"] == "Bob <bob@firm.test>"
    assert message["To"] == "Anna <anna@customer.test>"
    assert message["Date"].datetime == DATE
    assert message["MIME-Version"] == "1.0"


def test_the_message_id_is_the_same_for_every_attempt() -> None:
    first, later = (raw_of(request_of(subject=s)) for s in ("Hello", "Hello again"))
    assert parsed(first)["Message-ID"] == parsed(later)["Message-ID"] == f"<{TOKEN}@firm.test>"


def test_the_same_attempt_is_built_to_the_same_bytes() -> None:
    assert raw_of(request_of()) == raw_of(request_of())


@pytest.mark.parametrize(
    "prefix", ["https://u.firm.test/", "https://unsubscribe.a-long-name.example/clients/acme/spring/u/"]
)
def test_the_unsubscribe_header_is_one_whole_url(prefix: str) -> None:
    raw = raw_of(request_of(), msgspec.structs.replace(SENDER, unsubscribe_url=prefix))
    assert f"List-Unsubscribe: <{prefix}{TOKEN}>\r\n".encode() in raw.replace(b":\r\n ", b": ")
    assert parsed(raw)["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_without_an_unsubscribe_address_there_is_no_unsubscribe_header() -> None:
    raw = raw_of(request_of(), msgspec.structs.replace(SENDER, unsubscribe_url=""))
    assert not any(name.startswith("list-unsubscribe") for name in header_names(raw))


def test_unsubscribe_url_and_postal_address_stand_in_both_bodies() -> None:
    raw = raw_of(request_of(html="<p>{{unsubscribe_url}} {{postal_address}}</p>"))
    for kind in ("plain", "html"):
        said = text_of(raw, kind)
        assert f"https://unsubscribe.firm.test/a/{TOKEN}" in said
        assert "Firm Ltd, 1 Road, 12345 Town" in said
        assert "{{" not in said


def test_the_return_path_carries_the_token_where_the_bounce_domain_is_ours() -> None:
    ours = Sender(SENDER.mailbox, bounce_domain="bounce.firm.test")
    assert envelope_sender(ours, TOKEN) == f"b+{TOKEN}@bounce.firm.test"
    assert len(envelope_sender(ours, TOKEN).partition("@")[0]) <= 64
    assert envelope_sender(SENDER, TOKEN) == "bob@firm.test"


def test_an_international_domain_leaves_in_ascii() -> None:
    assert envelope_recipient(" Anna@München.example ") == "Anna@xn--mnchen-3ya.example"
    message = parsed(raw_of(request_of(to="anna@münchen.example")))
    assert [a.addr_spec for a in message["To"].addresses] == ["anna@xn--mnchen-3ya.example"]
    assert identity(TOKEN, "bob@münchen.example").message_id == f"<{TOKEN}@xn--mnchen-3ya.example>"


def test_the_unsubscribe_header_names_a_mailto_beside_the_url() -> None:
    sender = msgspec.structs.replace(SENDER, unsubscribe_mailto="u@bounces.firm.test")
    message = parsed(raw_of(request_of(), sender))
    assert message["List-Unsubscribe"] == (
        f"<{SENDER.unsubscribe_url}{TOKEN}>, <mailto:u+{TOKEN}@bounces.firm.test?subject=unsubscribe>"
    )
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_a_mailto_alone_is_no_one_click() -> None:
    sender = msgspec.structs.replace(SENDER, unsubscribe_url="", unsubscribe_mailto="u@bounces.firm.test")
    message = parsed(raw_of(request_of(), sender))
    assert message["List-Unsubscribe"] == f"<mailto:u+{TOKEN}@bounces.firm.test?subject=unsubscribe>"
    assert message["List-Unsubscribe-Post"] is None
