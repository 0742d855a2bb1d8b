"""Commands about sends: send, status, why, dead-letters."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import orjson
import psycopg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ops.commands.settings import settings
from ops.letters import letters, retry
from ops.site import publish_requests
from ops.stories import Sender, senders_named, story

out = Console()
errors = Console(stderr=True)


class RequestFileWrong(Exception):
    """A file of requests is not JSONL; the text names the line."""


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the requests in a JSONL file. Raises RequestFileWrong; what is in them is intake's to judge."""
    found: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise RequestFileWrong(f"{path} line {number} is not JSON: {error}") from error
        found.append(value if isinstance(value, dict) and "type" in value else {"type": "send", "v": 1, "data": value})
    return found


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def send(file: Path) -> None:
    """Publish the requests in FILE (JSONL, one a line) to send-requests.

    A line is {"type": "send" | "cancel", "v": 1, "data": {...}}, or only the data of a send. Publishing a
    file twice is safe: the second copy of each request is refused as a duplicate.
    """
    requests = read_jsonl(file)
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("publishing", total=len(requests))
        for start in range(0, len(requests), 500):
            asyncio.run(publish_requests(settings(), requests[start : start + 500]))
            progress.update(task, completed=start + 500)
    out.print(f"{len(requests)} requests published")


# ── status ───────────────────────────────────────────────────────────────────────────────────────

_STATES = "select client, state, count(*)::int from sends group by 1, 2 order by 1, 2"
_REFUSALS = "select client, reason, count(*)::int from refusals group by 1, 2 order by 1, 2"
_WAITING = """
select client, limit_name, count(*)::int, min(earliest_at) from waiting group by 1, 2 order by 1, 3 desc
"""
_OUT = """
select scope, case scope when 'route' then client || '/' || name else name end, state, rule, until, from_at
from sender_states where to_at is null and state <> 'active' and scope <> 'mailbox' or to_at is null
    and state = 'unhealthy'
union all
select 'route', client || '/' || route, 'tripped', out_rule, out_until, (
    select max(decided_at) from decisions where subject = client || '/' || route and decision = 'tripped'
) from routes where active and out_until > now()
order by 1, 2
"""
_BY_STATE = """
select m.client, coalesce(s.state, 'active'), count(*)::int from mailboxes m
left join sender_states s on s.client = m.client and s.scope = 'mailbox' and s.name = m.mailbox and s.to_at is null
where m.active group by 1, 2 order by 1, 2
"""
_ALERTS = """
select severity, title, raised_at from alerts where resolved_at is null
order by severity = 'critical' desc, raised_at desc limit 20
"""
_GATES = """
select g.domain, g.route, g.check_name, g.rule, g.fix, g.closed_at from gates g
where g.opened_at is null and exists (
    select from mailboxes m where m.client = g.client and m.domain = g.domain and m.active
        and (g.route = '' or g.route = any(m.routes))
) order by 1, 2, 3
"""
_LISTS = """
select client, list_id, state, rule, until, changed_at from lists where state in ('canary', 'held') order by 1, 2
"""
_STOPS = """
select scope, subject, rule, decided_at from (
    select distinct on (scope, subject) scope, subject, decision, rule, decided_at from decisions
    where decision in ('stopped', 'started') order by scope, subject, decided_at desc
) latest where decision = 'stopped'
"""
_BOUNCES = """
select client, bounce_class, hard, sent_again, count(*)::int from bounces group by 1, 2, 3, 4 order by 1, 5 desc
"""
_ANSWERS = """
select client, kind, count(*)::int from complaints group by 1, 2
union all select client, kind, count(*)::int from replies group by 1, 2 order by 1, 2
"""
_STRAYS = """
select what, kind, source, count(*)::int, max(seen_at) from stray_reports group by 1, 2, 3 order by 1, 4 desc
"""
_SUPPRESSED = """
select client, reason, count(*)::int from suppressions where until is null group by 1, 2
union all select client, 'whole domain', count(*)::int from suppressed_domains where suppressed group by 1 order by 1, 2
"""
_LOGINS = """
with said as (
    select mailbox, route, settled_at, (reply_class = 'auth' or starts_with(what, 'auth:')) is true as failed,
        coalesce(what, concat_ws(' ', reply_code::text, nullif(reply_enhanced, ''), reply_text)) as words
    from attempts where settled_at is not null
        and (outcome = 'accepted' or reply_class = 'auth' or starts_with(what, 'auth:')
            or fault in ('recipient', 'message'))
), good as (
    select mailbox, route, max(settled_at) as at from said where not failed group by 1, 2
)
select mailbox, route, min(settled_at), max(settled_at), count(*)::int,
    (array_agg(words order by settled_at desc))[1]
from said left join good using (mailbox, route) where failed and (at is null or settled_at > at)
group by 1, 2 order by 3, 1
"""
_UNREADABLE = """
select mailbox, unreadable_why, unreadable_since from mailbox_reading where unreadable_since is not null order by 1
"""
_CAPACITY = """
select client, sum(mailboxes)::int, sum(mailboxes_out)::int, sum(sends_per_day)::int, sum(used_on_latest_day)::int
from capacity group by 1 order by 1
"""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show where sends stand, what came back, what waits, who is out, unreadable or stopped, which logins fail."""
    with psycopg.connect(settings().database_url) as connection:
        found = {
            "sends": _rows(connection, _STATES, "client", "state", "count"),
            "refused": _rows(connection, _REFUSALS, "client", "reason", "count"),
            "bounced": _rows(connection, _BOUNCES, "client", "class", "hard", "sent again", "count"),
            "answers": _rows(connection, _ANSWERS, "client", "kind", "count"),
            "reports of no send": _rows(connection, _STRAYS, "what", "kind", "source", "count", "latest"),
            "suppressed": _rows(connection, _SUPPRESSED, "client", "reason", "count"),
            "waiting": _rows(connection, _WAITING, "client", "limit", "count", "earliest"),
            "capacity": _rows(connection, _CAPACITY, "client", "mailboxes", "out", "mails a day", "used today"),
            "mailboxes by state": _rows(connection, _BY_STATE, "client", "state", "count"),
            "left out": _rows(connection, _OUT, "what", "name", "state", "rule", "until", "since"),
            "closed by DNS": _rows(connection, _GATES, "domain", "route", "check", "rule", "what to set", "since"),
            "lists": _rows(connection, _LISTS, "client", "list", "state", "rule", "until", "since"),
            "alerts": _rows(connection, _ALERTS, "severity", "what", "since"),
            "logins that fail": failing_logins(connection),
            "unreadable": _rows(connection, _UNREADABLE, "mailbox", "why", "since"),
            "stopped": _rows(connection, _STOPS, "scope", "name", "by", "since"),
        }
    if as_json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
        return
    for title, rows in found.items():
        _table(title, rows)


def failing_logins(connection: Any) -> list[dict[str, Any]]:
    """Return the logins that were refused, or had no secret, since they last were good."""
    return _rows(connection, _LOGINS, "mailbox", "route", "since", "latest", "times", "what was said")


def _rows(connection: Any, sql: str, *columns: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in connection.execute(sql.encode(), values)]


def _table(title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        out.print(f"{title}: none")
        return
    table = Table(title=title, title_justify="left")
    for column, value in rows[0].items():
        table.add_column(column, justify="right" if isinstance(value, int) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    out.print(table)


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S %Z}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value if value is not None else "")


# ── why ──────────────────────────────────────────────────────────────────────────────────────────

_SEND = """
select s.client || '/' || s.send_id, s.campaign, s.state, s.reason, s.attempts, s.requested_at, s.changed_at,
    w.limit_name, w.earliest_at
from sends s left join waiting w using (client, send_id)
where s.send_id = %(name)s or s.client || '/' || s.send_id = %(name)s
"""
_REFUSED = """
select client || '/' || send_id, reason, detail, refused_at from refusals
where send_id = %(name)s or client || '/' || send_id = %(name)s order by refused_at
"""
_ATTEMPTS = """
select attempt, mailbox, route, rule, outcome, coalesce(reply_code::text, '') || ' ' || coalesce(reply_enhanced, '')
    || ' ' || coalesce(reply_text, what, ''), coalesce(verdict_rule, ''), assigned_at, settled_at
from attempts where send_id = %(name)s or client || '/' || send_id = %(name)s order by client, attempt
"""
_BOUNCED = """
select attempt, bounce_class, hard, reply_code::text || ' ' || status || ' ' || reply_text, rule, sent_again, bounced_at
from bounces where send_id = %(name)s or client || '/' || send_id = %(name)s order by client, bounced_at
"""
_COMPLAINED = """
select kind, source, feedback, complained_at from complaints
where send_id = %(name)s or client || '/' || send_id = %(name)s order by client, complained_at
"""
_REPLIED = """
select kind, mailbox, folder, uid, message_id, replied_at from replies
where send_id = %(name)s or client || '/' || send_id = %(name)s order by client, replied_at
"""
_HELD = """
select u.reason, u.client, u.rule, u.ordered_by, u.since, u.until, u.ended_by
from sends s join suppressions u on u.recipient = s.recipient and u.client in ('', s.client)
where s.send_id = %(name)s or s.client || '/' || s.send_id = %(name)s order by u.since
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


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def why(name: str, as_json: bool) -> None:
    """Explain a send (SEND_ID or CLIENT/SEND_ID), a mailbox, a domain, a route (CLIENT/ROUTE) or a client.

    It tells where it stands and its story, the newest first: why it is out, since when, what brings it back.
    Exit code 1 when nobody of that name is known.
    """
    with psycopg.connect(settings().database_url) as connection:
        found = _mailbox(connection, name) if "@" in name else _send(connection, name)
        senders = senders_named(connection, name)
        if senders:
            found = {**found, "state": _states(connection, senders), "story": story(connection, senders)}
    if as_json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    elif any(found.values()):
        for title, rows in found.items():
            if title == "story":
                _tell(rows)
            elif rows or (title == "attempts" and found["send"]):
                _facts(title, rows)
    else:
        errors.print(
            f"nothing is known of {name}; was the request published, and is the projector running?", style="red"
        )
    sys.exit(0 if any(found.values()) else 1)


BOUNCE_COLUMNS = ("attempt", "class", "hard", "reply", "rule", "sent again", "at")
HELD_COLUMNS = ("reason", "client", "rule", "ordered by", "since", "until", "ended by")


def _states(connection: Any, senders: list[Sender]) -> list[dict[str, Any]]:
    """The states of a sender and of those above it."""
    found = []
    for client, scope, name in senders:
        row = connection.execute(_STATE, (client, scope, name)).fetchone() or ("active", None, None)
        found.append(dict(zip(("scope", "name", "state", "since", "until"), (scope, name, *row), strict=True)))
    return found


def _tell(lines: list[dict[str, Any]]) -> None:
    out.print("story" if lines else "story: nothing was decided about it yet", style="italic")
    for line in lines:
        out.print(f"  {_text(line['at'])}  {line['what']}", highlight=False, soft_wrap=True)


def _send(connection: Any, name: str) -> dict[str, list[dict[str, Any]]]:
    values = {"name": name}
    send_columns = ("send", "campaign", "state", "reason", "attempts", "requested", "changed", "waits for", "earliest")
    columns = ("attempt", "mailbox", "route", "chosen by", "outcome", "reply", "verdict", "assigned", "settled")
    return {
        "send": _named(connection, _SEND, send_columns, values),
        "refused requests": _named(connection, _REFUSED, ("send", "reason", "detail", "at"), values),
        "attempts": _named(connection, _ATTEMPTS, columns, values),
        "bounces": _named(connection, _BOUNCED, BOUNCE_COLUMNS, values),
        "complaints": _named(connection, _COMPLAINED, ("kind", "told by", "feedback", "at"), values),
        "replies": _named(connection, _REPLIED, ("kind", "mailbox", "folder", "uid", "message id", "at"), values),
        "the recipient is suppressed": _named(connection, _HELD, HELD_COLUMNS, values),
    }


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
        scope: connection.execute(_STATE, (client, scope, who)).fetchone()
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
    for scope, row in states.items():
        if row is not None and row[0] == "unhealthy":
            back = f"until {_text(row[2])}" if row[2] else "until a person lets it back: `mailfleet resume`"
            return f"the {scope} is out of rotation since {_text(row[1])}, {back}"
    return ""


def _stands(box: dict[str, Any], routes: list[dict[str, Any]]) -> str:
    now = datetime.now().astimezone()
    later = {key: box[key] for key in ("free at",) if box[key] and box[key] > now}
    if not box["active"]:
        return "the fleet file does not declare it any more"
    if box["carries"]:
        return f"it is at work on {box['carries']}"
    if routes and all(route["out until"] and route["out until"] > now for route in routes):
        return f"all its routes are out, until {_text(min(route['out until'] for route in routes))}"
    if box["used that day"] >= box["daily quota"]:
        return f"its quota of {box['day']} is used up"
    if box["warm-up cap"] and box["used that day"] >= box["warm-up cap"]:
        return f"its warm-up cap of {box['day']} is used up: {box['warm-up cap']} mails"
    if "free at" in later:
        return f"the gap after its last mail lasts until {_text(later['free at'])}"
    return "nothing holds it but its sending hours and an empty backlog"


def _named(connection: Any, sql: str, columns: tuple[str, ...], values: Mapping[str, object]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in connection.execute(sql.encode(), values)]


def _facts(title: str, rows: list[dict[str, Any]]) -> None:
    """Print few rows downwards, many as a table."""
    if len(rows) != 1:
        _table(title, rows)
        return
    table = Table(title=title, title_justify="left", show_header=False)
    for column, value in rows[0].items():
        if value not in (None, "", []):
            table.add_row(column, _text(", ".join(value) if isinstance(value, list) else value))
    out.print(table)


# ── dead letters ─────────────────────────────────────────────────────────────────────────────────


@click.group("dead-letters")
def dead_letters() -> None:
    """Records that nobody could read: list them, show one, or have them tried again."""


@dead_letters.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_letters(as_json: bool) -> None:
    """List all dead letters, the newest last."""
    found = asyncio.run(letters(settings()))
    if as_json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        _table("dead letters", found)


PLACE = click.argument("place")


@dead_letters.command("show")
@PLACE
def show_letter(place: str) -> None:
    """Show the dead letter of PLACE (topic/partition/offset) with the start of its record, if it is still kept."""
    found = [letter for letter in asyncio.run(letters(settings(), with_record=True)) if letter["place"] == place]
    if not found:
        errors.print(f"no dead letter of {place}; `mailfleet dead-letters list` shows all", style="red")
        sys.exit(1)
    _facts("dead letter", found[:1])


@dead_letters.command("retry")
@PLACE
def retry_letter(place: str) -> None:
    """Append the record of PLACE to its topic again: after an upgrade that can read it."""
    if not asyncio.run(retry(settings(), place)):
        errors.print(f"no dead letter of {place}, or its record is gone", style="red")
        sys.exit(1)
    out.print(f"{place} is appended again")
