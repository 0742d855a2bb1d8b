"""Starting and ending one server process that cannot outlive this one, even when this one is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")

# The kernel watches the *thread* that forked, so one thread that lives as long as the process starts them all.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-servers")


@dataclass(frozen=True)
class RunAs:
    """Whose rights a program gets: an unprivileged user, or (with a prefix command) a user namespace."""

    uid: int = -1
    gid: int = -1
    prefix: tuple[str, ...] = ()


MYSELF = RunAs()


@dataclass(frozen=True)
class Program:
    """One command line with the surroundings it runs in. The first word is the program's path."""

    words: Sequence[str]
    folder: Path
    run_as: RunAs = MYSELF
    when_orphaned: signal.Signals = signal.SIGKILL
    environment: Mapping[str, str] | None = None

    def command(self) -> list[str]:
        """The command line with the leash in front."""
        run_as = self.run_as
        numbers = (os.getpid(), int(self.when_orphaned), run_as.uid, run_as.gid)
        return [*run_as.prefix, sys.executable, "-I", "-S", str(LEASH), *map(str, numbers), *self.words]


def launch(program: Program, log: Path) -> subprocess.Popen[bytes]:
    """Start in a session of its own (Ctrl-C reaches only us); output is appended to the log."""
    return _starter.submit(_popen, program, log).result()


def run(program: Program, log: Path) -> int:
    """Start, wait for the end, return the exit code."""
    return launch(program, log).wait()


def end(process: subprocess.Popen[bytes], how: signal.Signals, patience: float) -> None:
    """Signal, wait up to patience seconds, then SIGKILL."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def alive(pid: int) -> bool:
    """Whether a process of this number runs (a zombie does not)."""
    return _stat(pid)[:1] not in ([], ["Z"])


def mentions(pid: int, text: str) -> bool:
    """Whether the process's command line holds the text: guards against a number used again."""
    try:
        return text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """The processes whose parent this is, at the moment."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [child for child in pids if _stat(child)[1:2] == [str(pid)]]


def _stat(pid: int) -> list[str]:
    # State and parent; the name before them is in brackets and may hold anything.
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
    except OSError:
        return []


def _popen(program: Program, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            program.command(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=program.folder,
            env=None if program.environment is None else {**program.environment},
            start_new_session=True,
        )
