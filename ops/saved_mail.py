"""Saved mail, read and published: what `mailfleet read-mail` does. A message is named by what is in it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from adapters.reports.mime import Letter, read
from adapters.reports.quoted import ADDRESS
from ops.classified import files_of, messages
from schemas.fleet import ClientDeclared, MailboxDeclared
from schemas.ids import ClientId, MailboxAddress
from schemas.registry import Fact
from schemas.topics import DELIVERY_INPUTS
from streams.agents.facts import append
from streams.agents.mail_reports import Found, Place, reports_in
from streams.log.kafka import Writer
from streams.settings import Settings

_CAME_TO = ("delivered-to", "x-original-to", "envelope-to", "to")


def read_saved(
    paths: Iterable[Path],
    known: Mapping[MailboxAddress, ClientId],
    fleet_key: bytes,
    mailbox: str = "",
    read_one: Callable[[], None] = lambda: None,
) -> list[tuple[str, Found]]:
    """Return (name, report) of everything in files, mbox files, folders and Maildirs.

    A message is taken to lie in `mailbox`, else in the one of the known mailboxes that it came to; without either only
    its token finds the send.
    """
    found: list[tuple[str, Found]] = []
    for file in (file for path in paths for file in files_of(path)):
        for raw in messages(file):
            letter = read(raw)
            box = mailbox or _came_to(letter, known)
            place = _place(raw, letter, MailboxAddress(box), known.get(MailboxAddress(box), ClientId("")))
            found += [(str(file), report) for report in reports_in(raw, place, fleet_key)]
            read_one()
    return found


def mailboxes_of(declared: Iterable[Fact]) -> dict[MailboxAddress, ClientId]:
    """Return every mailbox that mail of the fleet may lie in, with its client."""
    facts = list(declared)
    bounces = {f.bounce_mailbox.address: f.client for f in facts if isinstance(f, ClientDeclared) and f.bounce_mailbox}
    return bounces | {f.mailbox: f.client for f in facts if isinstance(f, MailboxDeclared)}


def _place(raw: bytes, letter: Letter, mailbox: MailboxAddress, client: ClientId) -> Place:
    """The same message has the same name and time at each reading: reading it again changes nothing."""
    digest = hashlib.sha256(raw).hexdigest()
    at = _date(letter)
    return Place(f"saved/{digest[:32]}", mailbox, client, at, "saved mail", 0, int(digest[:12], 16))


def _date(letter: Letter) -> datetime:
    """Return when the message says it was written, else the beginning of time, never later than now."""
    try:
        said = parsedate_to_datetime(letter.header("date"))
        return min(said if said.tzinfo else said.replace(tzinfo=UTC), datetime.now(UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return datetime.fromtimestamp(0, UTC)


def _came_to(letter: Letter, known: Mapping[MailboxAddress, ClientId]) -> str:
    values = (value for name in _CAME_TO for value in letter.headers.get(name, ()))
    addresses = (found[0].lower() for value in values for found in ADDRESS.finditer(value))
    return next((address for address in addresses if address in known), "")


def counted(found: Iterable[tuple[str, Found]]) -> dict[str, int]:
    """Return how many reports there are of each kind."""
    return dict(sorted(Counter(getattr(report.fact, "kind", "forged") for _, report in found).items()))


async def publish(
    settings: Settings, found: Iterable[tuple[str, Found]], published_one: Callable[[], None] = lambda: None
) -> None:
    """Publish reports to delivery-inputs. Raises AppendUncertain; publishing again is safe."""
    writer = Writer(settings.connection)
    try:
        for _, report in found:
            await append(writer, settings, DELIVERY_INPUTS, report.fact, report.key, "read-mail")
            published_one()
    finally:
        await writer.close()
