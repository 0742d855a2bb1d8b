"""What the events of Mailgun and SES say, and what that means by the verdict's rules."""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.mail import mailgun as mail_mailgun
from adapters.mail import ses as mail_ses
from adapters.reports import mailgun_events, mailgun_webhook, provider_event, ses_events
from adapters.reports.mailgun_webhook import SigningKey
from adapters.reports.provider_event import NotAnEvent, ProviderEvent
from ops import fuzz_webhooks
from ops.fuzz_reports import SLOWEST_S
from schemas.sending import Reply
from streams.delivery.verdict import meaning
from tests.adapters import webhook_samples as samples
from tests.adapters.webhook_samples import ADDRESS, AT, MAILGUN_EVENTS, SES_EVENTS, SES_ID, TOKEN, mailgun, ses


def test_the_tags_are_those_that_the_mail_adapters_put_on_a_mail() -> None:
    assert provider_event.TOKEN_TAG == mail_ses.TOKEN_TAG == mail_mailgun.TOKEN_VARIABLE
    assert provider_event.ATTEMPT_TAG == mail_ses.ATTEMPT_TAG == mail_mailgun.ATTEMPT_VARIABLE


def means(event: ProviderEvent) -> tuple[str, bool, str]:
    """Return what a bounce means: class, hard, action."""
    found = meaning("bounce", event.action, event.reply or Reply("", "dot", 0))
    return found.report_class, found.hard, found.action


# ── Mailgun ──────────────────────────────────────────────────────────────────────────────────────

MAILGUN_KINDS: dict[str, tuple[str, str] | None] = {
    "accepted": ("accepted", ""),
    "delivered": ("delivered", ""),
    "failed permanent": ("bounce", "failed"),
    "failed temporary": ("bounce", "delayed"),
    "failed greylisted": ("bounce", "delayed"),
    "failed suppressed": ("bounce", "failed"),
    "failed unsubscribed": ("unsubscribe", ""),
    "failed old": ("bounce", "failed"),
    "failed no mx": ("bounce", "failed"),
    "failed later": ("bounce", "failed"),
    "rejected": ("bounce", "failed"),
    "complained": ("complaint", ""),
    "unsubscribed": ("unsubscribe", ""),
    "opened": None,
    "clicked": None,
    "stored": None,
    "of the future": None,
}


def only(found: provider_event.Told) -> ProviderEvent:
    """Return the one event."""
    (event,) = found.events
    return event


@pytest.mark.parametrize("name", MAILGUN_EVENTS)
def test_every_event_of_mailgun_has_its_kind(name: str) -> None:
    told = mailgun_events.parse(mailgun(name))
    assert [(e.kind, e.action) for e in told.events] == [k for k in [MAILGUN_KINDS[name]] if k]
    assert told.name == (samples.mailgun(name)["event"] if name != "of the future" else "other")
    for event in told.events:
        assert (event.token, event.attempt, event.recipient) == (
            TOKEN,
            2,
            ADDRESS,
        )
        assert event.provider_id == f"{TOKEN}@firm.test"
        assert event.event_id == "mailgun/2026-11-25/G9Bn5sl1TC6nu79C8C0bwg"
        assert event.at == datetime.fromtimestamp(AT.timestamp() + 0.153125, UTC)
        assert ADDRESS not in repr(event.reply)


@pytest.mark.parametrize(
    ("name", "code", "enhanced", "meant"),
    [
        ("failed permanent", 550, "5.1.1", ("hard", True, "suppress")),
        ("failed temporary", 452, "4.2.2", ("mailbox_full", False, "retry")),
        ("failed suppressed", 605, "", ("hard", True, "suppress")),
        ("failed old", 499, "", ("soft", False, "retry")),
        ("failed no mx", 498, "", ("network", False, "fail")),
        ("failed later", 0, "5.1.1", ("hard", True, "suppress")),
    ],
)
def test_what_a_failure_at_mailgun_means(name: str, code: int, enhanced: str, meant: tuple[str, bool, str]) -> None:
    event = only(mailgun_events.parse(mailgun(name)))
    assert event.reply is not None
    assert (event.reply.code, event.reply.enhanced) == (code, enhanced)
    assert means(event) == meant


@pytest.mark.parametrize(
    ("reason", "code", "kind"),
    [
        ("suppress-unsubscribe", "", "unsubscribe"),
        ("suppress-complaint", "", "complaint"),
        ("suppress-complaint", 607, "complaint"),
        ("generic", 606, "unsubscribe"),
        ("suppress-bounce", "", "bounce"),
    ],
)
def test_a_mail_that_mailgun_holds_back_for_a_wish_tells_the_wish_and_of_no_dead_address(
    reason: str, code: object, kind: str
) -> None:
    status = {"code": code, "message": "", "description": "Not delivering"}
    event = only(mailgun_events.parse(mailgun("failed unsubscribed", reason=reason, **{"delivery-status": status})))
    assert (event.kind, event.reply is None, event.action) == (kind, kind != "bounce", "failed" * (kind == "bounce"))


def test_a_rejection_is_mailguns_own_word_and_hard_for_nobody() -> None:
    event = only(mailgun_events.parse(mailgun("rejected")))
    assert event.reply == Reply("mailgun", "request", 0, "", "Sandbox subdomains are for test purposes only.")
    assert not means(event)[1]


def test_a_bounce_after_a_delivery_is_not_mailguns_own_word() -> None:
    assert only(mailgun_events.parse(mailgun("failed permanent"))).reported_by == "mailgun"
    assert only(mailgun_events.parse(mailgun("failed later"))).reported_by == ""


def test_the_token_is_found_in_variables_in_their_json_text_and_in_the_message_id() -> None:
    as_text = json.dumps({"mailfleet-token": TOKEN, "mailfleet-attempt": "3"})
    event = only(mailgun_events.parse(mailgun("complained", user_variables=as_text)))
    assert (event.token, event.attempt) == (TOKEN, 3)
    event = only(mailgun_events.parse(mailgun("complained", user_variables={})))
    assert (event.token, event.attempt) == (TOKEN, 0)


def test_others_mail_over_the_domain_tells_of_people_but_of_no_delivery() -> None:
    theirs = {"user_variables": {}, "message": {"headers": {"message-id": "20261125.1@crm.test"}}}
    assert mailgun_events.parse(mailgun("delivered", **theirs)).events == ()
    assert mailgun_events.parse(mailgun("accepted", **theirs)).events == ()
    event = only(mailgun_events.parse(mailgun("complained", **theirs)))
    assert (event.token, event.recipient) == ("", ADDRESS)


def test_an_entry_of_the_log_is_the_same_event_as_its_webhook() -> None:
    hook = mailgun("failed permanent")
    entry = mailgun("failed permanent", timestamp=None) | {"@timestamp": "2026-11-25T12:00:00.153Z"}
    assert only(mailgun_events.parse(hook)).event_id == only(mailgun_events.parse(entry)).event_id


@pytest.mark.parametrize(
    "entry",
    [None, [], "delivered", {}, {"event": 7.5}, {"event": "failed"}, mailgun("failed permanent", timestamp="yesterday"),
     mailgun("complained", timestamp=1e300), mailgun("complained", timestamp=-1)],
)  # fmt: skip
def test_what_is_no_event_of_mailgun_is_said_to_be_none(entry: object) -> None:
    with pytest.raises(NotAnEvent):
        mailgun_events.parse(entry)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from(MAILGUN_EVENTS), st.data())
def test_any_value_in_any_field_of_mailguns_is_borne(name: str, data: st.DataObject) -> None:
    event = mailgun(name)
    for field in data.draw(st.sets(st.sampled_from(sorted(event)), max_size=4)):
        event[field] = data.draw(JSON)
    with contextlib.suppress(NotAnEvent):
        mailgun_events.parse(event)


@settings(deadline=None)
@given(st.sampled_from(SES_EVENTS), st.data())
def test_any_value_in_any_field_of_ses_is_borne(name: str, data: st.DataObject) -> None:
    event: Any = ses(name)
    for outer in list(event):
        if isinstance(event[outer], dict):
            for field in data.draw(st.sets(st.sampled_from([*event[outer], "x"]), max_size=2)):
                event[outer][field] = data.draw(JSON)
    with contextlib.suppress(NotAnEvent):
        ses_events.parse(json.dumps(event).encode())


# ── who signed it ────────────────────────────────────────────────────────────────────────────────

OURS = SigningKey(samples.SIGNING_KEY.encode())


def test_a_good_signature_is_known_whichever_of_the_keys_made_it() -> None:
    hook = mailgun_webhook.read(samples.webhook(mailgun("delivered")))
    assert hook.signer([SigningKey(b"another"), OURS]) is not None
    assert hook.signer([SigningKey(b"another")]) is None
    assert hook.signer([]) is None


def test_a_key_with_a_name_is_good_for_that_domain_or_account_alone() -> None:
    hook = mailgun_webhook.read(samples.webhook(mailgun("delivered")))
    for name, good in (("mg.firm.test", True), ("5c9f1f0a2b", True), ("mg.other.test", False)):
        assert (hook.signer([SigningKey(OURS.key, name)]) is not None) == good


def test_a_sub_accounts_webhook_is_known_by_its_parents_key() -> None:
    blocks = {"signature": samples.signature("sub-account's"), "parent_signature": samples.signature()}
    hook = mailgun_webhook.read(samples.webhook(mailgun("delivered"), **blocks))
    made = hook.signer([OURS])
    assert made is not None
    assert made.token == blocks["parent_signature"]["token"], "the token that was signed is the one that counts once"


@pytest.mark.parametrize("part", ["timestamp", "token", "signature"])
def test_any_other_octet_under_a_signature_makes_it_a_wrong_one(part: str) -> None:
    block = samples.signature()
    block[part] = block[part][:-1] + ("1" if block[part][-1] != "1" else "2")
    assert mailgun_webhook.read(samples.webhook(mailgun("delivered"), signature=block)).signer([OURS]) is None


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'{"signature":{}}', b"\xff", b"timestamp=1&token=2"])
def test_what_is_no_webhook_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(NotAnEvent):
        mailgun_webhook.read(raw)


# ── Amazon SES ───────────────────────────────────────────────────────────────────────────────────

SES_KINDS: dict[str, tuple[str, str] | None] = {
    "Send": ("accepted", ""),
    "Delivery": ("delivered", ""),
    "Bounce UnsubscribedRecipient": ("unsubscribe", ""),
    "Complaint": ("complaint", "abuse"),
    "Complaint without words": ("complaint", ""),
    "Complaint not-spam": ("complaint", "not-spam"),
    "Complaint OnAccountSuppressionList": ("complaint", "on-account-suppression-list"),
    "DeliveryDelay": ("bounce", "delayed"),
    "DeliveryDelay without words": ("bounce", "delayed"),
    "Subscription": ("unsubscribe", ""),
    "Subscription of one topic": ("unsubscribe", ""),
    "Subscription kept": None,
    "Open": None,
    "Click": None,
    "Of the future": None,
}
"""All others are bounces for good."""


def told_by_ses(name: str, **how: Any) -> tuple[ProviderEvent, ...]:
    """Return what the event says."""
    return ses_events.parse(orjson.dumps(ses(name, **how)) + b"\n").events


@pytest.mark.parametrize("name", SES_EVENTS)
def test_every_event_of_ses_has_its_kind(name: str) -> None:
    expected = SES_KINDS.get(name, ("bounce", "failed"))
    found = told_by_ses(name)
    assert [(e.kind, e.action) for e in found] == [k for k in [expected] if k]
    for event in found:
        assert (event.token, event.attempt, event.recipient, event.provider_id) == (TOKEN, 2, ADDRESS, SES_ID)
        assert abs(event.at - AT) < timedelta(minutes=2)
        assert ADDRESS not in repr(event.reply)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Bounce Permanent", ("hard", True, "suppress")),
        ("Bounce Suppressed", ("hard", True, "suppress")),
        ("Bounce without words", ("hard", True, "suppress")),
        ("Bounce NoEmail", ("hard", True, "suppress")),
        ("Bounce of a new subtype", ("unknown", False, "ask")),
        ("Bounce ContentRejected", ("policy_content", False, "fail")),
        ("Bounce OnAccountSuppressionList", ("hard", True, "suppress")),
        ("Bounce Transient", ("soft", False, "retry")),
        ("Bounce MailboxFull", ("mailbox_full", False, "retry")),
        ("Bounce Transient of a new subtype", ("soft", False, "retry")),
    ],
)
def test_what_a_bounce_at_ses_means(name: str, meant: tuple[str, bool, str]) -> None:
    (event,) = told_by_ses(name)
    assert means(event) == meant


@pytest.mark.parametrize(
    "name",
    ["Bounce of a new subtype", "Bounce Undetermined",
     "Bounce ContentRejected", "Bounce AttachmentRejected", "Bounce MessageTooLarge", "Reject", "Rendering Failure"],
)  # fmt: skip
def test_a_bounce_that_does_not_say_that_the_address_is_dead_suppresses_nobody(name: str) -> None:
    (event,) = told_by_ses(name)
    assert not means(event)[1]


def test_a_bounce_that_another_system_reports_is_not_sess_own_word() -> None:
    assert told_by_ses("Bounce Permanent")[0].reported_by == "ses"
    assert told_by_ses("Bounce later")[0].reported_by == ""


@pytest.mark.parametrize("name", ["Bounce Permanent", "Complaint", "Delivery"])
def test_the_older_notifications_are_read_as_well_and_known_by_sess_id(name: str) -> None:
    (old,), (new,) = told_by_ses(name, older=True), told_by_ses(name)
    assert (old.kind, old.recipient, old.provider_id) == (new.kind, new.recipient, new.provider_id)
    assert (old.token, old.attempt) == ("", 0)


def test_without_tags_the_token_of_our_message_id_counts() -> None:
    assert told_by_ses("Bounce Permanent", tags={})[0].token == TOKEN


def test_without_a_token_each_recipient_has_an_event_of_its_own() -> None:
    event = ses("Bounce Permanent", older=True)
    event["bounce"]["bouncedRecipients"] += [{"emailAddress": "ben@customer.test"}]
    found = ses_events.parse(orjson.dumps(event)).events
    assert [e.recipient for e in found] == [ADDRESS, "ben@customer.test"]
    assert len({e.event_id for e in found}) == 2


def test_a_repeated_event_has_the_same_name_and_another_one_has_another() -> None:
    names = {name: told_by_ses(name)[0].event_id for name in ("Send", "Delivery", "Complaint", "Bounce Permanent")}
    assert len(set(names.values())) == 4
    assert names["Delivery"] == told_by_ses("Delivery")[0].event_id


def test_the_greeting_of_event_publishing_is_fine_and_says_nothing() -> None:
    told = ses_events.parse(b"Successfully validated SNS topic for Amazon SES event publishing.")
    assert (told.name, told.events) == ("validated", ())
    hello = orjson.dumps({"notificationType": "AmazonSnsSubscriptionSucceeded", "message": "You have ..."})
    assert ses_events.parse(hello).events == ()


@pytest.mark.parametrize(
    "raw",
    [b"", b"hello", b"[]", b'{"eventType": "Bounce"}', b'{"eventType":"Delivery","delivery":{},"mail":{}}',
     orjson.dumps(ses("Delivery", timestamp="") | {"delivery": {"recipients": [ADDRESS]}}),
     orjson.dumps(ses("Bounce Permanent") | {"bounce": {"timestamp": "2026-11-25T12:00:00Z"}})],
)  # fmt: skip
def test_what_is_no_event_of_ses_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(NotAnEvent):
        ses_events.parse(raw)


# ── whatever comes ───────────────────────────────────────────────────────────────────────────────

BODIES = Path("tests/data/webhooks.jsonl").read_bytes().splitlines()


def test_bodies_that_are_whole_are_all_read_and_come_to_facts() -> None:
    assert sum(fuzz_webhooks.read(body) for body in BODIES) >= len(MAILGUN_EVENTS) + len(SES_EVENTS) - 10


def test_1500_broken_bodies_crash_nothing_and_are_read_soon() -> None:
    found = fuzz_webhooks.fuzz(BODIES, range(1_500))
    assert found.crashes == ()
    assert found.slowest_s < SLOWEST_S
