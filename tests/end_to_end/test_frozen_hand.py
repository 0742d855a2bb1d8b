"""A process frozen between claim and request, for a day of the log's time: one copy, whatever was searched meanwhile.

The look-ups are an hour, six and 22 after the attempt became unknown, and a stage's clock is what the broker wrote
beside its ticks. So the story writes ticks of later hours; nothing of the product is set differently.
"""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from ops.embedded.process import start
from ops.site import Site
from ops.stack import Member
from schemas.topics import DELIVERY_TICKS, partition_of
from streams.delivery.identity import delivery_key, recipient_of
from streams.delivery.state import DUE_SHARDS
from tests.adapters.mailgun_server import MailgunServer
from tests.end_to_end.mailgun_way import KEY, with_mailgun
from tests.faults.story import Story, fleet_text, requests

TO = "person0@company0.test"
SEARCH = "POST /v1/analytics/logs"


def _let_ticks_name_any_time(site: Site) -> None:
    """From here on a tick's time is its writer's; without this the broker writes its own."""
    resource = ConfigResource(ResourceType.TOPIC, site.settings.topic(DELIVERY_TICKS))
    for name, value in (("message.timestamp.type", "CreateTime"), ("message.timestamp.after.max.ms", str(2**62))):
        resource.add_incremental_config(ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET))
    admin = AdminClient({"bootstrap.servers": site.settings.connection.bootstrap})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)


async def _ticks(site: Site, first: datetime, hours: int) -> None:
    """Write as many ticks as `hours` have shards of due questions, and the ones of two hours more."""
    key = delivery_key(recipient_of(TO, site.settings.fleet_key()))
    partition = partition_of(key, DELIVERY_TICKS.partitions)
    producer = AIOKafkaProducer(**site.settings.connection.options())
    await producer.start()
    try:
        for n in range((hours + 2) * DUE_SHARDS):
            at = int((first + timedelta(milliseconds=n)).timestamp() * 1000)
            await producer.send(site.settings.topic(DELIVERY_TICKS), b"{}", partition=partition, timestamp_ms=at)
        await producer.flush()
    finally:
        await producer.stop()


@pytest.mark.parametrize(("hours", "end"), [(23, "accepted"), (26, "assumed_sent")], ids=["searched", "assumed"])
def test_a_hand_frozen_between_claim_and_request_sends_one_copy_however_late(
    site: Site, database: str, mailgun: MailgunServer, tmp_path: Path, hours: int, end: str
) -> None:
    site.keep_secret("mailgun.key", KEY)
    story = Story(site, database)
    story.begin(with_mailgun(fleet_text(2, clients=("acme",)), mailgun.port, 'routes = ["mailgun"]'))
    site.stack.end("delivery")
    switch = tmp_path / "freeze"
    switch.touch()
    log = site.folder / "logs" / "frozen.log"
    environment = {**os.environ, **site.environment, "MAILFLEET_NAME": "frozen"}
    frozen = start([sys.executable, "-m", "tests.end_to_end.freezing_worker", switch], log, env=environment)
    site.stack.members["frozen"] = Member("frozen", "delivery", frozen, log, held=True)

    story.ask(requests(1, clients=("acme",)))
    story.wait(lambda: not switch.exists(), 60, "a claim")
    site.stack.add("delivery", "delivery")
    story.wait(lambda: story.found().get("unknown") == 1, 60, "that nobody holds the attempt any more")
    assert mailgun.kept == []

    _let_ticks_name_any_time(site)
    asyncio.run(_ticks(site, datetime.now(UTC) + timedelta(hours=hours), hours))
    story.wait(lambda: _stands(story, mailgun, end), 60, "three searches" if end == "accepted" else "the end of 24 h")
    assert mailgun.kept == [], "it is still frozen"

    site.stack.signal("frozen", signal.SIGCONT)
    story.wait(lambda: len(mailgun.kept) == 1, 60, "the copy of the frozen hand")
    story.wait(lambda: story.found().get(end) == 1, 60, "its report")
    story.let_pass(3)
    assert len(mailgun.kept) == 1, "nothing went twice"
    assert story.found() == {end: 1}
    assert story.query("select attempts from sends") == [(1,)]


def _stands(story: Story, mailgun: MailgunServer, end: str) -> bool:
    """Whether the searches found nothing three times, and the send stands where it should by then."""
    state = "unknown" if end == "accepted" else end
    return mailgun.told.count(SEARCH) >= 6 and story.found() == {state: 1}
