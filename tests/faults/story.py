"""The frame of a fault story: a fleet, a few hundred requests, some harm in the middle, and the promises after."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg

from ops import receiver
from ops.demo_run import OPEN, ends
from ops.site import Site, publish_requests
from ops.verify import verify_until_equal
from projections.migrate import migrate

GAP_S = 1


def fleet_text(
    mailboxes: int = 120,
    *,
    quota: int = 1000,
    time_zone: str = "UTC",
    routes: dict[str, int] | None = None,
    clients: tuple[str, ...] = ("acme", "birch"),
    connections: int = 10,
) -> str:
    """Return a fleet file; `routes` maps a client to another port than the receiver's (0)."""
    lines = [
        "[pace]",
        f'time_zone = "{time_zone}"',
        "hour_from = 0\nhour_to = 24",
        f"gap_seconds = {GAP_S}\ngap_jitter_seconds = 0\nslot_seconds = 30\nfirst_retry_seconds = 2",
        "company_gap_seconds = 0",
        "[policy.warm_up]\nenabled = false",  # the story's mailboxes are in use
        "[policy.lists]\ncanary_sends = 0",  # and so are its lists
    ]
    for client in clients:
        names = ", ".join(f'"box{n}"' for n in range(mailboxes // len(clients)))
        lines += [
            f"[clients.{client}]",
            'campaigns = ["all"]\npostal_address = "Street 1"\nunsubscribe_url = "https://u.test/"',
            f'domains = ["{client}.test"]',
            f"[clients.{client}.routes.own]",
            f'provider = "smtp"\nport = {(routes or {}).get(client, 0)}\nca_file = "receiver-ca.pem"',
            f"max_connections = {connections}",
            f"[[clients.{client}.mailboxes]]",
            f'domain = "{client}.test"\nnames = [{names}]\nroute = "own"',
            f'daily_quota = {quota}\nsecret = "file:demo.password"',
        ]
    return "\n".join(lines)


def requests(count: int, clients: tuple[str, ...] = ("acme", "birch"), first: int = 0) -> list[dict[str, Any]]:
    """Return plain requests, in turn for each client."""
    return [
        {
            "type": "send",
            "v": 1,
            "data": {
                "client": clients[n % len(clients)],
                "campaign": "all",
                "send_id": f"s{n}",
                "to": f"person{n}@company{n % 30}.test",
                "subject": f"Number {n}",
                "text": "Hello\n{{unsubscribe_url}}\n{{postal_address}}\n",
                "basis": {"type": "express_consent", "source": "test", "captured_at": "2026-01-01T00:00:00Z"},
            },
        }
        for n in range(first, first + count)
    ]


@dataclass
class Story:
    """One running fleet with what was asked of it."""

    site: Site
    database: str
    asked: int = 0
    workers: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    def begin(self, fleet: str) -> None:
        """Apply the fleet and start one process of each role."""
        migrate(self.database)
        path = self.site.folder / "story.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fleet)
        self.site.apply(path)
        self.site.stack.start_all()

    def ask(self, asked: list[dict[str, Any]]) -> None:
        """Publish requests as an upstream would."""
        asyncio.run(publish_requests(self.site.settings, asked))
        self.asked += len(asked)

    def found(self) -> dict[str, int]:
        """Return how many requests stand where, as Postgres has it."""
        return ends(self.database)

    def done(self) -> int:
        """Return how many requests have an end."""
        return sum(count for state, count in self.found().items() if state not in OPEN)

    def wait(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Tend the stack until `ready`."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.site.stack.tend()
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} not within {seconds} s; {self.found()}\n{self.last_words()}")
            time.sleep(0.1)

    def let_pass(self, seconds: float) -> None:
        """Tend the stack for a while: what is tested is that time passes."""
        until = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > until, seconds + 5, "a while")

    def wait_done(self, count: int, seconds: float = 90) -> None:
        """Tend the stack until so many requests have an end."""
        self.wait(lambda: self.done() >= count, seconds, f"{count} of {self.asked} ends")

    def last_words(self) -> str:
        """Return the ends of the processes' logs."""
        logs = sorted((self.site.folder / "logs").glob("*.log"))
        return "\n".join(f"── {log.name}\n" + "\n".join(log.read_text().splitlines()[-8:]) for log in logs)

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask Postgres."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(sql.encode(), values).fetchall()

    # ── the promises ─────────────────────────────────────────────────────────────────────────────

    def check(self, *, unknown_allowed: bool, quota: int = 1000, seconds: float = 120) -> dict[str, int]:
        """Wait for all ends and check every promise; return the ends."""
        self.wait_done(self.asked, seconds)
        found = self.found()
        assert sum(found.values()) == self.asked, f"each request has exactly one end: {found}"
        assert not any(found.get(state) for state in OPEN), found
        copies = receiver.copies(self.site.received)
        assert max(copies.values(), default=0) <= 1, "no recipient got the same send twice"
        unknown = found.get("unknown", 0)
        assert unknown_allowed or unknown == 0, found
        assert found.get("accepted", 0) <= sum(copies.values()) <= found.get("accepted", 0) + unknown
        self._quota_held(quota)
        self._gaps_held()
        report = asyncio.run(verify_until_equal(self.site.settings, 30))
        assert report.equal, (report.behind[:5], report.differences[:5], self.last_words())
        return found

    def _quota_held(self, quota: int) -> None:
        over = self.query(
            "select mailbox, quota_day, count(*) from attempts where outcome in ('accepted', 'unknown', 'started') "
            "group by 1, 2 having count(*) > %s",
            quota,
        )
        assert not over, f"a quota was passed: {over}"

    def _gaps_held(self) -> None:
        """Between two claims of one mailbox that may have sent lies at least the gap, by the hands' clocks."""
        close = self.query(
            "select mailbox, gap from (select mailbox, claimed_clock - lag(claimed_clock) over "
            "(partition by mailbox order by claimed_clock) as gap from attempts "
            "where outcome in ('accepted', 'unknown')) g where gap < make_interval(secs => %s)",
            GAP_S,
        )
        assert not close, f"a gap was not held: {close[:5]}"
