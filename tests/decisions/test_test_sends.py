"""An operator's test counts in every quota and in no rate, no warm-up and no list's canary."""

import pytest

from schemas.health import HealthChanged, ListSignCounted, SignCounted
from schemas.ids import MailboxAddress, RouteId
from schemas.policy import Lists
from schemas.reports import SendComplained
from schemas.sending import Carried, SendEnded
from streams.fleet.quota import rolling
from tests.decisions.fleet_story import FAST, FleetStory, accept, refuse

BOX = "box0@acme.test"


def after_one(story: FleetStory, *, test: bool = True) -> FleetStory:
    story.fleet("acme", 1, pace=FAST)
    story.policy("acme", lists=Lists(canary_sends=5))
    story.ask("acme", "t1", basis="transactional", mailbox=BOX, receiver="gmail", priority=0, test=test)
    story.tick(3)
    return story


def test_it_counts_in_the_quotas_of_mailbox_domain_route_and_receiver() -> None:
    story = after_one(FleetStory())
    box, state = story.state.mailbox(BOX), story.state
    assert box is not None
    assert list(box.used.values()) == [1]
    (domain,) = [row for key, row in story.rows.all() if key[0] == "domain"]
    assert list(getattr(domain, "used").values()) == [1]  # noqa: B009
    assert rolling(state.routes_of(story.assigned[0][1].ref.client)[0].hours, story.now) == 1
    assert rolling(state.receiver(story.assigned[0][1].ref.client, "acme.test/gmail").hours, story.now) == 1


@pytest.mark.parametrize(
    "settle",
    [accept, refuse("recipient", "hard", "suppress"), refuse("recipient", "soft", "retry", 450)],
    ids=["accepted", "hard bounce", "deferral"],
)
def test_whatever_comes_of_it_no_sender_and_no_list_counts_it(settle: object) -> None:
    story = after_one(FleetStory(settle=settle))  # type: ignore[arg-type]  # one of three
    assert story.assigned
    assert story.decided(SignCounted) == story.decided(ListSignCounted) == []
    control = after_one(FleetStory(settle=settle), test=False)  # type: ignore[arg-type]
    assert control.decided(SignCounted)


def test_what_comes_late_is_not_counted_either_and_not_after_a_restart() -> None:
    story = after_one(FleetStory())
    assert story.decided(SendEnded)
    story.reopen()
    ref = story.assigned[0][1].ref
    row = story.state.backlog(f"{ref.client}/{ref.send_id}")
    assert row is not None
    assert row.request is None
    assert row.test
    story.sees(SendComplained(ref, 1, "webhook", carried=Carried(MailboxAddress(BOX), RouteId("own"))))
    assert story.decided(SignCounted) == []


def test_a_server_that_shuts_a_mailbox_out_is_believed_all_the_same() -> None:
    story = after_one(FleetStory(settle=refuse("mailbox", "sender_account", "retry")))
    (change,) = story.decided(HealthChanged)
    assert isinstance(change, HealthChanged)
    assert (change.scope, change.now) == ("mailbox", "unhealthy")
    assert story.decided(SignCounted) == []
