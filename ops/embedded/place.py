"""The folder of one server: who holds it, which ports it was given, which process runs there."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import time
from pathlib import Path

from ops.embedded import process

LOOPBACK = "127.0.0.1"
FREE_BYTES_NEEDED = 500 * 1000 * 1000
LOG_TAIL_LINES = 15

# Below the kernel's ephemeral range: a port from there could become some client's own while the server is down.
PORTS = range(15_000, 32_000)


class CannotStart(Exception):
    """A server cannot be started here; the sentence says what to do."""


class Place:
    """A folder held by one process at a time."""

    def __init__(self, folder: Path, product: str) -> None:
        self.folder = folder.absolute()
        self.product = product
        self.log = self.folder / "server.log"
        self._lock: int | None = None

    def claim(self) -> None:
        """Make the folder and hold it; end what a killed predecessor left running. Raises CannotStart."""
        self._make()
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise CannotStart(
                f"{self.product} already runs on {self.folder}; stop that run first or choose another folder."
            ) from None
        self._lock = lock
        self._end_orphan()

    def release(self) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def port(self, name: str, wanted: int | None = None) -> int:
        """The wanted port, else the one remembered under this name, else a free one; it is remembered."""
        ports = self._ports()
        ports[name] = wanted or ports.get(name) or free_port()
        (self.folder / "ports.json").write_text(json.dumps(ports))
        return ports[name]

    def require_free(self, port: int) -> None:
        """Raise CannotStart if another program listens on the port."""
        if not is_free(port):
            raise CannotStart(
                f"{self.product} needs port {port} on {LOOPBACK} and another program uses it; "
                f"stop that program or choose another port."
            )

    def note_process(self, pid: int) -> None:
        """Remember the server's process for the next run's clean-up."""
        (self.folder / "pid").write_text(str(pid))

    def failure(self, what: str) -> CannotStart:
        """The sentence for a start that failed for a reason only the server's log knows."""
        return CannotStart(
            f"{self.product} {what}; the end of {self.log} says why:\n{tail(self.log, LOG_TAIL_LINES)}"
        )

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotStart(
                f"{self.product} cannot make its folder {self.folder} ({error.strerror}); "
                f"choose a folder that this user may write."
            ) from error
        if shutil.disk_usage(self.folder).free < FREE_BYTES_NEEDED:
            raise CannotStart(
                f"{self.product} needs 500 MB of free disk for {self.folder}; make room and start again."
            )

    def _ports(self) -> dict[str, int]:
        try:
            return dict(json.loads((self.folder / "ports.json").read_text()))
        except (OSError, ValueError):
            return {}

    def _end_orphan(self) -> None:
        # The kernel ends a server with its parent, but not at the same instant.
        try:
            pid = int((self.folder / "pid").read_text())
        except (OSError, ValueError):
            return
        family = [pid, *process.children(pid)]
        if process.mentions(pid, str(self.folder)):
            kill_all(family)


def kill_all(pids: list[int], patience: float = 10.0) -> None:
    """SIGKILL them and wait until they are gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + patience
    while any(process.alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)


def free_port() -> int:
    """A loopback port that nobody listens on, not drawn from the seeded generator of the tests."""
    while not is_free(port := secrets.choice(PORTS)):
        pass
    return port


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def tail(log: Path, lines: int) -> str:
    """The last lines of a log, or a note that there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log was written)"
