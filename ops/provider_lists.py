"""The suppression list that a provider keeps, as orders of our own: hard bounces and complaints for all clients, an
unsubscribe for the route's client alone."""

from collections.abc import Iterable, Mapping

from adapters.interface import RecordsUnavailable
from adapters.mail.mailgun import MailgunAdapter
from adapters.mail.ses import SesAdapter
from adapters.secrets import Secrets
from ops.suppressions import Order, suppression_of
from schemas.fleet import MailboxDeclared, RouteDeclared
from schemas.ids import ClientId
from schemas.registry import Fact
from schemas.sending import RouteCall
from streams.delivery.identity import AddressInvalid
from streams.fleet.choose import call_of
from streams.fleet.state import MailboxRow, RouteRow

LISTS: Mapping[str, type[MailgunAdapter] | type[SesAdapter]] = {"mailgun": MailgunAdapter, "ses": SesAdapter}
"""Providers that keep a list, with who reads it."""


class NoList(Exception):
    """A route has no list that can be read; the text says why and what to do."""


def call_over(name: str, declared: Iterable[Fact]) -> tuple[ClientId, RouteCall]:
    """Return whose route "client/route" is and how it is called, by a mailbox that uses it. Raises NoList."""
    facts = list(declared)
    ways = {f"{f.client}/{f.route}": f for f in facts if isinstance(f, RouteDeclared) and f.active}
    way = ways.get(name)
    if way is None:
        known = ", ".join(sorted(n for n, w in ways.items() if w.provider in LISTS)) or "none"
        raise NoList(f"no route {name} is declared; routes whose provider keeps a list: {known}")
    if way.provider not in LISTS:
        raise NoList(f"{way.provider} keeps no list of suppressions; {' and '.join(sorted(LISTS))} do")
    boxes = (f for f in facts if isinstance(f, MailboxDeclared) and f.active and f.client == way.client)
    box = next((f for f in boxes if way.route in f.routes), None)
    if box is None:
        raise NoList(f"no mailbox uses route {name}: whose secret is to open the list?")
    return way.client, call_of(MailboxRow(box), RouteRow(way))


async def listed(client: ClientId, call: RouteCall, secrets: Secrets, by: str, key: bytes) -> tuple[list[Order], int]:
    """Return an order for each address on the list, and how many lines were no addresses. Raises NoList."""
    adapter, rule = LISTS[call.provider](secrets), f"on the list of {call.provider}, route {call.route}"
    found: list[Order] = []
    passed_over = 0
    try:
        async for address, reason in adapter.suppressions(call):
            scope = client if reason == "unsubscribe" else ClientId("")
            try:
                if "@" not in address.strip()[1:]:  # "@firm.example" would be a whole domain
                    raise AddressInvalid("it names nobody")
                found.append(suppression_of(address, scope, reason, rule, by, key))
            except AddressInvalid:
                passed_over += 1
    except RecordsUnavailable as error:
        raise NoList(f"the list cannot be read, nothing is ordered: {error}") from error
    finally:
        await adapter.close()
    return found, passed_over
