"""What the tables of providers' errors and of codes say, row by row: the code alone, without words that help."""

import pytest

from schemas.sending import Stage
from streams.delivery.verdict import verdict
from tests.adapters.test_verdict import said

# class and fault, the stage, then the lines
ROWS: list[tuple[str, str, Stage, tuple[str, ...]]] = [
    # RFC 3463 and IANA, with what Gmail, Microsoft and Yahoo mean by some of them
    ("hard", "recipient", "rcpt", tuple(f"550 5.1.{n} no" for n in (1, 2, 3, 6, 10))),
    ("hard", "recipient", "rcpt", ("550 5.7.17 no", "550 5.7.18 no")),
    ("soft", "network", "rcpt", ("450 4.1.2 no", "450 4.2.1 no", "450 no", "451 no", "452 no", "421 no")),
    ("unknown", "message", "rcpt", ("550 5.1.0 no", "550 5.1.4 no", "550 5.1.5 no", "550 no")),
    ("sender_account", "mailbox", "rcpt", ("550 5.1.7 no", "550 5.1.8 no")),
    ("mailbox_full", "network", "rcpt", ("552 5.2.2 no", "452 4.2.2 no")),
    ("too_large", "message", "dot", ("552 5.2.3 no", "552 5.3.4 no")),
    ("soft", "network", "rcpt", ("450 4.3.0 no", "450 4.3.2 no", "550 5.3.0 no", "550 5.3.2 no")),
    ("network", "network", "rcpt", tuple(f"550 5.4.{n} no" for n in (1, 2, 3, 5, 6))),
    ("soft", "network", "rcpt", tuple(f"450 4.4.{n} no" for n in (1, 2, 3, 4, 5, 6))),
    ("hard", "recipient", "rcpt", ("550 5.4.1 Recipient address rejected: Access denied", "550 5.4.4 no")),
    ("sender_account", "mailbox", "rcpt", ("550 5.4.5 Daily user sending limit exceeded.",)),
    ("expired", "network", "rcpt", ("550 5.4.7 no", "450 4.4.7 no")),
    ("soft", "network", "rcpt", ("452 4.5.3 no", "552 5.5.3 no")),
    ("policy_content", "message", "dot", ("550 5.5.0 no", "550 5.5.2 no", "550 5.6.0 no", "550 5.7.0 no")),
    ("auth", "mailbox", "rcpt", ("550 5.7.8 no", "550 5.7.9 no", "550 5.7.14 no", "530 no", "534 no", "535 no")),
    ("policy_auth", "domain", "dot", tuple(f"550 5.7.{n} no" for n in (*range(20, 28), 29, 30, 31, 32, 40, 509, 515))),
    ("rate_limit", "route", "dot", ("421 4.7.28 no", "550 5.7.28 no")),
    ("block", "route", "rcpt", ("550 5.7.606 no", "550 5.7.649 no", "550 5.7.511 no", "550 5.7.1 no (S3150)")),
    ("block", "route", "rcpt", tuple(f"550 {code} no" for code in ("SC-001", "SC-002", "SC-003", "SC-004"))),
    ("block", "route", "rcpt", ("550 5.7.1 no (S3140)", "550 DY-001 no", "550 DY-002 no", "550 OU-001 no")),
    ("rate_limit", "route", "rcpt", ("421 RP-001 no", "421 RP-002 no", "421 RP-003 no")),
    ("rate_limit", "route", "rcpt", ("451 4.7.500 no", "421 4.7.650 no", "451 4.7.501 no")),
    ("sender_account", "mailbox", "rcpt", ("550 5.7.705 no", "550 5.7.708 no")),
    ("rate_limit", "route", "rcpt", ("421 4.7.0 [TSS04] no", "421 4.7.0 [TSS01] no")),
    ("block", "route", "rcpt", ("553 5.7.1 [BL21] no", "553 5.7.2 [TSS09] no", "553 5.7.2 [TSS11] no")),
    # Amazon SES
    ("rate_limit", "route", "request", ("429 TooManyRequestsException: no", "400 LimitExceededException: no")),
    ("rate_limit", "route", "request", ("400 ThrottlingException: Maximum sending rate exceeded",)),
    ("rate_limit", "route", "dot", ("454 Throttling failure: Maximum sending rate exceeded",)),
    ("rate_limit", "route", "request", ("400 ThrottlingException: Daily message quota exceeded",)),
    ("block", "route", "request", ("400 SendingPausedException: no", "400 AccountSuspendedException: no")),
    ("policy_auth", "domain", "request", ("400 MailFromDomainNotVerifiedException: no",)),
    ("policy_auth", "domain", "request", ("400 MessageRejected: Email address is not verified.",)),
    ("policy_content", "message", "request", ("400 MessageRejected: no",)),
    ("protocol", "message", "request", ("400 BadRequestException: no",)),
    ("protocol", "route", "request", ("404 NotFoundException: no",)),
    ("auth", "mailbox", "auth", ("535 no", "530 no")),
    ("rate_limit", "route", "connect", ("421 Too many concurrent SMTP connections",)),
    # Mailgun
    ("block", "route", "request", ("400 Domain mg.firm.test is not allowed to send: The domain is unverified",)),
    ("block", "route", "request", ("403 Domain mg.firm.test is not allowed to send large batches yet",)),
    ("block", "route", "request", ("400 Sandbox subdomains are for test purposes only.",)),
    ("auth", "route", "request", ("401 Forbidden",)),
    ("protocol", "route", "request", ("404 Domain not found: mg.firm.test",)),
    ("too_large", "message", "request", ("413 no",)),
    ("rate_limit", "route", "request", ("429 no", "429 Domain x is not allowed to send: request limit exceeded")),
    ("soft", "route", "request", ("500 no",)),
    # Zoho, ZeptoMail
    ("sender_account", "mailbox", "dot", ("550 5.4.6 Unusual sending activity detected.",)),
    ("sender_account", "mailbox", "auth", ("535 Authentication failed:554 5.1.8 Sender Address Blocked",)),
    ("sender_account", "mailbox", "dot", ("550 Mail Outgoing blocked. Reason: Mail rate exceeded limit",)),
    ("sender_account", "mailbox", "dot", ("550 Daily Mail Size Quota Exceeds Limit",)),
    ("sender_account", "mailbox", "mail", ("553 Relaying disallowed as bob@firm.test",)),
    (
        "policy_content",
        "message",
        "dot",
        ("552 5.7.1 virus Eicar detected", "552 5.1.1 Mailbox delivery failure policy error"),
    ),
    ("policy_content", "message", "rcpt", ("541 5.4.1 Mail rejected by destination domain",)),
    ("soft", "network", "rcpt", ("452 Mailbox delivery restricted by policy error",)),
    ("policy_auth", "domain", "dot", ("550 5.7.1 Email rejected per DMARC policy",)),
    ("protocol", "message", "dot", ("550 5.2.1 Subject is Mandatory",)),
]


@pytest.mark.parametrize(
    ("line", "stage", "reply_class", "fault"),
    [(line, stage, reply_class, fault) for reply_class, fault, stage, lines in ROWS for line in lines],
)
def test_each_row_of_the_tables_has_its_class_and_fault(line: str, stage: Stage, reply_class: str, fault: str) -> None:
    meant = verdict(said(line, stage))
    assert (meant.reply_class, meant.fault) == (reply_class, fault), meant.rule


def test_a_disabled_mailbox_fails_without_a_suppression() -> None:
    for line in ("550 5.2.1 mailbox disabled", "550 5.7.13 user disabled"):
        meant = verdict(said(line))
        assert (meant.reply_class, meant.action) == ("soft", "fail"), "it may be enabled again; reports say it often is"
