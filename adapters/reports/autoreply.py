"""Letters that come back: auto-replies (RFC 3834), receipts (RFC 8098), challenges, human replies."""

import re

from adapters.reports.finding import Finding, Kind
from adapters.reports.quoted import ADDRESS
from adapters.reports.report import ANSWER, Report

_CHALLENGE = re.compile(
    r"challenge[- ]response|awaiting (your )?(verification|confirmation|approval)|spam ?arrest|\bboxbe\b"
    r"|mailinblack|\btmda\b"
    r"|(message|mail) (is|has been) (being )?held (until|for|pending)",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"(please )?(confirm|verify) (that )?(your|you are|you're) (message|e-?mail|a? ?human|(a )?real|sen(t|d)|not a)"
    r"|click (here|the link|below)[^.]{0,60}(verify|confirm|deliver) ",
    re.IGNORECASE,
)
"""What people ask each other too: a challenge only where a program wrote it, or where nothing was answered."""
_QUOTED = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_AWAY = re.compile(
    r"out of (the )?office|automatic reply|auto(matic)?[- ]?(reply|response)|autoresponder|\baway\b|on vacation"
    r"|vacation (reply|message|notice)"
    r"|holiday|abwesen|automatische antwort|absence|r[ée]ponse automatique|respuesta autom|risposta automatica"
    r"|fuera de la oficina|resposta autom|автоответ|自動返信|自动回复|自動応答|不在|afwezig|fr[åa]nvaro|poissa",
    re.IGNORECASE,
)
_MARKS = ("x-autoreply", "x-autorespond", "x-autoresponder", "x-auto-reply", "x-vacation", "x-mail-autoreply")


def finding(report: Report) -> Finding | None:
    """Return what the letter is and from whom; None when it is neither an automatic nor a human answer."""
    letter = report.letter
    kind = _kind(report)
    if kind is None:
        return None
    sender = ADDRESS.search(letter.header("from")) or ADDRESS.search(letter.header("reply-to"))
    return Finding(kind=kind, recipient=sender[0] if sender is not None else "", family="autoreply")


def _kind(report: Report) -> Kind | None:
    letter = report.letter
    subject = letter.header("subject")
    if _is_receipt(report):
        return "auto_reply"
    automatic, answered = _is_automatic(report), ANSWER.match(subject) is not None
    words = _QUOTED.sub("", f"{subject}\n{report.written[:1_500]}")
    if _CHALLENGE.search(words) or ((automatic or not answered) and _ASKS.search(words)):
        return "challenge"
    if automatic or (not answered and _AWAY.search(subject)):
        return "auto_reply"
    answers = bool(letter.headers.get("in-reply-to") or letter.headers.get("references"))
    return "reply" if answers or answered else None


def _is_receipt(report: Report) -> bool:
    """Whether a mail program says that the mail was displayed or deleted: nobody wrote anything."""
    kinds = (report.letter.content_type.lower(), *(part.content_type for part in report.letter.parts))
    return any("disposition-notification" in kind for kind in kinds)


def _is_automatic(report: Report) -> bool:
    letter = report.letter
    return (
        letter.header("auto-submitted").lower().strip() not in ("", "no")
        or letter.header("precedence").lower() in ("auto_reply", "auto-reply")
        or any(name in letter.headers for name in _MARKS)
    )
