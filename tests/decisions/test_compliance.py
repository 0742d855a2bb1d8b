"""What may be sent at all: consent basis x country x routes, decided before a send enters the backlog."""

import msgspec
import pytest

from schemas.fleet import WITH_CONSENT, ClientDeclared
from schemas.ids import CampaignId, ClientId, DomainName, Recipient, SendId, TopicId
from schemas.sending import (
    Basis,
    BasisType,
    ContentRef,
    SendAdmitted,
    SendQueued,
    SendRef,
    SendRequested,
    SendTurnedAway,
)
from tests.decisions.fleet_story import FAST, START, FleetStory

ACME = ClientId("acme")


def story(
    accepts: tuple[BasisType, ...] = ("express_consent", "legitimate_interest"), unsubscribe: str = "https://u.test/"
) -> FleetStory:
    """A client with one route that takes these bases."""
    made = FleetStory()
    made.sees(ClientDeclared(ACME, (CampaignId("all"),), "Street 1", FAST, unsubscribe))
    made.domain("acme", "acme.test")
    made.route("acme", accepts_basis=accepts)
    made.boxes("acme", "acme.test", 1)
    return made


def said(made: FleetStory, basis: BasisType, country: str = "", entity: str = "") -> str:
    """Return the rule that a request on this basis is turned away by, "" when it is queued."""
    asked = SendRequested(
        SendRef(ACME, SendId("s1"), Recipient("a" * 64)),
        CampaignId("all"),
        ContentRef(TopicId("t"), 0, 0, "c" * 64, 100),
        "d" * 64,
        Recipient("a" * 64),
        DomainName("firm.test"),
        Basis(basis, "list", START),
        START,
        START.replace(day=9),
        recipient_country=country,
        entity_type=entity,
    )
    (decided,) = made.sees(SendAdmitted(asked))
    if isinstance(decided, SendQueued):
        return ""
    assert isinstance(decided, SendTurnedAway)
    assert decided.reason == "policy"
    return decided.detail.partition(":")[0]


@pytest.mark.parametrize(
    ("country", "entity", "rule"),
    [
        ("US", "", ""),
        ("us", "person", ""),
        ("GB", "company", ""),
        ("GB", "sole_trader", "country_gate"),
        ("GB", "", "country_gate"),
        ("DE", "company", "country_gate"),
        ("AT", "company", "country_gate"),
        ("CA", "company", "country_gate"),
        ("", "company", "country_gate"),
        ("XX", "company", "country_gate"),
    ],
)
def test_legitimate_interest_is_enough_only_where_it_is_known_to_be(country: str, entity: str, rule: str) -> None:
    assert said(story(), "legitimate_interest", country, entity) == rule


@pytest.mark.parametrize("country", ["", "DE", "US"])
def test_consent_is_enough_everywhere(country: str) -> None:
    assert said(story(), "express_consent", country) == ""


def test_a_basis_that_no_route_takes_is_turned_away_at_once() -> None:
    assert said(story(WITH_CONSENT), "legitimate_interest", "US") == "route_policy"
    assert said(story(("express_consent",)), "transactional") == "route_policy"


def test_only_transactional_mail_goes_without_a_way_to_unsubscribe() -> None:
    assert said(story(("transactional", "express_consent"), unsubscribe=""), "express_consent") == "unsubscribe"
    assert said(story(("transactional",), unsubscribe=""), "transactional") == ""


def test_an_operator_may_name_other_countries_and_that_is_a_fact() -> None:
    made = story()
    row = made.state.client(ACME)
    assert row is not None
    made.sees(msgspec.structs.replace(row.declared, without_consent_in=("FR",)))
    assert said(made, "legitimate_interest", "FR") == ""


def test_a_send_goes_only_over_a_route_that_takes_its_basis() -> None:
    made = FleetStory()
    made.client("acme")
    made.domain("acme", "acme.test")
    made.route("acme", "ses", accepts_basis=WITH_CONSENT)
    made.route("acme", "own")
    made.boxes("acme", "acme.test", 10, routes=("ses", "own"))
    for number in range(10):
        made.ask("acme", f"cold-{number}", basis="legitimate_interest")
        made.ask("acme", f"warm-{number}")
    made.tick(10)
    ways = {(a.ref.send_id.partition("-")[0], a.call.route) for _, a in made.assigned}
    assert ways == {("cold", "own"), ("warm", "ses")}
