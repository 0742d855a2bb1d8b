"""Reads the other policy: a fleet file, or a file with its [policy] and [clients.NAME.policy] alone."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ops.fleet_policy import read_policy
from schemas.ids import ClientId
from schemas.policy import Policy

PLACES = ("policy", "clients")
OF_A_FLEET_FILE = ("pace", "accounts", "mailbox_files", "prices", "compare")
SECTIONS = Policy.__struct_fields__[1:]


class PolicyFileWrong(Exception):
    """The file holds no policy that could be tried; every line of the text names a place and what to do."""


class OtherPolicy:
    """The policies of a file, as `mailfleet apply` would give them to each client."""

    def __init__(self, for_all: dict[str, Any], of_clients: dict[str, dict[str, Any]]) -> None:
        self._for_all = for_all
        self._of_clients = of_clients
        self._made: dict[ClientId, Policy] = {}

    @property
    def named(self) -> set[ClientId]:
        """The clients for which the file has a policy of their own."""
        return {ClientId(name) for name in self._of_clients}

    def of(self, client: ClientId) -> Policy:
        """Return the policy that would lead the client."""
        if client not in self._made:
            self._made[client] = read_policy(self._for_all, self._of_clients.get(client, {}))[1]
        return self._made[client]


def read_policy_file(path: Path) -> OtherPolicy:
    """Return the policies in a TOML file. Raises PolicyFileWrong with all that is wrong."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise PolicyFileWrong(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyFileWrong(f"{path} is no TOML: {error}. Put it right there; nothing was replayed") from error
    wrong = list(_wrong(raw))
    if wrong:
        head = f"{path} holds no policy that can be tried:"
        tail = "Every setting and its default stands in schemas/policy.py; put these right and run it again"
        raise PolicyFileWrong("\n".join((head, *(f"  {line}" for line in wrong), tail)))
    own = _policies(raw.get("clients", {})) or {}
    return OtherPolicy(raw.get("policy", {}), {name: values for name, values in own.items() if values})


def _wrong(raw: dict[str, Any]) -> Iterator[str]:
    for name in raw:
        if name in SECTIONS:
            yield f"[{name}] stands outside of the policy: write [policy.{name}]"
        elif name not in PLACES and name not in OF_A_FLEET_FILE:
            yield f"[{name}] is no part of a fleet file; a policy stands in [policy] and [clients.NAME.policy]"
    for_all, clients = raw.get("policy", {}), raw.get("clients", {})
    own = _policies(clients)
    if not isinstance(for_all, dict) or own is None:
        yield "a policy is written as tables: [policy.health], [clients.NAME.policy.health]"
        return
    if "policy" not in raw and not any(own.values()):
        yield "it has neither [policy] nor [clients.NAME.policy]; an empty [policy] would try the defaults"
    said = read_policy(for_all, {})[0]
    yield from (f"policy{line}" for line in said)
    for name, values in own.items():
        lines = read_policy(for_all, values)[0]
        yield from (f"clients.{name}.policy{line}" for line in lines if line not in said)


def _policies(clients: Any) -> dict[str, dict[str, Any]] | None:
    """Return each client's own policy, {} for none; None when something there is no table."""
    if not isinstance(clients, dict) or not all(isinstance(client, dict) for client in clients.values()):
        return None
    own = {name: client.get("policy", {}) for name, client in clients.items()}
    return own if all(isinstance(values, dict) for values in own.values()) else None


def changed(old: Policy, new: Policy) -> list[str]:
    """Return each setting that differs, as "health.out_hours 24 → 48"; the version is none."""
    before, after = _flat(old), _flat(new)
    return [f"{name} {before[name]} → {after[name]}" for name in after if before[name] != after[name]]


def _flat(policy: Policy) -> dict[str, object]:
    return {
        f"{part}.{name}": value
        for part in SECTIONS
        for name, value in msgspec.structs.asdict(getattr(policy, part)).items()
    }
