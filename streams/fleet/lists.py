"""The canary of a new list: its first sends, then a wait for what bounces, then the rest or a hold.

A send belongs to the list that it names, else to its campaign; transactional mail belongs to none. What is held at
assignment is given back when provably unsent, and the wait begins anew when another takes its place; a recipient's
own refusal is what the canary is for, and stays.
"""

import sys
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from schemas.health import Evidence, ListChanged
from schemas.ids import ClientId
from schemas.policy import Lists, Policy
from schemas.sending import SendRequested

ListState = Literal["new", "canary", "cleared", "held"]
OF_A_CAMPAIGN = "campaign/"
"""Before a campaign's name, where it stands for a list."""


class ListRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A list of a client: how many of its sends are out or spent, and what came back."""

    state: ListState = "new"
    held: int = 0
    bounced: int = 0
    complained: int = 0
    until: datetime | None = None


UNKNOWN_LIST = ListRow()


def list_of(request: SendRequested) -> str:
    """Return the list that a send belongs to, "" for none."""
    if request.basis.type == "transactional":
        return ""
    return request.list_id or f"{OF_A_CAMPAIGN}{request.campaign}"


def bars(row: ListRow, rules: Lists, planned: int = 0) -> bool:
    """Whether no further send of the list may be assigned, with `planned` not yet in its row."""
    return room(row, rules) <= planned


def room(row: ListRow, rules: Lists) -> int:
    """Return how many further sends of the list may be assigned now."""
    if row.state == "held":
        return 0
    if row.state == "cleared" or not rules.canary_sends:
        return sys.maxsize
    return max(0, rules.canary_sends - row.held)


def canary_out(client: ClientId, list_id: str, row: ListRow, policy: Policy, at: datetime) -> ListChanged:
    """All sends of the canary are assigned: what bounces of them is awaited."""
    rules = policy.lists
    evidence = Evidence("canary is out", policy.version, f"{rules.wait_hours} h", rules.canary_sends)
    return ListChanged(client, list_id, row.state, "canary", evidence, at + timedelta(hours=rules.wait_hours))


def verdict(client: ClientId, list_id: str, row: ListRow, policy: Policy, at: datetime) -> ListChanged | None:
    """Return what the canary came to, as soon as it is known: bad at once, good when the wait is over.

    A bounce rate is one of the whole canary even while not all of it is out: what is too many then stays too many.
    """
    if row.state not in ("new", "canary"):
        return None
    rules = policy.lists
    size = max(rules.canary_sends, 1)
    if row.bounced >= rules.bounces_at_least and row.bounced > rules.bounce_rate_at_most * size:
        rule, count, of, most = "hard bounces of the canary", row.bounced, size, rules.bounce_rate_at_most
    elif row.complained > rules.complaints_at_most:
        rule, count, of, most = "complaints of the canary", row.complained, 0, rules.complaints_at_most
    elif row.state == "canary" and row.until is not None and row.until <= at and row.held >= rules.canary_sends:
        evidence = Evidence("canary came back well", policy.version, f"{rules.wait_hours} h", row.bounced, size)
        return ListChanged(client, list_id, row.state, "cleared", evidence)
    else:
        return None
    return ListChanged(client, list_id, row.state, "held", Evidence(rule, policy.version, "canary", count, of, most))
