"""The demo: a whole fleet on this machine, from requests on Kafka to mails at a real SMTP server."""

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import orjson
import psycopg
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from ops import receiver
from ops.embedded import CannotStart, EmbeddedKafka, EmbeddedPostgres
from ops.fleet_file import FleetFileWrong
from ops.logs import quiet_libraries
from ops.site import Site, publish_requests
from ops.stack import StackBroken

FLEET = Path(__file__).parent / "demo_fleet.toml"
SICK_MAILBOX = "box000@birch-mail.test"
LONGEST_S = 600
console = Console(stderr=True)


MAILBOXES_PER_DOMAIN = 100


def demo_mailboxes(daily_quota: int = 60) -> str:
    """Return the CSV of the demo's mailboxes; one has a password that the receiver refuses."""
    lines = ["client,mailbox,daily_quota,routes,secret,name,username"]
    for client, routes in (("acme", "main"), ("birch", "main"), ("cedar", "first;backup")):
        for domain in ("mail", "post", "news", "care"):
            for number in range(MAILBOXES_PER_DOMAIN):
                mailbox = f"box{number:03d}@{client}-{domain}.test"
                secret = "file:wrong.password" if mailbox == SICK_MAILBOX else "file:demo.password"
                lines.append(f"{client},{mailbox},{daily_quota},{routes},{secret},{client.title()},")
    return "\n".join(lines) + "\n"


def apply_fleet(site: Site, *, unpaced: bool = False) -> None:
    """Apply the demo's fleet to a site."""
    site.keep_secret("wrong.password", "not the password")
    (site.folder / "demo_mailboxes.csv").write_text(demo_mailboxes(1_000_000 if unpaced else 60))
    site.apply(FLEET, UNPACED if unpaced else {})


def demo_requests(count: int) -> list[dict[str, Any]]:
    """Return `count` requests: most plain, each 97th to nobody (1 %, as in a kept list), each 15th greylisted."""
    campaigns = (
        *(("acme", "spring"), ("acme", "winback"), ("birch", "launch")),
        *(("birch", "launch"), ("cedar", "survey"), ("cedar", "renewals")),
    )
    found: list[dict[str, Any]] = []
    for number in range(count):
        client, campaign = campaigns[number % 6]
        kind = "nouser" if number % 97 == 7 else "grey" if number % 15 == 4 else "person"
        found.append(
            {
                "type": "send",
                "v": 1,
                "data": {
                    "client": client,
                    "campaign": campaign,
                    "send_id": f"demo-{number:05d}",
                    "to": f"{kind}{number}@company{number % 40}.test",
                    "subject": f"Hello from {client}, number {number}",
                    "text": "Hello,\n\nthis is a demo.\n\n{{postal_address}}\nUnsubscribe: {{unsubscribe_url}}\n",
                    "basis": {
                        "type": "express_consent",
                        "source": "demo sign-up form",
                        "captured_at": "2026-01-15T09:00:00Z",
                    },
                },
            }
        )
    return found


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the requests in a JSONL file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


def ends(database_url: str) -> dict[str, int]:
    """Return how many sends stand in which state, and refusals by reason as "refused:reason"."""
    with psycopg.connect(database_url) as connection:
        found = dict(connection.execute("select state, count(*) from sends group by state").fetchall())
        for reason, count in connection.execute("select reason, count(*) from refusals group by reason"):
            found[f"refused:{reason}"] = count
    return found


UNPACED = {"gap_seconds = 1": "gap_seconds = 0", "max_connections = 16": "max_connections = 60"}
OPEN = ("admitted", "assigned", "started")


@contextlib.contextmanager
def servers(folder: Path, say: Progress) -> Iterator[tuple[EmbeddedKafka, EmbeddedPostgres]]:
    """Start Kafka and Postgres below `folder`; stop them at the end, whatever happens."""
    kafka = EmbeddedKafka(folder / "kafka")
    postgres = EmbeddedPostgres(folder / "postgres")
    task = say.add_task("starting Kafka", total=None)
    try:
        kafka.start(lambda done, all_: say.update(task, completed=done, total=all_ or None, description="Kafka's jars"))
        say.update(task, description="starting Postgres", total=None)
        postgres.start()
        say.remove_task(task)
        yield kafka, postgres
    finally:
        postgres.stop()
        kafka.stop()


def run(
    folder: Path, requests: list[dict[str, Any]], say: Progress, *, flush: bool = True, unpaced: bool = False
) -> dict[str, Any]:
    """Run the pipeline until every request has its end; return the figures."""
    with servers(folder, say) as (kafka, postgres):
        site = Site(folder / "site", kafka.bootstrap, postgres.url)
        try:
            return _run_site(site, postgres.url, requests, say, flush=flush, unpaced=unpaced)
        finally:
            site.close()


def _run_site(
    site: Site, database: str, requests: list[dict[str, Any]], say: Progress, *, flush: bool, unpaced: bool
) -> dict[str, Any]:
    task = say.add_task("topics, receiver, fleet", total=None)
    site.prepare(flush_each_append=flush)
    site.start_receiver()
    apply_fleet(site, unpaced=unpaced)
    site.stack.start_all()
    say.update(task, description="publishing requests", total=len(requests))
    asyncio.run(publish_requests(site.settings, requests))
    say.update(task, description="sending", completed=0)
    asked = Counter(str(request.get("data", {}).get("client", "?")) for request in requests)
    clients = {client: say.add_task(client, total=count) for client, count in sorted(asked.items())}
    began = time.monotonic()
    found: dict[str, int] = {}
    while time.monotonic() - began < LONGEST_S:
        site.stack.tend()
        with contextlib.suppress(psycopg.errors.UndefinedTable):  # the projector has not migrated yet
            found = ends(database)
            _show_clients(say, clients, by_client(database))
        done = sum(count for state, count in found.items() if state not in OPEN)
        say.update(task, completed=done, description=_story(found))
        if done >= len(requests):
            break
        time.sleep(0.25)
    seconds = time.monotonic() - began
    return figures(found, receiver.copies(site.received), len(requests)) | {
        "seconds": round(seconds, 1),
        "sends_per_second": round(len(requests) / seconds, 1),
        "table": by_client(database),
        "decided": decided(database),
    }


def _show_clients(say: Progress, clients: Mapping[str, TaskID], rows: list[tuple[str, str, int]]) -> None:
    """Show how far each client is, by outcome."""
    for client, task in clients.items():
        mine = {outcome: count for name, outcome, count in rows if name == client}
        done = sum(count for outcome, count in mine.items() if outcome not in OPEN)
        say.update(task, completed=done, description=f"  {client}: {_story(mine)}")


def decided(database: str) -> list[tuple[str, str, str, str, str]]:
    """Return what was decided about mailboxes, domains and routes on the way, as Postgres has it."""
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select scope, subject, decision, rule, left(evidence, 60) from decisions "
            "where scope in ('mailbox', 'domain', 'route') order by decided_at, n limit 12"
        ).fetchall()
    return [(str(a), str(b), str(c), str(d), str(e)) for a, b, c, d, e in rows]


def _story(found: dict[str, int]) -> str:
    return " ".join(f"{state} {count}" for state, count in sorted(found.items())) or "starting the processes"


def by_client(database: str) -> list[tuple[str, str, int]]:
    """Return (client, outcome, count) as Postgres has it."""
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select client, case when reason <> '' and state = 'failed' then state || ': ' || reason else state end, "
            "count(*) from sends group by 1, 2 union all "
            "select client, 'refused: ' || reason, count(*) from refusals group by 1, 2 order by 1, 2"
        ).fetchall()
    return [(str(a), str(b), int(c)) for a, b, c in rows]


def figures(found: dict[str, int], copies: dict[str, int], requested: int) -> dict[str, Any]:
    """Return the figures of `--json`."""
    refused = {k.removeprefix("refused:"): v for k, v in found.items() if k.startswith("refused:")}
    if found.get("refused"):
        refused["turned_away"] = found["refused"]
    return {
        "requested": requested,
        "accepted": found.get("accepted", 0) + found.get("delivered", 0),
        "refused": refused,
        "failed": found.get("failed", 0),
        "unknown": found.get("unknown", 0) + found.get("assumed_sent", 0),
        "cancelled": found.get("cancelled", 0),
        "expired": found.get("expired", 0),
        "open": sum(found.get(state, 0) for state in OPEN),
        "copies_received": sum(copies.values()),
        "most_copies_of_one_send": max(Counter(copies).values(), default=0),
    }


def show(result: dict[str, Any]) -> None:
    """Print the final tables."""
    out = Console()
    table = Table(title="What became of the requests (read from Postgres)")
    table.add_column("client")
    table.add_column("outcome")
    table.add_column("sends", justify="right")
    for client, outcome, count in result["table"]:
        table.add_row(client, outcome, str(count))
    out.print(table)
    story = Table(title="What was decided on the way")
    for column in ("what", "which", "decision", "rule", "evidence"):
        story.add_column(column)
    for row in result["decided"]:
        story.add_row(*row)
    out.print(story)
    check = Table(title="Beside it")
    check.add_column("figure")
    check.add_column("count", justify="right")
    check.add_row("requests published to Kafka", str(result["requested"]))
    check.add_row("accepted, says Postgres", str(result["accepted"]))
    check.add_row("copies that the receiving server counted", str(result["copies_received"]))
    check.add_row("most copies of one send", str(result["most_copies_of_one_send"]))
    check.add_row("without an end", str(result["open"]))
    check.add_row("seconds from the first request on", str(result["seconds"]))
    check.add_row("sends a second", str(result["sends_per_second"]))
    out.print(check)


def is_good(result: dict[str, Any]) -> bool:
    """Whether every request has an end and no send came twice."""
    return bool(
        result["open"] == 0
        and result["most_copies_of_one_send"] <= 1
        and (result["copies_received"] == result["accepted"] or result["unknown"] > 0)
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--sends", default=2000, show_default=True, help="How many requests to publish (ignored with --file).")
@click.option(
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Publish this JSONL file instead.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures to this file ('-' for standard output).",
)
@click.option("--keep", is_flag=True, help="Keep the data folder (.mailfleet/demo) for a look.")
@click.option(
    "--no-flush", is_flag=True, help="Journals without flush.messages=1: faster, not safe against power cuts."
)
@click.option("--unpaced", is_flag=True, help="Quotas and gaps lifted: how fast can it go?")
def main(sends: int, file: Path | None, json_file: Path | None, keep: bool, no_flush: bool, unpaced: bool) -> None:
    """Start a whole fleet on this machine, send demo mails to a local server, and count what happened.

    Real Apache Kafka, PostgreSQL and SMTP on loopback; nothing leaves this machine, nothing stays running.
    Exit codes: 0 all well, 1 a promise was broken or something could not start, 130 interrupted.
    """
    quiet_libraries()
    folder = Path(".mailfleet/demo")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source = file or Path(tempfile.mkstemp(dir=folder, suffix=".jsonl")[1])
    if file is None:
        source.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in demo_requests(sends)))
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console, transient=False) as say:
            result = run(folder, read_jsonl(source), say, flush=not no_flush, unpaced=unpaced)
    except (CannotStart, StackBroken, FleetFileWrong) as error:
        console.print(f"mailfleet: {error}", style="red", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("mailfleet: interrupted; everything was stopped.")
        sys.exit(130)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if json_file is not None:
        raw = (
            orjson.dumps({k: v for k, v in result.items() if k not in ("table", "decided")}, option=orjson.OPT_INDENT_2)
            + b"\n"
        )
        sys.stdout.buffer.write(raw) if str(json_file) == "-" else json_file.write_bytes(raw)
    if str(json_file) != "-":
        show(result)
    sys.exit(0 if is_good(result) else 1)


if __name__ == "__main__":
    main()
