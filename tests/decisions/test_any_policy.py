"""Whatever a fleet file may say, the mind goes on: a policy that is accepted ends no stage."""

from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.fleet_policy import read_policy
from schemas.fleet import Pace
from schemas.policy import Health, Policy, PolicyApplied, Rotation
from schemas.reports import SendComplained
from schemas.sending import Carried, SendBounced, SendDelivered
from streams.fleet.retry import LONGEST, again_at
from tests.decisions.bounds import bounded
from tests.decisions.fleet_story import START, FleetStory, accept, refuse
from tests.decisions.test_lists import ACME, NOBODY, REPLY

ODD = (0, 1, 2, 3, 50, 1_000, 10_000, 10_000_000, 0.0, 0.01, 0.999, 1.0, 1.5, 10.0)


def odd_policy(seed: int) -> dict[str, dict[str, Any]]:
    """Every part with a few numbers at their ends, each of its own type."""
    chance, found = Random(seed), dict[str, dict[str, Any]]()
    for part in Policy.__struct_fields__[1:]:
        values = msgspec.structs.asdict(getattr(Policy(), part))
        numbers = {k: v for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        chosen = chance.sample(sorted(numbers), min(len(numbers), chance.randrange(4)))
        found[part] = {name: type(numbers[name])(chance.choice(ODD)) for name in chosen}
    return found


def lived(policy: Policy, seed: int) -> FleetStory:
    """A week with good and bad mail and an idle stretch."""
    chance, story = Random(seed), FleetStory()
    story.fleet("acme", 4, daily_quota=20)
    story.domain("acme", "mail.acme.test")
    story.boxes("acme", "mail.acme.test", 2, daily_quota=20)
    story.sees(PolicyApplied(ACME, policy, "lena"))
    settles = (accept, accept, accept, refuse("recipient", "hard", "suppress"), refuse("domain", "block", "retry"))
    for n in range(40):
        story.settle = chance.choice(settles)
        story.ask("acme", f"s{n}", list_id="fair", receiver=chance.choice(("gmail", "")))
        story.tick(2)
        for _, one in story.assigned[-1:]:
            carried = Carried(one.sender.mailbox, one.call.route)
            story.sees(SendDelivered(one.ref, one.attempt, "event", carried))
            if chance.random() < 0.2:
                story.sees(SendBounced(one.ref, one.attempt, REPLY, NOBODY, carried))
                story.sees(SendComplained(one.ref, one.attempt, "webhook", carried=carried))
        if n % 3 == 0:
            story.now += chance.choice(
                (timedelta(minutes=9), timedelta(hours=3), timedelta(hours=23), timedelta(days=8))
            )
            story.now = story.now.replace(minute=story.now.minute // 10 * 10, second=59, microsecond=0)
    return story


@bounded(60)
@given(st.integers(0, 2**32))
def test_no_policy_that_is_accepted_ends_the_stage(seed: int) -> None:
    wrong, policy = read_policy(odd_policy(seed), {})
    if not wrong:
        assert lived(policy, seed).journal


@pytest.mark.parametrize(
    "policy",
    [Policy(rotation=Rotation(rest_every_days=0)), Policy(health=Health(speed_minutes=0))],
    ids=["rest_every_days", "speed_minutes"],
)
def test_what_an_older_file_was_allowed_to_say_ends_no_stage_either(policy: Policy) -> None:
    assert lived(policy, 7).journal


def test_a_thousand_tries_leave_the_calendar_as_it_is() -> None:
    waits = [again_at(Pace(max_attempts=2_000), tries, START) for tries in range(1, 1_000)]
    assert max(when for when in waits if when is not None) == START + LONGEST


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("rotation", "rest_every_days", 0, ".rotation.rest_every_days must be at least 1"),
        ("health", "speed_minutes", 0, ".health.speed_minutes must be at least 1"),
        ("health", "bounce_rate_mailbox", float("nan"), ".health.bounce_rate_mailbox must be a finite number"),
        ("warm_up", "growth", float("inf"), ".warm_up.growth must be a finite number"),
        ("warm_up", "growth", 50.0, ".warm_up: growth must be at most 10"),
        ("lists", "wait_hours", 100_000_000, ".lists.wait_hours must be at most 10000"),
        ("health", "window_sends", 10**12, ".health.window_sends must be at most 10000000"),
        ("receivers", "ceilings_24h", {"gmail": -1}, ".receivers.ceilings_24h.gmail must not be negative"),
    ],
)
def test_a_number_without_sense_is_refused(part: str, name: str, value: object, said: str) -> None:
    wrong, _ = read_policy({part: {name: value}}, {})
    assert [line for line in wrong if line.startswith(said)], wrong
