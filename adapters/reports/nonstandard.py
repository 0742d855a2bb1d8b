"""Bounces without a machine-readable part: qmail, Exim, old Sendmail and Exchange, and all who write like them.

No format is known by name here. A report names a recipient at the start of a line, after words like
"delivered to", or in a header, and says the reason next to it; that is read.
"""

import re

from adapters.reports.dsn import MAX_RECIPIENTS
from adapters.reports.finding import Finding
from adapters.reports.mime import headers_of
from adapters.reports.quoted import ADDRESS, UNSAID, Said, host_in, provider_of, said, stage_of
from adapters.reports.report import ANSWER, Report

_A = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?"


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE | re.MULTILINE)


_MACHINE = _words(r"mailer[-_ ]?daemon", r"mdaemon", r"mail deliver\w* (sub)?system")
"""Senders that write nothing but reports."""
_DAEMON = _words(
    r"po+st[-_ ]?master",
    r"mail ?delivery",
    r"(mail|system) ?administrator",
    r"delivery[-_ ]?(agent|system|notification)",
    r"no-?reply@",
    r"bounce",
)
_SUBJECT = _words(
    r"undeliver",
    r"non-delivery",
    r"not (be )?deliver",
    r"unable to deliver",
    r"(failure|fail|failed|error|problem)\b.{0,40}(deliver|mail|notice|message)",
    r"delivery.{0,30}(fail|status|problem|error|delay|report|notif)",
    r"returned? (mail|to sender|message)",
    r"mail (system|delivery|failure|error)",
    r"warning: (could not send|message .{1,40} delayed)",
    r"bounce",
    r"non[- ]?remis",
    r"unzustellbar|zustell\w+ (fehl|nicht)|nicht zugestellt|zustellbericht",
    r"no se pudo entregar|no entregad|n[aã]o (foi )?entregue|[ée]chec (de|d'|de la )?(remise|distribution|envoi)",
    r"mancat[oa] (recapito|consegna)|onbestelbaar|niedostarcz|nie dostarczon|teslim edileme",
    r"недоставлен|не (может быть |было |был[ао]? )?доставлен",
    r"配信(でき|不能|エラー|失敗)|配達|届けられ|不達|エラーメール",
    r"退信|投[递遞]失[败敗]|(无法|未能|無法)(投递|送达|传递|投遞|傳遞)|반송|전송 ?실패|배달",
    r"mail could not",
    r"message (could not|not) ",
    r"error sending your mail",
    r"rejected",
)
_TOLD = _words(
    r"could(n't| not) be delivered",
    r"(unable|not able|n't able|impossible) to deliver",
    r"undeliver",
    r"delivery (has )?failed",
    r"was not delivered",
    r"did not reach",
    r"permanent (fatal )?error",
    r"returned to (you|sender)",
    r"failed recipients?",
    r"unzustellbar|nicht zugestellt|pas pu [êe]tre (remis|d[ée]livr|envoy|distribu)",
    r"no (pudo|se ha podido) (ser )?entrega|n[aã]o (pôde|pode|foi) (ser )?(entregue|enviad)",
    r"impossibile (consegnare|recapitare)|не (может быть |было )?доставлен",
    r"配信できません|配信されませんでした|届けることができません|(无法|未能|無法)(投递|送达|传递|投遞|傳遞)",
)
_TOLD_BY_A_DAEMON = _words(
    r"^error( message)?\b.{0,40}:[^\n]*$",
    r"^(?:[\w ]{0,12}[<>:]{1,4} *)?[45]\d\d[ -]",
    r"error.{0,30}deliver",
    r"rejected by",
)
_DELAYED = _words(
    r"\bdelayed\b",
    r"still (being retried|trying|in the queue)",
    r"will (be )?(retr|keep trying|continue)",
    r"temporary failure report",
    r"warning message only",
    r"has not yet been (delivered|collected)",
    r"do(es)? not need to (re-?)?send",
)
_AT_START = re.compile(
    rf"^[ \t>*]*(?:(?:(?:intended )?recipient|original-recipient|final-recipient|failed recipient"
    rf"|recipient address|user|address|e-?mail)[ \t]*:[ \t]*)?"
    rf"[\"'<(\[]{{0,2}}({_A})[\"'>)\]]{{0,2}}(?=[ \t]*(?:$|[:,;(\[\-]|on \w{{3}}[,.]|\.\.\.| +[A-Za-z0-9]))",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSED_LINE = re.compile(rf"^(?:[45]\d\d )?(?:[45]\.\d\.\d )?<({_A})>\.\.\.", re.MULTILINE)
_AFTER_WORDS = re.compile(
    rf"\b(?:deliver(?:ed|y|able)?|undeliverable|sen[dt]|mail(?:ing)?|message|addressed|forwarded|reach(?:ed)?"
    rf"|recipients?|userid|user|mailbox|address(?:es)?|email)"
    rf"(?:[ \t]+(?:your mail |your message |message |mail )?(?:to|for|of|is|was)(?: the following)?(?: (?:address"
    rf"|recipient|user|mailbox)(?:es|s)?)?)?"
    rf"(?=[\s:\"'<(\[])[ \t]*:?\s{{0,6}}[\"'<(\[]{{0,2}}({_A})",
    re.IGNORECASE,
)
_COMMAND = re.compile(rf"rcpt[ \t]*to[ \t]*:[ \t]*<?({_A})", re.IGNORECASE)
_TRANSCRIPT = re.compile(r"^[ \t]*-{2,}[^\n]{0,10}transcript of session", re.IGNORECASE | re.MULTILINE)
_SAYS_LITTLE = re.compile(r"\.\.\. (remote protocol error|service unavailable)", re.IGNORECASE)
_PASSED_ON = re.compile(r"(fwd?|wg) ?:", re.IGNORECASE)
_X400 = re.compile(rf"\bSMTP=({_A});", re.IGNORECASE)
_OURS = re.compile(r"mailer-daemon@|postmaster@", re.IGNORECASE)
MAX_LOOK = 16_384


def findings(report: Report) -> list[Finding]:
    """Return a finding for each recipient of a bounce; none when the message is no bounce."""
    if not looks_like_bounce(report):
        return []
    written = report.written[:MAX_LOOK]
    delayed = _DELAYED.search(f"{report.letter.header('subject')}\n{written}") is not None
    recipients = _recipients(report, written)
    passages = _passages(written, recipients)
    return [_finding(report, address, passage, delayed) for address, passage in zip(recipients, passages, strict=True)]


def looks_like_bounce(report: Report) -> bool:
    """Return whether a mail system wrote this because a delivery failed or waits."""
    letter = report.letter
    if "x-failed-recipients" in letter.headers or "delivery-status" in letter.content_type.lower():
        return True
    sender = letter.header("from")
    subject = letter.header("subject")
    if _MACHINE.search(sender):
        return True
    written = report.written[:4_000]
    titled, told = _SUBJECT.search(subject) is not None, _TOLD.search(written) is not None
    nobody = not sender or letter.header("return-path").strip() == "<>"
    answers = bool(letter.headers.get("in-reply-to") or letter.headers.get("references"))
    if answers and ANSWER.match(subject) and not nobody:
        return False  # people have such names, and such subjects are of the mail that they answer
    if _DAEMON.search(sender):
        return titled or told or _TOLD_BY_A_DAEMON.search(written) is not None
    if nobody:
        return titled or told
    return titled and told and not (answers or ANSWER.match(subject) or _PASSED_ON.match(subject))


def _recipients(report: Report, written: str) -> list[str]:
    letter = report.letter
    named = _unique(ADDRESS.findall(",".join(letter.headers.get("x-failed-recipients", ()))))
    if named:
        return named
    own = {
        address.lower()
        for name in ("to", "from")
        for value in letter.headers.get(name, ())
        for address in ADDRESS.findall(value)
    }
    for pattern in (_REFUSED_LINE, _X400, _AT_START, _AFTER_WORDS, _COMMAND):
        found = _unique(pattern.findall(written))
        others = [address for address in found if address.lower() not in own and not _OURS.match(address)]
        if others or (found and pattern is not _AFTER_WORDS):
            return others or found
    original = headers_of(report.original[:MAX_LOOK].split("\n\n", 1)[0])
    named = _unique(ADDRESS.findall(",".join(original.get("to", ()))))
    if len(named) == 1:
        return named
    anybody = [address for address in _unique(ADDRESS.findall(written)) if address.lower() not in own]
    return anybody[:1] or [""]


def _unique(addresses: list[str]) -> list[str]:
    seen: dict[str, str] = {}
    for address in addresses:
        seen.setdefault(address.lower().strip("."), address.strip("."))
    return list(seen.values())[:MAX_RECIPIENTS]


def _passages(written: str, recipients: list[str]) -> list[str]:
    """Return for each recipient what is said of it: until the next one, or in a transcript since the last."""
    lower = written.lower()
    at = [lower.find(address.lower()) if address else 0 for address in recipients]
    if _TRANSCRIPT.search(written) and _REFUSED_LINE.search(written):
        return _before(written, recipients)
    passages = []
    for address, start in zip(recipients, at, strict=True):
        if start < 0:
            passages.append(written)
            continue
        later = [other for other in at if other > start + len(address)]
        passage = written[start + len(address) : min(later, default=len(written))]
        told = said(passage).code or (_speaks(passage) and not said(written[:start]).code)
        passages.append(passage if told else written)
    return passages


def _before(written: str, recipients: list[str]) -> list[str]:
    """Old Sendmail: the line with the recipient says it all, or that the conversation before it failed."""
    passages = []
    last = 0
    for address in recipients:
        mark = written.find(f"<{address}>...", last)
        if mark < 0:
            passages.append(written)
            continue
        start, end = written.rfind("\n", 0, mark) + 1, written.find("\n", mark)
        end = end if end >= 0 else len(written)
        line = written[start:end]
        passages.append(written[last:end] if _SAYS_LITTLE.search(line) else f"{line}\n{written[last:start]}")
        last = end
    return passages


def _speaks(passage: str) -> bool:
    return len(re.findall(r"[^\W\d_]{3,}", passage[:400])) >= 2


def _finding(report: Report, address: str, passage: str, delayed: bool) -> Finding:
    quoted: Said = said(passage.lstrip(" \t>:.)]\"'"))
    remote = host_in(passage)
    reporter = ADDRESS.search(report.letter.header("from"))
    domain = reporter[0].rpartition("@")[2].lower() if reporter is not None else ""
    return Finding(
        kind="bounce",
        recipient=address,
        family="nonstandard",
        status=quoted.enhanced,
        action="delayed" if delayed else "failed",
        code=quoted.code,
        text=quoted.text,
        stage=stage_of(passage) or UNSAID,
        reporting_mta=domain,
        remote_mta=remote,
        provider=provider_of(remote, quoted.text, address, domain),
    )
