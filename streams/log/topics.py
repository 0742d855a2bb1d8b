"""Topics on the cluster: made by us from the catalogue, checked before use."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.cimpl import NewTopic

from schemas.topics import Topic
from streams.log.kafka import Connection

UNKNOWN_TOPIC = 3
ALREADY_EXISTS = 36
SEEN_WITHIN_S = 30


class TopicsWrong(Exception):
    """A topic is missing or has another partition count than the catalogue. The text says what to do."""


@dataclass(frozen=True)
class Found:
    """A topic as the cluster has it. `topic_id` changes when a topic is deleted and made again."""

    topic_id: str
    partitions: int


def client_options(connection: Connection) -> dict[str, Any]:
    """Return the options of a confluent-kafka client."""
    names = {
        "sasl_plain_username": "sasl.username",
        "sasl_plain_password": "sasl.password",
        "sasl_mechanism": "sasl.mechanism",
        "security_protocol": "security.protocol",
    }
    security = {names[k]: v for k, v in connection.security.items() if k in names}
    return {"bootstrap.servers": connection.bootstrap, "log_level": 0, **security}


def _admin(connection: Connection) -> AdminClient:
    return AdminClient(client_options(connection))


def describe(connection: Connection, names: Iterable[str]) -> dict[str, Found | None]:
    """Return each topic as it stands, None when it does not exist. Blocks; raises KafkaException."""
    wanted = list(names)
    admin = _admin(connection)  # must outlive its futures
    futures = admin.describe_topics(TopicCollection(wanted), request_timeout=15)
    found: dict[str, Found | None] = {}
    for name, future in futures.items():
        try:
            topic = future.result()
        except KafkaException as error:
            if error.args[0].code() != UNKNOWN_TOPIC:
                raise
            found[name] = None
        else:
            found[name] = Found(str(topic.topic_id), len(topic.partitions))
    return found


def create(connection: Connection, topics: Mapping[str, tuple[int, dict[str, str]]], replicas: int = 1) -> None:
    """Make the topics {name: (partitions, settings)} that do not exist yet; return when they can be seen.

    Blocks; raises KafkaException, and TopicsWrong when they cannot be seen within 30 s.
    """
    new = [NewTopic(name, count, replicas, config=config) for name, (count, config) in topics.items()]
    admin = _admin(connection)  # must outlive its futures
    for future in admin.create_topics(new, request_timeout=30).values():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != ALREADY_EXISTS:
                raise
    deadline = time.monotonic() + SEEN_WITHIN_S
    while missing := [name for name, found in describe(connection, topics).items() if found is None]:
        if time.monotonic() > deadline:
            raise TopicsWrong(f"topics were made but cannot be seen: {', '.join(missing)}; look at the brokers' logs.")
        time.sleep(0.05)  # the controller has them, a broker's view follows: a process would take it for "missing"


def delete(connection: Connection, names: Iterable[str]) -> None:
    """Delete topics. Blocks; raises KafkaException."""
    admin = _admin(connection)  # must outlive its futures
    for future in admin.delete_topics(list(names), request_timeout=30).values():
        future.result()


def delete_records(connection: Connection, before: Mapping[tuple[str, int], int]) -> None:
    """Delete what stands before an offset of each (topic, partition). Blocks; raises KafkaException."""
    admin = _admin(connection)  # must outlive its futures
    places = [TopicPartition(topic, number, offset) for (topic, number), offset in before.items()]
    for future in admin.delete_records(places, request_timeout=30).values():
        future.result()


def configure(connection: Connection, settings: Mapping[str, Mapping[str, str]]) -> None:
    """Set settings {topic: {name: value}}. Blocks; raises KafkaException."""
    admin = _admin(connection)  # must outlive its futures
    resources = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            topic,
            incremental_configs=[
                ConfigEntry(n, v, incremental_operation=AlterConfigOpType.SET) for n, v in wanted.items()
            ],
        )
        for topic, wanted in settings.items()
    ]
    for future in admin.incremental_alter_configs(resources, request_timeout=30).values():
        future.result()


def check(connection: Connection, wanted: Mapping[str, Topic]) -> dict[str, str]:
    """Return {name on the cluster: topic id}. Raises TopicsWrong: counts are for life."""
    ids: dict[str, str] = {}
    for name, found in describe(connection, wanted).items():
        topic = wanted[name]
        if found is None:
            raise TopicsWrong(f"topic {name} does not exist: run `mailfleet topics` to make the topics.")
        if found.partitions != topic.partitions:
            raise TopicsWrong(
                f"topic {name} has {found.partitions} partitions, the catalogue says {topic.partitions}: counts "
                "are for life. Use the cluster that this fleet began on, or another topic prefix."
            )
        ids[name] = found.topic_id
    return ids


CHANGELOG_CONFIG = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": str(7 * 24 * 3_600_000),
    "max.message.bytes": "1400000",
}
"""A zombie's old row behind a good one must not be the one that compaction keeps (design section 2)."""
