"""An assignment of the past is put to the rules once more: they let it go, or say what holds it back."""

from collections.abc import Callable

import pytest

from schemas.dns import DomainObserved, Finding
from schemas.fleet import StopOrdered
from schemas.health import PauseOrdered, Scope
from schemas.ids import ClientId, DomainName, RouteId
from schemas.policy import Lists, Receivers, WarmUp
from schemas.registry import Fact
from schemas.sending import SendAssigned
from streams.fleet.choose import Again, again
from tests.decisions.fleet_story import FleetStory, refuse

ACME = ClientId("acme")
GMAIL = Receivers({"gmail": 1})


def story(*, receivers: Receivers = GMAIL, lists: Lists | None = None, warm_up: WarmUp | None = None) -> FleetStory:
    """A client with one mailbox that sent one mail to Gmail, and the next one waits."""
    made = FleetStory()
    made.fleet("acme", 1)
    made.policy(
        "acme",
        receivers=receivers,
        lists=lists or Lists(canary_sends=0),
        warm_up=warm_up or WarmUp(enabled=False),
    )
    made.ask("acme", "first", receiver="gmail")
    made.tick(3)
    made.ask("acme", "next", receiver="gmail")
    return made


def given() -> SendAssigned:
    """The next mail's assignment, as it was when nothing stood against it."""
    free = story(receivers=Receivers({}))
    free.tick()
    return free.assigned[-1][1]


def put(to: FleetStory) -> Again:
    """Put the assignment to the rules as they are in a story."""
    return again(to.state, given(), to.now)


def paused(scope: Scope, name: str) -> Callable[[FleetStory], object]:
    return lambda story: story.sees(PauseOrdered(ACME, scope, name, "lena", "a try"))


def broken_spf(story: FleetStory) -> None:
    """Two resolvers see a wrong record."""
    found = (Finding("spf", "broken", "it is broken", "set it right"),)
    for resolver in ("10.0.0.53", "10.0.0.54"):
        story.sees(DomainObserved(ACME, DomainName("acme.test"), story.now, resolver, found, RouteId("own")))


def test_what_nothing_stands_against_is_assigned_as_it_was() -> None:
    assert put(story(receivers=Receivers({}))) == Again(None, [given()])


@pytest.mark.parametrize(
    ("made", "stands_against", "limit"),
    [
        (story, lambda _: None, "receiver_ceiling"),
        (story, paused("mailbox", "box0@acme.test"), "mailbox_out"),
        (story, paused("domain", "acme.test"), "domain_out"),
        (story, paused("client", ""), "client_out"),
        (lambda: story(receivers=Receivers({})), paused("route", "own"), "route_out"),
        (lambda: story(receivers=Receivers({})), broken_spf, "dns"),
        (story, lambda s: s.sees(StopOrdered("domain", "acme.test", "lena")), "stopped"),
        (lambda: story(warm_up=WarmUp(start_per_day=1, target_per_day=1)), lambda _: None, "warm_up"),
        (lambda: story(lists=Lists(canary_sends=1)), lambda _: None, "list_canary"),
    ],
)
def test_what_stands_against_it_is_named_and_nothing_is_assigned(
    made: Callable[[], FleetStory], stands_against: Callable[[FleetStory], object], limit: str
) -> None:
    now = made()
    stands_against(now)
    found = put(now)
    assert (found.limit, found.facts) == (limit, [])


def test_a_send_that_waits_no_more_is_not_assigned() -> None:
    now = story(receivers=Receivers({}))
    now.settle = refuse("recipient", "hard", "suppress")
    now.tick(3)
    assert put(now) == Again("turn", [])


def test_the_last_of_a_canary_sends_it_out_and_counts_in_it() -> None:
    now = story(receivers=Receivers({}), lists=Lists(canary_sends=2))
    kinds: list[type[Fact]] = [type(fact) for fact in put(now).facts]
    assert [kind.__name__ for kind in kinds] == ["SendAssigned", "ListChanged"]
    assert isinstance(put(now).facts[0], SendAssigned)
    assert getattr(put(now).facts[0], "list_id", "") == "campaign/all"
