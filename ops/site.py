"""A whole fleet on one machine: servers, topics, receiver, processes. The demo and the tests build on it."""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import orjson

from ops import receiver
from ops.embedded.process import port_for, start, stop, wait_until
from ops.fleet_file import read_fleet
from ops.fleet_plan import publish
from ops.stack import Stack
from schemas.topics import SEND_REQUESTS
from streams.log.kafka import Writer
from streams.roles import make_topics
from streams.settings import Settings, from_environment


class Site:
    """One fleet below `folder`, on a given Kafka and Postgres."""

    def __init__(self, folder: Path, bootstrap: str, database_url: str, prefix: str = "") -> None:
        self.folder = folder.absolute()
        self.environment = {
            "KAFKA_BROKERS": bootstrap,
            "DATABASE_URL": database_url,
            "MAILFLEET_HOME": str(self.folder / "home"),
            "MAILFLEET_PREFIX": prefix,
            "DNS_RECEIVERS": "off",  # its recipients are made up: nobody is asked about them
        }
        self.stack = Stack(self.environment, self.folder / "logs")
        self.received = self.folder / "received"
        self.smtp_port = 0
        self._receiver: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> Settings:
        """The settings that the site's processes have."""
        return from_environment({**os.environ, **self.environment})

    def prepare(self, *, flush_each_append: bool = True) -> None:
        """Make the key, the demo's secret and the topics. Idempotent."""
        folder = self.folder / "home" / "secrets"
        make_key(folder / "fleet.key")
        keep(folder / "demo.password", receiver.PASSWORD)
        make_topics(self.settings, flush_each_append=flush_each_append)

    def start_receiver(self, port: int | None = None, dot_delay_s: float = 0.0) -> None:
        """Start the receiving mail server (slow to answer the final dot, if asked) and trust its certificate."""
        self.received.mkdir(parents=True, exist_ok=True)
        certificate, _ = receiver.make_certificate(self.received)
        (self.folder / "home" / "secrets" / certificate.name).write_bytes(certificate.read_bytes())
        self.smtp_port = port_for(self.received, port, "the receiving mail server")
        log = self.received / "receiver.log"
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "ops.receiver",
            self.received,
            str(self.smtp_port),
            str(dot_delay_s),
        ]
        process = start(command, log)
        wait_until(lambda: _answers(self.smtp_port), process, "the receiving mail server", log, 20)
        self._receiver = process

    def stop_receiver(self, with_signal: int = signal.SIGTERM) -> None:
        """End the receiving mail server."""
        if self._receiver is not None:
            stop(self._receiver, with_signal)
            self._receiver = None

    def signal_receiver(self, number: int) -> None:
        """Send a signal to the receiving mail server."""
        if self._receiver is not None:
            self._receiver.send_signal(number)

    def keep_secret(self, name: str, secret: str) -> None:
        """Put a secret where `file:NAME` finds it."""
        keep(self.folder / "home" / "secrets" / name, secret)

    def apply(self, fleet_file: Path, changes: Mapping[str, str] = MappingProxyType({})) -> int:
        """Publish the fleet file, the receiver's port and other changes put in; return how many facts."""
        text = fleet_file.read_text("utf-8").replace("port = 0", f"port = {self.smtp_port}")
        for old, new in changes.items():
            text = text.replace(old, new)
        here = self.folder / "fleet.toml"
        here.write_text(text)
        facts = read_fleet(here)
        asyncio.run(publish(self.settings, facts))
        return len(facts)

    def close(self) -> None:
        """End everything that this site started."""
        self.stack.stop()
        self.stop_receiver()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def make_key(path: Path) -> bool:
    """Make a fleet's key, 0600; return False and change nothing when there is one."""
    return keep(path, secrets.token_hex(32))


def keep(path: Path, secret: str) -> bool:
    """Write a secret, 0600; return False and change nothing when there is one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        file.write(secret)
    return True


async def publish_requests(settings: Settings, requests: list[dict[str, object]]) -> None:
    """Publish requests to send-requests, spread over its partitions, as an upstream would."""
    writer = Writer(settings.connection)
    try:
        for number, request in enumerate(requests):
            raw = orjson.dumps(msgspec.to_builtins(request))
            await writer.append(settings.topic(SEND_REQUESTS), number % SEND_REQUESTS.partitions, None, raw)
    finally:
        await writer.close()
