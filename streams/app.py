"""Builds the two Faust apps, one per worker role, and what stands around them.

Faust gives assignment, routing, tables and metrics; truth comes from streams.log. Nothing is made at
import: a test makes a fresh app with `create_app`.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka.helpers import create_ssl_context

from adapters.catalogue import PROVIDERS
from adapters.dkim_sign import Signer
from adapters.secrets import Secrets
from schemas.topics import SEND_REQUESTS
from streams.agents.bodies import Bodies
from streams.agents.deliver_mail import deliver_mail
from streams.agents.hands import Hands
from streams.agents.plan_fleet import plan_fleet
from streams.delivery.mind import DeliveryMind
from streams.fleet.mind import FleetMind
from streams.log.kafka import Reader, Writer
from streams.log.mind import Mind
from streams.log.stage import Doors, Places, Stage
from streams.log.tables import FaustRows, MarkedTable
from streams.roles import ROLES, Role
from streams.settings import Settings

log = logging.getLogger(__name__)

LAG_LOOK_S = 5.0
AGENTS = {"delivery": deliver_mail, "fleet": plan_fleet}


@dataclass
class Worker:
    """One worker: the Faust app, its stage, and for the delivery role its hands."""

    app: Any
    stage: Stage
    reader: Reader
    writer: Writer
    hands: Hands | None = None


def create_app(settings: Settings, role: Role, places: Places) -> Worker:
    """Return a fresh worker of the role. Nothing is connected before the app starts."""
    topics = ROLES[role]
    datadir = settings.home / "state" / settings.name
    datadir.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        f"{settings.prefix}{role}",
        broker=[f"aiokafka://{b}" for b in settings.connection.bootstrap.split(",")],
        broker_credentials=_credentials(settings),
        store=topics.store,
        datadir=str(datadir),
        version=1,
        Table=MarkedTable,
        processing_guarantee="at_least_once",
        producer_linger=0.005,
        producer_acks=-1,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=topics.inputs.partitions,
        table_standby_replicas=0,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 3,
        broker_commit_interval=1.0,
        broker_max_poll_interval=300.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{settings.prefix}{settings.name}",
        stream_wait_empty=False,
        web_enabled=False,
        loghandlers=[],
    )
    table = app.Table(
        "rows",
        partitions=topics.inputs.partitions,
        key_type=bytes,
        value_type=bytes,
        options={"driver": "rocksdict"} if topics.store.startswith("rocksdb") else None,
    )
    reader, writer = Reader(settings.connection), Writer(settings.connection)
    doors = Doors(reader, writer, FaustRows(table), by=settings.name)
    mind: Mind = DeliveryMind() if role == "delivery" else FleetMind()
    stage = Stage(mind, places, doors)
    worker = Worker(app, stage, reader, writer)
    if role == "delivery":
        secrets = Secrets(settings.secrets_folder)
        adapters = {name: make(secrets) for name, make in PROVIDERS.items()}
        worker.hands = Hands(
            stage,
            Bodies(Reader(settings.connection, max_fetch_bytes=262_144), settings.topic(SEND_REQUESTS)),
            adapters,
            settings.fleet_key(),
            sign=Signer(secrets).sign,
        )
    AGENTS[role](
        app,
        stage,
        _raw_topic(app, places.inputs),
        _raw_topic(app, places.ticks),
    )
    _attach(worker)
    return worker


def _raw_topic(app: Any, name: str) -> Any:
    """A topic that the engine does not decode: what cannot be read must reach the stage, not end the agent."""
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def _credentials(settings: Settings) -> Any:
    security = settings.connection.security
    if not security:
        return None
    if security.get("security_protocol") == "SSL":
        return faust.SSLCredentials(create_ssl_context())
    return faust.SASLCredentials(
        username=security.get("sasl_plain_username"),
        password=security.get("sasl_plain_password"),
        mechanism=security.get("sasl_mechanism", "PLAIN"),
        ssl_context=create_ssl_context() if security.get("security_protocol") == "SASL_SSL" else None,
    )


def _attach(worker: Worker) -> None:
    """Tie the stage to the engine's assignment and give it its two clocks: ticks and the look behind."""
    app, stage = worker.app, worker.stage

    @app.on_partitions_assigned.connect(weak=False)
    async def on_assigned(_app: Any, assigned: Any, **_: Any) -> None:
        stage.assigned(tp.partition for tp in assigned if tp.topic == stage.places.inputs)

    @app.on_partitions_revoked.connect(weak=False)
    async def on_revoked(_app: Any, revoked: Any, **_: Any) -> None:
        stage.revoked(tp.partition for tp in revoked if tp.topic == stage.places.inputs)

    @app.timer(1.0)
    async def send_ticks() -> None:
        await stage.send_ticks()

    @app.timer(LAG_LOOK_S)
    async def watch_lag() -> None:
        await stage.watch_lag()


async def run_worker(worker: Worker, stop: asyncio.Event) -> None:
    """Run until `stop` is set: hands first end, then the engine."""
    await worker.app.start()
    try:
        await stop.wait()
        if worker.hands is not None:
            await worker.hands.close()
    finally:
        await worker.app.stop()
        await worker.reader.close()
        await worker.writer.close()
