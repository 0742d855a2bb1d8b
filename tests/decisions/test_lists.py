"""The canary of a new list: fifty sends, a day of waiting, then the rest or a hold that a person ends."""

from collections.abc import Iterable
from datetime import timedelta

from schemas.health import (
    AlertRaised,
    AlertResolved,
    ListChanged,
    ListReleaseOrdered,
    PauseOrdered,
    ResumeOrdered,
)
from schemas.ids import CampaignId, ClientId
from schemas.policy import Lists
from schemas.registry import Fact
from schemas.reports import SendComplained
from schemas.sending import AttemptRefused, CancelRequested, Reply, SendAssigned, SendBounced, Verdict
from streams.fleet.lists import list_of
from tests.decisions.fleet_story import FleetStory, accept, miss, no_connection, refuse

NOBODY = Verdict("hard", "recipient", "recipient", "suppress", "no-such-user")
FULL = Verdict("mailbox_full", "recipient", "recipient", "retry", "mailbox-full")
REPLY = Reply("smtp", "rcpt", 550, "5.1.1", "no such user")
DAY = timedelta(days=1)
ACME = ClientId("acme")


def fleet(boxes: int = 100, **rules: int) -> FleetStory:
    """One client with many free mailboxes, led by the rules of lists."""
    story = FleetStory()
    story.fleet("acme", boxes)
    story.policy("acme", lists=Lists(**rules))
    return story


def ask(story: FleetStory, list_id: str, numbers: Iterable[int]) -> None:
    """Ask for sends of a list."""
    for number in numbers:
        story.ask("acme", f"{list_id}-{number}", list_id=list_id)


def out(story: FleetStory, list_id: str) -> int:
    """How many sends of the list were assigned."""
    return sum(a.ref.send_id.startswith(f"{list_id}-") for _, a in story.assigned)


def states(story: FleetStory) -> list[str]:
    """What became of lists."""
    return [f"{f.list_id} {f.now}" for f in story.decided(ListChanged) if isinstance(f, ListChanged)]


def bounce(story: FleetStory, count: int, verdict: Verdict = NOBODY) -> None:
    """Let so many accepted sends come back."""
    for _, given in story.assigned[:count]:
        story.sees(SendBounced(given.ref, given.attempt, REPLY, verdict))


def wait_a_day(story: FleetStory) -> None:
    """Let the wait pass."""
    story.now += DAY
    story.tick(3)


def test_fifty_go_and_the_rest_waits_a_day_and_then_all_of_it_goes() -> None:
    story = fleet()
    ask(story, "fair", range(120))
    story.tick(60)
    assert out(story, "fair") == 50
    (changed,) = story.decided(ListChanged)
    assert isinstance(changed, ListChanged)
    assert (changed.was, changed.now) == ("new", "canary")
    waiting = {f"fair-{n}" for n in range(120)} - {a.ref.send_id for _, a in story.assigned}
    assert len(waiting) == 70
    assert all(story.told(name) == [("list_canary", changed.until)] for name in waiting)
    story.now += DAY - timedelta(minutes=5)
    story.tick(5)
    assert out(story, "fair") == 50
    wait_a_day(story)
    assert states(story) == ["fair canary", "fair cleared"]
    assert out(story, "fair") == 120


def test_another_list_and_mail_of_no_list_go_on_meanwhile() -> None:
    story = fleet()
    ask(story, "fair", range(80))
    ask(story, "show", range(20))
    for number in range(80):
        story.ask("acme", f"receipt-{number}", basis="transactional")
    story.tick(20)
    assert (out(story, "fair"), out(story, "show"), out(story, "receipt")) == (50, 20, 80)


def test_a_send_that_names_no_list_belongs_to_its_campaign() -> None:
    story = fleet()
    for number in range(60):
        story.ask("acme", f"s-{number}")
    story.tick(10)
    assert out(story, "s") == 50
    assert states(story) == ["campaign/all canary"]
    row = story.state.backlog("acme/s-59")
    assert row is not None
    assert row.request is not None
    assert list_of(row.request) == "campaign/all"


def test_a_small_list_goes_out_whole_and_is_never_held_up() -> None:
    story = fleet()
    ask(story, "small", range(49))
    story.tick(5)
    assert out(story, "small") == 49
    wait_a_day(story)
    assert states(story) == []


def test_a_list_of_exactly_the_canarys_size_waits_for_whoever_comes_later() -> None:
    story = fleet()
    ask(story, "fair", range(50))
    story.tick(5)
    assert states(story) == ["fair canary"]
    wait_a_day(story)
    ask(story, "fair", range(50, 90))
    story.tick(5)
    assert out(story, "fair") == 90


def test_too_many_hard_bounces_hold_the_list_at_once_and_nobody_else() -> None:
    story = fleet()
    ask(story, "bought", range(200))
    story.tick(5)
    bounce(story, 2)
    assert states(story) == ["bought canary"]
    bounce(story, 1)
    assert states(story) == ["bought canary", "bought held"]
    (_, held) = story.decided(ListChanged)
    assert isinstance(held, ListChanged)
    said = held.evidence
    assert (said.numerator, said.denominator, said.threshold, said.policy) == (3, 50, 0.05, "test")
    ask(story, "good", range(40))
    wait_a_day(story)
    story.tick(40)
    assert (out(story, "bought"), out(story, "good")) == (50, 40)
    assert story.told("bought-199")[-1] == ("list_canary", None)


def test_a_bad_list_is_held_before_its_canary_is_out() -> None:
    story = fleet(boxes=5)
    ask(story, "bought", range(200))
    story.tick()
    bounce(story, 3)
    story.tick(20)
    assert out(story, "bought") == 5
    assert states(story) == ["bought held"]


def test_full_mailboxes_and_what_bounces_after_the_list_was_cleared_hold_nothing() -> None:
    story = fleet()
    ask(story, "fair", range(60))
    story.tick(5)
    bounce(story, 10, FULL)
    wait_a_day(story)
    bounce(story, 10)
    assert states(story) == ["fair canary", "fair cleared"]


def test_recipients_refused_at_once_count_like_those_that_bounce() -> None:
    story = fleet(boxes=20)
    story.settle = refuse("recipient", "hard", "suppress")
    ask(story, "bought", range(200))
    story.tick(10)
    assert states(story)[0] == "bought held"
    assert out(story, "bought") <= 40


def test_the_second_complaint_holds_the_list() -> None:
    story = fleet()
    ask(story, "fair", range(60))
    story.tick(5)
    for _, given in story.assigned[:2]:
        assert "fair held" not in states(story)
        story.sees(SendComplained(given.ref, given.attempt, "webhook"))
    assert states(story) == ["fair canary", "fair held"]


def test_a_person_releases_a_list_in_any_state() -> None:
    story = fleet()
    ask(story, "fair", range(120))
    story.tick(5)
    bounce(story, 5)
    order = ListReleaseOrdered(ACME, "fair", "lena", "one company had moved")
    released, *_ = story.sees(order)
    assert isinstance(released, ListChanged)
    assert (released.was, released.now, released.evidence.said) == ("held", "cleared", "lena: one company had moved")
    assert story.sees(order) == []
    story.tick(5)
    assert out(story, "fair") == 120
    assert story.sees(ListReleaseOrdered(ACME, "next", "lena", "our own customers"))
    ask(story, "next", range(60))
    story.tick(5)
    assert out(story, "next") == 60


def test_what_is_provably_unsent_gives_its_place_in_the_canary_to_another() -> None:
    story = fleet(boxes=200)
    story.settle = no_connection
    ask(story, "fair", range(200))
    story.tick(4)
    story.settle = accept
    story.now += timedelta(hours=2)
    story.tick(20)
    mails = {a.ref.send_id for when, a in story.assigned if when > story.now - timedelta(minutes=5)}
    assert len(mails) == 50
    assert set(states(story)) == {"fair canary"}


def pause(story: FleetStory) -> None:
    """A person stops the client's mail."""
    story.sees(PauseOrdered(ACME, "client", "", "lena", "the server moves"))


def resume(story: FleetStory) -> None:
    """And lets it go on."""
    story.sees(ResumeOrdered(ACME, "client", "", "lena", "it stands"))


def test_a_canary_of_which_nothing_left_clears_no_list() -> None:
    story = fleet()
    story.settle = miss
    ask(story, "fair", range(80))
    story.tick(1)
    pause(story)
    story.tick(2)
    story.now += timedelta(hours=25)
    story.tick(3)
    assert states(story) == ["fair canary"], "nobody was written to: nothing could bounce"
    story.settle = accept
    resume(story)
    story.tick(10)
    wait_a_day(story)
    story.tick(10)
    assert states(story) == ["fair canary", "fair canary", "fair cleared"]


def test_the_wait_for_bounces_begins_when_the_last_of_the_canary_is_out() -> None:
    story, late = fleet(), {f"fair-{n}" for n in range(20)}

    def settle(given: SendAssigned) -> Fact:
        return miss(given) if given.ref.send_id in late and given.attempt == 1 else accept(given)

    story.settle = settle
    ask(story, "fair", range(80))
    story.tick(1)
    pause(story)
    story.tick(2)
    story.now += timedelta(hours=23)
    resume(story)
    story.tick(5)
    assert states(story) == ["fair canary", "fair canary"]
    story.now += timedelta(hours=2)
    story.tick(3)
    assert states(story)[-1] == "fair canary", "twenty left two hours ago"
    bounce_of = [given for when, given in story.assigned if given.attempt == 2][:3]
    for given in bounce_of:
        story.sees(SendBounced(given.ref, given.attempt, REPLY, NOBODY))
    assert states(story)[-1] == "fair held", "what bounces of them is waited for"


def test_a_smaller_canary_also_ends_the_wait_of_one_that_lost_sends() -> None:
    story = fleet()
    story.settle = miss
    ask(story, "fair", range(60))
    story.tick(1)
    pause(story)
    story.tick(1)
    story.settle = accept
    wait_a_day(story)
    story.policy("acme", lists=Lists(canary_sends=0))
    story.now += timedelta(minutes=20)
    story.tick(2)
    assert states(story)[-1] == "fair cleared"


def test_cancelled_sends_give_their_places_back() -> None:
    story = fleet(boxes=10)
    ask(story, "fair", range(100))
    story.tick(2)
    story.sees(CancelRequested(ACME, campaign=CampaignId("all")))
    ask(story, "fair", range(100, 160))
    story.tick(30)
    assert 50 <= out(story, "fair") <= 60


def test_a_smaller_canary_of_a_new_policy_lets_nobody_wait_for_ever() -> None:
    story = fleet()
    ask(story, "fair", range(30))
    story.tick(3)
    story.policy("acme", lists=Lists(canary_sends=20))
    ask(story, "fair", range(30, 60))
    story.tick(3)
    assert (out(story, "fair"), states(story)) == (30, ["fair canary"])
    wait_a_day(story)
    assert out(story, "fair") == 60


def test_a_follow_up_of_a_held_list_waits_too() -> None:
    story = fleet()
    for number in range(60):
        story.ask("acme", f"fair-{number}", list_id="fair", thread_id=f"t{number}")
    story.tick(5)
    bounce(story, 3)
    thread = f"t{story.assigned[0][1].ref.send_id.partition('-')[2]}"
    story.ask("acme", "fair-again", list_id="fair", thread_id=thread)
    story.tick(40)
    assert out(story, "fair") == 50
    assert story.told("fair-again") == [("list_canary", None)]


def test_a_released_lists_campaign_does_not_make_up_for_its_wait_at_the_cost_of_others() -> None:
    story = FleetStory()
    story.fleet("acme", 4, campaigns=("one", "two"))
    story.policy("acme", lists=Lists(canary_sends=10))
    for number in range(600):
        story.ask("acme", f"one-{number}", "one", list_id="a")
        story.ask("acme", f"two-{number}", "two", basis="transactional")
    story.tick(60)
    story.sees(ListReleaseOrdered(ACME, "a", "lena", "fine"))
    before = len(story.assigned)
    story.tick(40)
    later = [a.ref.send_id.partition("-")[0] for _, a in story.assigned[before:]]
    assert abs(later.count("one") - later.count("two")) <= 4  # one tick of all mailboxes


def test_a_tick_passes_a_waiting_list_by_without_a_look_at_its_sends() -> None:
    story, waiting = fleet(boxes=60), 2_000
    ask(story, "fair", range(waiting))
    story.tick(3)
    queue = story.state.sends(ACME)
    kept = {lane: list(heap) for lane, heap in queue.due.items()}
    story.tick(5)
    assert {lane: list(heap) for lane, heap in queue.due.items()} == kept
    assert sum(map(len, kept.values())) >= waiting - 50
    assert queue.later == []


def test_the_state_after_a_restart_is_the_same_and_goes_on() -> None:
    story = fleet()
    ask(story, "fair", range(120))
    story.tick(5)
    story.reopen()
    story.tick(5)
    assert out(story, "fair") == 50
    wait_a_day(story)
    assert out(story, "fair") == 120


def test_a_late_second_outcome_counts_nothing_twice() -> None:
    story = fleet(boxes=3)
    ask(story, "fair", range(3))
    story.tick()
    (_, given) = story.assigned[0]
    refused = AttemptRefused(given.ref, given.attempt, given.sender.mailbox, given.call.route, REPLY, NOBODY)
    assert story.sees(refused)
    assert story.sees(refused) == []
    assert story.state.list_row(ACME, "fair").bounced == 1


def test_a_held_list_wakes_a_person_until_it_is_released() -> None:
    story = fleet()
    ask(story, "bought", range(60))
    story.tick(5)
    bounce(story, 3)
    (raised,) = [f for f in story.decided(AlertRaised) if isinstance(f, AlertRaised) and "list" in f.alert]
    assert (raised.alert, raised.severity) == ("list_held/acme/bought", "warning")
    assert "mailfleet release-list acme bought" in raised.detail
    story.sees(ListReleaseOrdered(ACME, "bought", "lena", "fine"))
    assert [f.alert for f in story.decided(AlertResolved) if isinstance(f, AlertResolved)] == [raised.alert]
