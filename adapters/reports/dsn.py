"""Delivery status notifications (RFC 3464), in their own part or written into the text."""

import re

from adapters.reports.finding import Finding, Kind
from adapters.reports.quoted import ADDRESS, UNSAID, Said, host_in, provider_of, said, stage_of
from adapters.reports.report import Report

MAX_RECIPIENTS = 200
_FIELD = re.compile(r"^([A-Za-z][A-Za-z-]{1,40})[ \t]*:[ \t]*(.*)$")
_STATUS = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
_KINDS: dict[str, Kind] = {"delivered": "success", "relayed": "success", "expanded": "success"}
_ACTION = re.compile(r"failed|failure|delayed|delivered|relayed|expanded", re.IGNORECASE)
_FIRST_OF_MANY = re.compile(r"^\d{3}-")
_NO_WORDS = re.compile(r"^[\W\d]*$|^71$")

Block = dict[str, str]


def findings(report: Report) -> list[Finding]:
    """Return a finding for each recipient block; none when the message has no such block."""
    message: Block = {}
    found: dict[str, Finding] = {}
    for block in _blocks(report.fields):
        if not ("final-recipient" in block or "original-recipient" in block):
            message = {**block, **message}
            continue
        finding = _finding(report, message | block)
        if finding is not None and len(found) < MAX_RECIPIENTS:
            found.setdefault(finding.recipient.lower(), finding)
    return list(found.values())


def _blocks(text: str) -> list[Block]:
    """Return the groups of fields; a second recipient or a blank line begins another."""
    blocks: list[Block] = [{}]
    name = ""
    for line in text.split("\n"):
        field = _FIELD.match(line)
        if not line.strip():
            name = ""
            if blocks[-1]:
                blocks.append({})
        elif field is not None:
            name = field[1].lower()
            if name in blocks[-1] and name in ("final-recipient", "original-recipient"):
                blocks.append({})
            blocks[-1].setdefault(name, field[2].strip())
        elif name and len(blocks[-1][name]) < 4_000:
            blocks[-1][name] += "\n" + line.strip()
    return _joined(blocks)


def _joined(blocks: list[Block]) -> list[Block]:
    """A recipient that a blank line parts from its action and status gets them back."""
    whole: list[Block] = []
    for block in blocks:
        lost = whole and "final-recipient" in whole[-1] and "action" not in whole[-1] and "status" not in whole[-1]
        if lost and "final-recipient" not in block and ("action" in block or "status" in block):
            whole[-1] |= block
        elif block:
            whole.append(block)
    return whole


def _finding(report: Report, block: Block) -> Finding | None:
    recipient = _address(block.get("original-recipient", "")) or _address(block.get("final-recipient", ""))
    final = _address(block.get("final-recipient", "")) or recipient
    action = _ACTION.search(block.get("action", ""))
    status = _STATUS.search(block.get("status", ""))
    if not recipient or (action is None and status is None and "diagnostic-code" not in block):
        return None
    acted = "failed" if action is None or action[0].lower() == "failure" else action[0].lower()
    passage = passage_of(report.written, recipient, final)
    diagnostic = _diagnostic(block.get("diagnostic-code", ""))
    quoted = _best(said(transcript_of(diagnostic, report.written)), passage)
    remote = _host(block.get("remote-mta", "")) or host_in(diagnostic) or host_in(passage)
    enhanced = quoted.enhanced
    if status is not None and (not enhanced or enhanced.endswith(".0.0")):
        enhanced = status[1]
    return Finding(
        kind=_KINDS.get(acted, "bounce"),
        recipient=recipient,
        family="dsn",
        status=enhanced,
        action=acted,
        code=quoted.code,
        text=quoted.text,
        stage=stage_of(diagnostic) or stage_of(passage) or UNSAID,
        reporting_mta=_host(block.get("reporting-mta", "")),
        remote_mta=remote,
        provider=provider_of(remote, quoted.text, recipient, block.get("reporting-mta", "")),
    )


def _best(quoted: Said, passage: str) -> Said:
    """A diagnostic of no words, or of the first line of many, is completed by what the text says."""
    if quoted.code and not _NO_WORDS.match(quoted.text) and not passage:
        return quoted
    written = said(passage)
    if _NO_WORDS.match(quoted.text):
        if written.code or not quoted.code:
            return Said(written.code or quoted.code, quoted.enhanced or written.enhanced, written.text)
        return quoted
    if quoted.code == written.code and quoted.text[:40] == written.text[:40] and len(written.text) > len(quoted.text):
        return Said(quoted.code, quoted.enhanced or written.enhanced, written.text)
    return quoted


def passage_of(written: str, *addresses: str) -> str:
    """Return what the text says of a recipient: from the last line that begins with it, to the next blank part."""
    lower = written.lower()
    for address in addresses:
        start = lower.find(address.lower())
        if start >= 0:
            return written[start : start + 2_000]
    return written[:2_000]


def transcript_of(diagnostic: str, written: str) -> str:
    """Return a reply of many lines whole: Sendmail's diagnostic has the first line only, its transcript has all."""
    if not _FIRST_OF_MANY.match(diagnostic):
        return diagnostic
    start = written.find("<<< " + diagnostic.split("\n", 1)[0][:40])
    if start < 0:
        return diagnostic
    lines = []
    for line in written[start : start + 4_000].split("\n"):
        if not line.startswith("<<<"):
            break
        lines.append(line[4:])
    return "\n".join(lines)


def _diagnostic(value: str) -> str:
    kind, mark, rest = value.partition(";")
    return rest.strip() if mark and len(kind) < 40 and " " not in kind.strip() else value


def _address(value: str) -> str:
    found = ADDRESS.search(value)
    return found[0] if found is not None else value.partition(";")[2].strip(" <>\t\n")[:200]


def _host(value: str) -> str:
    words = (value.partition(";")[2] or value).split()
    return words[0].strip("()[];").lower()[:255] if words else ""
