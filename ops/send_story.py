"""Tells a send's story in sentences, newest first: why this mailbox, what came of it, what holds it now."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from schemas.sending import WaitLimit

Row = Mapping[str, Any]
ENDS_BY_US = ("refused", "failed", "cancelled", "expired", "assumed_sent")
LIMITS: dict[WaitLimit, str] = {
    "not_before": "its own not_before has not come",
    "retry": "it is tried again after a pause",
    "gap": "every mailbox is in the gap after its last mail",
    "hours": "it is outside the sending hours",
    "daily_quota": "the mailboxes' quotas of the day are used up",
    "domain_quota": "the domain's quota of the day is used up",
    "route_ceiling": "the route's ceiling is reached",
    "route_out": "the route is out",
    "mailbox_out": "the mailboxes that are left are out of rotation, or slowed down",
    "domain_out": "the domain is out of rotation, or slowed down",
    "client_out": "the client's mail is out of rotation, or slowed down",
    "company_spread": "its company was written to a moment ago",
    "thread_mailbox": "the mailbox that must carry it is not free",
    "basis": "no route that is in use takes its consent basis",
    "stopped": "a person stopped it, its campaign, its client or all: `mailfleet start` ends that",
    "warm_up": "the warm-up caps of the day are used up",
    "resting": "the mailboxes that are left rest",
    "reserve": "the mailboxes that are left wait in reserve",
    "list_canary": "its list's first sends are out, and what bounces of them is awaited, or the list is held",
    "receiver_ceiling": "its receiver got as much as it may in 24 hours",
    "receiver_throttles": "its receiver throttles us",
    "dns": "what the DNS says closes the domain: `mailfleet check-domain` names the record",
    "no_mailbox": "the client has no mailbox that is in use",
    "turn": "others are before it",
}


def told(found: Mapping[str, list[Any]], waits: Sequence[Row]) -> list[dict[str, Any]]:
    """Return (at, sentence), newest first. `found` is what `explained` shows; `waits` what upstream was told last."""
    lines = [*_of_send(found["send"]), *_of_attempts(found["attempts"]), *map(_of_wait, waits)]
    lines += [
        (row["at"], f"the request was refused: {row['reason']}: {row['detail']}") for row in found["refused requests"]
    ]
    lines += [(row["at"], _of_bounce(row)) for row in found["bounces"]]
    lines += [(row["at"], f"a complaint came, told by {row['told by']}") for row in found["complaints"]]
    lines += [(row["at"], f"{row['mailbox']} got a reply ({row['kind']})") for row in found["replies"]]
    lines += [(row["since"], _of_suppression(row)) for row in found["the recipient is suppressed"]]
    newest = sorted(enumerate(lines), key=lambda line: (line[1][0], line[0]), reverse=True)
    return [{"at": at, "what": what} for _, (at, what) in newest if at is not None]


def _of_send(rows: list[Row]) -> Iterator[tuple[datetime, str]]:
    for row in rows:
        yield row["requested"], f"it was asked for, of campaign {row['campaign']}"
        if row["state"] in ENDS_BY_US:
            yield row["changed"], f"it ended as {row['state']}{_because(row['reason'])}"
        elif row["state"] == "admitted" and not row["waits for"]:
            yield row["changed"], "it waits for a mailbox; nothing has held it for long yet"


def _of_attempts(rows: list[Row]) -> Iterator[tuple[datetime, str]]:
    for row in rows:
        number = f"attempt {row['attempt']}"
        yield row["assigned"], f"{number} was given to {row['mailbox']} over route {row['route']}: {row['chosen by']}"
        if row["settled"] is not None:
            verdict = f", which means {row['verdict']}" if row["verdict"] else ""
            yield row["settled"], f"{number} came out as {row['outcome']}{_because(row['reply'].strip())}{verdict}"


def _of_wait(row: Row) -> tuple[datetime, str]:
    until = "" if row["earliest"] is None else f", until {row['earliest']:%Y-%m-%d %H:%M:%S %Z} at least"
    return row["at"], f"it waits: {LIMITS[row['limit']]}{until}{_because(row['rule'])}"


def _of_bounce(row: Row) -> str:
    again = ". It is sent again" if row["sent again"] else ""
    return f"attempt {row['attempt']} came back{_because(row['reply'])}, which means {row['rule']}{again}"


def _of_suppression(row: Row) -> str:
    whom = f"client {row['client']}" if row["client"] else "all clients"
    ends = f", until {row['until']:%Y-%m-%d %H:%M %Z}" if row["until"] is not None else ""
    ended = f", ended by {row['ended by']}" if row["ended by"] else ""
    return f"the recipient is suppressed for {whom} since then: {row['reason']}{_because(row['rule'])}{ends}{ended}"


def _because(text: object) -> str:
    return f": {text}" if text else ""
