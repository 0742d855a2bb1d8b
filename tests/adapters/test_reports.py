"""Reports that come back by mail: what is read from them, what it means, that nothing breaks or blocks the reader."""

import re
import time
import tracemalloc
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from adapters.reports.parse import parse
from ops.bench_reports import TYPICAL, reports_rate
from ops.bounce_figures import CLASSES, measure
from ops.classified import Classified, parsed_and_understood
from ops.commands.classify import classify
from ops.fuzz_reports import SLOWEST_S, fuzz
from schemas.sending import Reply
from streams.delivery.verdict import PROVIDER_RULES, REPORT_RULES, Rule, meaning, verdict

REAL = Path(__file__).parent.parent / "data" / "bounces"
MESSAGES = sorted((REAL / "messages").iterdir())
TOKEN = "abcdefghijklmnopqrstuvwxyz234567abcdefg"


def letter(*headers: str, body: str = "") -> bytes:
    """Return a message of these header lines and this body."""
    return ("\r\n".join(headers) + "\r\n\r\n" + body.replace("\n", "\r\n")).encode()


def bounce(body: str, subject: str = "Undeliverable mail") -> bytes:
    """Return a bounce without a machine-readable part."""
    return letter("From: MAILER-DAEMON@mx.firm.test", "To: bob@firm.test", f"Subject: {subject}", body=body)


def dsn(fields: str, text: str = "Your message could not be delivered.", original: str = "") -> bytes:
    """Return a report of RFC 3464 with one recipient's fields."""
    return letter(
        "From: Mail Delivery System <MAILER-DAEMON@mx.firm.test>",
        "To: bob@firm.test",
        "Subject: Undelivered Mail Returned to Sender",
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"',
        body=f"--b\nContent-Type: text/plain\n\n{text}\n--b\nContent-Type: message/delivery-status\n\n"
        f"Reporting-MTA: dns; mx.firm.test\n\n{fields}\n\n--b\nContent-Type: message/rfc822\n\n{original}\n--b--\n",
    )


def one(raw: bytes) -> Classified:
    """Return what a message with one recipient means."""
    (found,) = parsed_and_understood(raw)
    return found


# ── real messages ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("part", ["all", "odd"])
def test_real_reports_are_understood_as_well_as_we_promise(part: str) -> None:
    figures = measure(REAL / "messages", REAL / "labels.jsonl", part)
    assert figures.recipients >= 160
    assert figures.good, figures


def test_every_reason_of_the_labels_has_a_place_in_the_mapping() -> None:
    reasons = {orjson.loads(line)["reason"] for line in (REAL / "labels.jsonl").read_bytes().splitlines()}
    assert reasons <= CLASSES.keys()


# ── formats that the folder does not have, as their programs write them ──────────────────────────


@pytest.mark.parametrize(
    ("body", "recipient", "reply_class", "reply"),
    [
        (
            "Your message:\n   From:    bob@firm.test\n   Subject: Hello\nCould not be delivered because of\n\n"
            "550 5.1.1 User unknown\n\nThe following recipients were affected: \n    anna@customer.test\n",
            "anna@customer.test",
            "hard",
            "550",
        ),
        (
            "Your message\n\n  Subject: Hello\n\nwas not delivered to:\n\n  anna@customer.test\n\nbecause:\n\n"
            "  User anna (anna@customer.test) not listed in Domino Directory\n",
            "anna@customer.test",
            "hard",
            "",
        ),
        (
            "Sent <<< RCPT TO:<anna@customer.test>\nReceived >>> 550 5.1.1 <anna@customer.test>... user unknown\n\n"
            "Unable to deliver message to <anna@customer.test>.\n",
            "anna@customer.test",
            "hard",
            "550",
        ),
        (
            "A message that you sent could not be delivered to one or more of its recipients. The following address\n"
            "failed:\n\nanna@customer.test:\nSMTP error from remote server for RCPT TO command, host: mx.customer.test "
            "(192.0.2.1) reason: 550 5.2.2 mailbox full\n\n--- The header of the original message is following. ---\n",
            "anna@customer.test",
            "mailbox_full",
            "550",
        ),
        (
            "Hi. This is the qmail-send program at mx.firm.test.\nI'm afraid I wasn't able to deliver your message.\n\n"
            "<anna@customer.test>:\nSorry, I couldn't find any host named customer.test. (#5.1.2)\n",
            "anna@customer.test",
            "hard",
            "",
        ),
        (
            "The following message to <anna@customer.test> was undeliverable.\nThe reason for the problem:\n"
            "5.3.0 - Other mail system problem 554-'5.7.1 Service unavailable; Client host [192.0.2.1] blocked using "
            "zen.spamhaus.org'\n",
            "anna@customer.test",
            "block",
            "554",
        ),
        (
            "Delivery has failed to these recipients or groups:\n\nanna@customer.test\nYour message wasn't "
            "delivered.\n\n"
            "Remote Server returned '550 5.4.1 Recipient address rejected: Access denied [x.prod.outlook.com]'\n",
            "anna@customer.test",
            "hard",
            "550",
        ),
    ],
    ids=["mailmarshal", "domino", "interscan", "ionos", "qmail-dns", "ironport", "exchange-online"],
)
def test_a_bounce_of_any_program_names_recipient_reply_and_reason(
    body: str, recipient: str, reply_class: str, reply: str
) -> None:
    found = one(bounce(body))
    assert (found.recipient, found.reply_class, found.reply) == (recipient, reply_class, reply), found


def test_each_recipient_of_a_report_has_a_finding_of_its_own() -> None:
    fields = "\n\n".join(
        f"Final-Recipient: rfc822; {name}@customer.test\nAction: failed\nStatus: {status}\nDiagnostic-Code: smtp;"
        f" {said}"
        for name, status, said in (("a", "5.1.1", "550 5.1.1 User unknown"), ("b", "5.2.2", "552 5.2.2 Mailbox full"))
    )
    found = parsed_and_understood(dsn(fields))
    assert [(f.index, f.recipient, f.reply_class, f.hard) for f in found] == [
        (1, "a@customer.test", "hard", True),
        (2, "b@customer.test", "mailbox_full", False),
    ]


def test_the_address_that_we_wrote_to_wins_over_the_one_it_was_forwarded_to() -> None:
    raw = dsn(
        "Original-Recipient: rfc822; a@customer.test\nFinal-Recipient: rfc822; b@other.test\nAction: failed\n"
        "Status: 5.1.1"
    )
    assert one(raw).recipient == "a@customer.test"


@pytest.mark.parametrize("action", ["delivered", "relayed", "expanded"])
def test_a_success_notice_is_no_bounce(action: str) -> None:
    found = one(dsn(f"Final-Recipient: rfc822; a@customer.test\nAction: {action}\nStatus: 2.0.0"))
    assert (found.kind, found.reply_class, found.action) == ("success", "delivered", "ignore")


def test_who_is_only_delayed_is_not_dead_whatever_is_quoted() -> None:
    found = one(
        dsn(
            "Final-Recipient: rfc822; a@customer.test\nAction: delayed\nStatus: 4.1.1\nDiagnostic-Code: smtp; "
            "550 5.1.1 User unknown"
        )
    )
    assert not found.hard
    assert found.action != "suppress"


def test_a_5xx_that_nobody_knows_is_not_hard() -> None:
    found = one(
        dsn(
            "Final-Recipient: rfc822; a@customer.test\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 571 "
            "frobnicated"
        )
    )
    assert (found.reply_class, found.hard, found.reply) == ("unknown", False, "571")


def test_unknown_user_said_after_the_mail_was_taken_is_a_filter_but_at_rcpt_a_dead_address() -> None:
    said = (
        "Final-Recipient: rfc822; a@customer.test\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550 "
        "User unknown"
    )
    at = "<a@customer.test>: host mx.customer.test said: 550 User unknown (in reply to {} command)"
    assert one(dsn(said, at.format("end of DATA"))).reply_class == "policy_content"
    assert one(dsn(said, at.format("RCPT TO"))).hard


def test_the_stage_is_found_wherever_a_program_folds_its_words() -> None:
    said = "Final-Recipient: rfc822; a@c.test\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550 User unknown"
    folded = "<a@c.test>: host mx.c.test said: 550 User unknown (in reply to\n    {}\n    command)"
    assert one(dsn(said, folded.format("RCPT TO"))).hard
    assert one(dsn(said, folded.format("end of DATA"))).reply_class == "policy_content"


@pytest.mark.parametrize(
    "text",
    [
        "SMTP:RCPT host 192.0.2.1: 553 5.3.0 <a@c.test>... No such user here",
        "RCPT TO generated following response:\n553 5.3.0 <a@c.test>... Addressee unknown, relay=[192.0.2.1]",
        "The error that the other server returned was:\n550 550 No such user (state 14).",
        "Sent <<< RCPT TO:<a@c.test>\nReceived >>> 550 <a@c.test>... user unknown",
        "550 a@c.test...User unknown  in RCPT TO",
    ],
    ids=["x3", "imail", "gmail", "interscan", "sendgrid"],
)
def test_programs_say_in_their_own_words_that_it_was_at_rcpt(text: str) -> None:
    found = one(bounce(f"Delivery to the following recipients failed permanently:\n\n  <a@c.test>\n\n{text}\n"))
    assert (found.recipient, found.hard) == ("a@c.test", True)


def test_a_dialogue_that_a_postmaster_quotes_is_a_bounce_in_any_language() -> None:
    raw = letter(
        'From: "InterScan MSS" <postmaster@c.test>',
        "To: bob@firm.test",
        "Subject: メッセージを配信できません。",
        body="...\n\nSent <<< RCPT TO:<a@c.test>\nReceived >>> 550 5.1.1 <a@c.test>... user unknown\n",
    )
    assert (one(raw).recipient, one(raw).reply, one(raw).hard) == ("a@c.test", "550", True)


def test_the_enhanced_code_of_another_reply_that_is_quoted_is_not_taken() -> None:
    text = "550-Verification failed for <a@c.test>\n550-Response: 450 4.1.1 rejected\n550 5.1.1 Recipient verify failed"
    assert one(bounce(f"<a@c.test>:\n{text}\n")).status == "5.1.1"


@pytest.mark.parametrize(
    ("kind", "subtype", "reply_class", "action"),
    [
        ("Permanent", "NoEmail", "hard", "suppress"),
        ("Permanent", "SomethingNew", "unknown", "ask"),
        ("Transient", "MailboxFull", "mailbox_full", "retry"),
        ("Transient", "SomethingNew", "soft", "retry"),
        ("Undetermined", "Undetermined", "soft", "retry"),
    ],
)
def test_a_type_without_a_reply_means_what_ses_says_and_a_new_permanent_one_asks(
    kind: str, subtype: str, reply_class: str, action: str
) -> None:
    told = {
        "notificationType": "Bounce",
        "bounce": {
            "bounceType": kind,
            "bounceSubType": subtype,
            "bouncedRecipients": [{"emailAddress": "a@c.test"}],
        },
    }
    found = one(letter("From: no-reply@sns.amazonaws.com", "Subject: Notification", body=orjson.dumps(told).decode()))
    assert (found.reply_class, found.action) == (reply_class, action)


# ── which send ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "raw",
    [
        letter(
            "From: MAILER-DAEMON@x.test",
            f"To: b+{TOKEN}@bounce.firm.test",
            "Subject: failure notice",
            body="<a@c.test>:\nno",
        ),
        letter(
            "From: MAILER-DAEMON@x.test", f"Delivered-To: b+{TOKEN.upper()}@bounce.firm.test", "Subject: failure notice"
        ),
        dsn(
            "Final-Recipient: rfc822; a@c.test\nAction: failed",
            original=f"Message-ID: <{TOKEN}@firm.test>\nSubject: Hello",
        ),
        dsn(f"Final-Recipient: rfc822; a@c.test\nAction: failed\nOriginal-Envelope-Id: {TOKEN}"),
        bounce(
            f"<a@c.test>:\n550 no\n\n--- Below this line is a copy of the message.\n\nMessage-ID:\n "
            f"<{TOKEN}@firm.test>\n"
        ),
        letter("From: a@c.test", "Subject: Re: Hello", f"In-Reply-To: <{TOKEN}@firm.test>", body="Yes, please call."),
    ],
    ids=["verp", "verp-upper-case", "message-id-of-original", "envelope-id", "original-as-text", "reply"],
)
def test_the_token_is_found_wherever_it_comes_back(raw: bytes) -> None:
    assert {finding.token for finding in parse(raw)} == {TOKEN}


def test_without_a_token_the_message_id_of_the_original_is_kept() -> None:
    raw = dsn(
        "Final-Recipient: rfc822; a@c.test\nAction: failed",
        original="Message-ID: <0102@eu.amazonses.com>\nSubject: Hello",
    )
    assert [(f.token, f.message_id) for f in parse(raw)] == [("", "<0102@eu.amazonses.com>")]


# ── what is no bounce ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("raw", "kind", "action"),
    [
        (letter("From: a@c.test", "Subject: Re: Hello", "Auto-Submitted: auto-replied"), "auto_reply", "ignore"),
        (letter("From: a@c.test", "Subject: Automatische Antwort: Hello", body="Bin weg."), "auto_reply", "ignore"),
        (letter("From: a@c.test", "Subject: Hello", "X-Autoreply: yes", body="Thanks"), "auto_reply", "ignore"),
        (letter("From: a@c.test", "Subject: Please confirm your message", body="Click here."), "challenge", "ask"),
        (letter("From: a@c.test", "Subject: Re: Hello", "In-Reply-To: <x@firm.test>", body="Could not be delivered "
                                                                                           "before "
                                                                                           "Monday, "
                                                                                           "sorry."), "reply", "ask"),
        (letter("From: news@shop.test", "Subject: Sale", body="Buy."), "unknown", "ask"),
        (b"", "unknown", "ask"),
        (b"\x00\xff\xfe", "unknown", "ask"),
    ],
    ids=["rfc3834", "german", "x-autoreply", "challenge", "reply", "newsletter", "nothing", "noise"],
)  # fmt: skip
def test_other_letters_are_told_apart_and_suppress_nobody(raw: bytes, kind: str, action: str) -> None:
    found = one(raw)
    assert (found.kind, found.action, found.hard) == (kind, action, False)


ANSWERS = "In-Reply-To: <x@firm.test>"


@pytest.mark.parametrize(
    ("sender", "subject", "body"),
    [
        ("Anna <anna@c.test>", "Re: Holiday gifts for your team", "Yes, please call."),
        ("Anna <anna@c.test>", "AW: Get away from spreadsheets", "Sounds good."),
        ("Anna <anna@c.test>", "Re: Hello", "Could you confirm your email address and phone?"),
        ("Anna <anna@c.test>", "Re: Hello", "Yes.\n> Please verify you are human"),
        ("Bounce Castle <info@bounce-castle.test>", "Re: Bounce house rental", "Yes."),
        ("Mail Administrator <admin@c.test>", "RE: Mail system upgrade", "Let us talk."),
        ("Office <no-reply@c.test>", "Re: Delivery status of your samples", "They were returned to sender: 550 EUR."),
    ],
    ids=["holiday", "away", "asks-back", "quotes-a-question", "named-bounce", "administrator", "delivery"],
)
def test_a_person_who_answers_is_heard_whatever_the_subject_and_the_name_sound_like(
    sender: str, subject: str, body: str
) -> None:
    found = one(letter(f"From: {sender}", "Return-Path: <anna@c.test>", f"Subject: {subject}", ANSWERS, body=body))
    assert (found.kind, found.hard) == ("reply", False)


@pytest.mark.parametrize("begins", ["Re:", "Antw: ", "Odp: ", "RE[2]: ", "=?utf-8?b?5Zue5aSN77ya?="])
def test_an_answer_without_a_reference_is_known_by_how_its_subject_begins(begins: str) -> None:
    assert one(letter("From: a@c.test", f"Subject: {begins}Hello", body="Yes.")).kind == "reply"


@pytest.mark.parametrize(
    ("subject", "header"),
    [
        ("Absence du bureau : Re: Hello", ANSWERS),
        ("Automatic reply: Re: Hello", ANSWERS),
        ("Re: Holiday", "Auto-Submitted: auto-replied"),
    ],
)
def test_a_machine_that_answers_an_answer_is_still_one(subject: str, header: str) -> None:
    assert one(letter("From: a@c.test", f"Subject: {subject}", header, body="Bye.")).kind == "auto_reply"


@pytest.mark.parametrize("disposition", ["manual-action/MDN-sent-manually; displayed", "automatic-action; deleted"])
def test_a_receipt_is_the_word_of_a_program_and_stops_nobodys_follow_ups(disposition: str) -> None:
    raw = letter(
        "From: Anna <anna@c.test>",
        "Subject: Gelesen: Hello",
        ANSWERS,
        'Content-Type: multipart/report; report-type=disposition-notification; boundary="b"',
        body="--b\n\nIhre Nachricht wurde gelesen.\n--b\nContent-Type: message/disposition-notification\n\n"
        f"Final-Recipient: rfc822;anna@c.test\nDisposition: {disposition}\n--b--\n",
    )
    assert (one(raw).kind, one(raw).action) == ("auto_reply", "ignore")


def test_a_complaint_names_its_recipients_and_suppresses_but_not_spam_and_failed_authentication_do_not() -> None:
    def report(kind: str) -> Classified:
        return one(
            letter(
                "From: feedback@isp.test",
                "Subject: FW: Hello",
                "Content-Type: multipart/report; report-type=feedback-report; boundary=b",
                body=f"--b\nContent-Type: message/feedback-report\n\nFeedback-Type: {kind}\nOriginal-Rcpt-To: "
                f"<anna@isp.test>\n\n--b--",
            )
        )

    assert (report("abuse").recipient, report("abuse").reply_class, report("abuse").action) == (
        "anna@isp.test",
        "complaint",
        "suppress",
    )
    assert report("not-spam").action == "ignore"
    assert (report("auth-failure").scope, report("auth-failure").action) == ("domain", "ask")


def test_an_ses_notification_that_came_by_mail_is_read() -> None:
    told = {
        "notificationType": "Bounce",
        "bounce": {
            "bounceType": "Permanent",
            "bouncedRecipients": [
                {
                    "emailAddress": "anna@customer.test",
                    "action": "failed",
                    "status": "5.1.1",
                    "diagnosticCode": "smtp; 550 5.1.1 user unknown",
                }
            ],
        },
    }
    found = one(
        letter(
            "From: AWS <no-reply@sns.amazonaws.com>",
            "Subject: AWS Notification Message",
            body=orjson.dumps(told).decode() + "\n\n--\n",
        )
    )
    assert (found.recipient, found.hard, found.reply) == ("anna@customer.test", True, "550")


# ── rules ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rule", PROVIDER_RULES, ids=lambda rule: rule.name)
def test_a_providers_rule_speaks_of_its_own_servers_only(rule: Rule) -> None:
    code, _, text = rule.line.partition(" ")
    for provider in rule.providers:
        assert verdict(Reply(provider, "rcpt", int(code), "", text)).rule == rule.name
    assert verdict(Reply("smtp", "rcpt", int(code), "", text)).rule != rule.name
    assert rule.source
    assert (rule.action == "suppress") is (rule.fault == "recipient")


def test_reports_that_suppress_speak_of_the_recipient() -> None:
    assert all(rule.scope == "recipient" and rule.source for rule in REPORT_RULES if rule.action == "suppress")
    assert meaning("unknown", "", Reply("smtp", "body", 550, "5.1.1", "User unknown")).action == "ask"


# ── broken, huge, hostile ────────────────────────────────────────────────────────────────────────


def test_three_thousand_broken_messages_are_read_without_a_crash() -> None:
    done = fuzz([path.read_bytes() for path in MESSAGES], range(3_000))
    assert (done.read, done.crashes) == (3_000, ())
    assert done.slowest_s < SLOWEST_S


MIB = 1024 * 1024
HEAD = b"From: MAILER-DAEMON@x.test\nSubject: failure notice\n"
HUGE = {
    "zeros": b"\0" * 10 * MIB,
    "line breaks": HEAD + b"\n" * 10 * MIB,
    "one line": HEAD + b"\n" + b"a" * 10 * MIB,
    "at signs": HEAD + b"\n" + b"a@" * 5 * MIB,
    "addresses": HEAD + b"\n" + b"a@b.test\n" * MIB,
    "dots": HEAD + b"\n" + b"a@" + b"a." * 5 * MIB,
    "codes": HEAD + b"\n" + b"550-5.1.1 " * MIB,
    "enhanced": HEAD + b"\n" + b"5.1.1." * MIB,
    "brackets": HEAD + b"Content-Type: text/html\n\n" + b"<a" * 5 * MIB,
    "styles": HEAD + b"Content-Type: text/html\n\n" + b"<style>" * MIB,
    "headers": b"From: a@b.test\n" * MIB,
    "one header": b"Subject: " + b"=?utf-8?q?a?= " * MIB + b"\n\n",
    "folded": b"Subject: x\n" + b" \n" * 5 * MIB,
    "depth": b"".join(b"Content-Type: multipart/mixed; boundary=b%06db\n\n--b%06db\n" % (n, n) for n in range(100_000)),
    "parts": HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * MIB,
    "fields": HEAD + b"\n" + b"Final-Recipient: rfc822; a@b.test\n" * (MIB // 4),
    "spaces": HEAD + b"\nundeliverable" + b" " * 10 * MIB,
    "dashes": HEAD + b"\n" + b"-" * 10 * MIB,
    "quotes": HEAD + b"\n" + b"> " * 5 * MIB,
    "words": HEAD + b"\n<a@b.test>:\n550 " + b"message " * MIB,
    "base64": HEAD + b"Content-Transfer-Encoding: base64\n\n" + b"QUJD" * 2 * MIB,
    "json": HEAD + b'\nnotificationType {"a":' + b"[" * 10 * MIB,
    "transcript": HEAD + b"\n----- Transcript of session follows\n" + b"<<< 550-x\n>>> DATA\n" * (MIB // 2),
    "pictures": HEAD + b"\n" + b"<a@b.test>... " * MIB,
}  # fmt: skip


@pytest.mark.parametrize("shape", HUGE)
def test_ten_megabytes_are_read_within_a_second_and_little_memory(shape: str) -> None:
    start = time.perf_counter()
    found = parsed_and_understood(HUGE[shape])
    took = time.perf_counter() - start
    tracemalloc.start()
    parse(HUGE[shape])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found
    assert took < 1.0
    assert peak < 32 * MIB


def test_five_hundred_typical_bounces_a_second_are_read() -> None:
    assert len({one(raw).kind for raw in TYPICAL}) == 2
    assert reports_rate(0.5) >= 500


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def test_classify_prints_a_line_for_each_recipient_of_files_folders_and_mboxes(tmp_path: Path) -> None:
    two = REAL / "messages" / "lhost-exim-02.eml"
    mbox = tmp_path / "saved.mbox"
    one_more = bounce("<anna@customer.test>:\n550 5.1.1 no such user\n")
    mbox.write_bytes(
        b"".join(
            b"From x Mon Nov  2 01:09:18 2026\n" + raw.replace(b"\r\n", b"\n") + b"\n\n" for raw in (one_more, one_more)
        )
    )
    done = CliRunner().invoke(classify, ["--json", str(two), str(tmp_path)], catch_exceptions=False)
    lines = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [(line["file"], line["index"], line["message"], line["path"]) for line in lines] == [
        ("lhost-exim-02.eml", 1, 1, str(two)),
        ("lhost-exim-02.eml", 2, 1, str(two)),
        ("saved.mbox", 1, 1, str(mbox)),
        ("saved.mbox", 2, 2, str(mbox)),
    ]
    assert {"file", "index", "recipient", "class", "hard", "status", "reply", "scope", "action", "rule"} <= lines[
        0
    ].keys()
    assert all(line["hard"] for line in lines)


def test_of_a_maildir_only_what_was_delivered_is_read(tmp_path: Path) -> None:
    raw = bounce("<anna@customer.test>:\n550 5.1.1 no such user\n")
    for name in ("cur/1:2,S", "new/2", "tmp/3", ".Bounces/cur/4:2,S", "dovecot-uidlist"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(raw)
    done = CliRunner().invoke(classify, ["--json", str(tmp_path)], catch_exceptions=False)
    assert sorted(orjson.loads(line)["file"] for line in done.stdout.splitlines()) == ["1:2,S", "2", "4:2,S"]


def test_classify_with_labels_lists_every_miss() -> None:
    asked = ["--labels", str(REAL / "labels.jsonl"), str(REAL / "messages")]
    done = CliRunner().invoke(classify, asked, catch_exceptions=False)
    figures = measure(REAL / "messages", REAL / "labels.jsonl")
    assert done.exit_code == 0
    assert len(re.findall(r"^(?:recipient|hard|class): ", done.stdout, re.MULTILINE)) == len(figures.misses)
