"""Whatever happens in whatever order: no receiver's ceiling, no canary, no closed gate is passed; refolds are equal."""

from collections import defaultdict
from datetime import datetime, timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ops.journals import Nowhere
from schemas.dns import Check, DomainObserved, Finding, Verdict
from schemas.fleet import ReceiverThrottled, RouteTripped
from schemas.health import Evidence, ListChanged, ListReleaseOrdered
from schemas.ids import CampaignId, ClientId, DomainName, RouteId
from schemas.policy import Lists, Receivers
from schemas.registry import Fact
from schemas.sending import (
    AttemptAccepted,
    AttemptUnknown,
    CancelRequested,
    Reply,
    SendAssigned,
    SendAssumedSent,
    SendBounced,
    SendEnded,
    SendExpired,
    SendRef,
    SendRequeued,
)
from schemas.sending import Verdict as Said
from streams.fleet.organisation import organisation_of
from streams.fleet.state import domain_of
from streams.log.rows import RowKey, Rows
from tests.decisions.bounds import bounded
from tests.decisions.fleet_story import FleetStory, accept, miss, no_connection, refuse

ACME = ClientId("acme")
DOMAINS = ("acme.test", "mail.acme.test", "acme.example")
ROUTES = ("own", "backup")
RECEIVERS = ("gmail", "yahoo", "firm.example", "")
LISTS = ("a", "b", "")
CEILING, CANARY = 6, 4
NOBODY = Said("hard", "recipient", "recipient", "suppress", "no-such-user")
WHAT = (
    *("ask",) * 8,
    *("tick",) * 8,
    *("pass",) * 3,
    "bounce",
    "look",
    "look",
    "cancel",
    "end",
    "settle",
    "settle",
    "open",
)
CHECKS: tuple[tuple[Check, bool], ...] = (("spf", True), ("mx", False))


def lost(one: SendAssigned) -> Fact:
    """Nobody knows."""
    return AttemptUnknown(one.ref, one.attempt, one.sender.mailbox, one.call.route, "silence")


SETTLES = (
    accept,
    accept,
    accept,
    miss,
    no_connection,
    lost,
    refuse("recipient", "hard", "suppress"),
    refuse("recipient", "greylisted", "retry_same_mailbox", 450),
    refuse("message", "policy_content", "fail"),
)


class Life:
    """A fleet to which things happen. `passed` is what no order of them may bring about."""

    def __init__(self) -> None:
        self.story = story = FleetStory()
        story.client("acme")
        story.policy(
            "acme", lists=Lists(canary_sends=CANARY), receivers=Receivers({"gmail": CEILING, "yahoo": CEILING})
        )
        for route in ROUTES:
            story.route("acme", route)
        for domain in DOMAINS:
            story.domain("acme", domain)
            story.boxes("acme", domain, 3, routes=ROUTES)
        self.asked: list[SendRef] = []
        self.passed: list[str] = []

    def step(self, what: str, a: int, b: int) -> None:
        """Let one thing happen."""
        story = self.story
        match what:
            case "ask":
                self.asked.append(
                    story.ask(
                        "acme",
                        f"s{len(self.asked)}",
                        list_id=LISTS[a % 3],
                        receiver=RECEIVERS[b % 4],
                        thread_id=f"t{a % 7}" if b % 5 == 0 else "",
                        priority=a % 2,
                    )
                )
            case "tick":
                self._tick(1 + a % 4)
            case "pass":
                story.now += timedelta(minutes=(1, 7, 40, 500)[a % 4])
                self._tick(1)
            case "bounce" if story.assigned:
                _, one = story.assigned[a % len(story.assigned)]
                story.sees(SendBounced(one.ref, one.attempt, Reply("smtp", "rcpt", 550), NOBODY))
            case "look":
                self._look(a, b)
            case "cancel":
                story.sees(CancelRequested(ACME, campaign=CampaignId("all")) if a % 6 == 0 else self._cancel(a))
            case "end" if self.asked:
                ref = self.asked[a % len(self.asked)]
                story.sees(SendExpired(ref, "expires_at") if b % 2 else SendAssumedSent(ref, 1))
            case "settle":
                story.settle = SETTLES[a % len(SETTLES)]
            case "open":
                story.reopen()

    def _cancel(self, a: int) -> Fact:
        return CancelRequested(ACME, thread_id=f"t{a % 7}")

    def _look(self, a: int, b: int) -> None:
        check, of_route = CHECKS[b % 2]
        verdict: Verdict = ("good", "broken", "missing", "could_not_be_checked")[a % 4]
        domain, route = DOMAINS[b % 3], ROUTES[(a // 4) % 2] if of_route else ""
        by = ("10.0.0.53", "10.0.0.54")[b % 5 % 2]
        found = (Finding(check, verdict, f"it is {verdict}"),)
        self.story.sees(DomainObserved(ACME, DomainName(domain), self.story.now, by, found, RouteId(route)))

    def _tick(self, seconds: int) -> None:
        for _ in range(seconds):
            before = len(self.story.assigned)
            self.story.tick()
            for _, one in self.story.assigned[before:]:
                domain = domain_of(one.sender.mailbox)
                if self.story.state.gated(ACME, domain) or self.story.state.gated(ACME, domain, one.call.route):
                    self.passed.append(f"{domain} over {one.call.route} is closed")


def lived(seed: int, length: int) -> Life:
    """Return a life in which these things happened."""
    chance, life = Random(seed), Life()
    for _ in range(length):
        life.step(chance.choice(WHAT), chance.randrange(1_000), chance.randrange(1_000))
    return life


LIVES = st.builds(lived, st.integers(0, 2**32), st.integers(50, 250))


def kept(story: FleetStory) -> list[tuple[datetime, SendAssigned]]:
    """The assignments that were never given back."""
    back = {
        (fact.ref.send_id, fact.attempt)
        for _, fact in story.journal
        if isinstance(fact, SendRequeued | SendEnded) and fact.release is not None and fact.release.gave_back
    }
    return [(at, one) for at, one in story.assigned if (one.ref.send_id, one.attempt) not in back]


@bounded(20)
@given(LIVES)
def test_no_order_of_facts_passes_a_receivers_ceiling(life: Life) -> None:
    receiver_of = {ref.send_id: RECEIVERS for ref in life.asked}
    assert receiver_of.keys() >= {one.ref.send_id for _, one in life.story.assigned}
    times: dict[str, list[datetime]] = defaultdict(list)
    for at, one in kept(life.story):
        organisation, _, receiver = one.bucket.partition("/")
        assert receiver != "firm.example"
        if receiver:
            assert organisation == organisation_of(domain_of(one.sender.mailbox))
            times[one.bucket].append(at)
    for moments in times.values():
        for first in moments:
            assert sum(first <= at < first + timedelta(hours=24) for at in moments) <= CEILING


@bounded(20)
@given(LIVES)
def test_no_order_of_facts_passes_a_canary(life: Life) -> None:
    cleared: set[str] = set()
    out: dict[str, set[str]] = defaultdict(set)
    gone = {(one.ref.send_id, one.attempt) for _, one in kept(life.story)}
    ended = [f for _, f in life.story.journal if isinstance(f, SendEnded) and f.state == "failed"]
    gone |= {(f.ref.send_id, f.attempt) for f in ended}
    for _, fact in life.story.journal:
        if isinstance(fact, ListChanged):
            assert fact.was not in ("cleared", "held")
            cleared |= {fact.list_id} if fact.now == "cleared" else set()
        elif isinstance(fact, SendAssigned) and fact.list_id not in {"", *cleared}:
            out[fact.list_id] |= {fact.ref.send_id} if (fact.ref.send_id, fact.attempt) in gone else set()
    assert max(map(len, out.values()), default=0) <= CANARY


@bounded(20)
@given(LIVES)
def test_no_list_is_cleared_before_its_whole_canary_has_been_out_for_a_day(life: Life) -> None:
    gone = {(one.ref.send_id, one.attempt) for _, one in kept(life.story)}
    ended = [f for _, f in life.story.journal if isinstance(f, SendEnded) and f.state == "failed"]
    gone |= {(f.ref.send_id, f.attempt) for f in ended}
    for cleared_at, fact in life.story.journal:
        if isinstance(fact, ListChanged) and fact.now == "cleared":
            out = [
                at
                for at, one in life.story.assigned
                if at < cleared_at and one.list_id == fact.list_id and (one.ref.send_id, one.attempt) in gone
            ]
            assert len(out) >= CANARY
            assert max(out) <= cleared_at - timedelta(hours=24)


@bounded(10)
@given(LIVES)
def test_every_decision_names_the_policy_that_led_and_its_rule(life: Life) -> None:
    for _, fact in life.story.journal:
        if isinstance(fact, SendAssigned):
            assert (fact.policy, bool(fact.rule)) == ("test", True)
        for name in ("evidence", "why"):
            said = getattr(fact, name, None)
            if isinstance(said, Evidence):
                assert (said.policy, bool(said.rule)) == ("test", True), fact
        if isinstance(fact, RouteTripped | ReceiverThrottled):
            assert fact.why is not None
            assert fact.why.numerator >= fact.why.threshold > 0


@bounded(20)
@given(LIVES)
def test_no_order_of_facts_uses_what_the_dns_closes(life: Life) -> None:
    assert life.passed == []


@bounded(20)
@given(LIVES)
def test_the_journal_folded_again_gives_the_same_rows_and_the_same_next_tick(life: Life) -> None:
    story = life.story
    rows = Rows(Nowhere(), 0, story.mind.row_types)
    for seq, (at, fact) in enumerate(story.journal, 1):
        for key in story.mind.rows_of(fact, at):
            rows.put(key, seq, story.mind.evolve(key, rows.get(key), fact, at))
    assert dict(rows.all()) == dict(story.rows.all())


@bounded(15)
@given(LIVES, st.data())
def test_a_released_list_is_never_held_again(life: Life, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(("a", "b", "campaign/all")))
    life.story.sees(ListReleaseOrdered(ACME, name, "lena", "fine"))
    for _, one in life.story.assigned:
        life.story.sees(SendBounced(one.ref, one.attempt, Reply("smtp", "rcpt", 550), NOBODY))
    life.story.tick(3)
    assert life.story.state.list_row(ACME, name).state == "cleared"


def rows_named(story: FleetStory, kind: str) -> list[RowKey]:
    """The rows of a kind."""
    return [key for key, _ in story.rows.all() if key[0] == kind]


def test_the_lives_that_are_led_here_meet_all_of_it() -> None:
    lives = [lived(seed, 250) for seed in range(12)]
    decided = [fact for life in lives for _, fact in life.story.journal]
    assert {f.now for f in decided if isinstance(f, ListChanged)} == {"canary", "cleared", "held"}
    assert sum(isinstance(f, SendEnded) and f.state == "unknown" for f in decided) > 5
    assert sum(type(f).__name__ == "GateClosed" for f in decided) > 5
    full = [
        life
        for life in lives
        if any(limit == "receiver_ceiling" for s in life.asked for limit, _ in life.story.told(s.send_id))
    ]
    assert full
    assert all(rows_named(life.story, kind) for life in lives for kind in ("receiver", "list", "gate"))
    assert any(isinstance(f, AttemptAccepted | SendAssigned) for f in decided)
