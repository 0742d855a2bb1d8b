"""What Mailgun and Amazon post, whole, as their documentation shows it (2026-11), around mails of ours."""

import hashlib
import hmac
import itertools
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import orjson

from schemas.ids import ClientId, SendId
from streams.delivery.identity import normalise, recipient_of, token_of

KEY = b"k" * 32
ADDRESS = "anna.smith@customer.test"
RECIPIENT = recipient_of(normalise(ADDRESS), KEY)
TOKEN = token_of(RECIPIENT, ClientId("acme"), SendId("welcome-1"), KEY)
FORGED = token_of(RECIPIENT, ClientId("acme"), SendId("welcome-1"), b"x" * 32)
SIGNING_KEY = "0123456789abcdef0123456789abcdef"
AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-events"
_counter = itertools.count(1)

# ── Mailgun ──────────────────────────────────────────────────────────────────────────────────────

_COMMON: dict[str, Any] = {
    "id": "G9Bn5sl1TC6nu79C8C0bwg",
    "timestamp": AT.timestamp() + 0.153125,
    "log-level": "info",
    "recipient": ADDRESS,
    "recipient-domain": "customer.test",
    "recipient-provider": "Other",
    "tags": [],
    "campaigns": [],
    "user-variables": {"mailfleet-token": TOKEN, "mailfleet-attempt": "2"},
    "domain": {"name": "mg.firm.test"},
    "account": {"id": "5c9f1f0a2b"},
    "flags": {"is-routed": False, "is-authenticated": True, "is-system-test": False, "is-test-mode": False},
    "envelope": {
        "sender": "bounce+7e2f@mg.firm.test",
        "transport": "smtp",
        "targets": ADDRESS,
        "sending-ip": "192.0.2.25",
    },
    "message": {
        "headers": {
            "to": f"Anna Smith <{ADDRESS}>",
            "message-id": f"{TOKEN}@firm.test",
            "from": "Ben Firm <ben@firm.test>",
            "subject": "Hello",
        },
        "attachments": [],
        "size": 2014,
    },
    "storage": {
        "url": "https://storage-europe-west1.api.mailgun.net/v3/domains/mg.firm.test/messages/BAABAgX8lZ",
        "key": "BAABAgX8lZ",
    },
}
_DELIVERY: dict[str, Any] = {
    "tls": True,
    "mx-host": "mx1.customer.test",
    "attempt-no": 1,
    "description": "",
    "session-seconds": 1.433,
    "utf8": True,
    "code": 250,
    "message": "OK",
    "certificate-verified": True,
}
_DEVICE: dict[str, Any] = {
    "geolocation": {"country": "DE", "region": "BE", "city": "Berlin"},
    "ip": "198.51.100.7",
    "client-info": {
        "client-type": "browser",
        "client-os": "Linux",
        "device-type": "desktop",
        "client-name": "Firefox",
        "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
    },
}
_GONE = f"5.1.1 <{ADDRESS}>: Recipient address rejected: User unknown"
_ID_ALONE = {"message": {"headers": {"message-id": f"{TOKEN}@firm.test"}}}
_MAILGUN: dict[str, dict[str, Any]] = {
    "accepted": {"event": "accepted", "method": "HTTP", "delivery-status": None},
    "delivered": {"event": "delivered", "delivery-status": _DELIVERY},
    "failed permanent": {
        "event": "failed",
        "severity": "permanent",
        "reason": "bounce",
        "log-level": "error",
        "delivery-status": _DELIVERY | {"code": 550, "message": _GONE, "enhanced-code": "5.1.1", "bounce-type": "hard"},
    },
    "failed temporary": {
        "event": "failed",
        "severity": "temporary",
        "reason": "generic",
        "log-level": "warn",
        "delivery-status": _DELIVERY | {"code": 452, "message": "4.2.2 Mailbox full", "retry-seconds": 600},
    },
    "failed greylisted": {
        "event": "failed",
        "severity": "temporary",
        "reason": "greylisted",
        "delivery-status": _DELIVERY | {"code": 450, "message": "Greylisted, see you in 300 s", "retry-seconds": 300},
    },
    "failed suppressed": {
        "event": "failed",
        "severity": "permanent",
        "reason": "suppress-bounce",
        "log-level": "error",
        "delivery-status": {
            "attempt-no": 1,
            "code": 605,
            "description": "Not delivering to previously bounced address",
            "message": "",
            "session-seconds": 0.0,
        },
    },
    "failed unsubscribed": {
        "event": "failed",
        "severity": "permanent",
        "reason": "suppress-unsubscribe",
        "delivery-status": {"attempt-no": 1, "message": "", "description": "Not delivering to unsubscribed address"},
    },
    "failed old": {
        "event": "failed",
        "severity": "permanent",
        "reason": "old",
        "delivery-status": {"attempt-no": 9, "code": "499", "message": "Unable to connect to MX servers"},
    },
    "failed no mx": {
        "event": "failed",
        "severity": "permanent",
        "reason": "generic",
        "delivery-status": {"attempt-no": 1, "code": 498, "message": "No MX for customer.test", "description": ""},
    },
    "failed later": {
        "event": "failed",
        "severity": "permanent",
        "reason": "bounce",
        "flags": _COMMON["flags"] | {"is-delayed-bounce": True},
        "delivery-status": {"code": "5.1.1", "message": "smtp; 550 5.1.1 RESOLVER.ADR.RecipNotFound", "attempt-no": 1},
    },
    "rejected": {
        "event": "rejected",
        "log-level": "warn",
        "reject": {"reason": "Sandbox subdomains are for test purposes only.", "description": ""},
        "recipient": None,
    },
    "complained": {"event": "complained", "log-level": "warn"},
    "unsubscribed": {"event": "unsubscribed", **_DEVICE, **_ID_ALONE},
    "opened": {"event": "opened", **_DEVICE, **_ID_ALONE},
    "clicked": {"event": "clicked", "url": "https://firm.test/", **_DEVICE, **_ID_ALONE},
    "stored": {"event": "stored"},
    "of the future": {"event": "forwarded_to_the_moon", "altitude": 384_400},
}
MAILGUN_EVENTS = tuple(_MAILGUN)


def mailgun(name: str, **changes: Any) -> dict[str, Any]:
    """Return the event of this name as `event-data`; changes put "_" for "-" in names, None takes a field away."""
    event = deepcopy(_COMMON) | deepcopy(_MAILGUN[name]) | {key.replace("_", "-"): v for key, v in changes.items()}
    return {key: value for key, value in event.items() if value is not None}


def signature(key: str = SIGNING_KEY, token: str = "", at: datetime = AT) -> dict[str, str]:
    """Return a signature block as Mailgun makes it, with a token of its own."""
    token = token or hashlib.sha256(str(next(_counter)).encode()).hexdigest()[:50]
    stamp = str(int(at.timestamp()))
    made = hmac.new(key.encode(), (stamp + token).encode(), hashlib.sha256).hexdigest()
    return {"timestamp": stamp, "token": token, "signature": made}


def webhook(event: dict[str, Any], **blocks: dict[str, str]) -> bytes:
    """Return the posted body; `signature` and `parent_signature` take the place of a good one."""
    signed = {key.replace("_", "-"): value for key, value in (blocks or {"signature": signature()}).items()}
    return orjson.dumps(signed | {"event-data": event})


# ── Amazon SES ───────────────────────────────────────────────────────────────────────────────────

_STAMP = "2026-11-25T12:00:00.669Z"
SES_ID = "0102018f7c191be4-e9aedb9a-02f9-4d12-a87d-dd0099a07f8a-000000"
_MAIL: dict[str, Any] = {
    "timestamp": "2026-11-25T11:59:00.012Z",
    "source": "ben@firm.test",
    "sourceArn": "arn:aws:ses:eu-west-1:123456789012:identity/firm.test",
    "sendingAccountId": "123456789012",
    "messageId": SES_ID,
    "destination": [ADDRESS],
    "headersTruncated": False,
    "headers": [
        {"name": "From", "value": "Ben Firm <ben@firm.test>"},
        {"name": "To", "value": f"Anna Smith <{ADDRESS}>"},
        {"name": "Message-ID", "value": f"<{TOKEN}@firm.test>"},
        {"name": "Subject", "value": "Hello"},
        {"name": "MIME-Version", "value": "1.0"},
    ],
    "commonHeaders": {
        "from": ["Ben Firm <ben@firm.test>"],
        "to": [f"Anna Smith <{ADDRESS}>"],
        "messageId": f"<{TOKEN}@firm.test>",
        "subject": "Hello",
    },
    "tags": {
        "ses:operation": ["SendEmail"],
        "ses:configuration-set": ["fleet"],
        "ses:source-ip": ["192.0.2.25"],
        "ses:from-domain": ["firm.test"],
        "ses:caller-identity": ["mailfleet"],
        "mailfleet-token": [TOKEN],
        "mailfleet-attempt": ["2"],
    },
}
_FEEDBACK = "0102018f01000157-61b59c11-9236-11e6-8f96-7be8aexample-000000"
_OUT = "dns; a8-70.smtp-out.eu-west-1.amazonses.com"


def _bounce(type_: str, subtype: str, diagnostic: str = "", status: str = "", reporter: str = _OUT) -> dict[str, Any]:
    one: dict[str, Any] = {"emailAddress": ADDRESS}
    if diagnostic:
        one |= {"action": "failed", "status": status, "diagnosticCode": diagnostic}
    told = {
        "bounceType": type_,
        "bounceSubType": subtype,
        "bouncedRecipients": [one],
        "timestamp": _STAMP,
        "feedbackId": _FEEDBACK,
        "reportingMTA": reporter,
    }
    return {"eventType": "Bounce", "bounce": told}


def _complaint(feedback: str | None, subtype: str | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "complainedRecipients": [{"emailAddress": ADDRESS}],
        "timestamp": _STAMP,
        "feedbackId": _FEEDBACK,
        "complaintSubType": subtype,
        "arrivalDate": "2026-11-25T11:59:58.000Z",
    }
    if feedback is not None:
        told |= {"complaintFeedbackType": feedback, "userAgent": "AnyCompany Feedback Loop (V0.01)"}
    return {"eventType": "Complaint", "complaint": told}


def _subscription(unsubscribe_all: bool, status: str) -> dict[str, Any]:
    topics = [{"topicName": "ExampleTopicName", "subscriptionStatus": status}]
    old = {"unsubscribeAll": False, "topicSubscriptionStatus": [topics[0] | {"subscriptionStatus": "OptIn"}]}
    told = {
        "contactList": "ContactListName",
        "timestamp": _STAMP,
        "source": "UnsubscribeHeader",
        "newTopicPreferences": {"unsubscribeAll": unsubscribe_all, "topicSubscriptionStatus": topics},
        "oldTopicPreferences": old,
    }
    return {"eventType": "Subscription", "subscription": told}


_LISTED = (
    "Amazon SES did not send the message to this address because it is on the suppression list for your account. "
    "For more information about removing addresses from the suppression list, see the developer guide"
)
_SES: dict[str, dict[str, Any]] = {
    "Send": {"eventType": "Send", "send": {}},
    "Delivery": {
        "eventType": "Delivery",
        "delivery": {
            "timestamp": _STAMP,
            "processingTimeMillis": 11893,
            "recipients": [ADDRESS],
            "smtpResponse": "250 2.6.0 Message received",
            "remoteMtaIp": "203.0.113.9",
            "reportingMTA": "a8-70.smtp-out.eu-west-1.amazonses.com",
        },
    },
    "Bounce Permanent": _bounce("Permanent", "General", f"smtp; 550 5.1.1 <{ADDRESS}>... User unknown", "5.1.1"),
    "Bounce later": _bounce("Permanent", "General", "smtp; 550 5.1.1 user unknown", "5.1.1", "dsn; mx1.customer.test"),
    "Bounce without words": _bounce("Permanent", "General"),
    "Bounce NoEmail": _bounce("Permanent", "NoEmail"),
    "Bounce of a new subtype": _bounce("Permanent", "FellIntoTheSea"),
    "Bounce Suppressed": _bounce("Permanent", "Suppressed"),
    "Bounce OnAccountSuppressionList": _bounce("Permanent", "OnAccountSuppressionList", _LISTED, "5.1.1"),
    "Bounce UnsubscribedRecipient": _bounce("Permanent", "UnsubscribedRecipient"),
    "Bounce Transient": _bounce("Transient", "General", "smtp; 450 4.4.1 connection timed out", "4.4.1"),
    "Bounce MailboxFull": _bounce("Transient", "MailboxFull"),
    "Bounce MessageTooLarge": _bounce("Transient", "MessageTooLarge"),
    "Bounce ContentRejected": _bounce("Transient", "ContentRejected"),
    "Bounce AttachmentRejected": _bounce("Transient", "AttachmentRejected"),
    "Bounce Transient of a new subtype": _bounce("Transient", "AteIt"),
    "Bounce Undetermined": _bounce("Undetermined", "Undetermined"),
    "Complaint": _complaint("abuse"),
    "Complaint without words": _complaint(None),
    "Complaint not-spam": _complaint("not-spam"),
    "Complaint OnAccountSuppressionList": _complaint(None, "OnAccountSuppressionList"),
    "Reject": {"eventType": "Reject", "reject": {"reason": "Bad content"}},
    "Rendering Failure": {
        "eventType": "Rendering Failure",
        "failure": {
            "errorMessage": "Attribute 'attributeName' is not present in the rendering data.",
            "templateName": "MyTemplate",
        },
    },
    "DeliveryDelay": {
        "eventType": "DeliveryDelay",
        "deliveryDelay": {
            "timestamp": _STAMP,
            "delayType": "TransientCommunicationFailure",
            "expirationTime": "2026-11-26T00:26:40.914Z",
            "delayedRecipients": [
                {
                    "emailAddress": ADDRESS,
                    "status": "4.4.1",
                    "diagnosticCode": "smtp; 421 4.4.1 Unable to connect to remote host",
                }
            ],
        },
    },
    "DeliveryDelay without words": {
        "eventType": "DeliveryDelay",
        "deliveryDelay": {
            "timestamp": _STAMP,
            "delayType": "MailboxFull",
            "expirationTime": "2026-11-26T00:26:40.914Z",
            "delayedRecipients": [{"emailAddress": ADDRESS}],
        },
    },
    "Subscription": _subscription(True, "OptOut"),
    "Subscription of one topic": _subscription(False, "OptOut"),
    "Subscription kept": _subscription(False, "OptIn"),
    "Open": {
        "eventType": "Open",
        "open": {"ipAddress": "192.0.2.1", "timestamp": _STAMP, "userAgent": "Mozilla/5.0", "isBot": True},
    },
    "Click": {
        "eventType": "Click",
        "click": {
            "ipAddress": "192.0.2.1",
            "link": "https://firm.test/",
            "linkTags": None,
            "timestamp": _STAMP,
            "userAgent": "Mozilla/5.0",
        },
    },
    "Of the future": {"eventType": "Teleportation", "teleportation": {"timestamp": _STAMP}},
}
SES_EVENTS = tuple(_SES)


def ses(name: str, *, older: bool = False, **mail: Any) -> dict[str, Any]:
    """Return the event of this name; `older` as an identity notification, which has no tags and may lack headers."""
    event = deepcopy(_SES[name]) | {"mail": deepcopy(_MAIL) | mail}
    if older:
        event["notificationType"] = event.pop("eventType")
        for part in ("tags", "headers", "commonHeaders", "headersTruncated"):
            event["mail"].pop(part, None)
    return event
