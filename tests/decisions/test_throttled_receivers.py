"""One receiver that throttles rests over the route; several in a row, or the provider's own word, are the route's."""

from collections import Counter
from datetime import datetime, timedelta

import pytest

from schemas.fleet import ReceiverEased, ReceiverThrottled, RouteProven, RouteRecovered, RouteTripped
from schemas.health import AlertRaised, AlertResolved, Evidence
from schemas.ids import ClientId, DomainName
from schemas.registry import Fact
from schemas.sending import AttemptRefused, Reply, SendAssigned, SendQueued, SendReturned
from streams.delivery.verdict import verdict
from streams.fleet.routes import EASED_AFTER, MOST_KEPT, SEVERAL
from tests.decisions.fleet_story import START, FleetStory, accept

GMAIL = Reply("smtp", "dot", 421, "4.7.28", "Gmail has detected an unusual rate of unsolicited mail")
SLOW = Reply("smtp", "rcpt", 450, "4.7.1", "You are sending too many messages, slow down")
LATER = Reply("smtp", "rcpt", 451, "4.3.0", "try again later")
SES = Reply("ses", "dot", 454, "", "Throttling failure: Maximum sending rate exceeded.")
MINUTE = timedelta(minutes=1)


class World:
    """Receivers that throttle until their time, by the first part of the send_id; all others take what comes."""

    def __init__(self, **until: timedelta) -> None:
        self.story = FleetStory(settle=self.settle)
        self.until = {name: START + time for name, time in until.items()}
        self.words = {"gmail": GMAIL}

    def settle(self, given: SendAssigned) -> Fact:
        name = given.ref.send_id.partition("-")[0]
        if name not in self.until or self.story.now >= self.until[name]:
            return accept(given)
        return refused(given, self.words.get(name, SLOW))

    def sent(self, name: str, begin: timedelta = timedelta(), end: timedelta = timedelta(days=1)) -> int:
        """Return how many sends of this name were assigned from `begin` to `end`."""
        times = [at for at, a in self.story.assigned if a.ref.send_id.partition("-")[0] == name]
        return sum(START + begin <= at < START + end for at in times)

    def rests(self) -> list[ReceiverThrottled]:
        """Return the rests that were decided."""
        return [fact for _, fact in self.story.journal if isinstance(fact, ReceiverThrottled)]

    def trips(self) -> list[RouteTripped]:
        """Return the trips that were decided."""
        return [fact for _, fact in self.story.journal if isinstance(fact, RouteTripped)]


def refused(given: SendAssigned, reply: Reply) -> AttemptRefused:
    """Return a refusal with what it means."""
    box, route = given.sender.mailbox, given.call.route
    return AttemptRefused(given.ref, given.attempt, box, route, reply, verdict(reply))


def fleet(world: World, boxes: int = 20, routes: tuple[str, ...] = ("own",)) -> FleetStory:
    """Declare one client that may send at once and often."""
    story = world.story
    story.client("acme")
    story.domain("acme", "acme.test")
    for route in routes:
        story.route("acme", route)
    story.boxes("acme", "acme.test", boxes, routes=routes)
    return story


def ask(story: FleetStory, name: str, count: int, receiver: str | None = None, domain: str = "") -> None:
    """Ask for sends to a receiver."""
    for number in range(count):
        story.ask("acme", f"{name}-{number}", receiver=name if receiver is None else receiver, domain=domain or name)


def test_a_receiver_that_throttles_rests_alone_and_all_others_go_on() -> None:
    world = World(gmail=5 * MINUTE)
    story = fleet(world, 4)
    ask(story, "gmail", 30)
    ask(story, "microsoft", 300)
    story.tick(9 * 60)
    assert world.sent("gmail") <= 4, "what was out when the first was refused, and nothing more"
    assert world.sent("microsoft") == 300
    (rest,) = world.rests()
    assert (rest.receiver, rest.times, rest.until - START) == ("gmail", 1, timedelta(seconds=602))
    assert rest.rule == "receiver-throttles"
    assert "4.7.28" in rest.evidence
    assert not world.trips()


def test_after_its_rest_it_gets_one_mail_then_one_more_with_each_it_takes() -> None:
    world = World(gmail=5 * MINUTE)
    story = fleet(world)
    story.latency_s = 20
    ask(story, "gmail", 60)
    story.tick(9 * 60)
    before = world.sent("gmail")
    assert before == 20, "all boxes were out when the first was refused"
    out: list[int] = []
    while world.sent("gmail") < 60 or not out:
        story.tick(20)
        out.append(world.sent("gmail") - before - sum(out))
    assert [n for n in out if n][:4] == [1, 2, 4, 20], "then as many as there are boxes"
    eased = [fact for _, fact in story.journal if isinstance(fact, ReceiverEased)]
    assert [(fact.passed, fact.over) for fact in eased] == [(n, n == EASED_AFTER) for n in range(1, EASED_AFTER + 1)]


def test_no_route_recovers_that_was_not_out() -> None:
    world = World(gmail=25 * MINUTE)
    story = fleet(world, 1)
    ask(story, "gmail", 6)
    story.tick(5)
    ask(story, "microsoft", 3)
    story.tick(60)
    (proven,) = story.decided(RouteProven)
    assert isinstance(proven, RouteProven)
    assert proven.evidence == "acme/microsoft-0/1: 250 2.0.0 Ok"
    story.tick(40 * 60)
    assert world.sent("gmail") >= 6, "it took its mail after two rests"
    assert len(world.rests()) == 2
    assert len(story.decided(RouteProven)) == 1, "what the rested receiver takes is told as its own"
    assert story.decided(RouteRecovered) == []
    row = story.state.routes_of(ClientId("acme"))[0]
    assert row.against == ()


def test_the_rest_doubles_each_time_up_to_two_hours_and_a_provider_that_stays_so_wakes_a_person() -> None:
    world = World(gmail=timedelta(hours=6))
    story = fleet(world)
    ask(story, "gmail", 40)
    story.tick(5)
    for _ in range(9 * 60):
        story.now += timedelta(seconds=55)
        story.tick(5)
    rests = world.rests()
    assert [fact.times for fact in rests] == list(range(1, len(rests) + 1))
    begun = [at for at, fact in story.journal if isinstance(fact, ReceiverThrottled)]
    minutes = [round((fact.until - at) / MINUTE) for at, fact in zip(begun, rests, strict=True)]
    assert minutes == [10, 20, 40, 80, 120, 120][: len(minutes)]
    assert len(minutes) >= 5
    assert world.sent("gmail", 5 * MINUTE, timedelta(hours=6)) == len(rests) - 1, "each rest ends in one mail"
    raised = [f for f in story.decided(AlertRaised) if isinstance(f, AlertRaised)]
    assert [f.alert for f in raised] == ["receiver_throttles/acme/own/gmail"] * (len(rests) - 2)
    assert "`" not in raised[0].title
    assert raised[0].runbook == "receiver_throttles"
    assert [f.alert for f in story.decided(AlertResolved) if isinstance(f, AlertResolved)] == [raised[0].alert]
    assert world.sent("gmail") >= 40 + len(rests) - 1, "all of it went in the end"


def test_a_receiver_asks_for_longer_and_gets_it() -> None:
    world = World(gmail=MINUTE)
    world.words["gmail"] = Reply("smtp", "dot", 421, "4.7.28", "unusual rate of mail", retry_after_seconds=3600)
    story = fleet(world)
    ask(story, "gmail", 1)
    story.tick(3)
    assert world.rests()[0].until == START + timedelta(seconds=3602)


def test_a_backup_route_does_not_go_round_a_receiver_that_throttles() -> None:
    world = World(gmail=20 * MINUTE)
    story = fleet(world, routes=("own", "backup"))
    ask(story, "gmail", 60)
    ask(story, "yahoo", 10)
    story.tick(9 * 60)
    assert {a.call.route for _, a in story.assigned} == {"own"}
    assert world.sent("yahoo") == 10


def test_three_receivers_in_a_row_are_the_route_and_two_are_not() -> None:
    world = World(gmail=9 * MINUTE, microsoft=9 * MINUTE, yahoo=9 * MINUTE)
    story = fleet(world, 1)
    for name in ("gmail", "microsoft"):
        ask(story, name, 5)
    story.tick(20)
    assert ([fact.receiver for fact in world.rests()], world.trips()) == (["gmail", "microsoft"], [])
    ask(story, "yahoo", 5)
    story.tick(3)
    ask(story, "firm", 5, "", "firm.test")
    story.tick(60)
    (trip,) = world.trips()
    assert trip.rule == "3 receivers in a row throttle: gmail, microsoft, yahoo"
    assert trip.why == Evidence(trip.rule, "built-in", "a row", 3, 0, SEVERAL)
    assert world.sent("firm") == 0, "the route is out for all"
    story.tick(5 * 60)
    assert world.sent("firm") == 5, "its probe goes to one that does not rest"
    assert len(world.trips()) == 1


def test_receivers_that_throttle_now_and_then_among_many_that_do_not_rest_alone() -> None:
    world = World(**{f"firm{n}": timedelta(hours=1) for n in range(0, 40, 8)})
    story = fleet(world, 1)
    for number in range(40):
        ask(story, f"firm{number}", 1, "", f"firm{number}.test")
    story.tick(200)
    assert len(world.rests()) == 5
    assert {fact.receiver for fact in world.rests()} == {f"firm{n}.test" for n in range(0, 40, 8)}
    assert not world.trips()
    told = [fact.alert for fact in story.decided(AlertRaised) if isinstance(fact, AlertRaised)]
    assert not [alert for alert in told if alert.startswith("receiver_throttles")], "one company's server wakes nobody"


def test_a_receiver_that_only_says_later_does_not_prove_that_our_mail_is_taken() -> None:
    world = World(**{name: timedelta(hours=1) for name in ("gmail", "grey", "yahoo", "gray", "microsoft")})
    world.words |= {"grey": LATER, "gray": LATER}
    story = fleet(world, 1)
    for name in ("gmail", "grey", "yahoo", "gray", "microsoft"):
        ask(story, name, 1)
        story.tick(3)
    assert len(world.trips()) == 1


def test_the_providers_own_word_stops_the_whole_route_at_once() -> None:
    world = World(gmail=MINUTE)
    world.words["gmail"] = SES
    story = fleet(world, 1)
    ask(story, "gmail", 1)
    story.tick(3)
    assert ([fact.rule for fact in world.trips()], world.rests()) == (["throttled"], [])


def test_upstream_hears_that_the_receiver_throttles_and_until_when() -> None:
    world = World(gmail=20 * MINUTE)
    story = fleet(world, 1)
    ask(story, "gmail", 3)
    story.tick(60)
    assert story.told("gmail-2")[-1] == ("receiver_throttles", START + timedelta(seconds=602))


def test_a_mail_that_came_back_later_for_a_throttle_rests_its_receiver_alone() -> None:
    story = fleet(World())
    ask(story, "gmail", 1)
    story.tick(5)
    ((_, given),) = story.assigned
    request = next(fact.request for _, fact in story.journal if isinstance(fact, SendQueued))
    box, route = given.sender.mailbox, given.call.route
    decided = story.sees(SendReturned(given.ref, request, 1, box, route, GMAIL, verdict(GMAIL), story.now))
    assert [f.receiver for f in decided if isinstance(f, ReceiverThrottled)] == ["gmail"]
    assert not [f for f in decided if isinstance(f, RouteTripped)]


def test_a_thread_that_must_wait_for_its_receiver_does_not_hold_up_its_mailbox() -> None:
    world = World(gmail=20 * MINUTE)
    story = fleet(world, 1)
    ask(story, "gmail", 1)
    story.tick(3)
    for name, receiver in (("gmail-x", "gmail"), ("yahoo-x", "yahoo")):
        story.ask("acme", name, mailbox="box0@acme.test", receiver=receiver)
    story.tick(10)
    assert Counter(a.ref.send_id for _, a in story.assigned) == Counter(["gmail-0", "yahoo-x"])


@pytest.mark.parametrize("domains", [MOST_KEPT * 3])
def test_the_row_of_a_route_stays_small_however_many_domains_throttle(domains: int) -> None:
    story = fleet(World())
    row = story.state.route("acme", "own")  # type: ignore[arg-type]
    for number in range(domains):
        at = START + timedelta(seconds=number)
        fact = throttle(f"firm{number}.test", at)
        story.sees(fact)
        for key in story.mind.rows_of(fact, at):
            changed = story.mind.evolve(key, row, fact, at)
            row = changed  # type: ignore[assignment]
    assert row is not None
    assert len(row.rests) == MOST_KEPT
    assert f"firm{domains - 1}.test" in row.rests


def throttle(receiver: str, at: datetime) -> ReceiverThrottled:
    """Return the fact that a receiver throttles."""
    return ReceiverThrottled("acme", "own", DomainName(receiver), at + MINUTE, 1, "test", "")  # type: ignore[arg-type]
