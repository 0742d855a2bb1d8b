"""What replies mean: every rule classifies the line that taught it; only a dead address is the recipient's fault."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.interface import reply_of
from schemas.sending import Reply, Stage, Verdict
from streams.delivery.verdict import RULES, Rule, meaning, verdict

LINE = re.compile(r"(\d{3})[ -](.*)", re.DOTALL)
NEVER_THE_RECIPIENT: tuple[Stage, ...] = ("connect", "ehlo", "tls", "auth", "mail")
MAILGUN_SUPPRESSED = (605, 606, 607)


def said(line: str, stage: Stage = "rcpt", provider: str = "smtp") -> Reply:
    """Return the reply that an adapter makes of a line."""
    found = LINE.fullmatch(line)
    assert found is not None, line
    return reply_of(provider, stage, int(found[1]), found[2])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_classifies_the_line_that_taught_it(rule: Rule) -> None:
    stages: tuple[Stage, ...] = rule.stages or ("rcpt", "dot")  # type: ignore[assignment]  # stages are plain text there
    for stage in stages:
        assert verdict(said(rule.line, stage)) == Verdict(
            rule.reply_class, rule.fault, rule.scope or rule.fault, rule.action, rule.name
        )


def test_rules_have_names_of_their_own_and_say_where_they_come_from() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.source and rule.line for rule in RULES)


def test_only_the_recipients_fault_suppresses() -> None:
    for rule in RULES:
        assert (rule.action == "suppress") is (rule.fault == "recipient")


REPLIES = st.builds(
    Reply,
    st.sampled_from(["smtp", "zoho", "ses", "mailgun"]),
    st.sampled_from(["connect", "ehlo", "tls", "auth", "mail", "rcpt", "data", "body", "dot", "request"]),
    st.integers(0, 999),
    st.just("")
    | st.builds(lambda a, b, c: f"{a}.{b}.{c}", st.sampled_from("245"), st.integers(0, 9), st.integers(0, 600)),
    st.text(max_size=60) | st.sampled_from([rule.line for rule in RULES]),
)


@given(reply=REPLIES)
def test_every_reply_has_a_verdict_and_login_and_sender_stages_never_blame_the_recipient(reply: Reply) -> None:
    meant = verdict(reply)
    if reply.stage in NEVER_THE_RECIPIENT and 400 <= reply.code <= 599:
        assert meant.fault != "recipient"
    if not 500 <= reply.code <= 599 and reply.code not in MAILGUN_SUPPRESSED:
        assert meant.action != "suppress"


# line, stage, class, fault; from the places that the comments name
REAL: list[tuple[str, Stage, str, str]] = [
    # Zoho as a way out
    ("550 5.4.6 Unusual sending activity detected. Please try after sometime.", "dot", "sender_account", "mailbox"),
    (
        "550 5.4.6 Unusual sending activity detected. Learn more: https://www.zoho.com/mail/help/usage-policy.html "
        "To unblock: https://mail.zoho.com/UnblockMe",
        "rcpt",
        "sender_account",
        "mailbox",
    ),
    ("554 5.1.8 Sender Address Blocked", "rcpt", "sender_account", "mailbox"),
    ("535 Authentication failed:554 5.1.8 Sender Address Blocked", "auth", "sender_account", "mailbox"),
    ("535 Authentication Failed", "auth", "auth", "mailbox"),
    ("553 Relaying disallowed as bob@firm.test", "mail", "sender_account", "mailbox"),
    ("553 Relaying disallowed as bob@firm.test", "rcpt", "sender_account", "mailbox"),
    ("530 Must issue a STARTTLS command first", "mail", "auth", "mailbox"),
    ("552 5.7.1 virus Eicar detected", "dot", "policy_content", "message"),
    # Zoho as a receiver
    ("550 5.1.1 anna@customer.test User unknown", "rcpt", "hard", "recipient"),
    ("550 5.7.1 Email rejected per DMARC policy", "dot", "policy_auth", "domain"),
    ("452 4.3.1 anna@customer.test Mailbox delivery restricted by policy error", "rcpt", "soft", "network"),
    ("552 5.1.1 anna@customer.test Mailbox delivery failure policy error", "rcpt", "policy_content", "message"),
    # Amazon SES
    ("454 Throttling failure: Maximum sending rate exceeded.", "dot", "rate_limit", "route"),
    ("454 Throttling failure: Daily message quota exceeded.", "dot", "rate_limit", "route"),
    ("421 Too many concurrent SMTP connections", "connect", "rate_limit", "route"),
    # Gmail, support.google.com/a/answer/3726730
    (
        "550 5.1.1 The email account that you tried to reach does not exist. Please try\ndouble-checking",
        "rcpt",
        "hard",
        "recipient",
    ),
    ("553 5.1.2 We weren't able to find the recipient domain.", "rcpt", "hard", "recipient"),
    ("550 5.2.1 The email account that you tried to reach is inactive.", "rcpt", "hard", "recipient"),
    (
        "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages "
        "from being delivered.",
        "rcpt",
        "soft",
        "network",
    ),
    ("450 4.2.1 The user you are trying to contact is receiving mail too quickly.", "rcpt", "soft", "network"),
    ("452 4.2.2 The recipient's inbox is out of storage space.", "rcpt", "mailbox_full", "network"),
    ("552 5.2.2 The recipient's inbox is out of storage space and inactive.", "rcpt", "mailbox_full", "network"),
    ("552 5.3.4 Your message exceeded Google's message size limits.", "dot", "too_large", "message"),
    ("550 Administrative prohibition", "rcpt", "policy_content", "message"),
    ("550 Administrative prohibition - envelope blocked", "dot", "policy_content", "message"),
    ("550 Sender address blocked", "rcpt", "policy_content", "message"),
    ("421 Sender address blocked", "rcpt", "soft", "network"),
    ("554 5.1.8 Sender Address Blocked", "mail", "sender_account", "mailbox"),
    ("530 5.7.57 Client not authenticated to send mail", "mail", "auth", "mailbox"),
    ("530 5.7.0 Must issue a STARTTLS command first", "mail", "auth", "mailbox"),
    ("550 5.4.5 Daily user sending limit exceeded.", "dot", "sender_account", "mailbox"),
    ("421 4.7.28 Gmail has detected an unusual rate of unsolicited mail.", "dot", "rate_limit", "route"),
    (
        "421 4.7.28 Gmail has detected this message exceeded its quota for sending messages with the same Message-ID:.",
        "dot",
        "soft",
        "message",
    ),
    (
        "550 5.7.28 There is an unusual rate of unsolicited mail originating from your IP address.",
        "dot",
        "rate_limit",
        "route",
    ),
    ("550 5.7.28 This mail has been blocked because DKIM does not pass.", "dot", "policy_auth", "domain"),
    ("550 5.7.26 This mail has been blocked because the sender is unauthenticated.", "dot", "policy_auth", "domain"),
    ("550 5.7.25 The IP address sending this message does not have a PTR record setup", "dot", "policy_auth", "domain"),
    (
        "421 4.7.32 Your email has been rate limited because the From: header isn’t aligned",
        "dot",
        "policy_auth",
        "domain",
    ),
    (
        "550 5.7.1 This message is likely suspicious due to the very low reputation of the sending IP address.",
        "dot",
        "block",
        "route",
    ),
    ("550 5.7.1 This message is likely unsolicited mail.", "dot", "policy_content", "message"),
    ("535 5.7.8 Username and Password not accepted.", "auth", "auth", "mailbox"),
    ("534 5.7.9 Application-specific password required.", "auth", "auth", "mailbox"),
    # Microsoft
    (
        "550 5.7.515 Access denied, sending domain firm.test does not meet the required authentication level.",
        "dot",
        "policy_auth",
        "domain",
    ),
    (
        "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet provider "
        "since part of their network is on our block list (S3150).",
        "mail",
        "block",
        "route",
    ),
    ("550 5.7.606 Access denied, banned sending IP [192.0.2.1]", "rcpt", "block", "route"),
    ("550 5.7.511 Access denied, banned sender[192.0.2.1].", "rcpt", "block", "route"),
    ("550 SC-001 Mail rejected by Outlook.com for policy reasons.", "dot", "block", "route"),
    ("550 DY-001 Mail rejected by Outlook.com for policy reasons.", "dot", "block", "route"),
    ("550 OU-002 Mail rejected by Outlook.com for policy reasons.", "dot", "block", "route"),
    (
        "421 RP-001 The mail server IP connecting to Outlook.com server has exceeded the rate limit allowed.",
        "dot",
        "rate_limit",
        "route",
    ),
    ("451 4.7.500 Server busy. Please try again later from [192.0.2.1].", "rcpt", "rate_limit", "route"),
    (
        "421 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation.",
        "rcpt",
        "rate_limit",
        "route",
    ),
    ("550 5.7.705 Access denied, tenant has exceeded threshold", "dot", "sender_account", "mailbox"),
    # Yahoo
    (
        "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume",
        "mail",
        "rate_limit",
        "route",
    ),
    (
        "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume",
        "rcpt",
        "rate_limit",
        "route",
    ),
    (
        "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list",
        "connect",
        "block",
        "route",
    ),
    ("553 5.7.2 [TSS09] All messages from 192.0.2.1 will be permanently deferred", "rcpt", "block", "route"),
    (
        "554 delivery error: dd This user doesn't have a yahoo.com account (anna@yahoo.com) [-5]",
        "dot",
        "hard",
        "recipient",
    ),
    # Mimecast, Proofpoint, Barracuda
    ("451 Internal resource temporarily unavailable", "rcpt", "greylisted", "network"),
    ("554 Email rejected due to security policies", "dot", "policy_content", "message"),
    ("554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1", "connect", "block", "route"),
    ("550 5.7.0 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1", "rcpt", "block", "route"),
    (
        "554 Service unavailable; Client host [192.0.2.1] blocked using Barracuda Reputation; "
        "http://www.barracudanetworks.com/reputation/?r=1&ip=192.0.2.1",
        "rcpt",
        "block",
        "route",
    ),
    # Mailgun's API: both texts of a limit, the older status 420, its key, its domain, its account
    (
        "429 Domain example.com is not allowed to send: request limit exceeded, try again after "
        "Mon, 20 Dec 2021 20:33:21 UTC",
        "request",
        "rate_limit",
        "route",
    ),
    (
        "429 Domain example.com is not allowed to send: account-requests-per-sec limit exceeded, try again after "
        "120 seconds",
        "request",
        "rate_limit",
        "route",
    ),
    (
        "420 Domain example.com is not allowed to send: recipient limit exceeded, try again after "
        "Wed, 22 Feb 2023 10:04:01 UTC",
        "request",
        "rate_limit",
        "route",
    ),
    ("429 Too many requests", "request", "rate_limit", "route"),
    (
        "400 Domain example.com is not allowed to send: The domain is unverified and requires DNS configuration.",
        "request",
        "block",
        "route",
    ),
    ("403 Domain example.com is not allowed to send: bad customer", "request", "block", "route"),
    ("000 Please activate your Mailgun account. Check your inbox", "request", "block", "route"),
    ("000 Business Verification", "request", "block", "route"),
    ("401 Forbidden", "request", "auth", "route"),
    ("401 Invalid private key", "request", "auth", "route"),
    ("404 Domain not found: example.com", "request", "protocol", "route"),
    ("404 404 page not found", "request", "protocol", "route"),
    ("307 Temporary Redirect", "request", "protocol", "route"),
    ("400 to parameter is not a valid address. please check documentation", "request", "protocol", "message"),
    ("400 'message' parameter is not a file", "request", "protocol", "message"),
    ("413 Request Entity Too Large", "request", "too_large", "message"),
    ("408 Request Timeout", "request", "soft", "route"),
    ("500 Internal Server Error", "request", "soft", "route"),
    ("503 Service Unavailable", "request", "soft", "route"),
    # Mailgun's log: codes of its own, and the receiving server's
    ("605 Not delivering to previously bounced address", "dot", "hard", "recipient"),
    ("606 Not delivering to unsubscribed address", "dot", "hard", "recipient"),
    ("607 Not delivering to a user who marked your messages as spam", "dot", "hard", "recipient"),
    ("498 No MX for customer.test", "dot", "network", "network"),
    ("499 Unable to connect to MX servers", "dot", "soft", "network"),
    ("602 Too many deferrals", "dot", "network", "network"),
    ("550 5.1.1 <anna@customer.test>: User unknown", "dot", "hard", "recipient"),
    # Postfix, Sendmail, Exim
    (
        "550 5.1.1 <anna@customer.test>: Recipient address rejected: User unknown in virtual mailbox table",
        "rcpt",
        "hard",
        "recipient",
    ),
    (
        "451 4.7.1 <anna@customer.test>: Recipient address rejected: Greylisted, see http://postgrey",
        "rcpt",
        "greylisted",
        "network",
    ),
    ("550 No such user here", "rcpt", "hard", "recipient"),
    (
        "553 5.1.8 <bob@firm.test>... Domain of sender address bob@firm.test does not exist",
        "rcpt",
        "sender_account",
        "mailbox",
    ),
    ("550 5.1.8 <bob@firm.test>: Sender address rejected: Domain not found", "rcpt", "sender_account", "mailbox"),
    ("550 5.1.7 <bob@firm.test>: Sender address rejected: user unknown", "rcpt", "sender_account", "mailbox"),
    (
        "550 5.1.0 <bob@firm.test>: Sender address rejected: User unknown in virtual mailbox table",
        "rcpt",
        "sender_account",
        "mailbox",
    ),
    ("452 4.5.3 Too many recipients", "rcpt", "soft", "network"),
    ("550 5.1.10 null MX", "rcpt", "hard", "recipient"),
    # Amazon SES: every error of the API (email facts 1.2), then the same by SMTP
    (
        "429 TooManyRequestsException: Too many requests have been made to the operation.",
        "request",
        "rate_limit",
        "route",
    ),
    ("429 TooManyRequestsException", "request", "rate_limit", "route"),
    ("400 ThrottlingException: Maximum sending rate exceeded.", "request", "rate_limit", "route"),
    ("454 Throttling failure: Maximum sending rate exceeded.", "dot", "rate_limit", "route"),
    ("400 ThrottlingException: Daily message quota exceeded.", "request", "rate_limit", "route"),
    ("429 TooManyRequestsException: Daily message quota exceeded.", "request", "rate_limit", "route"),
    ("454 Throttling failure: Daily message quota exceeded.", "data", "rate_limit", "route"),
    (
        "400 LimitExceededException: There are too many instances of the resource type.",
        "request",
        "rate_limit",
        "route",
    ),
    ("400 SendingPausedException: Email sending is paused.", "request", "block", "route"),
    ("400 AccountSuspendedException", "request", "block", "route"),
    ("554 Sending paused for this account. For more information, please check the inbox", "dot", "block", "route"),
    (
        "400 MailFromDomainNotVerifiedException: The message can't be sent because the sending domain isn't verified.",
        "request",
        "policy_auth",
        "domain",
    ),
    (
        "400 MessageRejected: Email address is not verified. The following identities failed the check in region "
        "EU-WEST-1: anna@customer.test",
        "request",
        "policy_auth",
        "domain",
    ),
    ("554 Message rejected: Email address is not verified.", "dot", "policy_auth", "domain"),
    ("400 MessageRejected: Bad content", "request", "policy_content", "message"),
    ("400 BadRequestException: Missing final '@domain'", "request", "protocol", "message"),
    ("404 NotFoundException: Configuration set <fleet> does not exist.", "request", "protocol", "route"),
    ("403 InvalidSignatureException: The request signature we calculated does not match", "request", "auth", "route"),
    ("403 AccessDeniedException: User is not authorized to perform `ses:SendEmail'", "request", "auth", "route"),
    ("535 Authentication Credentials Invalid", "auth", "auth", "mailbox"),
    ("530 Authentication required", "mail", "auth", "mailbox"),
    ("421 Too many concurrent SMTP connections", "connect", "rate_limit", "route"),
    ("451 Timeout waiting for data from client.", "data", "soft", "network"),
]


def test_a_quota_of_ses_is_told_from_its_rate() -> None:
    quota = verdict(said("400 ThrottlingException: Daily message quota exceeded.", "request"))
    rate = verdict(said("400 ThrottlingException: Maximum sending rate exceeded.", "request"))
    assert (quota.rule, rate.rule) == ("ses-quota", "ses-sending-rate")


@pytest.mark.parametrize(("line", "stage", "reply_class", "fault"), REAL, ids=[line[:60] for line, *_ in REAL])
def test_a_real_line_means_what_its_provider_says(line: str, stage: Stage, reply_class: str, fault: str) -> None:
    meant = verdict(said(line, stage))
    assert (meant.reply_class, meant.fault) == (reply_class, fault), meant.rule


# Replies that name a user, an address or a recipient and speak of something else; forms of Postfix, Exim, Sendmail,
# Exchange, cPanel, Mimecast, Zoho, Gmail, Yahoo, Tencent and Mail.Ru. A false hard bounce loses a good address.
NOT_THE_ADDRESS = """\
554 5.7.1 <anna@customer.test>: Recipient address rejected: blocked by our policy
550 5.7.1 <anna@customer.test>: Recipient address rejected: Rejected by SPF: 192.0.2.1 is not a designated mailserver
550 5.7.23 <anna@customer.test>: Recipient address rejected: Message rejected due to: SPF fail - not authorized
450 4.2.0 <anna@customer.test>: Recipient address rejected: Greylisted for 300 seconds
450 4.1.1 <anna@customer.test>: Recipient address rejected: unverified address: connect to mx: Connection timed out
450 4.1.1 <anna@customer.test>: Recipient address rejected: User unknown in local recipient table
554 5.7.1 <anna@customer.test>: Relay access denied
553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)
553 5.3.0 <anna@customer.test>... Spam blocked see: http://spamcop.net/bl.shtml?192.0.2.1
550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required; the sender was not authenticated
550 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient
550 5.1.1 RCPT TO:<anna@customer.test> max message size exceeded
552 5.2.2 <anna@customer.test>: Recipient address rejected: Over quota
550 <anna@customer.test> User has too many messages on the server.
550 <anna@customer.test> Mailbox size limit exceeded
550 5.1.0 <bob@firm.test>: Sender unknown
550 Sender verify failed
550-Verification failed for <bob@firm.test> 550-No Such User Here 550 Sender verify failed
553 5.1.8 <bob@firm.test>... Domain of sender address bob@firm.test does not exist
501 5.1.8 Sender address <bob@firm.test> does not exist
553 sorry, your envelope sender domain must exist (#5.7.1)
553 5.7.1 Sender address rejected: not owned by user bob@firm.test
550 5.7.1 <bob@firm.test>: Sender address rejected: This account has been disabled
550 Envelope blocked - User Entry
550 Administrative prohibition - envelope blocked
550 User bob@firm.test has exceeded the maximum defects per hour (5/5). Message discarded.
550 Domain firm.test has exceeded the max emails per hour (103/100 (103%)) allowed. Message discarded.
550 Connection rejected, too many invalid recipients
421 4.1.0 192.0.2.1 Throttled - too many unknown users
550 Mail is rejected by recipients [x IP: 192.0.2.1].
550 The sender does not exist in recipient's contact list
550 User is not found in our whitelist
550 5.1.1 RCP-P2 Refused due to recipient preferences; spam of users unknown to this recipient is rejected as spam
550 SPAM NOT ACCEPTED by user anna@customer.test
550 permanent failure for one or more recipients (anna@customer.test:blocked)
550 mailbox is locked
550 5.2.1 Mailbox disabled, not accepting messages
550 Address verification: Host lookup failed for reverse DNS
553 Requested action not taken: NO MX found for your domain
554 5.7.1 The user or domain that you are sending to (or from) has a policy that prohibited the mail that you sent
554 5.1.1 aliasing/forwarding loop broken (11 aliases deep; 10 max)""".splitlines()


@pytest.mark.parametrize("line", NOT_THE_ADDRESS)
def test_words_about_users_that_speak_of_something_else_never_suppress(line: str) -> None:
    stages: tuple[Stage, ...] = ("rcpt", "data", "body", "dot")
    assert [
        verdict(said(line, stage)).action for stage in stages if verdict(said(line, stage)).action == "suppress"
    ] == []


DEAD = """\
550 <anna@customer.test> unknown
550 ** No mail box available for this user **
550 <anna@customer.test> is not an active address at this host
553 5.3.0 <anna@customer.test>... Addressee unknown, relay=[192.0.2.1]
550 BAD_RECIPIENT - see http://www.customer.test/undelivered
550 there is no one here with that name
550 that email address does not exist here
550 Address invalid
550 this account doesn't exist
550 Recipient not exists
550 RCPT TO:<anna@customer.test> User unknown
550 no valid recipient
550 <anna@customer.test>: Destinatario desconocido o mailbox lleno
550 Utilisateur inconnu
550 Benutzer unbekannt
550 Empfänger existiert nicht
550 casella inesistente
550 Usuário desconhecido
550 Nie ma takiego uzytkownika
550 Пользователь не найден
550 收件人不存在
550 ユーザは見つかりません""".splitlines()


@pytest.mark.parametrize("line", DEAD)
def test_at_rcpt_the_words_for_a_dead_address_suppress_in_any_language_but_not_after_the_mail(line: str) -> None:
    assert verdict(said(line, "rcpt")).fault == "recipient"
    assert verdict(said(line, "dot")).action != "suppress"
    assert verdict(said(line, "body")).action == "ask"


WORDS_OF_RECEIVERS = [
    ("421 4.7.28 Gmail has detected an unusual rate of unsolicited mail.", "dot"),
    ("451 4.7.500 Server busy. Please try again later (S77719)", "mail"),
    ("421 RP-001 The mail server IP connecting to Outlook.com server has exceeded the rate limit allowed.", "connect"),
    ("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume", "mail"),
    ("550 5.7.28 Mail flood detected", "dot"),
    ("550 Ip frequency limited", "rcpt"),
    ("450 4.7.1 You are sending too many messages, slow down", "rcpt"),
]
WORDS_OF_OUR_PROVIDER = [
    ("454 Throttling failure: Maximum sending rate exceeded.", "dot"),
    ("421 4.7.0 Too many concurrent SMTP connections", "connect"),
    ("429 TooManyRequestsException", "request"),
    (
        "420 Domain mg.firm.test is not allowed to send: recipient limit exceeded, try again after 120 seconds",
        "request",
    ),
    ("450 4.7.1 too many messages from you, slow down", "mail"),
]


@pytest.mark.parametrize(("line", "stage"), WORDS_OF_RECEIVERS)
def test_a_receiver_that_throttles_speaks_for_itself_alone(line: str, stage: Stage) -> None:
    meant = verdict(said(line, stage))
    assert (meant.reply_class, meant.fault, meant.scope) == ("rate_limit", "route", "receiver")


@pytest.mark.parametrize(("line", "stage"), WORDS_OF_OUR_PROVIDER)
def test_a_provider_that_throttles_speaks_of_all_that_goes_over_it(line: str, stage: Stage) -> None:
    meant = verdict(said(line, stage))
    assert (meant.reply_class, meant.fault, meant.scope) == ("rate_limit", "route", "route")


def test_a_bounce_keeps_how_far_its_words_reach() -> None:
    meant = meaning(
        "bounce", "failed", said("421 4.7.28 Gmail has detected an unusual rate of unsolicited mail", "dot")
    )
    assert (meant.fault, meant.scope, meant.hard) == ("route", "receiver", False)
