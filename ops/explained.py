"""Explains a send, mailbox, domain, route or client from the read models: where it stands, and why."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ops.send_story import told
from ops.stories import Sender, senders_named, story

_SEND = """
select s.client || '/' || s.send_id, s.campaign, s.state, s.reason, s.attempts, s.requested_at, s.changed_at,
    w.limit_name, w.earliest_at
from sends s left join waiting w using (client, send_id)
where s.send_id = %(send_id)s and (s.client = %(client)s or %(client)s = '')
"""
_REFUSED = """
select client || '/' || send_id, reason, detail, refused_at from refusals
where send_id = %(send_id)s and (client = %(client)s or %(client)s = '') order by refused_at
"""
_ATTEMPTS = """
select attempt, mailbox, route, rule, outcome, coalesce(reply_code::text, '') || ' ' || coalesce(reply_enhanced, '')
    || ' ' || coalesce(reply_text, what, ''), coalesce(verdict_rule, ''), assigned_at, settled_at
from attempts where send_id = %(send_id)s and (client = %(client)s or %(client)s = '') order by client, attempt
"""
_BOUNCED = """
select attempt, bounce_class, hard, reply_code::text || ' ' || status || ' ' || reply_text, rule, sent_again, bounced_at
from bounces where send_id = %(send_id)s and (client = %(client)s or %(client)s = '') order by client, bounced_at
"""
_COMPLAINED = """
select kind, source, feedback, complained_at from complaints
where send_id = %(send_id)s and (client = %(client)s or %(client)s = '') order by client, complained_at
"""
_REPLIED = """
select kind, mailbox, folder, uid, message_id, replied_at from replies
where send_id = %(send_id)s and (client = %(client)s or %(client)s = '') order by client, replied_at
"""
_WAITS = """
select limit_name, earliest_at, rule, told_at from waiting
where send_id = %(send_id)s and (client = %(client)s or %(client)s = '') order by client
"""
_HELD = """
select u.reason, u.client, u.rule, u.ordered_by, u.since, u.until, u.ended_by
from sends s join suppressions u on u.recipient = s.recipient and u.client in ('', s.client)
where s.send_id = %(send_id)s and (s.client = %(client)s or %(client)s = '') order by u.since
"""
_MAILBOX = """
select m.mailbox, m.client, m.active, m.daily_quota, m.used_day, m.used, m.open_attempt, m.free_at, m.out_until,
    m.out_rule, m.out_evidence, d.out_until, d.out_rule, m.routes, m.last_assigned_at, (
        select now from warm_up_steps w where w.scope = 'mailbox' and w.name = m.mailbox
        order by w.decided_at desc, w.seq desc limit 1
    )
from mailboxes m join domains d on d.client = m.client and d.domain = m.domain where m.mailbox = %(name)s
"""
_DECISIONS = """
select decided_at, scope, subject, decision, rule, until, evidence from decisions
where subject = any(%(names)s) or scope = 'all' order by decided_at desc limit 20
"""
_STATE = """
select state, from_at, until from sender_states
where client = %s and scope = %s and name = %s and to_at is null
"""
_ROUTES = (
    "select route, out_until, out_rule, out_evidence from routes where client = %(client)s and route = any(%(names)s)"
)


def explained(connection: Any, name: str) -> dict[str, list[dict[str, Any]]]:
    """Return title → rows of all that is known of a send, mailbox, domain, route or client of this name."""
    found = _mailbox(connection, name) if "@" in name else _send(connection, name)
    senders = senders_named(connection, name)
    if senders:
        found = {**found, "state": _states(connection, senders), "story": story(connection, senders)}
    return found


BOUNCE_COLUMNS = ("attempt", "class", "hard", "reply", "rule", "sent again", "at")
HELD_COLUMNS = ("reason", "client", "rule", "ordered by", "since", "until", "ended by")


def _states(connection: Any, senders: list[Sender]) -> list[dict[str, Any]]:
    """The states of a sender and of those above it."""
    found = []
    for client, scope, name in senders:
        row = connection.execute(_STATE, (client, scope, name)).fetchone() or ("active", None, None)
        found.append(dict(zip(("scope", "name", "state", "since", "until"), (scope, name, *row), strict=True)))
    return found


def _send(connection: Any, name: str) -> dict[str, list[dict[str, Any]]]:
    client, _, send_id = name.rpartition("/")
    values = {"client": client, "send_id": send_id}
    send_columns = ("send", "campaign", "state", "reason", "attempts", "requested", "changed", "waits for", "earliest")
    columns = ("attempt", "mailbox", "route", "chosen by", "outcome", "reply", "verdict", "assigned", "settled")
    found = {
        "send": _named(connection, _SEND, send_columns, values),
        "refused requests": _named(connection, _REFUSED, ("send", "reason", "detail", "at"), values),
        "attempts": _named(connection, _ATTEMPTS, columns, values),
        "bounces": _named(connection, _BOUNCED, BOUNCE_COLUMNS, values),
        "complaints": _named(connection, _COMPLAINED, ("kind", "told by", "feedback", "at"), values),
        "replies": _named(connection, _REPLIED, ("kind", "mailbox", "folder", "uid", "message id", "at"), values),
        "the recipient is suppressed": _named(connection, _HELD, HELD_COLUMNS, values),
    }
    waits = _named(connection, _WAITS, ("limit", "earliest", "rule", "at"), values)
    lines = told(found, waits)
    return {**found, "story": lines} if lines else found


def _mailbox(connection: Any, name: str) -> dict[str, list[dict[str, Any]]]:
    columns = (
        "mailbox",
        "client",
        "active",
        "daily quota",
        "day",
        "used that day",
        "carries",
        "free at",
        "out until",
        "rule",
        "evidence",
        "domain out until",
        "domain rule",
        "routes",
        "last assigned",
        "warm-up cap",
    )
    boxes = _named(connection, _MAILBOX, columns, {"name": name})
    states = {
        scope if who == name else f"{scope} {who}": connection.execute(_STATE, (client, scope, who)).fetchone()
        for client, scope, who in senders_named(connection, name)
        if scope != "route"
    }
    routes: list[dict[str, Any]] = []
    names = [name, name.rpartition("@")[2]]
    for box in boxes:
        ways = {"client": box["client"], "names": box["routes"]}
        routes = _named(connection, _ROUTES, ("route", "out until", "rule", "evidence"), ways)
        names += [box["client"], *(f"{box['client']}/{route}" for route in box["routes"])]
        box["stands still because"] = _out(states) or _stands(box, routes)
    decisions = ("at", "scope", "subject", "decision", "rule", "until", "evidence")
    return {
        "mailbox": boxes,
        "routes": routes if boxes else [],
        "decisions": _named(connection, _DECISIONS, decisions, {"names": names}) if boxes else [],
    }


def _out(states: Mapping[str, Any]) -> str:
    """Whose state keeps the mailbox out, "" when none does."""
    for who, row in states.items():
        if row is not None and row[0] == "unhealthy":
            back = f"until {as_text(row[2])}" if row[2] else "until a person lets it back: `mailfleet resume`"
            return f"the {who} is out of rotation since {as_text(row[1])}, {back}"
    return ""


def _stands(box: dict[str, Any], routes: list[dict[str, Any]]) -> str:
    now = datetime.now().astimezone()
    later = {key: box[key] for key in ("free at",) if box[key] and box[key] > now}
    if not box["active"]:
        return "the fleet file does not declare it any more"
    if box["carries"]:
        return f"it is at work on {box['carries']}"
    if routes and all(route["out until"] and route["out until"] > now for route in routes):
        return f"all its routes are out, until {as_text(min(route['out until'] for route in routes))}"
    if box["used that day"] >= box["daily quota"]:
        return f"its quota of {box['day']} is used up"
    if box["warm-up cap"] and box["used that day"] >= box["warm-up cap"]:
        return f"its warm-up cap of {box['day']} is used up: {box['warm-up cap']} mails"
    if "free at" in later:
        return f"the gap after its last mail lasts until {as_text(later['free at'])}"
    return "nothing holds it but its sending hours and an empty backlog"


def _named(connection: Any, sql: str, columns: tuple[str, ...], values: Mapping[str, object]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in connection.execute(sql.encode(), values)]


def as_text(value: object) -> str:
    """Return a value as a terminal shows it."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S %Z}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value if value is not None else "")
