"""Finds what a server said inside what a program wrote about it: code, enhanced code, words, stage, host."""

import re
from dataclasses import dataclass

from schemas.sending import Stage

MAX_TEXT = 2_000
UNSAID: Stage = "body"
"""The stage of a reply whose report does not say where it was given: nobody answers there, no stage's rule applies."""

ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_REPLY = re.compile(
    r"(?<![\w.@:/=#-])((?:^[45]\d|[45][0-5])\d)"
    r"(?:(?=[ -]{1,3}#?[45]\.\d{1,3}\.\d{1,3}\b)|-(?=[\w'\"<(\[])|(?=: ?<|: [a-z])|(?= {1,3}[^\s\d.%:])|(?= : )"
    r"|(?= [45][0-5]\d )|(?=\s*$))"
    r"[ -]{0,3}",
    re.IGNORECASE | re.MULTILINE,
)
_ENHANCED = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)")
_CONTINUED = re.compile(r"(?<![\w.])([45][0-5]\d)-(?:[45]\.\d{1,3}\.\d{1,3}\b)?[ \t]*")
_IRONPORT = re.compile(r"^[45]\.\d\.\d - [^\n]{0,60}? (?=\d{3}[- '])")
_ERROR_CODE = re.compile(r"ERROR_CODE *: *(\d{3}), *ERROR_CODE *: *", re.IGNORECASE)
_SAYS_LITTLE = re.compile(r"(?:\.\.\. |^)(?:service unavailable|remote protocol error)\W*$", re.IGNORECASE)
_END = (
    r"\n[ \t]*\n|\n[ \t]*(?:giving up on|i'm not going to try|--|original message)|\(in +reply +to|\(delivery attempts:"
    r"|\n[ \t]*(?:<<<|>>>|\.\.\. while)"
)
_STAGES: tuple[tuple[Stage, re.Pattern[str]], ...] = (
    (
        "dot",
        re.compile(
            r"in reply to end of data|after end of data|failed after i sent|final data|end of (?:message|data)\b"
            r"|after sending (?:message|data)|\(state 1[578]\)|for text command",
            re.IGNORECASE,
        ),
    ),
    (
        "rcpt",
        re.compile(
            r"in reply to rcpt|after (?:pipelined )?rcpt|(?:our|for|following) rcpt|does not like recipient"
            r"|rcpt[- ]to validation|\[rcpt_to\]|\(state 14\)|\bsmtp:rcpt\b|\bin rcpt to\b|\bto (?:the )?rcpt to\b"
            r"|rcpt to: ?<[^ >]{1,300}>\W{0,3}(?:\w{1,10} )?[<>]{3} ?[45]\d\d|rcpt to generated"
            r"|rcpt[ _]to[ :]+<?[^ <>]{3,200}>? ?(?:failed|error|refused|rejected|generated|command)",
            re.IGNORECASE,
        ),
    ),
    (
        "mail",
        re.compile(
            r"in reply to mail|after (?:pipelined )?mail\b|(?:our|for|following) mail from|sender was rejected"
            r"|mail from:? command|\bin mail from\b|\bsmtp:mail\b",
            re.IGNORECASE,
        ),
    ),
    ("data", re.compile(r"in reply to data|after (?:pipelined )?data|failed on data", re.IGNORECASE)),
    ("ehlo", re.compile(r"in reply to (?:helo|ehlo)|after (?:helo|ehlo)|my name was rejected", re.IGNORECASE)),
    ("connect", re.compile(r"refused to talk to me|after initial connection|greeting failed", re.IGNORECASE)),
)
_COMMAND = re.compile(r"^[ \t]*>>> *(rcpt|mail|data|ehlo|helo|\.)", re.IGNORECASE | re.MULTILINE)
_COMMANDS: dict[str, Stage] = {
    "rcpt": "rcpt",
    "mail": "mail",
    "data": "dot",
    ".": "dot",
    "ehlo": "ehlo",
    "helo": "ehlo",
}
_GLUED = re.compile(r"(?<=[\w>])\.\.\.(?=\w)")
_NOBODY_LEFT = re.compile(r"<<< *\d{3}[^\n]{0,80}(?:no valid recipients|need rcpt|no recipients)", re.IGNORECASE)
_HOST = re.compile(
    r"\b(?:host|talking to|connected to|by|server)[: ]+([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+){1,10})", re.IGNORECASE
)
_PROVIDERS = (
    ("google", re.compile(r"google(?:mail)?\.com|gsmtp|gmail", re.IGNORECASE)),
    ("microsoft", re.compile(r"outlook\.com|hotmail|office365|exchangelabs|microsoft", re.IGNORECASE)),
    ("yahoo", re.compile(r"yahoo|yahoodns|verizonmedia|aol\.com", re.IGNORECASE)),
    ("apple", re.compile(r"icloud\.com|apple\.com|me\.com", re.IGNORECASE)),
    ("zoho", re.compile(r"\bzoho", re.IGNORECASE)),
    ("ses", re.compile(r"amazonses|awsapps", re.IGNORECASE)),
    ("mailgun", re.compile(r"mailgun", re.IGNORECASE)),
    ("mimecast", re.compile(r"mimecast", re.IGNORECASE)),
    ("proofpoint", re.compile(r"pphosted|proofpoint", re.IGNORECASE)),
    ("barracuda", re.compile(r"barracuda", re.IGNORECASE)),
    ("gmx", re.compile(r"\bgmx\.|kundenserver|1and1|ionos", re.IGNORECASE)),
    ("mailru", re.compile(r"mail\.ru", re.IGNORECASE)),
    ("yandex", re.compile(r"yandex", re.IGNORECASE)),
    ("tencent", re.compile(r"\bqq\.com", re.IGNORECASE)),
    ("facebook", re.compile(r"\bfacebook\.com|facebookmail", re.IGNORECASE)),
    ("messagelabs", re.compile(r"messagelabs\.com", re.IGNORECASE)),
    ("verizon", re.compile(r"\bvtext\.com|\bvzwpix\.com", re.IGNORECASE)),
    ("docomo", re.compile(r"docomo", re.IGNORECASE)),
    ("kddi", re.compile(r"ezweb\.ne\.jp|\bau\.com|auone|dion\.ne\.jp", re.IGNORECASE)),
    ("orange", re.compile(r"orange\.fr|wanadoo|\bofr_?\d|\blpn", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Said:
    """What was said; code 0 and the whole passage when no reply is quoted."""

    code: int
    enhanced: str
    text: str


def said(passage: str) -> Said:
    """Return the reply that a passage quotes: the first, without its continuation marks."""
    passage = _ERROR_CODE.sub(r"\1 ", _IRONPORT.sub("", passage[:MAX_TEXT].strip()))
    found = _REPLY.search(passage)
    if found is None:
        alone = _ENHANCED.search(passage)
        return Said(0, alone[1] if alone else "", _flat(passage))
    rest = passage[found.end() :]
    end = re.search(rf"{_END}|\n[ \t]*(?!{found[1]})[45]\d\d[ -]", rest, re.IGNORECASE)
    reply = rest[: end.start()] if end is not None else rest
    reply = re.sub(
        rf"(?:^|(?<=\s))(?:<<< *)?{found[1]}(?:-| (?=[45]\.\d))(?:[45]\.\d{{1,3}}\.\d{{1,3}}\b)?[ \t]*", "", reply
    )
    near = _enhanced(rest[:400] if end is None else rest[: min(end.start(), 400)], found[1])
    enhanced = near or _enhanced(passage[: found.start()], found[1])
    text = _flat(reply).lstrip("'\"#- ")
    if _SAYS_LITTLE.search(text):
        said_before = passage[: found.start()].rstrip().rpartition("\n")[2]
        text = f"{_flat(said_before)} {text}" if not said_before.lstrip().startswith(("<", "-")) else text
    return Said(int(found[1]), enhanced, text.removeprefix(enhanced).lstrip(" :-") if enhanced else text)


def _enhanced(text: str, code: str) -> str:
    """Return the first enhanced code that agrees with the code: replies quote others; else the first, else ""."""
    every = [found[1] for found in _ENHANCED.finditer(text)]
    return next((one for one in every if one[0] == code[0]), every[0] if every else "")


def stage_of(passage: str) -> Stage | None:
    """Return where the conversation stood, as far as a passage says."""
    told = " ".join(passage.split())  # programs fold what they say, between any two words
    for stage, words in _STAGES:
        if words.search(told):
            return stage
    command = None
    for command in _COMMAND.finditer(passage[:MAX_TEXT]):
        following = passage[command.end() : command.end() + 300]
        if re.search(r"^[ \t]*<<< *[45]\d\d", following, re.MULTILINE):
            break
    if command is None:
        return None
    stage = _COMMANDS[command[1].lower()]
    return "rcpt" if stage == "dot" and _NOBODY_LEFT.search(passage) else stage  # RCPT and DATA were pipelined


def host_in(passage: str) -> str:
    """Return the host name that a passage says it spoke to, or ""."""
    found = _HOST.search(passage)
    return found[1].lower() if found else ""


def provider_of(*texts: str) -> str:
    """Guess whose server a text speaks of; the first text that names one wins."""
    for text in texts:
        for name, words in _PROVIDERS:
            if words.search(text):
                return name
    return ""


def _flat(text: str) -> str:
    """Return the text as one line, and an address apart from what some servers glue to it: `<a@b.test>...User`."""
    return _GLUED.sub("... ", " ".join(text.split()))
