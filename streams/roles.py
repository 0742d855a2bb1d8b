"""The two worker roles with their topics, and the topics of a whole fleet. Imports nothing that could send."""

from dataclasses import dataclass
from typing import Any, Literal

from schemas.topics import (
    CATALOGUE,
    DEAD_LETTERS,
    DELIVERY_INPUTS,
    DELIVERY_JOURNAL,
    DELIVERY_TICKS,
    FLEET_INPUTS,
    FLEET_JOURNAL,
    FLEET_TICKS,
    SEND_REQUESTS,
    SEND_RESULTS,
    Topic,
)
from streams.log.stage import Places
from streams.log.topics import CHANGELOG_CONFIG, check, create
from streams.settings import Settings

Role = Literal["delivery", "fleet"]


@dataclass(frozen=True)
class RoleTopics:
    """The topics of a role."""

    inputs: Topic
    journal: Topic
    ticks: Topic
    store: str


ROLES: dict[Role, RoleTopics] = {
    "delivery": RoleTopics(DELIVERY_INPUTS, DELIVERY_JOURNAL, DELIVERY_TICKS, "rocksdb://"),
    "fleet": RoleTopics(FLEET_INPUTS, FLEET_JOURNAL, FLEET_TICKS, "memory://"),
}


def changelog_name(settings: Settings, role: Role) -> str:
    """Return the name of a role's changelog topic (Faust: id-table-changelog)."""
    return f"{settings.prefix}{role}-rows-changelog"


def all_topics(settings: Settings, *, flush_each_append: bool = True, replicas: int = 1) -> dict[str, Any]:
    """Return every topic to make: {name: (partitions, settings)}, changelogs included."""
    made: dict[str, Any] = {
        settings.topic(t): (t.partitions, t.config(replicas=replicas, flush_each_append=flush_each_append))
        for t in CATALOGUE.values()
    }
    for role, topics in ROLES.items():
        made[changelog_name(settings, role)] = (topics.inputs.partitions, CHANGELOG_CONFIG)
    return made


def make_topics(settings: Settings, *, flush_each_append: bool = True, replicas: int = 1) -> None:
    """Make the topics that do not exist. Blocks."""
    topics = all_topics(settings, flush_each_append=flush_each_append, replicas=replicas)
    create(settings.connection, topics, replicas)


def places_of(settings: Settings, role: Role) -> Places:
    """Look the role's topics up on the cluster. Blocks; raises TopicsWrong."""
    topics = ROLES[role]
    wanted = {settings.topic(t): t for t in (topics.inputs, topics.journal, topics.ticks, SEND_REQUESTS)}
    check(settings.connection, {settings.topic(t): t for t in (SEND_RESULTS, DEAD_LETTERS)})
    return Places(
        journal=settings.topic(topics.journal),
        inputs=settings.topic(topics.inputs),
        ticks=settings.topic(topics.ticks),
        changelog=changelog_name(settings, role),
        topic_ids=check(settings.connection, wanted),
        prefix=settings.prefix,
    )
