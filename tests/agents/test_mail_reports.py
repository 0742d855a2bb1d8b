"""What a message becomes: facts under the right key, forged ones apart, nothing of it said twice or in clear."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import registry
from schemas.ids import ClientId, MailboxAddress, SendId
from schemas.reports import Letter, ReportForged, ReportSeen, ReportUncorrelated
from streams.agents.mail_reports import Found, Place, not_given, reports_in
from streams.delivery.identity import delivery_key, key_in, loose, recipient_of, token_of
from tests.adapters.dmarc_samples import google, mail, record, zipped

KEY = b"k" * 32
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ANNA = MailboxAddress("anna@firm.test")
RITA = recipient_of("rita@example.test", KEY)
TOKEN = token_of(RITA, ClientId("acme"), SendId("s1"), KEY)
FOREIGN = token_of(RITA, ClientId("acme"), SendId("s1"), b"another key that is not ours at all")
PLACE = Place(f"{ANNA}/INBOX/7/12", ANNA, ClientId("acme"), AT, "INBOX", 7, 12)
BOUNCES = Path(__file__).parent.parent / "data" / "bounces" / "messages"

DSN = """\
Return-Path: <>
From: MAILER-DAEMON@mx.example.test
To: {to}
Subject: Undelivered Mail Returned to Sender
Message-ID: <20260302@mx.example.test>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

I'm sorry.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.test

Final-Recipient: rfc822; {recipient}
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 <rita@example.test>: User unknown

--b
Content-Type: text/rfc822-headers

From: {original_from}
Message-ID: {message_id}
Subject: a confidential subject

--b--
"""


def dsn(
    to: str = ANNA, recipient: str = "rita@example.test", message_id: str = "<x@example.test>", frm: str = ANNA
) -> bytes:
    """Return a bounce."""
    return DSN.format(to=to, recipient=recipient, message_id=message_id, original_from=frm).encode()


def reply(answers: str = "", **headers: str) -> bytes:
    """Return a person's letter."""
    fields = {"From": "Rita <rita@example.test>", "To": ANNA, "Subject": "Re: secret", "Message-ID": "<r@example.test>"}
    fields |= {"In-Reply-To": answers} if answers else {}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return ("".join(f"{name}: {value}\n" for name, value in fields.items()) + "\nYes, call me on 555.\n").encode()


def one(raw: bytes, place: Place = PLACE) -> Found:
    """Return the only report in a message."""
    (found,) = reports_in(raw, place, KEY)
    return found


def seen(raw: bytes, place: Place = PLACE) -> ReportSeen:
    """Return the only report, which somebody can be given."""
    fact = one(raw, place).fact
    assert isinstance(fact, ReportSeen)
    return fact


# ── which message ────────────────────────────────────────────────────────────────────────────────


ELSEWHERE = Place(f"{ANNA}/INBOX/8/1", ANNA, ClientId("acme"), AT + timedelta(days=3), "INBOX", 8, 1)


@pytest.mark.parametrize("raw", [reply(f"<{TOKEN}@firm.test>"), reply(), dsn()])
def test_a_message_has_one_name_wherever_it_lies(raw: bytes) -> None:
    first, again = seen(raw), seen(raw, ELSEWHERE)
    assert first.letter_id == again.letter_id
    assert re.fullmatch(r"[0-9a-f]{32}/0", first.letter_id)
    assert first.event_id != again.event_id


def test_messages_of_one_id_but_other_dates_and_the_findings_of_one_message_have_other_names() -> None:
    dates = ("Mon, 2 Mar 2026 09:00:00 +0000", "Mon, 2 Mar 2026 09:00:01 +0000", "")
    assert len({seen(reply(Date=date)).letter_id for date in dates}) == 3
    assert seen(reply(Message_ID="<a@x.test>")).letter_id != seen(reply(Message_ID="<b@x.test>")).letter_id
    more = "\n\nFinal-Recipient: rfc822; ron@example.test\nAction: failed\nStatus: 5.1.1\n\n--b\nContent-Type: text/rfc"
    found = reports_in(dsn().replace(b"\n\n--b\nContent-Type: text/rfc", more.encode()), PLACE, KEY)
    facts = [report.fact for report in found]
    assert len({fact.letter_id for fact in facts if isinstance(fact, ReportSeen)}) == 2


@pytest.mark.parametrize("message_id", ["", "<>", "no brackets", f"<{TOKEN}@firm.test>", "<a b@x.test>"])
def test_a_message_without_an_id_of_its_own_is_named_by_its_place_alone(message_id: str) -> None:
    raw = reply(f"<{TOKEN}@firm.test>", Message_ID=message_id)
    assert seen(raw).letter_id == ""
    assert seen(raw).event_id == f"{ANNA}/INBOX/7/12/0"


def test_a_message_that_says_nothing_known_is_one_report_wherever_it_lies() -> None:
    raw = b"From: x@y.test\nMessage-ID: <m1@y.test>\n\nhi\n"
    first, again = one(raw).fact, one(raw, ELSEWHERE).fact
    assert isinstance(first, ReportUncorrelated)
    assert isinstance(again, ReportUncorrelated)
    assert first.event_id == again.event_id
    assert first.letter is not None
    assert (first.letter.uid, first.letter.message_id) == (12, "<m1@y.test>")


# ── who, and which send ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "raw",
    [
        dsn(to=f"b+{TOKEN}@bounces.firm.test"),
        dsn(to=f"b+{TOKEN.upper()}@b.test"),
        dsn(message_id=f"<{TOKEN}@firm.test>"),
    ],
    ids=["return path", "in capitals", "message id"],
)
def test_a_bounce_with_our_token_goes_to_the_sends_partition(raw: bytes) -> None:
    found, fact = one(raw), seen(raw)
    assert found.key == key_in(TOKEN) == delivery_key(RITA)
    assert (fact.kind, fact.token, fact.recipient, fact.action) == ("bounce", TOKEN, RITA, "failed")
    assert fact.reply is not None
    assert (fact.reply.code, fact.reply.enhanced, fact.reply.text) == (550, "5.1.1", "<recipient>: User unknown")
    assert (fact.event_id, fact.at, fact.client, fact.mailbox) == (f"{ANNA}/INBOX/7/12/0", AT, "acme", ANNA)


def test_a_bounce_without_a_token_goes_to_the_recipients_partition() -> None:
    found, fact = one(dsn(recipient="Rita+news@Example.test")), seen(dsn(recipient="Rita+news@Example.test"))
    assert fact.token == ""
    assert fact.recipient == recipient_of("rita+news@example.test", KEY)
    assert fact.recipient_loose == recipient_of(loose("rita+news@example.test"), KEY)
    assert found.key == delivery_key(fact.recipient) == delivery_key(fact.recipient_loose)


@pytest.mark.parametrize(
    "raw",
    [
        dsn(to=f"b+{FOREIGN}@bounces.firm.test"),
        reply(f"<{FOREIGN}@firm.test>"),
        reply(To=f"unsubscribe+{FOREIGN}@firm.test"),
    ],
    ids=["return path", "reply", "unsubscribe"],
)
def test_a_token_at_a_place_of_ours_without_our_mac_is_forged_and_nothing_else(raw: bytes) -> None:
    found = one(raw)
    assert found.fact == ReportForged("bounce_mail", f"{ANNA}/INBOX/7/12/0", AT, ANNA)
    assert found.key not in (key_in(TOKEN), delivery_key(RITA))


def test_a_word_like_a_token_that_others_gave_forges_nothing() -> None:
    fact = seen(reply("<abc@firm.test>", Cc=f"notes+{FOREIGN}@crm.test", References=f"<{FOREIGN}@crm.test>"))
    assert (fact.kind, fact.token, fact.recipient) == ("reply", "", RITA)


def test_our_token_is_found_behind_words_of_the_same_shape() -> None:
    fact = seen(reply(f"<{TOKEN}@firm.test>", References=f"<{FOREIGN}@crm.test>", Delivered_To="x" * 39))
    assert fact.token == TOKEN


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (dsn(recipient="nobody"), "bounce"),
        (b"From: news@shop.test\nSubject: Sale\n\nBuy\n", "unknown"),
        (b"", "unknown"),
        (b"\xff\xfe\x00" * 999, "unknown"),
    ],
)
def test_what_nobody_can_be_given_is_kept_for_a_person(raw: bytes, kind: str) -> None:
    found = one(raw)
    assert isinstance(found.fact, ReportUncorrelated)
    assert (found.fact.kind, found.fact.client, found.fact.mailbox) == (kind, "acme", ANNA)
    assert found.fact.letter is not None
    assert (found.fact.letter.folder, found.fact.letter.uid_validity, found.fact.letter.uid) == ("INBOX", 7, 12)


def test_strays_are_spread_over_the_partitions() -> None:
    keys = {not_given(Place(f"e/{n}", ANNA, ClientId("a"), AT)).key for n in range(50)}
    assert len(keys) == 50


# ── what it is ───────────────────────────────────────────────────────────────────────────────────


def test_a_reply_names_where_it_lies_and_nothing_of_what_it_says() -> None:
    fact = seen(reply(f"<{TOKEN}@firm.test>"))
    assert fact.letter == Letter(ANNA, "INBOX", 7, 12, "<r@example.test>")
    assert (fact.kind, fact.reply, fact.recipient) == ("reply", None, RITA)
    told = repr(registry.data_of(fact))
    assert "secret" not in told
    assert "555" not in told
    assert "rita@" not in told


def test_a_reply_to_a_mail_whose_message_id_the_provider_replaced_goes_by_its_sender() -> None:
    found = one(reply("<0102018f-abc-000000@eu-west-1.amazonses.com>"))
    assert found.key == delivery_key(RITA)


def test_a_letter_that_only_quotes_our_mail_is_a_reply_and_a_machines_is_not() -> None:
    quoting = f"From: {{}}\nTo: {ANNA}\nSubject: hello\n\n> https://u.firm.test/{TOKEN}\nfine\n"
    assert seen(quoting.format("rita@example.test").encode()).kind == "reply"
    assert isinstance(one(quoting.format("no-reply@example.test").encode()).fact, ReportUncorrelated)


def test_a_machines_answer_is_no_reply() -> None:
    fact = seen(reply(f"<{TOKEN}@firm.test>", Auto_Submitted="auto-replied"))
    assert fact.letter is not None
    assert (fact.kind, fact.letter.uid, fact.letter.message_id) == ("auto_reply", 12, "")


@pytest.mark.parametrize("local", ["u", "unsubscribe"])
@pytest.mark.parametrize("header", ["To", "Delivered_To"])
def test_a_mail_to_the_unsubscribe_address_with_our_token_unsubscribes(local: str, header: str) -> None:
    found = one(reply(**{header: f"<{local}+{TOKEN}@bounces.firm.test>"}))
    assert isinstance(found.fact, ReportSeen)
    assert (found.fact.kind, found.fact.source, found.fact.token) == ("unsubscribe", "bounce_mail", TOKEN)
    assert found.key == key_in(TOKEN)


def test_a_bounce_that_returns_our_unsubscribe_header_unsubscribes_nobody() -> None:
    raw = dsn(message_id=f"<{TOKEN}@firm.test>\nList-Unsubscribe: <mailto:u+{TOKEN}@bounces.firm.test>")
    assert seen(raw).kind == "bounce"


@pytest.mark.parametrize("file", sorted(BOUNCES.glob("*.eml")), ids=lambda path: path.stem)
def test_no_address_of_a_real_report_comes_into_a_fact(file: Path) -> None:
    found = reports_in(file.read_bytes(), Place("e", MailboxAddress(""), ClientId(""), AT), KEY)
    assert found
    assert len({report.fact.event_id for report in found}) == len(found)
    for report in found:
        data = registry.data_of(report.fact)
        data.pop("letter", None)
        assert "@" not in repr(data)


@given(st.binary(max_size=2_000))
def test_no_message_whatever_ends_the_reading(raw: bytes) -> None:
    assert reports_in(raw, PLACE, KEY)


def test_a_dmarc_report_that_comes_among_other_mail_is_no_bounce() -> None:
    (found,) = reports_in(mail(zipped(google(record()))), PLACE, KEY)
    assert isinstance(found.fact, ReportUncorrelated)
    assert (found.fact.kind, found.fact.why) == ("unknown", "a DMARC report: `mailfleet read-dmarc` counts it")
