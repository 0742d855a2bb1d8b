"""What follows from what receivers say of a domain: how each feed stands, and Gmail's consequences for the domain."""

from datetime import datetime, timedelta

import msgspec

from schemas.health import Evidence, HealthChanged, ResumeOrdered
from schemas.ids import ClientId, DomainName
from schemas.registry import Fact
from schemas.reputation import DmarcReported, Feed, ReputationChanged, SpamRatesTold
from streams.fleet.reputation import (
    SPAM_AT_GMAIL,
    UNHEARD,
    Found,
    ReputationRow,
    folded,
    gmail,
    is_known,
    is_of_today,
    own_mail,
    unknown_senders,
)
from streams.fleet.state import FleetState, SenderRow

SAID_AGAIN = timedelta(days=6)
"""A domain that stays watched is told so anew after this time: a feed that falls silent lets go (health.py)."""


def reputation_of(state: FleetState, client: ClientId, domain: DomainName) -> ReputationRow:
    """Return the domain's row; of one that nobody spoke of nothing is known."""
    row = state.get(("reputation", f"{client}/{domain}"))
    return row if isinstance(row, ReputationRow) else UNHEARD


def spam_rates_told(state: FleetState, fact: SpamRatesTold, at: datetime) -> list[Fact]:
    """Take Gmail's rates; slow the domain down or take it out by them, and let go what they slowed down."""
    row, policy = reputation_of(state, fact.client, fact.domain), state.policy(fact.client)
    if state.domain(fact.client, fact.domain) is None or fact.until.isoformat() < row.rates_to:
        return []
    after = folded(row, fact, at)
    found = gmail(after, policy, at)
    sender = state.sender("domain", fact.client, fact.domain)
    change = _of_health(fact, sender, found, policy.health.watched_share, at)
    changes = [*_turned(row, fact, "gmail_spam", found), *([] if change is None else [change])]
    return [fact, *changes] if changes or after != row else []


def dmarc_reported(state: FleetState, fact: DmarcReported, at: datetime) -> list[Fact]:
    """Take a report that is new and of these days."""
    if state.domain(fact.client, fact.domain) is None or not is_of_today(fact, at):
        return []
    row, policy = reputation_of(state, fact.client, fact.domain), state.policy(fact.client)
    if is_known(row, fact):
        return []
    after = folded(row, fact, at)
    own, others = (judge(after, fact.domain, policy, at, fact) for judge in (own_mail, unknown_senders))
    return [fact, *_turned(row, fact, "dmarc_own", own), *_turned(row, fact, "dmarc_unknown", others)]


def counted_anew(state: FleetState, fact: ResumeOrdered) -> list[Fact]:
    """When a person lets a domain back, what Gmail told of days up to now counts no more."""
    domain = DomainName(fact.name)
    if fact.scope != "domain" or reputation_of(state, fact.client, domain).standings.get("gmail_spam") != "bad":
        return []
    why = Evidence("resumed by an operator", state.policy(fact.client).version, said=f"{fact.by}: {fact.reason}")
    return [ReputationChanged(fact.client, domain, "gmail_spam", "bad", "good", why, anew=True)]


def _turned(row: ReputationRow, fact: SpamRatesTold | DmarcReported, feed: Feed, found: Found) -> list[Fact]:
    was = row.standings.get(feed, "good")
    if was == found.now:
        return []
    return [ReputationChanged(fact.client, fact.domain, feed, was, found.now, found.evidence, found.fix)]


def _of_health(
    fact: SpamRatesTold, sender: SenderRow, found: Found, share: float, at: datetime
) -> HealthChanged | None:
    """Return the change of the domain's state. Others may hold it back already, and harder."""
    stays = HealthChanged(fact.client, "domain", fact.domain, sender.state, sender.state, found.evidence)
    watched_by_this = sender.state == "watched" and sender.rule == SPAM_AT_GMAIL
    match found.now:
        case "bad" if sender.state != "unhealthy" or sender.until is not None:
            return msgspec.structs.replace(stays, now="unhealthy")
        case "warning" if sender.state == "active" or (watched_by_this and _is_old(sender, at)):
            return msgspec.structs.replace(stays, now="watched", share=share)
        case "good" if watched_by_this:
            return msgspec.structs.replace(stays, now="active")
    return None


def _is_old(sender: SenderRow, at: datetime) -> bool:
    return sender.since is None or at - sender.since >= SAID_AGAIN
