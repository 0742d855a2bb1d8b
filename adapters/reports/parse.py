"""Reads one raw message, whatever it is, into findings: one per recipient, at least one, never an exception.

It says what a report says; what that means is the mind's (streams/delivery/verdict.py).
"""

import re
from itertools import islice

import msgspec

from adapters.reports import arf, autoreply, dsn, nonstandard, ses
from adapters.reports.finding import Finding
from adapters.reports.mime import headers_of, read
from adapters.reports.quoted import ADDRESS
from adapters.reports.report import Report, cut

_TOKEN = re.compile(r"(?<![a-z0-9])[a-z2-7]{39}(?![a-z0-9])", re.IGNORECASE)
_RETURN_PATHS = ("delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "apparently-to", "to")
_ANSWERS = ("in-reply-to", "references")
_MESSAGE_ID = re.compile(r"^[ \t>]*message-id[ \t]*:\s{0,3}(<[^<>\s]{1,400}>)", re.IGNORECASE | re.MULTILINE)
MAX_LOOK = 65_536
MAX_TOKENS = 50


def parse(raw: bytes) -> tuple[Finding, ...]:
    """Return what the message says, one finding per recipient; kind "unknown" when it says nothing that we know."""
    report = cut(read(raw))
    found = (
        ses.findings(report)
        or arf.findings(report)
        or dsn.findings(report)
        or _inside(report)
        or nonstandard.findings(report)
    )
    if not found:
        letter = autoreply.finding(report)
        found = [letter or Finding(kind="unknown", recipient=_sender(report), family="none")]
    token, message_id = _token(report), _original_id(report)
    return tuple(msgspec.structs.replace(finding, token=token, message_id=message_id) for finding in found)


def _inside(report: Report) -> list[Finding]:
    """Return what a report says that another system wrapped whole into a message of its own."""
    if "delivery-status" not in report.original[:MAX_LOOK] or not nonstandard.looks_like_bounce(report):
        return []
    return dsn.findings(cut(read(report.original[:MAX_LOOK].encode("utf-8", "replace"))))


def _sender(report: Report) -> str:
    found = ADDRESS.search(report.letter.header("from"))
    return found[0] if found is not None else ""


def _token(report: Report) -> str:
    return next(iter(tokens(report)), "")


def tokens(report: Report) -> tuple[str, ...]:
    """Return what may be the send's token, likeliest first: in the address it came to, then in what it returns.

    Other systems have words of the same shape: only the MAC tells ours.
    """
    headers = report.letter.headers
    places = [
        *(value for name in _RETURN_PATHS for value in headers.get(name, ())),
        report.fields[:MAX_LOOK],
        report.original[:MAX_LOOK],
        *(value for name in _ANSWERS for value in headers.get(name, ())),
        report.written[:MAX_LOOK],
    ]
    found = (word[0].lower() for place in places for word in _TOKEN.finditer(place))
    return tuple(dict.fromkeys(islice(found, MAX_TOKENS)))


def _original_id(report: Report) -> str:
    for place in (report.original[:MAX_LOOK], report.written[:MAX_LOOK], report.feedback):
        found = _MESSAGE_ID.search(place)
        if found is not None:
            return found[1]
    named = headers_of(report.feedback).get("original-message-id") or report.letter.headers.get("in-reply-to") or [""]
    return named[0][:400]
