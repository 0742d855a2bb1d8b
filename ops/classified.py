"""Saved reports, read and understood: what `mailfleet classify` prints."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from adapters.interface import reply_of
from adapters.reports.finding import Finding
from adapters.reports.parse import parse
from streams.delivery.verdict import meaning

MAX_MESSAGE = 64 * 1024 * 1024
_NEXT = re.compile(rb"\n\r?\n(?=From [^\n]{0,300}\d\d:\d\d[^\n]{0,60}\r?\n)")


class Classified(msgspec.Struct, frozen=True, rename={"reply_class": "class"}):
    """One recipient of one message.

    `file` is the file's own name, as labels have it; `index` counts the recipients in that file from 1, through
    all messages of an mbox; `message` is which of them it is, from 1; `path` is where the file lies.
    """

    file: str
    index: int
    recipient: str
    reply_class: str
    hard: bool
    status: str
    reply: str
    scope: str
    action: str
    rule: str
    kind: str
    provider: str
    token: str
    text: str
    message: int = 1
    path: str = ""


def files_of(path: Path) -> Iterator[Path]:
    """Yield the files that may hold messages: a file itself, those of a folder, of a Maildir what is in cur and new."""
    if not path.is_dir():
        yield path
        return
    inside = sorted(path.iterdir())
    if {"cur", "new"} <= {one.name for one in inside}:  # beside them: tmp, unfinished, and a server's own files
        inside = [one for one in inside if one.is_dir() and one.name != "tmp"]
    for one in inside:
        if one.is_dir() or (one.is_file() and not one.name.startswith(".")):
            yield from files_of(one)


def messages(path: Path) -> list[bytes]:
    """Return the messages of a file: one, or those of an mbox."""
    with path.open("rb") as file:
        raw = file.read(MAX_MESSAGE)
    return _NEXT.split(raw) if raw.startswith(b"From ") else [raw]


def classified(path: Path) -> Iterator[Classified]:
    """Yield what each recipient's report means, of each message behind a path."""
    for file in files_of(path):
        found = [(at, one) for at, raw in enumerate(messages(file), 1) for one in parsed_and_understood(raw)]
        for index, (at, one) in enumerate(found, 1):
            yield msgspec.structs.replace(one, file=file.name, index=index, message=at, path=str(file))


def parsed_and_understood(raw: bytes) -> list[Classified]:
    """Return what one message means for each of its recipients, at least one."""
    return [understood(finding, index) for index, finding in enumerate(parse(raw), 1)]


def understood(finding: Finding, index: int = 1) -> Classified:
    """Return what a finding means."""
    reply = reply_of(finding.provider or "smtp", finding.stage, finding.code, f"{finding.status} {finding.text}")
    meant = meaning(finding.kind, finding.action, reply)
    return Classified(
        file="",
        index=index,
        recipient=finding.recipient,
        reply_class=meant.report_class,
        hard=meant.hard,
        status=finding.status,
        reply=str(finding.code) if finding.code else "",
        scope=meant.scope,
        action=meant.action,
        rule=meant.rule,
        kind=finding.kind,
        provider=finding.provider,
        token=finding.token,
        text=reply.text,
    )
