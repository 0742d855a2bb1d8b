"""Read model `mailboxes`: one row per mailbox, its quota today, what it does now, why it stands still."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.fleet import MailboxDeclared, MailboxLeftOut, MailboxWarmed
from schemas.registry import Fact
from schemas.sending import Release, SendAssigned, SendEnded, SendRequeued

_DECLARE = """
insert into mailboxes (mailbox, client, domain, routes, daily_quota, active, changed_at)
values (%(mailbox)s, %(client)s, %(domain)s, %(routes)s, %(quota)s, %(active)s, %(at)s)
on conflict (mailbox) do update set client = excluded.client, routes = excluded.routes,
    daily_quota = excluded.daily_quota, active = excluded.active, changed_at = excluded.changed_at
"""
_ASSIGN = """
update mailboxes set used = case when used_day = %(day)s then used else 0 end + 1, used_day = %(day)s,
    open_attempt = %(attempt)s, last_assigned_at = %(at)s, changed_at = %(at)s
where mailbox = %(mailbox)s
"""
_RELEASE = """
update mailboxes set open_attempt = case when open_attempt = %(attempt)s then '' else open_attempt end,
    free_at = %(free_at)s, changed_at = %(at)s,
    used = used - case when %(gave_back)s and used_day = %(day)s and used > 0 then 1 else 0 end
where mailbox = %(mailbox)s
"""
_WARMED = "update mailboxes set warmed_since = %(since)s, changed_at = %(at)s where mailbox = %(mailbox)s"
_LEAVE_OUT = """
update mailboxes set out_until = %(until)s, out_rule = %(rule)s, out_evidence = %(evidence)s, changed_at = %(at)s
where mailbox = %(mailbox)s
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case MailboxDeclared():
            yield (
                _DECLARE,
                {
                    "mailbox": fact.mailbox,
                    "client": fact.client,
                    "domain": fact.mailbox.rpartition("@")[2],
                    "routes": list(fact.routes),
                    "quota": fact.daily_quota,
                    "active": fact.active,
                    "at": place.at,
                },
            )
        case SendAssigned(ref, attempt, sender):
            name = f"{ref.client}/{ref.send_id}/{attempt}"
            yield _ASSIGN, {"mailbox": sender.mailbox, "day": fact.quota_day, "attempt": name, "at": place.at}
        case SendRequeued() | SendEnded() if fact.release is not None:
            name = f"{fact.ref.client}/{fact.ref.send_id}/{fact.attempt}"
            yield _RELEASE, _released(fact.release) | {"attempt": name, "at": place.at}
        case MailboxWarmed():
            yield _WARMED, {"mailbox": fact.mailbox, "since": fact.since, "at": place.at}
        case MailboxLeftOut():
            yield (
                _LEAVE_OUT,
                {
                    "mailbox": fact.mailbox,
                    "until": fact.until,
                    "rule": fact.rule,
                    "evidence": fact.evidence,
                    "at": place.at,
                },
            )


def _released(release: Release) -> dict[str, object]:
    return {
        "mailbox": release.mailbox,
        "free_at": release.free_at,
        "gave_back": release.gave_back,
        "day": release.quota_day,
    }
