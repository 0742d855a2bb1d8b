"""`mailfleet up`: the whole pipeline for a fleet of one's own, on this machine."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import orjson
from rich.console import Console

from ops.commands.settings import HOME, RUNNING
from ops.embedded import EmbeddedKafka, EmbeddedPostgres
from ops.site import make_key
from ops.stack import Stack
from projections.migrate import migrate
from streams.roles import make_topics
from streams.settings import from_environment

out = Console(soft_wrap=True)


@contextlib.contextmanager
def _servers() -> Iterator[dict[str, str]]:
    """Give the environment of the pipeline; start what the user does not bring."""
    found: dict[str, str] = {"MAILFLEET_HOME": os.environ.get("MAILFLEET_HOME", str((HOME / "home").absolute()))}
    with contextlib.ExitStack() as running:
        if not os.environ.get("KAFKA_BROKERS"):
            kafka = EmbeddedKafka(HOME / "kafka")
            running.callback(kafka.stop)
            kafka.start()
            found["KAFKA_BROKERS"] = kafka.bootstrap
            out.print(f"Kafka at {kafka.bootstrap}", soft_wrap=True)
        if not os.environ.get("DATABASE_URL"):
            postgres = EmbeddedPostgres(HOME / "postgres")
            running.callback(postgres.stop)
            postgres.start()
            found["DATABASE_URL"] = postgres.url
            out.print(f"Postgres at {postgres.url}", soft_wrap=True)
        yield found


@click.command()
@click.option("--workers", default=1, show_default=True, help="Processes of each worker role.")
@click.option("--replicas", default=1, show_default=True, help="Copies of each partition, for topics made now.")
def up(workers: int, replicas: int) -> None:
    """Run the pipeline for your own fleet until Ctrl-C: servers, topics, schema, all processes.

    Kafka and Postgres run below .mailfleet/fleet unless KAFKA_BROKERS and DATABASE_URL name yours. While it
    runs, all other commands in this folder speak to it. Processes that end are started again. The operator's page is
    at http://127.0.0.1:8090/, or where PAGE_HOST and PAGE_PORT say; PAGE_PORT=0 goes without. With DOOR_PORT the door
    listens too, with TELEGRAM_TOKEN the bot tells of alerts, with ARCHIVE_URL the archiver runs.
    """
    HOME.mkdir(parents=True, exist_ok=True)
    stopping: list[int] = []
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda got, _frame: stopping.append(got))
    with _servers() as found:
        settings = from_environment({**os.environ, **found})
        if make_key(settings.key_file):
            out.print(
                f"made the fleet's key {settings.key_file}: keep a copy of it, losing it loses every suppression",
                soft_wrap=True,
            )
        make_topics(settings, replicas=replicas)
        migrate(settings.database_url)
        stack = Stack({"ARCHIVE_LOGS": str(HOME / "logs"), **found}, HOME / "logs")
        _write_running(found)
        try:
            for role in ("intake", "projector", "mail", "dns"):
                stack.add(role, role)
            if settings.archive.url:
                stack.add("archive", "archive")
            for number in range(1, workers + 1):
                for role in ("delivery", "fleet"):
                    stack.add(role, f"{role}-{number}")
            if settings.door.port:
                stack.add("door", "door")
                out.print(f"the door listens on {settings.door.host} port {settings.door.port}", soft_wrap=True)
            if settings.telegram.token_ref:
                stack.add("telegram", "telegram")
                out.print("the Telegram bot tells of alerts", soft_wrap=True)
            if settings.page.port:
                stack.add("page", "page")
                out.print(f"the operator's page: http://{settings.page.host}:{settings.page.port}/", soft_wrap=True)
            out.print(
                f"running; logs in {HOME / 'logs'}; Ctrl-C ends it. Next: mailfleet apply FLEET.toml", soft_wrap=True
            )
            while not stopping:
                stack.tend()
                time.sleep(0.5)
            out.print("ending: hands finish what stands at a server ...", soft_wrap=True)
        finally:
            RUNNING.unlink(missing_ok=True)
            stack.stop()
    sys.exit(0)


def _write_running(found: dict[str, str]) -> None:
    temporary = Path(f"{RUNNING}.new")
    temporary.write_bytes(orjson.dumps(found))
    temporary.replace(RUNNING)
