"""Takes an existing fleet over: passwords into the secret store, mailboxes beside the fleet file."""

import csv
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ops.fleet_file import CSV_COLUMNS, Declared, FleetFileWrong, read_fleet
from ops.secret_store import keep_secrets
from schemas.fleet import MailboxDeclared, MailboxWarmed
from schemas.ids import ClientId, MailboxAddress

NEEDED = ("client", "mailbox", "password", "daily_quota", "routes")


@dataclass
class Import:
    """What an export gives. Nothing is written before `store`."""

    folder: Path
    listing: Path
    rows: list[dict[str, str]] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    warmed: list[MailboxWarmed] = field(default_factory=list)
    fleet: list[Declared] = field(default_factory=list)

    def store(self) -> None:
        """Write the passwords (0600) and the list of mailboxes."""
        keep_secrets(self.folder, self.secrets)
        _write(self.listing, self.rows)


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def import_mailboxes(fleet_file: Path, export: Path, secrets_folder: Path) -> Import:
    """Read an export and the fleet file that it completes. Raises FleetFileWrong with every wrong line."""
    listing = fleet_file.parent / "mailboxes.csv"
    taken = Import(secrets_folder, listing)
    wrong: list[str] = []
    with export.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = set(NEEDED) - set(reader.fieldnames or ())
        if missing:
            raise FleetFileWrong(f"{export}: columns are missing: {', '.join(sorted(missing))}")
        for row in reader:
            _take(taken, row, f"{export} line {reader.line_num}", wrong)
    if wrong:
        raise FleetFileWrong("\n".join(wrong))
    taken.fleet = _with_listing(fleet_file, taken)
    boxes = {f.mailbox for f in taken.fleet if isinstance(f, MailboxDeclared)}
    if not {row["mailbox"].lower() for row in taken.rows} <= boxes:
        line = f'mailbox_files = ["{listing.name}"]'
        raise FleetFileWrong(f"{fleet_file}: add the line  {line}  at its top and run this again")
    return taken


def _with_listing(fleet_file: Path, taken: Import) -> list[Declared]:
    """Read the fleet file as it will be, with the list of mailboxes in place; put back what was there."""
    before = taken.listing.read_bytes() if taken.listing.exists() else None
    _write(taken.listing, taken.rows)
    try:
        return read_fleet(fleet_file)
    finally:
        if before is None:
            taken.listing.unlink()
        else:
            taken.listing.write_bytes(before)


def _take(taken: Import, row: dict[str, str], where: str, wrong: list[str]) -> None:
    mailbox = (row["mailbox"] or "").strip().lower()
    if not row["password"]:
        wrong.append(f"{where}: password is empty")
    since = (row.get("warmed_since") or "").strip()
    if since:
        try:
            day = datetime.fromisoformat(since).replace(tzinfo=UTC)
        except ValueError:
            wrong.append(f"{where}: warmed_since {since!r} is not a date like 2026-01-31")
            return
        taken.warmed.append(MailboxWarmed(ClientId(row["client"]), MailboxAddress(mailbox), day, "import"))
    name = f"mailbox-{mailbox.replace('@', '-at-')}.password"
    taken.secrets[name] = row["password"]
    taken.rows.append(
        {
            "client": row["client"],
            "mailbox": mailbox,
            "daily_quota": row["daily_quota"],
            "routes": row["routes"],
            "secret": f"file:{name}",
            "name": row.get("name") or "",
            "username": row.get("username") or mailbox,
        }
    )
