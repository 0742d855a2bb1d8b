"""The stack: what ended by itself is started anew, what was ended on purpose is not, and stop leaves nothing."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.site import Site
from ops.stack import BACK_OFF_S, Stack, StackBroken


def tend_until(stack: Stack, ready: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Tend the stack until `ready`."""
    deadline = time.monotonic() + seconds
    while not ready():
        stack.tend()
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Whether the process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_was_killed_is_started_anew_and_stop_ends_all(site: Site) -> None:
    stack = site.stack
    pids = [stack.add(role, role).process.pid for role in ("intake", "projector")]
    time.sleep(BACK_OFF_S)  # what ends sooner than this is not started anew at once
    stack.kill("intake")
    assert not runs(pids[0])
    tend_until(stack, lambda: stack.members["intake"].process.pid != pids[0], "the intake runs again")
    pids.append(stack.members["intake"].process.pid)
    assert stack.members["projector"].process.pid == pids[1], "what runs is left alone"
    stack.signal("projector", signal.SIGSTOP)
    stack.stop()
    assert not [pid for pid in pids if runs(pid)]
    stack.tend()
    assert all(member.process.poll() is not None for member in stack.members.values())


def test_what_was_ended_on_purpose_is_not_started_anew(site: Site) -> None:
    member = site.stack.add("intake", "intake")
    time.sleep(BACK_OFF_S)  # until then `tend` does nothing anyway
    site.stack.end("intake")
    site.stack.tend()
    assert site.stack.members["intake"] is member
    assert member.process.poll() is not None


def test_a_process_that_needs_a_person_breaks_the_stack_with_its_own_words(tmp_path: Path) -> None:
    stack = Stack({"KAFKA_BROKERS": "", "DATABASE_URL": ""}, tmp_path)
    stack.add("intake", "intake")
    try:
        with pytest.raises(StackBroken, match="intake cannot run: KAFKA_BROKERS is not set: give host:port"):
            tend_until(stack, lambda: False, "the stack breaks")
    finally:
        stack.stop()


def test_a_process_that_fails_at_once_is_not_started_in_a_tight_circle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack({}, tmp_path)
    started = []
    stack.add("no-such-role", "intake")
    monkeypatch.setattr(stack, "add", lambda role, name: started.append((role, name)))
    stack.members["intake"].process.wait(20)
    stack.members["intake"].started_at = time.monotonic()
    stack.tend()
    assert started == []
    stack.members["intake"].started_at -= BACK_OFF_S
    stack.tend()
    assert started == [("no-such-role", "intake")]


def test_each_process_has_its_own_name_log_and_environment(site: Site) -> None:
    first, second = site.stack.add("intake", "intake-1"), site.stack.add("intake", "intake-2")
    assert first.log != second.log
    for member in (first, second):
        raw = Path(f"/proc/{member.process.pid}/environ")
        tend_until(site.stack, lambda raw=raw: b"MAILFLEET_NAME" in raw.read_bytes(), "it runs")  # type: ignore[misc]
        environment = dict(pair.split("=", 1) for pair in raw.read_text().split("\0") if "=" in pair)
        assert environment["MAILFLEET_NAME"] == member.name
        assert environment["MAILFLEET_PREFIX"] == site.environment["MAILFLEET_PREFIX"]
