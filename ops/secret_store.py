"""Passwords into the secret store: many at once from a CSV, each whole from one moment to the next."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from ops.fleet_file import FleetFileWrong


def keep_secrets(folder: Path, secrets: Mapping[str, str]) -> None:
    """Write each secret as a file of mode 0600; a hand that reads meanwhile finds the old one or the new."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, secret in secrets.items():
        new = folder / f".{name}.new"
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secret)
            file.flush()
            os.fsync(handle)
        new.replace(folder / name)


def read_secrets(path: Path, refs: Mapping[str, str]) -> dict[str, str]:
    """Return {file name: secret} of a CSV: `password`, and whose: `mailbox` or `secret` (file:NAME).

    `refs` maps each declared mailbox to its secret_ref. Raises FleetFileWrong with every wrong line, without a word
    of a password.
    """
    found: dict[str, str] = {}
    wrong: list[str] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or ())
        if "password" not in columns or not columns & {"mailbox", "secret"}:
            raise FleetFileWrong(f"{path}: the columns must be password, and mailbox or secret")
        for row in reader:
            where = f"{path} line {reader.line_num}"
            try:
                name = _file_of(row, refs)
                _take(found, name, row["password"] or "")
            except ValueError as error:
                wrong.append(f"{where}: {error}")
    if wrong:
        raise FleetFileWrong("\n".join(wrong))
    return found


def _file_of(row: Mapping[str, str | None], refs: Mapping[str, str]) -> str:
    """Return the name of the file. Raises ValueError with a sentence."""
    ref = (row.get("secret") or "").strip()
    if not ref:
        mailbox = (row.get("mailbox") or "").strip().lower()
        if mailbox not in refs:
            raise ValueError(f"mailbox {mailbox} is not declared; `mailfleet import` takes new ones over")
        ref = refs[mailbox]
    kind, _, name = ref.partition(":")
    if kind != "file" or not name or name.startswith(".") or Path(name).name != name:
        raise ValueError(f"secret {ref!r} is no file of the store; only file:NAME can be written")
    return name


def _take(found: dict[str, str], name: str, password: str) -> None:
    if not password:
        raise ValueError("password is empty")
    if found.setdefault(name, password) != password:
        raise ValueError(f"file:{name} is given two passwords: its mailboxes share one")
