"""The topic catalogue names what really happens: who forwards what where, who reads it, and in which partition."""

import ast
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas.topics
from schemas import registry
from schemas.fleet import AccountTripped
from schemas.sending import CancelRequested, SendRef
from schemas.topics import CATALOGUE, DAY_MS, DELIVERY_INPUTS, FLEET_INPUTS, Topic, partition_of
from streams.delivery.decide import DECISIONS as DELIVERY_DECISIONS
from streams.delivery.mind import DeliveryMind
from streams.fleet.decide import DECISIONS as FLEET_DECISIONS
from streams.fleet.mind import FleetMind
from streams.log.mind import Outgoing
from tests.schemas.samples import FACTS, Example

ROOT = Path(__file__).parent.parent.parent
AT = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)

ROLES_OF_MODULE = {
    "streams/agents/intake.py": {"intake"},
    "streams/agents/hands.py": {"hands"},
    "streams/delivery/mind.py": {"delivery stage"},
    "streams/fleet/mind.py": {"fleet stage"},
    "streams/log/stage.py": {"delivery stage", "fleet stage"},
    "streams/agents/watch_dns.py": {"dns watcher"},
    "streams/agents/poll_postmaster.py": {"dns watcher"},
    "streams/agents/declared.py": {"dns watcher", "mail reader"},
    "streams/agents/read_mail.py": {"mail reader"},
    "ops/saved_mail.py": {"mail reader"},
    "ops/bench_rebuild.py": {"delivery stage", "fleet stage"},  # plays both, in a Kafka of its own
    "streams/agents/door.py": {"door"},
    "streams/agents/poll_mailgun.py": {"door"},
    "streams/agents/provider_reports.py": {"door"},
    "streams/app.py": {"delivery stage", "fleet stage", "hands"},
    "ops/run.py": {"projector", "intake", "dns watcher", "mail reader", "door", "telegram"},
    "ops/telegram_bot.py": {"operators", "telegram"},
    "streams/agents/tell_people.py": {"telegram"},
    "streams/roles.py": {"delivery stage", "fleet stage", "hands"},
    "ops/sources.py": {"projector"},
    "ops/verify.py": {"verify"},
    "ops/fleet_plan.py": {"fleet file", "verify"},
    "ops/fleet_orders.py": {"operators"},
    "ops/suppressions.py": {"operators"},
    "ops/person.py": {"operators"},
    "ops/commands/suppressions.py": {"operators"},
    "ops/letters.py": {"operators"},
    "ops/postfix/log_reader.py": {"mta log reader"},
    "ops/site.py": {"upstream"},
}
"""Who runs the code of a module that names a topic."""
OUTSIDE = {"upstream"}
OTHERS_WRITE = {
    "delivery-inputs": {
        *("send.requested", "request.rejected"),  # intake
        "outcome.reported",  # hands
        "mta.line_seen",  # the reader of an own MTA's log
        *("suppression.imported", "stop.ordered", "start.ordered"),  # operators
        *("suppress.ordered", "unsuppress.ordered", "domain.suppress_ordered"),
        *("report.seen", "report.forged", "report.uncorrelated"),  # mail reader, door
    },
    "fleet-inputs": {
        "cancel.requested",
        "policy.applied",
        *("client.declared", "domain.declared", "route.declared", "mailbox.declared", "cost.declared"),
        *("mailbox.warmed", "stop.ordered", "start.ordered", "pause.ordered", "resume.ordered"),
        *("domain.observed", "spam.rates_told"),  # dns watcher
        "dmarc.reported",  # mail reader
        "list.release_ordered",  # operators
    },
    "dns-observations": {"domain.observed", "spam.rates_told"},
    "mail-positions": {"mailbox.read", "mailbox.unreadable", "replies.forwarded"},
    "log-positions": {"provider.log_read"},
    "dead-letters": {"letter.died"},
    "alert-posts": {"alert.posting", "alert.posted", "alert.acknowledged"},
}
"""Facts that do not come out of a mind."""
NOT_DECIDED_YET = {"mta.line_seen"}
"""Facts that are written already, while the stage's decision on them is still to come."""


def forwarded(mind: DeliveryMind | FleetMind) -> list[tuple[Example, Outgoing]]:
    """Return what the mind forwards of each published example."""
    return [
        (example, outgoing)
        for example in FACTS
        for outgoing in mind.forwards(registry.fact_of(example.type, example.version, example.value), AT)
    ]


@pytest.mark.parametrize(("mind", "stage"), [(DeliveryMind(), "delivery stage"), (FleetMind(), "fleet stage")])
def test_the_catalogue_names_all_that_a_mind_forwards(mind: DeliveryMind | FleetMind, stage: str) -> None:
    sent = forwarded(mind)
    assert sent
    for example, outgoing in sent:
        topic = CATALOGUE[outgoing.topic.name]
        name = registry.TYPE_OF[type(outgoing.fact)]
        assert topic is outgoing.topic
        assert name in topic.facts, f"{example}: {name} is forwarded to {topic.name}, which does not list it"
        assert stage in topic.writers


def test_each_listed_fact_is_written_by_someone() -> None:
    written = {name: set(facts) for name, facts in OTHERS_WRITE.items()}
    for mind in (DeliveryMind(), FleetMind()):
        for _, outgoing in forwarded(mind):
            written.setdefault(outgoing.topic.name, set()).add(registry.TYPE_OF[type(outgoing.fact)])
    assert written == {t.name: set(t.facts) for t in CATALOGUE.values() if t.facts}


@pytest.mark.parametrize(
    ("topic", "decided"), [(DELIVERY_INPUTS, set(DELIVERY_DECISIONS)), (FLEET_INPUTS, set(FLEET_DECISIONS))]
)
def test_each_input_of_a_stage_is_decided_there(topic: Topic, decided: set[type]) -> None:
    assert {registry.CLASS_OF[name] for name in set(topic.facts) - NOT_DECIDED_YET} <= decided


def test_forwards_go_under_the_key_that_the_receiver_is_partitioned_by() -> None:
    for _, outgoing in forwarded(DeliveryMind()):
        if outgoing.topic is FLEET_INPUTS:
            fact = outgoing.fact
            client = fact.client if isinstance(fact, CancelRequested) else ref_of(fact).client
            assert outgoing.key == client.encode()
    for _, outgoing in forwarded(FleetMind()):
        if outgoing.topic is DELIVERY_INPUTS:
            assert outgoing.key == ref_of(outgoing.fact).recipient[:16].encode()
        if outgoing.topic is FLEET_INPUTS:
            assert isinstance(outgoing.fact, AccountTripped)
            assert outgoing.key == outgoing.fact.client.encode()


def ref_of(fact: registry.Fact) -> SendRef:
    """Return which send a fact is about."""
    ref = getattr(getattr(fact, "request", fact), "ref", None)
    assert isinstance(ref, SendRef)
    return ref


def topics_named(path: Path) -> set[str]:
    """Return the topics that a module imports from the catalogue."""
    imports = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports if node.module == "schemas.topics" for alias in node.names}
    return {topic.name for name in names if isinstance(topic := getattr(schemas.topics, name), Topic)}


def test_each_module_that_names_a_topic_is_among_its_writers_or_readers() -> None:
    wrong = []
    for floor in ("streams", "adapters", "projections", "ops"):
        for path in sorted((ROOT / floor).rglob("*.py")):
            module = path.relative_to(ROOT).as_posix()
            for name in topics_named(path):
                known = {*CATALOGUE[name].writers, *CATALOGUE[name].readers}
                if not ROLES_OF_MODULE.get(module, set()) & known:
                    wrong.append(f"{module} uses {name}, the catalogue knows {sorted(known)} there")
    assert wrong == []


def test_writers_and_readers_are_of_a_closed_list() -> None:
    roles = set.union(*ROLES_OF_MODULE.values()) | OUTSIDE
    named = {role for t in CATALOGUE.values() for role in (*t.writers, *t.readers)}
    assert named == roles
    assert all(t.writers and t.readers and t.about and t.key for t in CATALOGUE.values())


def test_journals_have_one_writer_and_are_kept_without_limit() -> None:
    journals = [t for t in CATALOGUE.values() if t.journal]
    assert {t.name for t in journals} == {"delivery-journal", "fleet-journal"}
    for topic in journals:
        assert len(topic.writers) == 1
        alone, cluster = topic.config(), topic.config(replicas=3)
        assert (alone["retention.ms"], alone["retention.bytes"], alone["flush.messages"]) == ("-1", "-1", "1")
        assert "flush.messages" not in cluster
        assert cluster["min.insync.replicas"] == "2"


def test_kafka_can_delete_what_is_private_within_a_day_after_its_time() -> None:
    """It deletes whole segments, and its usual ones are a week long."""
    for topic in CATALOGUE.values():
        if topic.archive == "sealed":
            assert int(topic.config()["segment.ms"]) <= DAY_MS


def test_what_a_stage_decides_by_has_the_brokers_time_and_is_not_compacted() -> None:
    for topic in CATALOGUE.values():
        config = topic.config()
        assert config["cleanup.policy"] == ("compact" if topic.name == "mail-positions" else "delete")
        assert config["unclean.leader.election.enable"] == "false"
        if topic.name.endswith(("-inputs", "-ticks", "-journal")):
            assert config["message.timestamp.type"] == "LogAppendTime"


def test_inputs_journal_and_ticks_of_a_stage_have_one_partition_count() -> None:
    counts = {name: t.partitions for name, t in CATALOGUE.items()}
    assert {counts[f"delivery-{kind}"] for kind in ("inputs", "journal", "ticks")} == {32}
    assert {counts[f"fleet-{kind}"] for kind in ("inputs", "journal", "ticks")} == {16}


VECTORS = [
    (b"", 32, 20),
    (b"acme", 16, 0),
    (b"birch", 16, 5),
    (b"0b4389a9088e70d9", 32, 8),
    (b"879306495d8939be", 32, 31),
    (b"\x00\xff", 8, 5),
    (b"acme/spring-2026.0001", 8, 1),
    (b"acme", 1, 0),
]
"""First 8 bytes of SHA-256, big-endian, modulo the count."""


@pytest.mark.parametrize(("key", "count", "partition"), VECTORS)
def test_a_key_keeps_its_partition_for_life(key: bytes, count: int, partition: int) -> None:
    assert partition_of(key, count) == partition


@given(st.binary(max_size=64), st.integers(1, 1000))
def test_a_partition_is_within_range(key: bytes, count: int) -> None:
    assert 0 <= partition_of(key, count) < count


def test_keys_spread_evenly() -> None:
    found = [partition_of(f"client-{n}".encode(), 16) for n in range(16_000)]
    assert all(850 <= found.count(n) <= 1150 for n in range(16))
