"""`mailfleet rebuild`: fresh read models, filled beside the old and swapped."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click
import orjson
from rich.console import Console

from ops.archive.store import open_shelf
from ops.commands.settings import settings
from ops.progress import bar
from ops.sources import read_model_sources
from projections.rebuild import Feed, Rebuild, Recorded, prepare
from streams.settings import Settings

out = Console()


@dataclass(frozen=True)
class _Record:
    offset: int
    value: bytes | None
    timestamp: int


@click.command()
@click.option("--anew", is_flag=True, help="Begin again; without it, a rebuild that was stopped goes on.")
@click.option("--from-archive", is_flag=True, help="Read the archive first, and from Kafka only what is newer.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def rebuild(anew: bool, from_archive: bool, as_json: bool) -> None:
    """Fill fresh Postgres tables from the journals beside the old ones and swap when they have caught up.

    Readers and the projector go on meanwhile. Ctrl-C stops it; run it again and it goes on. It decides nothing and
    can send nothing. Exit code 0 after the swap, 1 when it was stopped before.
    """
    given = settings()
    fresh = prepare(given.database_url, anew=anew)
    begun = time.monotonic()
    with bar() as progress:
        task = progress.add_task("entries" if fresh else "entries (going on)", total=None)
        feed = _archived(given) if from_archive else None
        work = asyncio.run(_run(given, feed, lambda done, total: progress.update(task, completed=done, total=total)))
    applied = work.applied
    seconds = time.monotonic() - begun
    if as_json:
        said = {"swapped": work.swapped, "records": applied, "seconds": round(seconds, 1)}
        sys.stdout.write(orjson.dumps(said).decode() + "\n")
    elif work.swapped:
        out.print(f"{applied} records applied in {seconds:.0f} s ({applied / seconds:.0f} a second); swapped")
    else:
        out.print("stopped before the swap; the old tables stand. `mailfleet rebuild` goes on where it was")
    sys.exit(0 if work.swapped else 1)


async def _run(given: Settings, feed: Feed | None, step: Callable[[int, int], None]) -> Rebuild:
    sources = await asyncio.to_thread(read_model_sources, given)
    work = Rebuild(given.connection.options(), given.database_url, sources, feed=feed, step=step)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.stop)
    await work.run()
    return work


def _archived(given: Settings) -> Feed:
    shelf = open_shelf(given)

    def records(topic: str, partition: int, start: int) -> Iterator[Recorded]:
        for kept in shelf.records(shelf.lineage(topic), partition, start):
            yield _Record(kept.offset, kept.value, kept.at_ms)

    return records
