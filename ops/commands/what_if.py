"""`mailfleet what-if`: last month under another policy."""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table

from ops.commands.settings import settings
from ops.progress import bar
from ops.what_if.findings import CANNOT_KNOW, Pause, Sums, as_dict, fidelity, pauses, sums, total
from ops.what_if.journal import NothingRecorded, read_into
from ops.what_if.policy_file import PolicyFileWrong, changed, read_policy_file
from ops.what_if.report import write_report
from ops.what_if.study import Study, Word

out = Console()
errors = Console(stderr=True)
MOST_ROWS = 25
DAY = click.DateTime(["%Y-%m-%d"])
TRUSTED_FROM = 0.95
"""Below that share of decisions made again, a reader is warned."""


@click.command("what-if")
@click.argument("policy", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--from", "first", type=DAY, required=True, help="First day (UTC), like 2026-10-01.")
@click.option("--to", "last", type=DAY, help="Last day (UTC), whole; default: to the journal's end.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Where to write an HTML report.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, every mailbox and pause.")
def what_if(policy: Path, first: datetime, last: datetime | None, report: Path | None, as_json: bool) -> None:
    """Run a past period of the fleet's journal under the policy in the file POLICY.

    Which mailboxes, domains, routes, clients and lists would have been out, when and why; what volume that would have
    cost; which bounces and complaints it would have avoided. POLICY is a fleet file, or one with its policy alone,
    read as `mailfleet apply` reads it: [policy] for all clients, [clients.NAME.policy] over it, defaults for the rest.

    \b
        [policy.health]
        bounce_rate_mailbox = 0.02
        out_hours = 48

    The same rules that lead the fleet go over what it saw. Up to --from they are led by the policies of then; from
    there on POLICY leads, as if it had been applied that day. At each recorded mail they are asked whether its
    mailbox, domain, route, client and list were open and within their caps. If they were, what came of the mail
    counts as evidence; if not, the mail is held back: it counts as lost, and what came of it as avoided.

    Beside it the recorded policies run through the same machine. How far they decide again what the journal says was
    decided is told as a figure (fidelity): do not believe the rest where it is low, as after an update that changed
    the rules.

    What it cannot know: a mail held back goes to no other mailbox here, though the fleet would give many of them to
    an open one, so what is lost is the most that could be, and a dead address may bounce elsewhere instead. What a
    laxer policy would have sent in addition was never sent. Outcomes of other mails, DNS, outages and operators'
    orders stay as they were; nobody resumes what only POLICY pauses. What comes in after the end is not counted.

    It reads the journal in Kafka, also a restored one, and writes nothing there; it can send nothing. Ctrl-C ends it
    and leaves nothing behind. Exit codes: 0 done, 1 Kafka cannot be read or the period has no mail, 2 POLICY or an
    option is wrong, 130 interrupted.
    """
    begin, end = first.replace(tzinfo=UTC), last and last.replace(tzinfo=UTC) + timedelta(days=1)
    if end is not None and end <= begin:
        raise click.UsageError("--to is before --from")
    try:
        study = Study(begin, end, read_policy_file(policy))
    except PolicyFileWrong as error:
        raise click.BadParameter(str(error), param_hint="POLICY") from error
    _read(study)
    unknown = sorted(study.other.named - set(study.clients))
    if unknown:
        errors.print(f"not in the journal, so nothing is said of: {', '.join(unknown)}", style="yellow")
    if report is not None:
        write_report(report, study, policy.name)
        errors.print(f"the report stands in {report}", highlight=False)
    if as_json:
        sys.stdout.write(orjson.dumps(as_dict(study)).decode() + "\n")
    else:
        _show(study, policy.name)


def _read(study: Study) -> None:
    with bar() as progress:
        task = progress.add_task("entries of the journal", total=None)

        def step(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        try:
            asyncio.run(read_into(study, settings(), step))
        except NothingRecorded as error:
            raise click.ClickException(str(error)) from error


# ── what people see ──────────────────────────────────────────────────────────────────────────────


def _show(study: Study, name: str) -> None:
    for client in study.clients:
        lines = changed(study.policies[client], study.other.of(client))
        differs = ", ".join(lines[:6]) + (f" and {len(lines) - 6} more" if len(lines) > 6 else "")
        out.print(f"{client}: {differs or 'the same policy as then'}", highlight=False)
    both = [pauses(study, column) for _, column in study.columns]
    out.print(_clients(study, both))
    out.print(_out(both))
    out.print(_mailboxes(study))
    _trust(study)
    for sentence in CANNOT_KNOW:
        out.print(f"- {sentence}", highlight=False, style="dim")


def _clients(study: Study, both: list[list[Pause]]) -> Table:
    table = Table(title=f"{study.begin:%Y-%m-%d} to {study.until:%Y-%m-%d %H:%M} UTC: policy of then / other policy")
    table.add_column("client")
    for column in ("mails", "held back", "accepted, lost", "hard bounces", "avoided", "complaints", "avoided", "out"):
        table.add_column(column, justify="right")
    for client, one in sums(study, "client").items():
        outs = [len({pause.who for pause in found if pause.client == client}) for found in both]
        table.add_row(client, *_cells(one), f"{outs[0]} / {outs[1]}")
    outs = [len({pause.who for pause in found}) for found in both]
    table.add_row("all", *_cells(total(study)), f"{outs[0]} / {outs[1]}", style="bold")
    return table


def _cells(one: Sums) -> list[str]:
    def pair(word: Word) -> str:
        return f"{one.then[word]:,} / {one.what_if[word]:,}"

    return [
        f"{one.recorded['mails']:,}",
        pair("mails"),
        pair("accepted"),
        f"{one.recorded['hard_bounces']:,}",
        pair("hard_bounces"),
        f"{one.recorded['complaints']:,}",
        pair("complaints"),
    ]


def _out(both: list[list[Pause]]) -> Table:
    """Who was out under which policy: those whom the policies treat differently first."""
    then, other = (_by_who(found) for found in both)

    def is_same(who: tuple[str, str, str]) -> bool:
        return [_times(p) for p in then.get(who, [])] == [_times(p) for p in other.get(who, [])]

    whos = sorted(then.keys() | other.keys(), key=lambda who: (is_same(who), who))
    table = Table(title="Out of rotation (times UTC)", show_lines=True)
    for column in ("who", "with the policy of then", "with the other policy"):
        table.add_column(column)
    for who in whos[:MOST_ROWS]:
        table.add_row(_label(who), *("\n".join(map(_line, side.get(who, []))) or "-" for side in (then, other)))
    return _cut(table, len(whos))


def _by_who(found: Iterable[Pause]) -> dict[tuple[str, str, str], list[Pause]]:
    made: dict[tuple[str, str, str], list[Pause]] = {}
    for pause in found:
        made.setdefault(pause.who, []).append(pause)
    return made


def _label(who: tuple[str, str, str]) -> str:
    client, scope, name = who
    return f"{scope} {name or client}" + (f" of {client}" if scope in ("list", "route") else "")


def _times(pause: Pause) -> tuple[datetime, datetime | None, str]:
    return pause.since, pause.until, pause.rule


def _line(pause: Pause) -> str:
    until = f"{pause.until:%m-%d %H:%M}" if pause.until else "the end"
    return f"{pause.since:%m-%d %H:%M} → {until}: {pause.evidence}"


def _mailboxes(study: Study) -> Table:
    """The mailboxes that would have sent less."""
    found = [(name, one) for name, one in sums(study, "mailbox").items() if one.what_if["mails"]]
    found.sort(key=lambda pair: (-pair[1].what_if["mails"], pair[0]))
    table = Table(title="Mailboxes that would have sent less: policy of then / other policy")
    table.add_column("mailbox")
    for column in ("mails", "held back", "accepted, lost", "hard bounces", "avoided", "complaints", "avoided"):
        table.add_column(column, justify="right")
    for name, one in found[:MOST_ROWS]:
        table.add_row(name, *_cells(one))
    return _cut(table, len(found))


def _cut(table: Table, rows: int) -> Table:
    if rows > MOST_ROWS:
        table.caption = f"{rows - MOST_ROWS} more with --json and in the --report"
    return table


def _trust(study: Study) -> None:
    """Say what held the mails back, and how far the rerun is to be believed."""
    limits = Counter[str]()
    for (_, limit), count in study.what_if.limits.items():
        limits[limit] += count
    why = ", ".join(f"{limit} {count:,}" for limit, count in limits.most_common())
    out.print(f"what holds mails back with the other policy: {why or 'nothing'}", highlight=False)
    found = fidelity(study)
    same, every = sum(kind[0] for kind in found.kinds.values()), sum(sum(kind) for kind in found.kinds.values())
    out.print(
        f"fidelity: the policies of then, run again, make {same:,} of {every:,} decisions as the journal has them "
        f"({found.decisions:.1%}) and let {found.mails - found.held:,} of {found.mails:,} mails go ({found.sends:.1%})",
        highlight=False,
        style="bold" if min(found.decisions, found.sends) >= TRUSTED_FROM else "bold red",
    )
    for line in found.differences[:5]:
        out.print(f"  differs: {line}", highlight=False)
    if study.applied:
        out.print(f"{study.applied} policies were applied in the period: the other one was held to all the while")
