"""Complaints: feedback reports (RFC 5965), and the ones that come as a bare forwarded message."""

import re

from adapters.reports.dsn import MAX_RECIPIENTS
from adapters.reports.finding import Finding
from adapters.reports.mime import headers_of
from adapters.reports.quoted import ADDRESS
from adapters.reports.report import Report

_BARE = re.compile(
    r"complaint about message from|feedback loop|fbl[-_ ]|abuse report|spam (report|complaint)", re.IGNORECASE
)
_NOBODY = re.compile(r"^(redacted|hashed|undisclosed|x+)?@?$", re.IGNORECASE)
_DAEMON = re.compile(r"^(feedback|fbl|abuse|staff|complaints?|postmaster|scomp)", re.IGNORECASE)


def findings(report: Report) -> list[Finding]:
    """Return a complaint for each recipient that the report names; one without a name when it is redacted."""
    fields = headers_of(report.feedback)
    if not report.feedback and "feedback-type:" in report.fields.lower():
        fields = headers_of(report.fields[report.fields.lower().index("feedback-type:") :])
    kinds = fields.get("feedback-type", [])
    if not kinds and not _is_bare(report):
        return []
    named = [*fields.get("original-rcpt-to", ()), *fields.get("removal-recipient", ())]
    original = headers_of(report.original.split("\n\n", 1)[0].lstrip("\n"))
    recipients = _addresses(named) or _addresses(
        [*original.get("x-hmxmroriginalrecipient", ()), *original.get("to", ())]
    )
    source = (fields.get("reporting-mta") or fields.get("user-agent") or [""])[0]
    return [
        Finding(
            kind="complaint",
            recipient=recipient,
            family="arf",
            action=kinds[0].lower() if kinds else "abuse",
            text=" ".join(fields.get("auth-failure", ()))[:200],
            reporting_mta=source[:200],
        )
        for recipient in recipients[:MAX_RECIPIENTS] or [""]
    ]


def _is_bare(report: Report) -> bool:
    sender = ADDRESS.search(report.letter.header("from"))
    return (
        bool(report.original)
        and sender is not None
        and _DAEMON.match(sender[0]) is not None
        and (_BARE.search(report.letter.header("subject")) is not None)
    )


def _addresses(values: list[str]) -> list[str]:
    found = [match[0] for value in values for match in ADDRESS.finditer(value)]
    return list(dict.fromkeys(address for address in found if not _NOBODY.match(address)))
