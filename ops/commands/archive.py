"""Commands about the archive: key, now, status, verify; and `mailfleet restore`."""

import asyncio
import secrets
import sys

import click
import msgspec
from rich.console import Console
from rich.progress import TaskID
from rich.table import Table

from adapters.secrets import Secrets
from ops.archive.archiver import Archiver
from ops.archive.restore import restore as fill
from ops.archive.store import archived_topics, open_shelf
from ops.archive.verify import Checked, look
from ops.commands.settings import settings
from ops.progress import bar
from ops.site import keep
from streams.log.topics import check
from streams.settings import Settings

out = Console()
errors = Console(stderr=True)


@click.group()
def archive() -> None:
    """The archive in S3, Backblaze B2 or a folder: its key, its state, whether it is whole.

    ARCHIVE_URL says where it is (s3://BUCKET/PREFIX, or file:///FOLDER), ARCHIVE_ENDPOINT_URL and ARCHIVE_REGION the
    store that is not Amazon's, ARCHIVE_SECRET the secret with KEY_ID:SECRET (file:archive.keys), ARCHIVE_KEY the
    secret that seals bodies and addresses (file:archive.key), ARCHIVE_SEGMENT_S how long a record waits for others,
    ARCHIVE_LOGS a folder whose *.log go there too. `mailfleet up` runs the archiver; alone it is
    `python -m ops.run archive`.
    """


@archive.command()
def key() -> None:
    """Make the key that seals what is private. Keep a copy elsewhere: without it no body is restored."""
    given = settings()
    path = Secrets(given.secrets_folder).path(given.archive.key_ref)
    if not keep(path, secrets.token_hex(32)):
        errors.print(f"{path} exists; what was sealed with it needs it.", style="red")
        sys.exit(1)
    out.print(f"{path} is made; put a copy of it where you keep your backups.")


@archive.command()
def now() -> None:
    """Archive all that Kafka holds at this moment, then end; for a pipeline that has been stopped.

    It does no harm while the archiver runs.
    """
    given = settings()
    count = asyncio.run(_now(given))
    out.print(f"{count} records written; `mailfleet archive verify` checks them")


async def _now(given: Settings) -> int:
    topics = archived_topics(given)
    ids = await asyncio.to_thread(check, given.connection, topics)
    archiver = Archiver(given.connection.options(), topics, ids, open_shelf(given))
    return await archiver.run_to_ends()


@archive.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(as_json: bool) -> None:
    """Show what the archive has of each topic and how far behind Kafka it is. Fetches no segment.

    Exit code 0, or 1 when something is missing.
    """
    _end(_looked(content=False, kafka=True), as_json)


@archive.command()
@click.option("--quick", is_flag=True, help="Names, sizes and manifests only; no segment is fetched.")
@click.option("--no-kafka", is_flag=True, help="Do not compare with Kafka, for instance because it is lost.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def verify(quick: bool, no_kafka: bool, as_json: bool) -> None:
    """Check the whole archive: every hash and chain, no gap, the journal rule, and the seam to Kafka.

    Exit code 0 when it is whole, 1 when something is wrong.
    """
    _end(_looked(content=not quick, kafka=not no_kafka), as_json)


def _looked(*, content: bool, kafka: bool) -> Checked:
    given = settings()
    total = sum(topic.partitions for topic in archived_topics(given).values())
    with bar() as progress:
        task = progress.add_task("partitions", total=total)
        return asyncio.run(
            look(
                given.connection,
                archived_topics(given),
                open_shelf(given),
                content=content,
                kafka=kafka,
                step=lambda _topic, _number: progress.advance(task),
            )
        )


def _end(checked: Checked, as_json: bool) -> None:
    if as_json:
        said = {"topics": checked.topics, "problems": checked.problems, "whole": checked.whole}
        sys.stdout.write(msgspec.json.encode(said).decode() + "\n")
    else:
        _show(checked)
    sys.exit(0 if checked.whole else 1)


def _show(checked: Checked) -> None:
    table = Table(title="The archive")
    for name in ("topic", "generations", "segments", "MB", "records read", "behind Kafka"):
        table.add_column(name, justify="left" if name == "topic" else "right")
    for t in checked.topics:
        size = f"{t.size_bytes / 1e6:.1f}"
        table.add_row(t.topic, str(t.generations), str(t.segments), size, str(t.records), str(t.behind))
    out.print(table)
    for problem in checked.problems[:50]:
        out.print(problem, style="red", highlight=False, soft_wrap=True)
    if len(checked.problems) > 50:
        out.print(f"... and {len(checked.problems) - 50} more (all of them with --json)")
    out.print("the archive is whole" if checked.whole else "the archive is not whole", style="bold")


@click.command()
@click.option(
    "--complete", "how", flag_value="complete", help="Nothing was decided after the archive's end: it was stopped."
)
@click.option(
    "--cut", "how", flag_value="cut", help="Kafka was lost: what was open then may have left, and is not sent."
)
@click.option("--replicas", default=1, show_default=True, help="Copies of each partition; 3 on a real cluster.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what came back as JSON.")
def restore(how: str | None, replicas: int, yes: bool, as_json: bool) -> None:
    """Fill an empty Kafka from the archive; the fleet goes on where the archive ends.

    Say which it is. With --complete (the pipeline was stopped, then `mailfleet archive now`), sends go on as they
    were. With --cut, decisions after the archive's end are lost: each send that was open ends as expired
    (perhaps_sent), because it may have left already; upstream is told. What was claimed and has no outcome is unknown
    either way. All processes of the fleet must be stopped; a restore that was stopped goes on when it is run again.
    ops/runbooks/restore.md tells the whole procedure.
    """
    if how is None:
        raise click.UsageError("say --complete or --cut: may decisions after the archive's end be lost?")
    given = settings()
    if not yes:
        click.confirm(f"Fill {given.connection.bootstrap} from {given.archive.url}?", abort=True, err=True)
    with bar() as progress:
        tasks: dict[str, TaskID] = {}

        def step(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        done = asyncio.run(fill(given, open_shelf(given), cut=how == "cut", replicas=replicas, step=step))
    if as_json:
        sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
        return
    table = Table(title="Restored")
    for name in ("topic", "records", "the last of them is of"):
        table.add_column(name, justify="left" if name == "topic" else "right")
    for topic, count in done.records.items():
        table.add_row(topic, str(count), f"{done.newest[topic]:%Y-%m-%d %H:%M:%S} UTC")
    out.print(table)
    out.print(f"{done.rows} table rows, {done.told_again} facts told again, {done.open_attempts} attempts open")
    out.print("next: remove MAILFLEET_HOME/state on every machine, start the processes, run `mailfleet verify`")
