"""The sender agent: feeds the delivery stage. It never waits for a mail server; hands do."""

from typing import Any

from streams.agents.feed import feed_inputs, feed_ticks
from streams.log.stage import Stage


def deliver_mail(app: Any, stage: Stage, inputs: Any, ticks: Any) -> None:
    """Declare the agents of the delivery role."""
    feed_inputs(app, stage, inputs, "deliver_mail")
    feed_ticks(app, stage, ticks, "deliver_mail_ticks")
