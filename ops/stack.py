"""Runs the pipeline's processes and starts anew what ends by itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from ops.embedded.process import start, stop, tail
from ops.run import EX_CONFIG

ROLES = ("intake", "delivery", "fleet", "projector")
BESIDE = ("mail", "dns", "door", "telegram", "page", "archive")
"""Roles that a fleet needs only when its file or settings name what they look at."""
BACK_OFF_S = 1.0


class StackBroken(Exception):
    """A process cannot run without a person; the text is its own last words."""


@dataclass
class Member:
    """One process of the stack."""

    name: str
    role: str
    process: subprocess.Popen[bytes]
    log: Path
    started_at: float = field(default_factory=time.monotonic)
    held: bool = False  # ended on purpose: not to be started anew


def last_words(log: Path) -> str:
    """Return the message of a log's last line."""
    line = tail(log, 1)
    try:
        return str(orjson.loads(line)["message"])
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return line  # what wrote it had not set its logs up yet


class Stack:
    """The processes of one fleet on this machine. `tend` must be called now and then."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self._environment = dict(environment)
        self._logs = logs
        self.members: dict[str, Member] = {}

    def add(self, role: str, name: str) -> Member:
        """Start a process."""
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        env = {**os.environ, **self._environment, "MAILFLEET_NAME": name}
        process = start([sys.executable, "-m", "ops.run", role], log, env=env)
        self.members[name] = Member(name, role, process, log)
        return self.members[name]

    def start_all(self) -> None:
        """Start one process of each role."""
        for role in ROLES:
            self.add(role, role)

    def tend(self) -> None:
        """Start anew what ended. Raises StackBroken when a process says that a person must act."""
        for member in list(self.members.values()):
            code = member.process.poll()
            if code is None or member.held or time.monotonic() - member.started_at < BACK_OFF_S:
                continue
            if code == EX_CONFIG:
                raise StackBroken(f"{member.name} cannot run: {last_words(member.log)}")
            self.add(member.role, member.name)

    def kill(self, name: str) -> None:
        """SIGKILL a process; `tend` starts it anew."""
        self.members[name].process.kill()
        self.members[name].process.wait()

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process."""
        self.members[name].process.send_signal(number)

    def end(self, name: str, seconds: float = 40.0) -> None:
        """End a process cleanly and do not start it anew."""
        member = self.members[name]
        member.held = True
        stop(member.process, signal.SIGTERM, seconds)

    def stop(self) -> None:
        """End all, cleanly, together."""
        for member in self.members.values():
            member.held = True
            if member.process.poll() is None:
                member.process.send_signal(signal.SIGCONT)
                member.process.send_signal(signal.SIGTERM)
        for member in self.members.values():
            stop(member.process, signal.SIGTERM, 40)
