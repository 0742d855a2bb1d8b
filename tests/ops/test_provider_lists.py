"""A provider's own suppression list becomes orders: whose, why and for whom, and sentences when it cannot be read."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.secrets import Secrets
from ops.provider_lists import NoList, call_over, listed
from schemas.fleet import MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, MailboxAddress, RouteId
from schemas.reports import SuppressOrdered
from streams.delivery.identity import recipients_of
from tests.adapters.benches import MailgunBench
from tests.adapters.conftest import PATIENCE_S, running
from tests.adapters.mailgun_server import Answer

KEY = b"k" * 32
ACME = ClientId("acme")
LISTED = {
    "bounces": [{"address": "b@customer.test"}, {"address": "nobody"}, {"address": "@customer.test"}],
    "complaints": [{"address": "c@customer.test"}],
    "unsubscribes": [{"address": "u@customer.test"}],
}


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[MailgunBench]:
    """The bench of Mailgun."""
    made = MailgunBench()
    async with running(made, tmp_path, PATIENCE_S):
        yield made


def declared(bench: MailgunBench) -> list[RouteDeclared | MailboxDeclared]:
    """Return the route of the bench, and one over SMTP, with a mailbox for each."""
    call = bench.call
    ways = [
        RouteDeclared(ACME, RouteId("g"), "mailgun", "", 0, ca_file_ref=call.ca_file_ref, options=call.options),
        RouteDeclared(ACME, RouteId("own"), "smtp", "mx.firm.test", 587),
        RouteDeclared(ACME, RouteId("idle"), "ses", "", 0),
    ]
    box = MailboxDeclared(
        ACME, MailboxAddress("anna@firm.test"), (RouteId("own"), RouteId("g")), 40, secret_ref=call.secret_ref
    )
    return [*ways, box]


async def test_each_address_is_ordered_with_its_reason_and_what_names_nobody_is_passed_over(
    bench: MailgunBench, tmp_path: Path
) -> None:
    bench.server.lists = LISTED
    client, call = call_over("acme/g", declared(bench))
    orders, passed_over = await listed(client, call, Secrets(tmp_path), "lena", KEY)
    rule = "on the list of mailgun, route g"
    assert orders == [
        SuppressOrdered(*recipients_of("b@customer.test", KEY), ClientId(""), "hard_bounce", rule, "lena"),
        SuppressOrdered(*recipients_of("c@customer.test", KEY), ClientId(""), "complaint", rule, "lena"),
        SuppressOrdered(*recipients_of("u@customer.test", KEY), ACME, "unsubscribe", rule, "lena"),
    ]
    assert passed_over == 2


async def test_half_a_list_orders_nothing(bench: MailgunBench, tmp_path: Path) -> None:
    bench.server.script["verdict"] = Answer(401, b"Forbidden")
    with pytest.raises(NoList, match="nothing is ordered"):
        await listed(ACME, bench.call, Secrets(tmp_path), "lena", KEY)


@pytest.mark.parametrize(
    ("name", "said"),
    [("acme/gone", "acme/g"), ("acme/own", "smtp keeps no list"), ("acme/idle", "no mailbox uses")],
)
async def test_a_route_without_a_list_is_said_to_have_none(bench: MailgunBench, name: str, said: str) -> None:
    with pytest.raises(NoList, match=said):
        call_over(name, declared(bench))
