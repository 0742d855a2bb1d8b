"""A report cut into what the reporting program wrote and the original that it returns."""

import re
from dataclasses import dataclass

from adapters.reports.mime import Letter, text_of_html

MAX_TEXT = 65_536

_CUT = re.compile(
    r"^[ \t>]*(?:"
    r"-{2,}[^\n]{0,40}?\b(?:copy of (?:the|your)|unsent message|original message|returned message|original mail"
    r"|message (?:header|text)|header(?:s)? of the (?:original|message)|undelivered message|below this line|body "
    r"of the message)"
    r"|(?:original message|message headers?|(?:the )?(?:original|undelivered) (?:message|mail) headers?) follows?"
    r"|(?:included is|below is|the following is|this is) a copy of (?:the|your)"
    r"|(?:original|first \d+ bytes of) (?:message|mail)[^\n]{0,20}:?$"
    r")|^(?:received|return-path|x-received|dkim-signature|delivered-to|x-originating-ip|message-id|arc-seal"
    r"|x-apparently-from|authentication-results) ?:",
    re.IGNORECASE | re.MULTILINE,
)
_FIELDS = re.compile(
    r"^(?:reporting-mta|final-recipient|original-recipient|feedback-type)[ \t]*:", re.IGNORECASE | re.MULTILINE
)
_FORWARDED = re.compile(r"^>[ >]*(?:final-recipient|reporting-mta)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_QUOTE = re.compile(r"^>[ ]?", re.MULTILINE)
ANSWER = re.compile(
    r"\W{0,2}(?:re|aw|antw|sv|vs|rv|tr|res|rif|r|odp|ynt|hv|回复|回覆|答复|答覆|返信|답장|회신)"
    r"(?:\[\d{1,3}\])?[ \t]?[:\uff1a]",
    re.IGNORECASE,
)
"""How a subject begins that answers another: what follows are the words of whoever wrote first."""
_ORIGINALS = ("message/rfc822", "text/rfc822-headers", "message/rfc822-headers", "message/partial", "message/global")


@dataclass(frozen=True)
class Report:
    """`written`: the program's own words; `fields`: machine-readable parts and all it wrote; `original`: source."""

    letter: Letter
    written: str
    fields: str
    feedback: str
    original: str


def cut(letter: Letter) -> Report:
    """Return the message cut apart; a text without parts is cut where the original begins."""
    plain: list[str] = []
    pages: list[str] = []
    fields: list[str] = []
    feedback: list[str] = []
    originals: list[str] = []
    for part in letter.parts:
        text = part.text[:MAX_TEXT]
        forwarded = _FORWARDED.search(text)
        if forwarded is not None:
            text = _QUOTE.sub("", text)
        if part.content_type in _ORIGINALS:
            originals.append(text)
        elif part.content_type == "message/feedback-report":
            feedback.append(text)
        elif part.content_type.endswith("delivery-status"):
            fields.append(text)
        elif originals:
            originals.append(text)  # the original's own parts, where its envelope is broken
        elif part.content_type == "text/html":
            pages.append(text_of_html(text))
        elif part.content_type.startswith(("text/", "message/")) or len(letter.parts) == 1:
            found = _CUT.search(text, 0 if forwarded is None else forwarded.start())
            plain.append(text[: found.start()] if found is not None else text)
            if found is not None:
                originals.append(text[found.start() :])
    written = "\n\n".join(plain if any(text.strip() for text in plain) else pages)[:MAX_TEXT]
    found = _FIELDS.search(written)
    written = written[: found.start()] if found is not None else written
    return Report(letter, written, "\n\n".join([*fields, *plain]), "\n\n".join(feedback), "\n\n".join(originals))
