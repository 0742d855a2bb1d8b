"""The world file of a simulation: what clients want, how good their lists are, what breaks when."""

import tomllib
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from ops.simulation.engine import Scenario, Wish
from ops.simulation.mail_world import Outage, Quality
from schemas.ids import ClientId
from schemas.registry import Fact


class WorldFileWrong(Exception):
    """The world file cannot be used; the text says where and why."""


class _List(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    dead: float = 0.008
    complaints: float = 0.0002


class _Client(msgspec.Struct, forbid_unknown_fields=True):
    per_day: int = 0
    share_of_quota: float = 0.9
    list_size: int = 0
    dead: float = 0.008
    complaints: float = 0.0002
    days_off: tuple[tuple[int, int], ...] = ()
    lists: tuple[_List, ...] = ()


class _Outage(msgspec.Struct, forbid_unknown_fields=True):
    from_day: float
    to_day: float
    route: str = ""
    receiver: str = ""
    throttles: bool = False


class _World(msgspec.Struct, forbid_unknown_fields=True):
    clients: dict[str, _Client] = {}
    outages: tuple[_Outage, ...] = ()


def read_world(path: Path | None, fleet: tuple[Fact, ...], begin: datetime, days: int, seed: int) -> Scenario:
    """Return the scenario; without a file the lists are good and nothing breaks. Raises WorldFileWrong."""
    world = _World() if path is None else _read(path)
    wishes = {ClientId(name): _wish(client) for name, client in world.clients.items()}
    outages = tuple(_outage(one, begin) for one in world.outages)
    return Scenario(fleet, begin, days, seed, wishes, outages)


def _read(path: Path) -> _World:
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), _World)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise WorldFileWrong(f"{path}: {error}; `mailfleet simulate --help` shows what may stand there") from error


def _wish(client: _Client) -> Wish:
    special = tuple((one.name, Quality(one.dead, one.complaints)) for one in client.lists)
    quality = Quality(client.dead, client.complaints)
    return Wish(client.per_day, client.share_of_quota, client.list_size, quality, special, client.days_off)


def _outage(one: _Outage, begin: datetime) -> Outage:
    from_, to = begin + timedelta(days=one.from_day), begin + timedelta(days=one.to_day)
    return Outage(from_, to, one.route, one.receiver, one.throttles)
