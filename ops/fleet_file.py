"""The fleet file: reads fleet.toml, names every wrong line, and publishes what it declares as facts."""

import tomllib
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from schemas import registry
from schemas.envelope import Envelope, to_wire
from schemas.fleet import ClientDeclared, DomainDeclared, MailboxDeclared, Pace, RouteDeclared
from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, RouteId
from schemas.registry import Fact
from schemas.topics import FLEET_INPUTS, partition_of
from streams.fleet.pace import ZoneUnknown, zone
from streams.log.kafka import Writer
from streams.settings import Settings


class FleetFileWrong(Exception):
    """The fleet file cannot be applied; every line of the text names a place and its reason."""


class _Route(msgspec.Struct, forbid_unknown_fields=True):
    provider: str
    host: str = "127.0.0.1"
    port: int = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca_file: str = ""
    max_connections: int = 5


class _Mailboxes(msgspec.Struct, forbid_unknown_fields=True):
    domain: str
    names: list[str]
    route: str
    daily_quota: int
    secret: str
    display_name: str = ""


class _Client(msgspec.Struct, forbid_unknown_fields=True):
    campaigns: list[str]
    postal_address: str
    unsubscribe_url: str = ""
    pace: dict[str, Any] = {}
    routes: dict[str, _Route] = {}
    domains: list[str] = []
    mailboxes: list[_Mailboxes] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    clients: dict[str, _Client]
    pace: dict[str, Any] = {}


def read_fleet(path: Path) -> list[Fact]:
    """Return the facts that the file declares, or raise FleetFileWrong with everything that is wrong."""
    try:
        file = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File)
    except OSError as error:
        raise FleetFileWrong(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise FleetFileWrong(f"{path}: {error}") from error
    facts: list[Fact] = []
    wrong: list[str] = []
    for name, client in file.clients.items():
        facts += _client(name, client, file.pace, wrong)
    boxes = Counter(f.mailbox for f in facts if isinstance(f, MailboxDeclared))
    wrong += [f"mailbox {box} is declared {count} times" for box, count in boxes.items() if count > 1]
    if wrong:
        raise FleetFileWrong("\n".join(f"{path}: {line}" for line in wrong))
    return facts


def _client(name: str, client: _Client, defaults: dict[str, Any], wrong: list[str]) -> list[Fact]:
    where = f"client {name}"
    pace = _pace(where, {**defaults, **client.pace}, wrong)
    if not client.postal_address.strip():
        wrong.append(f"{where}: postal_address is empty; the law asks for one in every mail")
    facts: list[Fact] = [
        ClientDeclared(
            ClientId(name),
            tuple(CampaignId(c) for c in client.campaigns),
            client.postal_address,
            pace,
            client.unsubscribe_url,
        )
    ]
    facts += [DomainDeclared(ClientId(name), DomainName(domain)) for domain in client.domains]
    for route, way in client.routes.items():
        ca_ref = f"file:{way.ca_file}" if way.ca_file else ""
        facts.append(
            RouteDeclared(
                ClientId(name),
                RouteId(route),
                way.provider,
                way.host,
                way.port,
                way.tls,
                ca_ref,
                way.max_connections,
            )
        )
    for group in client.mailboxes:
        facts += _mailboxes(name, client, group, wrong)
    return facts


def _pace(where: str, values: dict[str, Any], wrong: list[str]) -> Pace:
    try:
        pace = msgspec.convert(values, Pace, strict=True)
        zone(pace.time_zone)
    except (msgspec.ValidationError, ZoneUnknown) as error:
        wrong.append(f"{where}, pace: {error}")
        return Pace()
    unknown = set(values) - set(Pace.__struct_fields__)
    wrong.extend(f"{where}, pace: {key} is not a setting" for key in sorted(unknown))
    if not 0 <= pace.hour_from < pace.hour_to <= 24:
        wrong.append(f"{where}, pace: hour_from {pace.hour_from} to hour_to {pace.hour_to} is no span within 0-24")
    if min(pace.gap_seconds, pace.gap_jitter_seconds) < 0 or min(pace.slot_seconds, pace.max_attempts) < 1:
        wrong.append(f"{where}, pace: gaps must not be negative, slot_seconds and max_attempts at least 1")
    return pace


def _mailboxes(name: str, client: _Client, group: _Mailboxes, wrong: list[str]) -> list[Fact]:
    where = f"client {name}, mailboxes of {group.domain}"
    if group.domain not in client.domains:
        wrong.append(f"{where}: the domain is not in the client's domains")
    if group.route not in client.routes:
        wrong.append(f"{where}: route {group.route} is not defined")
    if group.daily_quota < 0:
        wrong.append(f"{where}: daily_quota {group.daily_quota} is negative")
    return [
        MailboxDeclared(
            client=ClientId(name),
            mailbox=MailboxAddress(f"{box}@{group.domain}"),
            route=RouteId(group.route),
            daily_quota=group.daily_quota,
            name=group.display_name,
            username=f"{box}@{group.domain}",
            secret_ref=group.secret,
        )
        for box in group.names
    ]


async def publish(settings: Settings, facts: list[Fact]) -> None:
    """Publish declarations to fleet-inputs, in order. Raises AppendUncertain; publishing again is safe."""
    writer = Writer(settings.connection)
    try:
        for fact in facts:
            name = registry.TYPE_OF[type(fact)]
            key = str(getattr(fact, "client")).encode()  # noqa: B009 - every declaration has a client
            envelope = Envelope(
                id=uuid.uuid4().hex,
                type=name,
                v=registry.VERSION_OF[name],
                at=datetime.now(UTC),
                key=key.decode(),
                by="fleet-file",
                data=registry.data_of(fact),
            )
            to = partition_of(key, FLEET_INPUTS.partitions)
            await writer.append(settings.topic(FLEET_INPUTS), to, key, to_wire(envelope))
    finally:
        await writer.close()
