"""Amazon SES notifications that reach a mailbox through SNS: JSON in the text of a mail."""

from typing import Any

import orjson

from adapters.reports.dsn import MAX_RECIPIENTS
from adapters.reports.finding import Finding, Kind
from adapters.reports.quoted import UNSAID, provider_of, said, stage_of
from adapters.reports.report import Report

MAX_JSON = 65_536
_KINDS: dict[str, tuple[Kind, str]] = {
    "bounce": ("bounce", "bouncedRecipients"),
    "complaint": ("complaint", "complainedRecipients"),
    "delivery": ("success", "recipients"),
}


def findings(report: Report) -> list[Finding]:
    """Return a finding for each recipient of a notification; none when the text has no such JSON."""
    if "notificationType" not in report.fields and "eventType" not in report.fields:
        return []
    told = _json(report.fields)
    kind, listed = _KINDS.get(str(told.get("notificationType") or told.get("eventType") or "").lower(), ("unknown", ""))
    about = told.get(str(told.get("notificationType") or told.get("eventType")).lower())
    recipients = about.get(listed) if isinstance(about, dict) else None
    if not isinstance(about, dict) or not isinstance(recipients, list):
        return []
    return [finding(kind, about, one) for one in recipients[:MAX_RECIPIENTS]]


def _json(text: str) -> dict[str, Any]:
    """Return the first JSON object of a text; mail may have folded its one line."""
    start = text.find("{")
    end = text.find("\n--\n", start)
    source = text[start : end if end >= 0 else None][:MAX_JSON] if start >= 0 else ""
    for candidate in (source, source.replace("\n", ""), source[: source.rfind("}") + 1].replace("\n", "")):
        try:
            told = orjson.loads(candidate)
        except ValueError:
            continue
        return told if isinstance(told, dict) else {}
    return {}


def finding(kind: Kind, about: dict[str, Any], one: object) -> Finding:
    """Return what a notification says of one of its recipients, an object or an address alone."""
    fields = one if isinstance(one, dict) else {"emailAddress": one}
    diagnostic = str(fields.get("diagnosticCode") or about.get("smtpResponse") or "").removeprefix("smtp;").strip()
    quoted = said(diagnostic)
    subtype = f"{about.get('bounceType', '')} {about.get('bounceSubType', '')}".strip()
    return Finding(
        kind=kind,
        recipient=str(fields.get("emailAddress", ""))[:320],
        family="ses",
        status=quoted.enhanced or str(fields.get("status", ""))[:11],
        action=str(
            fields.get("action") or about.get("complaintFeedbackType") or ("failed" if kind == "bounce" else "")
        )[:40],
        code=quoted.code,
        text=quoted.text or subtype[:200],
        stage=stage_of(diagnostic) or UNSAID,
        reporting_mta=str(about.get("reportingMTA", "")).removeprefix("dns;").strip()[:255],
        provider=provider_of(quoted.text) or "ses",
    )
