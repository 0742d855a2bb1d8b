"""The fleet agent: feeds the fleet stage, which decides who sends what and when."""

from typing import Any

from streams.agents.feed import feed_inputs, feed_ticks
from streams.log.stage import Stage


def plan_fleet(app: Any, stage: Stage, inputs: Any, ticks: Any) -> None:
    """Declare the agents of the fleet role."""
    feed_inputs(app, stage, inputs, "plan_fleet")
    feed_ticks(app, stage, ticks, "plan_fleet_ticks")
