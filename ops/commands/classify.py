"""`mailfleet classify`: what saved bounces, complaints and replies mean."""

import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from ops.bounce_figures import PARTS, Figures, measure
from ops.classified import Classified, classified

out = Console()
COLUMNS = ("file", "index", "recipient", "class", "hard", "status", "reply", "scope", "action", "rule")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A labels.jsonl: compare with it, print the figures and every miss.",
)
@click.option("--part", type=click.Choice(list(PARTS)), default="all", show_default=True, help="With --labels.")
def classify(files: tuple[Path, ...], as_json: bool, labels: Path | None, part: str) -> None:
    """Say what each message in FILES means for each recipient. FILES: messages, mbox files, Maildirs, folders of them.

    "file" is a file's own name, as labels.jsonl has it ("path", with --json, is where it lies); "index" counts the
    recipients in that file from 1, through all messages of an mbox. Nothing is sent, stored or suppressed.

    With --labels, FILES is one folder of messages, and the exit code is 1 when a figure is below its aim.
    """
    if labels is not None:
        figures = measure(files[0], labels, part)
        _show_figures(figures, as_json)
        sys.exit(0 if figures.good else 1)
    found = (one for path in files for one in classified(path))
    table = Table()
    for name in COLUMNS:
        table.add_column(name, overflow="fold")
    empty = True
    for one in found:
        empty = False
        if as_json:
            sys.stdout.write(msgspec.json.encode(one).decode() + "\n")
        else:
            table.add_row(*_row(one))
    if empty:
        raise click.ClickException("there is no message in what was named")
    if not as_json:
        out.print(table)


def _row(one: Classified) -> list[str]:
    fields = msgspec.to_builtins(one)
    return ["yes" if fields[name] is True else "no" if fields[name] is False else str(fields[name]) for name in COLUMNS]


def _show_figures(figures: Figures, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
        return
    out.print(
        f"{figures.recipients} recipients: hard precision {figures.hard_precision:.3f}, recall "
        f"{figures.hard_recall:.3f}; "
        f"recipient found {figures.recipient_found:.3f}; class agrees {figures.class_agreement:.3f}",
        highlight=False,
    )
    for miss in figures.misses:
        got = "nothing" if miss.got is None else f"{miss.got.reply_class} by {miss.got.rule}: {miss.got.text[:160]}"
        said = f"{miss.label.reason}{' (hard)' if miss.label.hard else ''}"
        out.print(
            f"{miss.what}: {miss.label.file} #{miss.label.index} is {said}; we say {got}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
