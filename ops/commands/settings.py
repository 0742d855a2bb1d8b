"""Which fleet a command speaks to: the environment's, or the one that `mailfleet up` runs on this machine."""

import os
from collections.abc import Mapping
from pathlib import Path

import orjson

from streams.settings import Settings, from_environment

HOME = Path(".mailfleet/fleet")
RUNNING = HOME / "running.json"


def environment() -> Mapping[str, str]:
    """Return the environment; where it names no broker, that of the fleet that runs here."""
    if not os.environ.get("KAFKA_BROKERS") and RUNNING.exists():
        return {**os.environ, **orjson.loads(RUNNING.read_bytes())}
    return os.environ


def settings() -> Settings:
    """Return the settings that commands use. Raises SettingMissing."""
    return from_environment(environment())
