"""What the page asks Postgres: each function returns rows as dicts whose keys are the columns that people read."""

from collections.abc import Mapping
from typing import Any

from psycopg.rows import dict_row

Row = dict[str, Any]
PAGE_ROWS = 100
DAYS = 30


def ask(connection: Any, sql: str, values: Mapping[str, object] | None = None) -> list[Row]:
    """Return the rows of a query; `values` are bound, never put into its text."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return list(cursor.execute(sql.encode(), values or {}))


# ── today ────────────────────────────────────────────────────────────────────────────────────────

_TODAY = """
with latest as (
    select client, max(used_day) as day from domains where active group by client
)
select c.client, coalesce(nullif(l.day, ''), 'none yet') as day,
    l.day >= ((now() at time zone 'UTC')::date - 1)::text as fresh,
    coalesce(sum(c.used_on_latest_day) filter (where c.latest_day = l.day), 0)::int as used,
    coalesce(p.capacity_mails, sum(c.sends_per_day))::int as most, p.demand_mails as wanted,
    sum(c.mailboxes)::int as mailboxes, sum(c.mailboxes_out)::int as "out"
from capacity c join latest l using (client) left join capacity_days p on p.client = c.client and p.day = l.day
group by c.client, l.day, p.capacity_mails, p.demand_mails order by 1
"""
_WAITING = """
select client, limit_name as "waits for", count(*)::int as sends, min(earliest_at) as earliest, max(told_at) as latest
from waiting group by 1, 2 order by 1, 3 desc
"""
_STOPS = """
select scope, subject as what, rule as by, decided_at as since from (
    select distinct on (scope, subject) scope, subject, decision, rule, decided_at from decisions
    where decision in ('stopped', 'started') order by scope, subject, decided_at desc
) latest where decision = 'stopped'
"""
_UNKNOWN = "select count(*)::int as sends from sends where state = 'unknown'"
_NEWEST = """
select greatest((select max(changed_at) from mailboxes), (select max(changed_at) from routes),
    (select max(told_at) from waiting)) as at
"""


def today(connection: Any) -> list[Row]:
    """One row a client: what its latest local day used of what it can carry, and how much was `wanted`.

    What can be carried is the day's plan, else the quotas. `fresh` unless that day is long past.
    """
    return ask(connection, _TODAY)


def waiting(connection: Any) -> list[Row]:
    """How many sends wait for what."""
    return ask(connection, _WAITING)


def stops(connection: Any) -> list[Row]:
    """What operators have stopped."""
    return ask(connection, _STOPS)


def unknown(connection: Any) -> int:
    """How many sends have an attempt whose outcome is not known."""
    return int(ask(connection, _UNKNOWN)[0]["sends"])


def newest(connection: Any) -> Any:
    """When the fleet's rows last changed, None before anything happened."""
    return ask(connection, _NEWEST)[0]["at"]


# ── the fleet ────────────────────────────────────────────────────────────────────────────────────

_OWN_STATE = """
left join sender_states s on s.client = x.client and s.scope = '{scope}' and s.name = x.{scope} and s.to_at is null
"""
_PRESENT = f"""
mailboxes x {_OWN_STATE.format(scope="mailbox")}
left join lateral (
    select goes_to from reserve_moves r where r.client = x.client and r.mailbox = x.mailbox
    order by decided_at desc, seq desc limit 1
) moved on true
left join lateral (
    select rule, until from rests r where r.client = x.client and r.until > now()
        and (r.scope, r.name) in (('mailbox', x.mailbox), ('domain', x.domain)) order by until desc limit 1
) rest on true
cross join lateral (
    select case when coalesce(s.state, 'active') <> 'active' then s.state when moved.goes_to = 'reserve' then 'reserve'
        when rest.until is not null then 'resting' else 'active' end as state
) present
"""
_ORDER = "array_position(array['unhealthy', 'watched', 'probation', 'resting', 'reserve', 'active'], present.state)"
_MAILBOXES = f"""
select x.client, x.mailbox, x.domain, present.state, case when present.state = 'resting' then rest.rule else s.rule end
    as rule, case when present.state = 'resting' then rest.until else s.until end as until,
    x.daily_quota, x.used_day, x.used, (
        select now from warm_up_steps w where w.client = x.client and w.scope = 'mailbox' and w.name = x.mailbox
        order by w.decided_at desc, w.seq desc limit 1
    ) as cap, x.last_assigned_at, d.used_day = x.used_day as fresh
from {_PRESENT} join domains d on d.client = x.client and d.domain = x.domain
where x.active and (%(client)s = '' or x.client = %(client)s) and (%(domain)s = '' or x.domain = %(domain)s)
    and (%(state)s = '' or present.state = %(state)s)
order by {_ORDER}, x.client, x.mailbox limit {PAGE_ROWS + 1} offset %(skip)s
"""
_BY_STATE = f"""
select x.client, present.state, count(*)::int as mailboxes from {_PRESENT}
where x.active group by 1, 2 order by 1, {_ORDER}
"""
_DOMAINS = f"""
select x.client, x.domain, coalesce(s.state, 'active') as state, s.rule, s.until, c.mailboxes::int as mailboxes,
    c.mailboxes_out::int as "out", c.used_on_latest_day::int as used, c.sends_per_day::int as most, c.latest_day as day
from domains x join capacity c on c.client = x.client and c.domain = x.domain
{_OWN_STATE.format(scope="domain")}
where x.active and (%(client)s = '' or x.client = %(client)s) and (%(domain)s = '' or x.domain = %(domain)s)
order by x.client, x.domain
"""
_ROUTES = f"""
select x.client, x.route, x.provider, x.account, coalesce(s.state, 'active') as state, s.rule,
    case when x.out_until > now() then x.out_until end as out_until, x.out_rule, x.out_evidence,
    x.failures_in_a_row as failures, x.ceiling_24h, x.changed_at
from routes x {_OWN_STATE.format(scope="route")}
where x.active and (%(client)s = '' or x.client = %(client)s) and (%(route)s = '' or x.route = %(route)s)
order by x.out_until > now() desc nulls last, x.client, x.route
"""


def mailboxes(connection: Any, client: str = "", domain: str = "", state: str = "", skip: int = 0) -> list[Row]:
    """Mailboxes, those out of rotation first, from the `skip`th; one more than PAGE_ROWS when there are more."""
    return ask(connection, _MAILBOXES, {"client": client, "domain": domain, "state": state, "skip": skip})


def by_state(connection: Any) -> list[Row]:
    """How many mailboxes of each client are in which state."""
    return ask(connection, _BY_STATE)


def domains(connection: Any, client: str = "", domain: str = "") -> list[Row]:
    """Sending domains with what they carry."""
    return ask(connection, _DOMAINS, {"client": client, "domain": domain})


def routes(connection: Any, client: str = "", route: str = "") -> list[Row]:
    """Routes, those whose breaker is open first."""
    return ask(connection, _ROUTES, {"client": client, "route": route})


# ── sends ────────────────────────────────────────────────────────────────────────────────────────

_OF_MAILBOX = """
select client || '/' || send_id as send, attempt, outcome, coalesce(reply_text, what) as said,
    coalesce(verdict_rule, '') as verdict, assigned_at as assigned
from attempts where mailbox = %(mailbox)s order by quota_day desc, assigned_at desc limit 30
"""
_WAIT_LONGEST = """
select client || '/' || send_id as send, limit_name as "waits for", rule as after, earliest_at as earliest,
    told_at as since
from waiting where (%(client)s = '' or client = %(client)s) and (%(limit)s = '' or limit_name = %(limit)s)
order by told_at limit 50
"""
_REFUSED = """
select client, reason, count(*)::int as requests, max(refused_at) as latest
from refusals where refused_at > now() - interval '30 days' group by 1, 2 order by 1, 3 desc
"""


def of_mailbox(connection: Any, mailbox: str) -> list[Row]:
    """The latest attempts that a mailbox carried."""
    return ask(connection, _OF_MAILBOX, {"mailbox": mailbox})


def wait_longest(connection: Any, client: str, limit: str) -> list[Row]:
    """The sends that have waited the longest."""
    return ask(connection, _WAIT_LONGEST, {"client": client, "limit": limit})


def refused(connection: Any) -> list[Row]:
    """Requests that were refused in the last days, and why."""
    return ask(connection, _REFUSED)


# ── search ───────────────────────────────────────────────────────────────────────────────────────

_FOUND = """
(select 'send' as what, client || '/' || send_id as name, state as told from sends
    where (client = %(client)s or %(client)s = '') and starts_with(send_id, %(send_id)s) order by send_id limit 20)
union all (select 'refused request', client || '/' || send_id, reason from refusals
    where (client = %(client)s or %(client)s = '') and send_id = %(send_id)s limit 5)
union all (select 'mailbox', mailbox, client from mailboxes where strpos(mailbox, %(name)s) > 0 order by 2 limit 20)
union all (select 'domain', domain, client from domains where strpos(domain, %(name)s) > 0 order by 2 limit 20)
union all (select 'route', client || '/' || route, provider from routes
    where strpos(client || '/' || route, %(name)s) > 0 order by 2 limit 20)
union all (select distinct 'client', client, '' from domains where strpos(client, %(name)s) > 0 order by 2 limit 20)
"""


def search(connection: Any, name: str) -> list[Row]:
    """What bears this name: sends that begin with it (or CLIENT/ID), senders that hold it. At most 20 of a kind."""
    client, _, send_id = name.rpartition("/")
    return ask(connection, _FOUND, {"name": name.lower(), "client": client, "send_id": send_id})


# ── alerts, states ───────────────────────────────────────────────────────────────────────────────

_ALERTS = """
select severity, title, client, raised_at as since, last_raised_at as latest, times, detail, runbook
from alerts where resolved_at is null
order by severity = 'critical' desc, severity = 'warning' desc, raised_at desc limit 200
"""
_RESOLVED = """
select title, client, raised_at as since, resolved_at as resolved, how
from alerts where resolved_at > now() - interval '7 days' order by resolved_at desc limit 100
"""
_STATES = """
select d.day, s.state, count(distinct (s.client, s.name))::int as mailboxes
from generate_series(%(first)s::date, %(last)s::date, interval '1 day') as d (day)
join sender_states s on s.scope = 'mailbox' and s.state <> 'active'
    and s.from_at < least(d.day + interval '1 day', now())
    and coalesce(s.to_at, 'infinity') >= least(d.day + interval '1 day', now())
where (%(client)s = '' or s.client = %(client)s)
group by 1, 2
"""


def alerts(connection: Any) -> list[Row]:
    """What a person should know or do now."""
    return ask(connection, _ALERTS)


def resolved(connection: Any) -> list[Row]:
    """What has ended in the last week."""
    return ask(connection, _RESOLVED)


def states(connection: Any, first: Any, last: Any, client: str = "") -> list[Row]:
    """How many mailboxes were in which state but active at the end of each UTC day."""
    return ask(connection, _STATES, {"first": first, "last": last, "client": client})


# ── what the DNS says ────────────────────────────────────────────────────────────────────────────

_FINDINGS = """
select client, domain, route, check_name as "check", verdict, evidence, fix, looked_at
from dns_findings where (%(client)s = '' or client = %(client)s) and (%(domain)s = '' or domain = %(domain)s)
order by client, domain, route, check_name
"""


_CLOSED = """
select client, domain, route, check_name as "check", rule, evidence, fix, closed_at as since
from gates where opened_at is null and (%(client)s = '' or client = %(client)s)
    and (%(domain)s = '' or domain = %(domain)s) order by 1, 2, 3, 4
"""
_LISTS = """
select client, list_id as list, state, rule, until, changed_at as since, bounced, complained
from lists where state in ('canary', 'held') order by state = 'held' desc, 1, 2
"""


def findings(connection: Any, client: str = "", domain: str = "") -> list[Row]:
    """What the last look at each domain found, check by check."""
    return ask(connection, _FINDINGS, {"client": client, "domain": domain})


def closed(connection: Any, client: str = "", domain: str = "") -> list[Row]:
    """Domains, or domains over one route, that what the DNS says has closed."""
    return ask(connection, _CLOSED, {"client": client, "domain": domain})


def lists(connection: Any) -> list[Row]:
    """Lists whose first sends are out, or that are held."""
    return ask(connection, _LISTS)


# ── mails by day ─────────────────────────────────────────────────────────────────────────────────

_DAILY = """
select day, sum(accepted)::int as accepted, sum(refused + not_sent)::int as refused, sum(deferred)::int as deferred,
    sum(hard_bounced)::int as hard, sum(soft_bounced + returned)::int as soft, sum(complained)::int as complained
from daily_mail where day between %(first)s and %(last)s and (%(client)s = '' or client = %(client)s)
    and (%(domain)s = '' or domain = %(domain)s) and (%(mailbox)s = '' or mailbox = %(mailbox)s)
    and (%(route)s = '' or route = %(route)s)
group by 1 order by 1
"""


def daily(
    connection: Any, first: Any, last: Any, client: str = "", domain: str = "", mailbox: str = "", route: str = ""
) -> list[Row]:
    """Mails by local day."""
    named = {"client": client, "domain": domain, "mailbox": mailbox, "route": route}
    return ask(connection, _DAILY, named | {"first": first, "last": last})
