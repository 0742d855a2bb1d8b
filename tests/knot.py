"""Knot, a real authoritative name server on loopback: zones that can change, hang, or fail to load."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import dns.exception
import dns.resolver

from adapters.dns.resolver import Resolver
from ops.embedded.process import port_for, start, stop, wait_until

CONF = """
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: warning
database:
    storage: "{folder}/db"
template:
  - id: default
    storage: "{folder}"
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
zone:
"""
QUICK_S = 1.0
"""How long a test's resolver waits where nothing answers."""


class Knot:
    """One server. A zone whose lines are None is configured and has no file: SERVFAIL."""

    def __init__(self, folder: Path, zones: Mapping[str, Sequence[str] | None]) -> None:
        self.folder = folder.absolute()
        self.zones = dict(zones)
        self.port = 0
        self._serial = 1
        self._process: subprocess.Popen[bytes] | None = None

    def resolver(self, lifetime_s: float = 5.0) -> Resolver:
        """Return a resolver that asks this server."""
        return Resolver("127.0.0.1", self.port, lifetime_s)

    def start(self) -> None:
        """Start, and wait until the first zone is answered for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or port_for(self.folder, None, "Knot")
        conf = CONF.format(folder=self.folder, port=self.port)
        conf += "".join(f"  - domain: {name}\n    file: {name}.zone\n" for name in self.zones)
        (self.folder / "knot.conf").write_text(conf)
        self._write()
        log = self.folder / "knot.log"
        self._process = start(["knotd", "-c", self.folder / "knot.conf"], log)
        served = [name for name, lines in self.zones.items() if lines is not None]
        for name in served or list(self.zones)[:1]:
            wait_until(lambda name=name: self._answers(name), self._process, "Knot", log, 10)  # type: ignore[misc]

    def change(self, zone: str, lines: Sequence[str]) -> None:
        """Serve other records from now on."""
        assert self._process is not None
        self.zones[zone] = lines
        self._serial += 1
        self._write()
        self._process.send_signal(signal.SIGHUP)
        done = self.folder / "knot.log"
        wait_until(lambda: self._serial_of(zone) == self._serial, self._process, "Knot", done, 10)

    def hang(self) -> None:
        """Take queries and answer none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)  # all its threads: one could answer still

    def go_on(self) -> None:
        """Answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            stop(self._process, signal.SIGTERM, 5)

    def _write(self) -> None:
        for name, lines in self.zones.items():
            path = self.folder / f"{name}.zone"
            if lines is None:
                path.unlink(missing_ok=True)
                continue
            head = [f"$ORIGIN {name}.", "$TTL 5", f"@ SOA ns.{name}. h.{name}. {self._serial} 60 60 60 5"]
            path.write_text("\n".join([*head, f"@ NS ns.{name}.", f"ns.{name}. A 127.0.0.1", *lines]) + "\n")

    def _serial_of(self, zone: str) -> int | None:
        asker = dns.resolver.Resolver(configure=False)
        asker.nameservers, asker.port, asker.lifetime = ["127.0.0.1"], self.port, 0.5
        try:
            (soa,) = asker.resolve(f"{zone}.", "SOA")
        except dns.exception.DNSException:
            return None
        return int(soa.serial)

    def _answers(self, zone: str) -> bool:
        return self.zones[zone] is None or self._serial_of(zone) == self._serial


def txt(name: str, *values: str) -> list[str]:
    """Return one TXT record for each value, in chunks of at most 200."""
    return [f"{name} TXT {' '.join(_quoted(v[n : n + 200]) for n in range(0, len(v), 200))}" for v in values]


def _quoted(text: str) -> str:
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'
