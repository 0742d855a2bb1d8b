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
    """One recipient of one message; `index` counts the message's recipients from 1."""

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


def messages(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the messages behind a path with their names: a file, an mbox, or a folder of them, sorted."""
    if path.is_dir():
        for inside in sorted(path.rglob("*")):
            if inside.is_file():
                yield from messages(inside)
        return
    with path.open("rb") as file:
        raw = file.read(MAX_MESSAGE)
    found = _NEXT.split(raw) if raw.startswith(b"From ") else [raw]
    for at, message in enumerate(found):
        yield (f"{path}#{at + 1}" if len(found) > 1 else str(path)), message


def classified(path: Path, name: str = "") -> Iterator[Classified]:
    """Yield what each recipient's report means; `name` stands for the path in the output."""
    for source, raw in messages(path):
        yield from parsed_and_understood(raw, name or source)


def parsed_and_understood(raw: bytes, source: str = "") -> list[Classified]:
    """Return what one message means for each of its recipients, at least one."""
    return [understood(finding, source, index) for index, finding in enumerate(parse(raw), 1)]


def understood(finding: Finding, source: str = "", index: int = 1) -> Classified:
    """Return what a finding means."""
    reply = reply_of(finding.provider or "smtp", finding.stage, finding.code, f"{finding.status} {finding.text}")
    meant = meaning(finding.kind, finding.action, reply)
    return Classified(
        file=source,
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
