"""Commands about sends: send, status, why, replies, dead-letters."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import orjson
import psycopg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ops.commands.settings import settings
from ops.explained import as_text, explained
from ops.letters import letters, retry
from ops.site import publish_requests

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
    file twice is safe: the second copy of each request is refused as a duplicate. The least that a send needs:

    \b
    {"client": "acme", "campaign": "welcome", "send_id": "welcome-0001", "to": "jane@firm.example",
     "subject": "Hello", "text": "... {{postal_address}} {{unsubscribe_url}}",
     "basis": {"type": "express_consent", "source": "form on acme.com", "captured_at": "2026-11-03T14:22:10Z",
               "evidence": "entry 88213"}}

    on one line; README.md tells the rest. What is wrong with a request stands in its answer: `mailfleet status`
    counts refusals, `mailfleet why CLIENT/SEND_ID` tells one.
    """
    requests = read_jsonl(file)
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("publishing", total=len(requests))
        for start in range(0, len(requests), 500):
            asyncio.run(publish_requests(settings(), requests[start : start + 500]))
            progress.update(task, completed=start + 500)
    out.print(f"{len(requests)} requests published; look with: mailfleet status")


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
        table.add_row(*(_shown(column, value) for column, value in row.items()))
    out.print(table)


def _shown(column: str, value: object) -> str:
    """A UID is looked for as it is, without separators; no client is all clients."""
    if column == "client" and value == "":
        return "(all)"
    return str(value) if column == "uid" else as_text(value)


# ── why ──────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def why(name: str, as_json: bool) -> None:
    """Explain a send (SEND_ID or CLIENT/SEND_ID), a mailbox, a domain, a route (CLIENT/ROUTE) or a client.

    It tells where it stands and its story, the newest first: why it is out, since when, what brings it back.
    Exit code 1 when nobody of that name is known.
    """
    with psycopg.connect(settings().database_url) as connection:
        found = explained(connection, name)
    if as_json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    elif any(found.values()):
        for title, rows in found.items():
            if title == "story":
                _tell(rows)
            elif rows or (title == "attempts" and found["send"]):
                _facts(title, rows)
    else:
        hint = (
            f"if it is a recipient, `mailfleet export {name}` prints what is held: no table has an address"
            if "@" in name
            else "was the request published, and is the projector running?"
        )
        errors.print(f"nothing is known of {name}; {hint}", style="red", soft_wrap=True)
    sys.exit(0 if any(found.values()) else 1)


def _tell(lines: list[dict[str, Any]]) -> None:
    out.print("story" if lines else "story: nothing was decided about it yet", style="italic")
    for line in lines:
        out.print(f"  {as_text(line['at'])}  {line['what']}", highlight=False, soft_wrap=True)


def _facts(title: str, rows: list[dict[str, Any]]) -> None:
    """Print few rows downwards, many as a table."""
    if len(rows) != 1:
        _table(title, rows)
        return
    table = Table(title=title, title_justify="left", show_header=False)
    for column, value in rows[0].items():
        if value not in (None, "", []):
            table.add_row(column, _shown(column, ", ".join(value) if isinstance(value, list) else value))
    out.print(table)


# ── replies ──────────────────────────────────────────────────────────────────────────────────────

_REPLIES = (
    """
select replied_at, client || '/' || send_id, mailbox, folder, uid, message_id from replies
where kind = 'reply' and (%s = '' or client = %s) and replied_at > now() - make_interval(days => %s)
order by replied_at desc, client, send_id limit 1000
""",
    *("at", "send", "mailbox", "folder", "uid", "message id"),
)
_UNCORRELATED = (
    """
select seen_at, kind, why, client, mailbox, folder, uid from stray_reports
where what = 'uncorrelated' and (%s = '' or client = %s) and seen_at > now() - make_interval(days => %s)
order by seen_at desc, mailbox, uid limit 1000
""",
    *("at", "kind", "why", "client", "mailbox", "folder", "uid"),
)


@click.command()
@click.option("--client", default="", help="Of this client alone.")
@click.option("--days", default=7, show_default=True, help="How far back; at most 1,000 are shown.")
@click.option("--uncorrelated", is_flag=True, help="Instead: reports of whatever kind that belong to no send we know.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def replies(client: str, days: int, uncorrelated: bool, as_json: bool) -> None:
    """List the letters of people who wrote back, the newest first: where each lies. Never its text.

    Open the mailbox with any mail program and look for the Message-ID, or over IMAP for the UID. Nothing is marked as
    read here.
    """
    sql, *columns = _UNCORRELATED if uncorrelated else _REPLIES
    with psycopg.connect(settings().database_url) as connection:
        found = _rows(connection, sql, *columns, values=(client, client, days))
    if as_json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        _table("uncorrelated" if uncorrelated else "replies", found)


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
