"""Health: what a sender's mails came to, against the policy's thresholds, at mailbox, domain, route and client.

active → watched (a share of the quota) → unhealthy (out) → probation (a few mails a day, counted anew) → active.
A rate needs a sample and an absolute number of bad signs: a small count alone never trips one. Totals of domain and
client count what is spread over many mailboxes.
"""

import heapq
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from schemas.health import Evidence, HealthChanged, HealthState, Scope, Sign, SignCounted
from schemas.ids import ClientId, MailboxAddress, RouteId
from schemas.policy import Health, Policy
from schemas.registry import Fact
from schemas.sending import Verdict
from streams.fleet.organisation import organisation_of
from streams.fleet.reputation import SPAM_AT_GMAIL
from streams.fleet.state import LOOK_AT_WATCHED, FleetState, SenderRow, domain_of, split_sender
from streams.fleet.windows import Buckets, Counts, counted, counts_of, last_handed, since

MOST_PER_TICK = 100
AN_HOUR = timedelta(hours=1)
LOGIN_PAUSE = timedelta(hours=1)
"""After a refused login: a password that is put right works again without any probation."""
DOMAIN_PAUSE = timedelta(hours=6)
"""After a domain's own fault that is no block: its records may have been put right."""
SLOWER = "slower than planned"
"""The rule of speed.py: what it watches it lets go itself, and such a sender is well otherwise."""
FEED_SILENT = timedelta(days=8)
"""What feeds.py watches by SPAM_AT_GMAIL it lets go itself, too; silent for so long (switched off), it holds nobody."""
BAD: tuple[Sign, ...] = ("hard_bounce", "complaint", "block", "deferral")


class Finding(NamedTuple):
    """What a rule found: the state that follows, the numbers, and for how long (`hours` 0: until a person acts)."""

    state: Literal["watched", "unhealthy"]
    rule: str
    window: str
    numerator: int
    denominator: int
    threshold: float
    hours: int = 0
    share: float = 1.0


def sign_of(verdict: Verdict) -> Sign:
    """Return what a refusal says about its senders."""
    if verdict.fault == "recipient" and verdict.reply_class == "hard":
        return "hard_bounce"
    match verdict.reply_class:
        case "block" | "sender_account":
            return "block"
        case "soft" | "rate_limit":
            return "deferral"
        case _:
            return "refusal"


def senders_of(fact: SignCounted) -> Sequence[tuple[Scope, str]]:
    """Return for whom a sign counts: (scope, name); a sub-domain's counts for its organisational domain too."""
    return _senders(fact.mailbox, fact.route)


@lru_cache(maxsize=32_768)
def _senders(mailbox: MailboxAddress, route: RouteId) -> tuple[tuple[Scope, str], ...]:
    domain = domain_of(mailbox)
    domains: list[tuple[Scope, str]] = [("domain", name) for name in dict.fromkeys((domain, organisation_of(domain)))]
    return ("mailbox", mailbox), *domains, ("route", route), ("client", "")


def with_sign(row: SenderRow, scope: str, fact: SignCounted, at: datetime) -> SenderRow:
    """Return the row with the sign counted; what warms up counts it since its last step, too.

    A hard bounce counts with the mails that were sent with it, however late it comes: against later ones, few at
    night, a whole day's would be a rate. Of mails from before the last probation no bad sign counts any more.
    """
    counts = counts_of(fact.sign, late=fact.late, told=fact.told, again=fact.again)
    warms = scope in ("mailbox", "domain")
    before = fact.sent_at is not None and row.counts_from is not None and fact.sent_at < row.counts_from
    return msgspec.structs.replace(
        row,
        buckets=row.buckets if before else counted(row.buckets, counts, at, _bounced_mail(fact)),
        since_step=row.since_step.plus(counts) if warms else row.since_step,
    )


def _bounced_mail(fact: SignCounted) -> datetime | None:
    """When the mail was sent that bounced later, None for any other sign."""
    return fact.sent_at if fact.sign == "hard_bounce" else None


def in_state(row: SenderRow, fact: HealthChanged, at: datetime) -> SenderRow:
    """Return the row in its new state; a probation counts anew."""
    return msgspec.structs.replace(
        row,
        state=fact.now,
        since=at,
        until=fact.until,
        then=fact.then,
        share=fact.share,
        rule=fact.evidence.rule,
        buckets={} if fact.now == "probation" else row.buckets,
        counts_from=at if fact.now == "probation" else row.counts_from,
    )


# ── the rules ────────────────────────────────────────────────────────────────────────────────────


def judge(
    scope: Scope, buckets: Buckets, rules: Health, at: datetime, sent_at: datetime | None = None
) -> Finding | None:
    """Return the gravest thing that the counts say against a sender, None when all is well.

    Of a mail of `sent_at` that bounced later, the last sends are those up to it.
    """
    week = at - timedelta(days=rules.window_days)
    long, short = since(buckets, week), last_handed(buckets, week, rules.window_sends, sent_at)
    hour = since(buckets, at - AN_HOUR)
    days = f"{rules.window_days} days"
    found = [
        _complaints(scope, long, rules, days),
        _bounces(scope, long, rules, days),
        _lately(scope, short, rules, sent_at),
        _blocks(scope, hour, rules),
        _deferrals(scope, hour, rules),
    ]
    return min((f for f in found if f is not None), key=_gravity, default=None)


def _gravity(found: Finding) -> tuple[bool, int, float]:
    return found.state == "watched", found.hours, found.share


def _complaints(scope: Scope, counts: Counts, rules: Health, window: str) -> Finding | None:
    if scope == "mailbox":
        if counts.complaints < rules.complaints_mailbox:
            return None
        return Finding("unhealthy", "complaints", window, counts.complaints, 0, rules.complaints_mailbox)
    told, complaints = counts.delivered_told, counts.complaints_told
    if told < rules.complaint_sample or complaints < rules.absolute_at_least:
        return None  # no data, or too little of it
    if complaints >= rules.complaint_rate_out * told:
        return Finding("unhealthy", "complaint rate", window, complaints, told, rules.complaint_rate_out)
    if complaints >= rules.complaint_rate_watch * told:
        limit, share = rules.complaint_rate_watch, rules.watched_share
        return Finding("watched", "complaint rate", window, complaints, told, limit, share=share)
    return None


def _bounces(scope: Scope, counts: Counts, rules: Health, window: str) -> Finding | None:
    sends, bounces = counts.handed - counts.deferrals, counts.hard_bounces
    if sends < rules.sample_at_least or bounces < rules.absolute_at_least:
        return None
    out = rules.bounce_rate_mailbox if scope == "mailbox" else rules.bounce_rate_domain
    if bounces >= out * sends:
        return Finding("unhealthy", "hard bounce rate", window, bounces, sends, out, rules.out_hours)
    if bounces >= rules.bounce_rate_watch * sends:
        limit, share = rules.bounce_rate_watch, rules.watched_share
        return Finding("watched", "hard bounce rate", window, bounces, sends, limit, share=share)
    return None


def _lately(scope: Scope, counts: Counts, rules: Health, sent_at: datetime | None) -> Finding | None:
    """The last sends show a bad list at once. Of many mailboxes' mail they are too few to watch for less than that."""
    until = "" if sent_at is None else f" until {sent_at:%Y-%m-%d %H:%M}"
    found = _bounces(scope, counts, rules, f"last {rules.window_sends} sends{until}")
    return found if found is None or scope == "mailbox" or found.state == "unhealthy" else None


def _blocks(scope: Scope, hour: Counts, rules: Health) -> Finding | None:
    """A route's blocks trip its breaker; a client's are those of its domains."""
    if scope not in ("mailbox", "domain"):
        return None
    out = rules.blocks_mailbox_1h if scope == "mailbox" else rules.blocks_domain_1h
    if hour.blocks >= out:
        return Finding("unhealthy", "blocks", "1 hour", hour.blocks, 0, out, rules.out_hours)
    if scope == "mailbox" and hour.blocks >= rules.blocks_watch_1h:
        limit, share = rules.blocks_watch_1h, rules.watched_share
        return Finding("watched", "blocks", "1 hour", hour.blocks, 0, limit, share=share)
    return None


def _deferrals(scope: Scope, hour: Counts, rules: Health) -> Finding | None:
    asked, deferred = hour.handed - hour.again, hour.deferrals  # each send once, however often it is tried
    if asked < rules.deferral_sample_1h or deferred < rules.absolute_at_least:
        return None
    if scope == "domain" and deferred >= rules.deferral_rate_domain_1h * asked:
        limit = rules.deferral_rate_domain_1h
        return Finding("unhealthy", "deferral rate", "1 hour", deferred, asked, limit, rules.out_hours)
    for limit, share in (
        (rules.deferral_rate_slow_1h, rules.watched_share),
        (rules.deferral_rate_watch_1h, 1.0),
    ):
        if deferred >= limit * asked:
            return Finding("watched", "deferral rate", "1 hour", deferred, asked, limit, share=share)
    return None


def _in_probation(scope: Scope, counts: Counts, rules: Health) -> Finding | HealthState:
    """A few bad signs end a probation badly; enough deliveries end it well."""
    complaints, blocks, bounces = _bearable(scope, rules)
    window, hours = "since it began", rules.out_hours
    if counts.complaints > complaints:
        return Finding("unhealthy", "complaint in probation", window, counts.complaints, 0, complaints + 1)
    if counts.blocks > blocks:
        return Finding("unhealthy", "block in probation", window, counts.blocks, 0, blocks + 1, hours)
    most = max(bounces, int(counts.handed * rules.bounce_rate_domain)) if scope != "mailbox" else bounces
    if counts.hard_bounces > most:
        return Finding("unhealthy", "hard bounces in probation", window, counts.hard_bounces, 0, most + 1, hours)
    good = min(counts.accepted, counts.delivered)  # what arrives now may have left long before
    return "active" if good >= good_ones(scope, rules) else "probation"


def _bearable(scope: Scope, rules: Health) -> tuple[int, int, int]:
    """How many complaints, blocks and hard bounces a probation bears; what is many mailboxes' mail has some by chance.

    One complaint of some thousand mails would leave a whole client waiting for a person.
    """
    few = rules.absolute_at_least - 1
    return (0, 0, 1) if scope == "mailbox" else (few, rules.blocks_domain_1h - 1, few)


def good_ones(scope: Scope, rules: Health) -> int:
    """Return how many deliveries end a probation: of a mailbox few, of what is many mailboxes a sample."""
    return rules.probation_sends if scope == "mailbox" else rules.sample_at_least


# ── the states ───────────────────────────────────────────────────────────────────────────────────


def moved(
    client: ClientId,
    scope: Scope,
    name: str,
    row: SenderRow,
    policy: Policy,
    at: datetime,
    sent_at: datetime | None = None,
) -> HealthChanged | None:
    """Return the change of state that a sender's counts and the time ask for, None for none.

    `sent_at` is of a mail that bounced later, if that is what is looked at.
    """
    rules = policy.health
    match row.state:
        case "unhealthy" if row.until is not None and at >= row.until:
            why = Evidence("time is over", policy.version, said=f"out since {row.since:%Y-%m-%d %H:%M} by: {row.rule}")
            return _let_back(HealthChanged(client, scope, name, row.state, row.then, why), row, policy, at)
        case "probation":
            found = _in_probation(scope, since(row.buckets, at - timedelta(days=8)), rules)
            if found == "probation":
                return None
            if isinstance(found, Finding):
                return _changed(client, scope, name, row, found, policy, at)
            why = Evidence("probation passed", policy.version, "since it began", good_ones(scope, rules))
            return HealthChanged(client, scope, name, row.state, "active", why)
    against = judge(scope, row.buckets, rules, at, sent_at)
    if against is None:
        if row.state != "watched" or _is_let_go_elsewhere(row, at):
            return None
        why = Evidence("no rule stands against it any more", policy.version, said=f"watched by: {row.rule}")
        return HealthChanged(client, scope, name, row.state, "active", why)
    return _changed(client, scope, name, row, against, policy, at) if _is_graver(against, row) else None


def _is_let_go_elsewhere(row: SenderRow, at: datetime) -> bool:
    fed = row.rule == SPAM_AT_GMAIL and row.since is not None and at - row.since < FEED_SILENT
    return fed or row.rule == SLOWER


def _is_graver(found: Finding, row: SenderRow) -> bool:
    match row.state:
        case "unhealthy":
            return found.state == "unhealthy" and row.until is not None and not found.hours
        case "watched":
            return found.state == "unhealthy" or found.share < row.share
    return True


def _changed(
    client: ClientId, scope: Scope, name: str, row: SenderRow, found: Finding, policy: Policy, at: datetime
) -> HealthChanged:
    why = Evidence(found.rule, policy.version, found.window, found.numerator, found.denominator, found.threshold)
    until = at + timedelta(hours=found.hours) if found.hours else None
    return HealthChanged(client, scope, name, row.state, found.state, why, until, share=found.share)


def tripped(
    client: ClientId, scope: Scope, name: str, row: SenderRow, verdict: Verdict, said: str, policy: Policy, at: datetime
) -> HealthChanged | None:
    """Return the change that a server's word makes at once: a block until a person acts, other faults for hours."""
    why = Evidence(verdict.rule, policy.version, said=said)
    if verdict.reply_class in ("block", "sender_account"):
        if row.state == "unhealthy" and row.until is None:
            return None
        return HealthChanged(client, scope, name, row.state, "unhealthy", why)
    if row.state == "unhealthy":
        return None
    then: HealthState = "probation" if row.state == "probation" else "active"
    until = at + (LOGIN_PAUSE if scope == "mailbox" else DOMAIN_PAUSE)
    return HealthChanged(client, scope, name, row.state, "unhealthy", why, until, then)


def paused(client: ClientId, scope: Scope, name: str, row: SenderRow, by: str, policy: Policy) -> HealthChanged | None:
    """Return the change that an operator's pause makes."""
    if row.state == "unhealthy" and row.until is None:
        return None
    then: HealthState = "probation" if row.state in ("unhealthy", "probation") else "active"
    return HealthChanged(
        client,
        scope,
        name,
        row.state,
        "unhealthy",
        Evidence("paused by an operator", policy.version, said=by),
        then=then,
    )


def resumed(
    client: ClientId, scope: Scope, name: str, row: SenderRow, by: str, policy: Policy, at: datetime
) -> HealthChanged | None:
    """Return the change that an operator's resume makes: the rules go on, counting anew where there was evidence."""
    if row.state != "unhealthy":
        return None
    why = Evidence("resumed by an operator", policy.version, said=by)
    return _let_back(HealthChanged(client, scope, name, row.state, row.then, why), row, policy, at)


def _let_back(change: HealthChanged, row: SenderRow, policy: Policy, at: datetime) -> HealthChanged:
    """Return the change, or less than that: what was counted before a pause or in it is held against the sender.

    Who would be out by it goes on probation, who would be watched is watched.
    """
    found = judge(change.scope, row.buckets, policy.health, at) if change.now == "active" else None
    if found is None:
        return change
    said = ", ".join(filter(None, (change.evidence.rule, change.evidence.said)))
    why = Evidence(found.rule, policy.version, found.window, found.numerator, found.denominator, found.threshold, said)
    now: HealthState = "probation" if found.state == "unhealthy" else "watched"
    return msgspec.structs.replace(change, now=now, share=found.share, evidence=why)


def follows(state: FleetState, fact: SignCounted, at: datetime, said: HealthChanged | None = None) -> list[Fact]:
    """Return a sign and the changes of state that follow from it; `said` is one that a server's word made at once."""
    made: list[Fact] = [fact] if said is None else [fact, said]
    for scope, name in senders_of(fact):
        row = state.sender(scope, fact.client, name)
        if said is not None and (scope, name) == (said.scope, said.name):
            continue
        if fact.sign in BAD or row.state == "probation":
            policy = state.policy(fact.client)
            row = with_sign(row, scope, fact, at)
            change = moved(fact.client, scope, name, row, policy, at, _bounced_mail(fact))
            if change is not None:
                made.append(change)
    return made


def due(state: FleetState, at: datetime) -> list[Fact]:
    """Return the changes of state whose time has come; they are looked at again until they count."""
    made: dict[str, HealthChanged] = {}
    again: list[tuple[datetime, str]] = []
    while state.look_at and state.look_at[0][0] <= at and len(made) < MOST_PER_TICK:
        when, id_ = heapq.heappop(state.look_at)
        row = state.get(("sender", id_))
        if not isinstance(row, SenderRow) or row.state not in ("unhealthy", "watched"):
            continue
        scope, client, name = split_sender(id_)
        change = moved(client, scope, name, row, state.policy(client), at)
        if change is not None:
            made[id_] = change
            again.append((when, id_))
        elif row.state == "watched":
            again.append((at + LOOK_AT_WATCHED, id_))
    for entry in again:
        heapq.heappush(state.look_at, entry)
    return list(made.values())


# ── what a state allows ──────────────────────────────────────────────────────────────────────────


def is_well(row: SenderRow) -> bool:
    """Whether nothing that a sender's mails came to stands against it; to be slow is no such thing."""
    return row.state == "active" or (row.state == "watched" and row.rule == SLOWER)


def allowed(quota: int, row: SenderRow, rules: Health) -> int:
    """Return what a state leaves of a mailbox's quota of the day; a wider sender's state is its mailboxes' too."""
    match row.state:
        case "active":
            return quota
        case "watched":
            return min(quota, max(1, int(quota * row.share)))
        case "probation":
            return min(quota, rules.probation_per_day)
        case "unhealthy":
            return 0
