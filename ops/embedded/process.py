"""Child processes that end with their parent, free ports, free space."""

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
FREE_BYTES = 500_000_000
PORTS = range(15_000, 32_000)


class CannotStart(Exception):
    """A server cannot start; the text says in one sentence why and what to do."""


def check_space(folder: Path) -> None:
    """Raise CannotStart when less than 500 MB are free."""
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise CannotStart(f"only {free // 1_000_000} MB are free at {folder}; make room for 500 MB and try again.")


def port_for(folder: Path, wanted: int | None, what: str) -> int:
    """Return the port to use: the wanted one, the one used last time, or a free one. Raises CannotStart."""
    memo = folder / "port"
    if wanted is None and memo.exists():
        remembered = int(memo.read_text())
        if _is_free(remembered):
            return remembered
    port = wanted if wanted is not None else _free_port()
    if not _is_free(port):
        raise CannotStart(
            f"port {port} on 127.0.0.1 is taken, so {what} cannot start; stop its user or choose another."
        )
    memo.write_text(str(port))
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    """Below the kernel's ephemeral range: a client could take a port from there while its server is down."""
    return next(port for port in random.sample(PORTS, len(PORTS)) if _is_free(port))


def _die_with_parent(with_signal: int) -> Callable[[], None]:
    """Return what a child runs before exec. The kernel signals it when the thread that forked it ends."""
    if not Path("/proc/self").exists():
        return lambda: None  # not Linux: stop() alone ends the child
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def before_exec() -> None:
        libc.prctl(PR_SET_PDEATHSIG, with_signal)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return before_exec


def start(
    command: Sequence[str | Path],
    log: Path,
    *,
    death_signal: int = signal.SIGTERM,
    user: tuple[int, int] | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in its own session, its output in `log`; it ends when this process ends."""
    ids: dict[str, object] = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
    with log.open("ab") as out:
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]  # ids are optional keywords
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent(death_signal),
            env=None if env is None else dict(env),
            **ids,
        )


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], what: str, log: Path, seconds: float
) -> None:
    """Return when `ready`. Raises CannotStart with the log's end when the process ends or time is over."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise CannotStart(f"{what} ended at start (exit {process.returncode}). Its log ends: {tail(log)}")
        if time.monotonic() > deadline:
            process.kill()
            raise CannotStart(f"{what} was not ready after {seconds:.0f} s. Its log ends: {tail(log)}")
        time.sleep(0.05)


def stop(process: subprocess.Popen[bytes], with_signal: int, seconds: float = 20.0) -> None:
    """End a child: ask, wait, then kill."""
    if process.poll() is None:
        process.send_signal(with_signal)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tail(log: Path, lines: int = 8) -> str:
    """Return the last lines of a log."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])
