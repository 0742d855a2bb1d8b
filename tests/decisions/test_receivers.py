"""The ceiling of an organisational domain's mail to one receiving provider in any 24 hours."""

from collections import Counter
from datetime import datetime, timedelta

import pytest

from schemas.fleet import Pace
from schemas.policy import Receivers
from schemas.registry import Fact
from schemas.sending import AttemptUnknown, SendAssigned
from streams.fleet.receivers import bucket_of
from tests.decisions.fleet_story import FleetStory, accept, no_connection

HOUR = timedelta(hours=1)


def fleet(*domains: str, ceiling: int = 10, boxes: int = 20) -> FleetStory:
    """One client with these domains and a ceiling for personal Gmail."""
    story = FleetStory()
    story.client("acme")
    story.policy("acme", receivers=Receivers({"gmail": ceiling}))
    story.route("acme")
    for domain in domains or ("acme.test",):
        story.domain("acme", domain)
        story.boxes("acme", domain, boxes)
    return story


def ask(story: FleetStory, count: int, receiver: str = "gmail", first: int = 0) -> None:
    """Ask for sends to a receiving provider."""
    for number in range(first, first + count):
        story.ask("acme", f"{receiver}-{number}", receiver=receiver)


def to(story: FleetStory, receiver: str) -> int:
    """How many sends to the provider were assigned."""
    return sum(a.ref.send_id.startswith(f"{receiver}-") for _, a in story.assigned)


def test_no_more_than_the_ceiling_in_any_24_hours_and_other_receivers_go_on() -> None:
    story = fleet()
    ask(story, 40)
    ask(story, 40, "microsoft")
    for _ in range(4 * 60):
        story.now += timedelta(minutes=15)
        story.tick()
    assert to(story, "microsoft") == 40
    times = sorted(at for at, a in story.assigned if a.ref.send_id.startswith("gmail-"))
    assert len(times) > 20
    for first in times:
        assert sum(first <= at < first + timedelta(hours=24) for at in times) <= 10


def test_the_24_hours_are_those_of_the_mail_that_leaves_late_in_its_slot() -> None:
    story = fleet()
    late = Pace("UTC", 0, 24, 0, 0, 900, 5, 1, 0)
    story.client("acme", pace=late)
    left: list[datetime] = []

    def leaves(given: SendAssigned) -> Fact:
        at = given.not_after if len(left) < 10 else given.not_before
        left.append(at)
        return accept(given)

    story.settle = leaves
    story.now = datetime.fromisoformat("2026-03-03T09:59:50Z")
    ask(story, 40)
    story.tick(10)
    assert len(left) == 10
    for _ in range(3 * 24 * 12):
        story.now += timedelta(minutes=5)
        story.tick()
    assert len(left) >= 30
    for first in left:
        assert sum(first <= at < first + timedelta(hours=24) for at in left) <= 10


def test_what_waits_is_told_the_ceiling_and_when_it_rolls_on() -> None:
    story = fleet()
    ask(story, 12)
    story.tick(40)
    told = [story.told(f"gmail-{n}") for n in range(12)]
    assert sorted(map(len, told)) == [0] * 10 + [1, 1]
    assert {limit for said in told for limit in said} == {
        ("receiver_ceiling", datetime.fromisoformat("2026-03-03T10:20Z"))
    }


def test_sub_domains_count_together_and_another_organisation_has_a_ceiling_of_its_own() -> None:
    story = fleet("acme.test", "mail.acme.test", "news.acme.test", "acme.co.uk", "mail.acme.co.uk")
    ask(story, 100)
    story.tick(30)
    sent = Counter(a.sender.mailbox.rpartition("@")[2] for _, a in story.assigned)
    assert sum(n for domain, n in sent.items() if domain.endswith("acme.test")) == 10
    assert sum(n for domain, n in sent.items() if domain.endswith("acme.co.uk")) == 10


def test_a_full_domain_carries_on_to_other_receivers_while_another_takes_the_full_one() -> None:
    story = fleet("acme.test", "acme.example")
    ask(story, 15)
    story.tick(10)
    assert to(story, "gmail") == 15
    ask(story, 30, "yahoo")
    story.tick(10)
    assert to(story, "yahoo") == 30


def test_what_is_provably_unsent_is_given_back_and_what_is_unknown_is_kept() -> None:
    story = fleet()
    story.settle = no_connection
    ask(story, 10)
    story.tick(2)
    row = story.state.receiver("acme", "acme.test/gmail")  # type: ignore[arg-type]
    assert sum(row.hours.values()) == 0

    def lost(given: SendAssigned) -> AttemptUnknown:
        return AttemptUnknown(given.ref, given.attempt, given.sender.mailbox, given.call.route, "silence")

    story = fleet()
    story.settle = lost
    ask(story, 30)
    story.tick(30)
    story.settle = accept
    story.tick(30)
    assert to(story, "gmail") <= 10


def test_a_thread_of_a_full_domain_waits_for_its_own_mailbox() -> None:
    story = fleet("acme.test", "acme.example")
    story.ask("acme", "gmail-first", receiver="gmail", thread_id="t")
    story.tick(3)
    (_, first) = story.assigned[0]
    ask(story, 40)
    story.tick(20)
    story.ask("acme", "gmail-again", receiver="gmail", thread_id="t")
    story.tick(40)
    assert to(story, "gmail") == 20
    assert story.told("gmail-again")[0][0] == "receiver_ceiling"
    story.now += timedelta(hours=26)
    story.tick(3)
    again = next(a for _, a in story.assigned if a.ref.send_id == "gmail-again")
    assert again.sender.mailbox == first.sender.mailbox


def test_a_ceiling_that_is_set_later_knows_what_went_before_it() -> None:
    story = fleet(ceiling=0)
    ask(story, 8, "yahoo")
    story.tick(5)
    story.policy("acme", receivers=Receivers({"yahoo": 10}))
    ask(story, 20, "yahoo", first=8)
    story.tick(10)
    assert to(story, "yahoo") == 10


def test_sends_that_were_due_before_a_ceiling_was_set_are_held_by_it() -> None:
    story = fleet(ceiling=0, boxes=2)
    ask(story, 40, "yahoo")
    story.tick(3)
    story.policy("acme", receivers=Receivers({"yahoo": 8}))
    story.tick(40)
    assert to(story, "yahoo") == 8
    ask(story, 5, "web")
    story.tick(10)
    assert to(story, "web") == 5


@pytest.mark.parametrize(
    ("receiver", "bucket"),
    [("gmail", "acme.co.uk/gmail"), ("unknown", "acme.co.uk/unknown"), ("firm.example", ""), ("", "")],
)
def test_known_providers_are_counted_and_companies_of_their_own_are_not(receiver: str, bucket: str) -> None:
    assert bucket_of("mail.acme.co.uk", receiver, Receivers()) == bucket  # type: ignore[arg-type]


def test_a_company_of_its_own_is_counted_where_a_ceiling_names_it() -> None:
    assert bucket_of("acme.test", "firm.example", Receivers({"firm.example": 5})) == "acme.test/firm.example"  # type: ignore[arg-type]


def test_a_queue_of_a_full_receiver_is_not_looked_through_at_each_tick() -> None:
    story = fleet()
    ask(story, 2_000)
    story.tick(3)
    queue = story.state.sends("acme")  # type: ignore[arg-type]
    kept = {lane: list(heap) for lane, heap in queue.due.items()}
    story.tick(5)
    assert {lane: sorted(heap) for lane, heap in queue.due.items()} == {lane: sorted(h) for lane, h in kept.items()}
    assert queue.later == []
