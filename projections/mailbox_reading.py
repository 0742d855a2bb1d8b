"""Read model `mailbox_reading`: how far each mailbox is read, and since when one cannot be."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.mail import MailboxRead, MailboxUnreadable
from schemas.registry import Fact

_READ = """
insert into mailbox_reading (mailbox, client, folder, uid_validity, last_uid, told_at)
values (%(mailbox)s, %(client)s, %(folder)s, %(uid_validity)s, %(last_uid)s, %(told_at)s)
on conflict (mailbox) do update set client = excluded.client, folder = excluded.folder,
    uid_validity = excluded.uid_validity, last_uid = excluded.last_uid, told_at = excluded.told_at,
    unreadable_since = null, unreadable_why = ''
"""
_UNREADABLE = """
insert into mailbox_reading (mailbox, client, unreadable_since, unreadable_why)
values (%(mailbox)s, %(client)s, %(since)s, %(what)s)
on conflict (mailbox) do update set client = excluded.client, unreadable_since = excluded.unreadable_since,
    unreadable_why = excluded.unreadable_why
"""


def project(fact: Fact, _place: Place) -> Iterable[Statement]:
    """Yield what the fact changes; of a mailbox both kinds stand in one partition, in their order."""
    match fact:
        case MailboxRead():
            named = {"mailbox": fact.mailbox, "client": fact.client, "folder": fact.folder, "told_at": fact.at}
            yield _READ, named | {"uid_validity": fact.uid_validity, "last_uid": fact.last_uid}
        case MailboxUnreadable():
            named = {"mailbox": fact.mailbox, "client": fact.client}
            yield _UNREADABLE, named | {"since": fact.since, "what": fact.what}
        case _:
            return
