"""Tells a sender's story in sentences, newest first: why it is out, since when, what brings it back."""

from typing import Any

from schemas.health import Evidence
from schemas.ids import DomainName
from schemas.reputation import Feed
from streams.fleet.alerting import FEEDS, numbers
from streams.fleet.organisation import organisation_of

_STATES = """
select from_at, client, scope, name, state, until, then_state, quota_share, rule, policy, window_text, numerator,
    denominator, threshold, said, to_at
from sender_states where (client, scope, name) in (select * from unnest(%s::text[], %s::text[], %s::text[]))
order by from_at desc, seq desc, n desc limit 40
"""
_STEPS = """
select decided_at, scope, name, day, was, now, rule, policy, window_text, numerator, denominator, threshold
from warm_up_steps where (client, scope, name) in (select * from unnest(%s::text[], %s::text[], %s::text[]))
order by decided_at desc limit 20
"""
_GATES = """
select closed_at, opened_at, domain, route, check_name, rule, policy, looks, evidence, fix, opened_by from gates
where (client, case when route = '' then 'domain' else 'route' end, case when route = '' then domain else route end)
        in (select * from unnest(%(clients)s::text[], %(scopes)s::text[], %(names)s::text[]))
    or (client, 'domain', domain) in (select * from unnest(%(clients)s::text[], %(scopes)s::text[], %(names)s::text[]))
order by closed_at desc limit 20
"""
_FEEDS = """
select changed_at, domain, feed, now, rule, policy, window_text, numerator, denominator, threshold, said, fix
from reputation_changes
where (client, 'domain', domain) in (select * from unnest(%s::text[], %s::text[], %s::text[]))
order by changed_at desc, seq desc, n desc limit 20
"""
_LISTS = """
select changed_at, list_id, state, until, rule, policy, numerator, denominator, threshold, said from lists
where (client, 'client', client) in (select * from unnest(%(clients)s::text[], %(scopes)s::text[], %(names)s::text[]))
    and state <> 'cleared' order by changed_at desc limit 20
"""
_RESTS = """
select from_at, scope, name, until, rule, said from rests
where (client, scope, name) in (select * from unnest(%s::text[], %s::text[], %s::text[])) order by from_at desc limit 20
"""
_MOVES = """
select decided_at, mailbox, goes_to, rule, said from reserve_moves
where (client, 'mailbox', mailbox) in (select * from unnest(%s::text[], %s::text[], %s::text[]))
order by decided_at desc limit 20
"""
_ORDERS = """
select decided_at, client, scope, subject, decision, rule, until, evidence from decisions
where scope = 'all'
    or (scope = 'route' and decision not in ('back', 'watched', 'left out', 'on probation') and (client, subject) in (
        select c, c || '/' || n from unnest(%(clients)s::text[], %(scopes)s::text[], %(names)s::text[]) as t (c, s, n)
        where s = 'route'))
    or (decision in ('stopped', 'started') and (
        (scope, subject) in (
            select s, n from unnest(%(clients)s::text[], %(scopes)s::text[], %(names)s::text[]) as t (c, s, n))
        or (scope = 'campaign' and split_part(subject, '/', 1) in (
            select n from unnest(%(clients)s::text[], %(scopes)s::text[], %(names)s::text[]) as t (c, s, n)
            where s = 'client'))))
order by decided_at desc, seq desc, n desc limit 20
"""
_MAILBOX = "select client, domain, routes from mailboxes where mailbox = %s"
_DOMAIN = """
select client from domains where domain = %(name)s
union select client from sender_states where scope = 'domain' and name = %(name)s
"""
_ROUTE = "select client, route from routes where client || '/' || route = %s"
_CLIENT = "select client from domains where client = %s limit 1"
WORDS = {
    "active": "is active",
    "watched": "is watched",
    "unhealthy": "is out of rotation",
    "probation": "is on probation",
}

Sender = tuple[str, str, str]
"""(client, scope, name as the read models have it)"""


def senders_named(connection: Any, name: str) -> list[Sender]:
    """Return the sender of this name first, then those above it; a route is named CLIENT/ROUTE. [] for none."""
    for client, domain, routes in connection.execute(_MAILBOX, (name,)).fetchall():
        ways = [(client, "route", route) for route in routes]
        return [(client, "mailbox", name), *_domains(client, domain), *ways, (client, "client", client)]
    for (client,) in connection.execute(_DOMAIN, {"name": name}).fetchall():
        return [*_domains(client, name), (client, "client", client)]
    for client, route in connection.execute(_ROUTE, (name,)).fetchall():
        return [(client, "route", route), (client, "client", client)]
    return [(client, "client", client) for (client,) in connection.execute(_CLIENT, (name,)).fetchall()]


def _domains(client: str, domain: str) -> list[Sender]:
    """A domain and, where that is another, its organisational domain, whose state holds for it, too."""
    return [(client, "domain", name) for name in dict.fromkeys((domain, organisation_of(DomainName(domain))))]


def story(connection: Any, senders: list[Sender]) -> list[dict[str, Any]]:
    """Return (at, sentence) of all that was decided about these senders, newest first."""
    columns = [list(column) for column in zip(*senders, strict=True)] if senders else [[], [], []]
    told = [{"at": row[0], "what": _of_state(*row[1:])} for row in connection.execute(_STATES, columns)]
    told += [{"at": row[0], "what": _of_step(*row[1:])} for row in connection.execute(_STEPS, columns)]
    named = dict(zip(("clients", "scopes", "names"), columns, strict=True))
    for row in connection.execute(_GATES, named):
        told += _of_gate(*row)
    told += [{"at": row[0], "what": _of_feed(*row[1:])} for row in connection.execute(_FEEDS, columns)]
    told += [{"at": row[0], "what": _of_list(*row[1:])} for row in connection.execute(_LISTS, named)]
    told += [{"at": row[0], "what": _of_rest(*row[1:])} for row in connection.execute(_RESTS, columns)]
    told += [{"at": row[0], "what": _of_move(*row[1:])} for row in connection.execute(_MOVES, columns)]
    told += [{"at": row[0], "what": _of_order(*row[1:])} for row in connection.execute(_ORDERS, named)]
    return sorted(told, key=lambda line: line["at"], reverse=True)


def _of_state(
    client: str, scope: str, name: str, state: str, until: Any, then: str, share: float, rule: str, policy: str,
    window: str, numerator: float, denominator: float, threshold: float, said: str, ended: Any,
) -> str:  # fmt: skip
    why = numbers(Evidence(rule, policy, window, numerator, denominator, threshold, said))
    sentence = f"{scope} {name} {WORDS[state]}: {rule}. {why}"
    if ended is not None:
        return f"{sentence}; until {ended:%Y-%m-%d %H:%M %Z}"
    if state == "unhealthy" and until is None:
        which = f"{client}/{name}" if scope == "route" else name
        return f"{sentence}. A person lets it back: mailfleet resume {scope} {which} --reason ..."
    if state == "unhealthy":
        return f"{sentence}. It comes back by itself at {until:%Y-%m-%d %H:%M %Z}, {WORDS[then].removeprefix('is ')}"
    if state == "watched" and share < 1:
        return f"{sentence}. It may send {share:.0%} of its quota until no rule stands against it"
    if state == "probation":
        return f"{sentence}. It may send a few mails a day until enough have arrived without a bad sign"
    return sentence


def _of_step(
    scope: str, name: str, day: str, was: int, now: int, rule: str, policy: str, window: str,
    numerator: float, denominator: float, threshold: float,
) -> str:  # fmt: skip
    counted = numbers(Evidence(rule, policy, window, numerator, denominator, threshold))
    before = f" instead of {was}" if was else ""
    return f"{scope} {name} may send {now} a day from {day} on{before}: {rule}. {counted}"


def _of_gate(
    closed_at: Any, opened_at: Any, domain: str, route: str, check: str, rule: str, policy: str, looks: int,
    evidence: str, fix: str, opened_by: str,
) -> list[dict[str, Any]]:  # fmt: skip
    where = f"domain {domain} over route {route}" if route else f"domain {domain}"
    back = "" if opened_at else f" To bring it back: {fix}."
    closed = f"{where} is closed: {rule}, seen {looks} times in a row (policy {policy}). {evidence}.{back}"
    told = [{"at": closed_at, "what": closed}]
    return told + ([{"at": opened_at, "what": f"{where} is open again: {opened_by}"}] if opened_at else [])


def _of_feed(
    domain: str, feed: Feed, now: str, rule: str, policy: str, window: str, numerator: float, denominator: float,
    threshold: float, said: str, fix: str,
) -> str:  # fmt: skip
    why = numbers(Evidence(rule, policy, window, numerator, denominator, threshold, said))
    if now == "good":
        return f"domain {domain} is well again: {rule}. {why}"
    return f"{FEEDS[feed].format(domain)}: {rule}. {why}. To do: {fix}"


def _of_list(
    list_id: str, state: str, until: Any, rule: str, policy: str, numerator: float, denominator: float,
    threshold: float, said: str,
) -> str:  # fmt: skip
    counted = numbers(Evidence(rule, policy, "", numerator, denominator, threshold, said))
    if state == "held":
        return f"list {list_id} is held: {rule}. {counted}. A person lets it go on: mailfleet release-list"
    if state == "canary":
        return f"list {list_id} waits for bounces of its first sends until {until:%Y-%m-%d %H:%M %Z}. {counted}"
    return f"list {list_id} had bad signs before its first sends were out"


def _of_rest(scope: str, name: str, until: Any, rule: str, said: str) -> str:
    ends = f"{scope} {name} rests until {until:%Y-%m-%d %H:%M %Z}: {rule}. It finishes its threads meanwhile"
    return f"{ends}; {said}" if said else ends


def _of_move(mailbox: str, goes_to: str, rule: str, said: str) -> str:
    where = "goes into the reserve, with a trickle of mail" if goes_to == "reserve" else "joins from the reserve"
    return f"mailbox {mailbox} {where}: {rule}. {said}".rstrip(". ")


def _of_order(client: str, scope: str, subject: str, decision: str, rule: str, until: Any, evidence: str) -> str:
    """What the breaker of a route did, what a receiver said over it, and what a person stopped or let go on."""
    who = "all mail" if scope == "all" else f"{scope} {subject.removeprefix(f'{client}/') if client else subject}"
    said = f" {evidence.rstrip('.')}." if evidence else ""
    match decision:
        case "tripped":
            return f"{who} is out: {rule}.{said} It is tried with one mail at {until:%Y-%m-%d %H:%M:%S %Z}"
        case "recovered":
            return f"{who} works again: {rule}.{said}".rstrip(".")
        case "stopped":
            order = scope if scope == "all" else f"{scope} {subject}"
            return f"{who} is stopped {rule}. A person lets it go on: mailfleet start {order}"
        case "started":
            return f"{who} goes on {rule}"
    back = f" Its mail waits until {until:%Y-%m-%d %H:%M:%S %Z} and is then tried with one" if until else ""
    return f"over {who}, {decision}: {rule}.{said}{back}"
