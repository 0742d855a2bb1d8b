"""The page as a process of its own: it needs Postgres alone, ends when asked, and says when its port is taken."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from ops.embedded.process import port_for, start, stop, tail, wait_until
from tests.conftest import answers


def test_it_serves_until_sigterm_and_names_a_port_that_is_taken(usual: str, tmp_path: Path) -> None:
    port, log = port_for(tmp_path, None, "the page"), tmp_path / "page.log"
    env = {**os.environ, "KAFKA_BROKERS": "127.0.0.1:1", "DATABASE_URL": usual, "PAGE_PORT": str(port)}
    command = [sys.executable, "-m", "ops.run", "page"]
    running = start([*command], log, env=env)
    wait_until(lambda: answers(port), running, "the page", log, 20)
    assert "mailfleet" in httpx.get(f"http://127.0.0.1:{port}/").text
    second = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20)
    assert (second.returncode, "set PAGE_PORT to another" in second.stderr + second.stdout) == (1, True)
    stop(running, signal.SIGTERM)
    assert running.returncode == 0, tail(log)
