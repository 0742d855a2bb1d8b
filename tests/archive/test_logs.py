"""Logs go to the archive piece by piece, each whole line once, without addresses; large files begin anew."""

import gzip
from pathlib import Path

import pytest

from adapters.folder import FolderStore
from ops.archive import logs
from ops.archive.logs import ship


def _archived(store: FolderStore) -> list[str]:
    """Return all lines, in the order of their pieces."""
    return [line for piece in store.list("logs/") for line in gzip.decompress(store.get(piece.name)).decode().split()]


def test_each_whole_line_is_archived_once(tmp_path: Path) -> None:
    store, log = FolderStore(tmp_path / "store"), tmp_path / "intake.log"
    log.write_text('{"n":1}\n{"n":2}\n{"n":')
    assert ship(store, tmp_path, "m1") == 1
    assert ship(store, tmp_path, "m1") == 0
    with log.open("a") as file:
        file.write("3}\n")
    assert ship(store, tmp_path, "m1") == 1
    assert _archived(store) == ['{"n":1}', '{"n":2}', '{"n":3}']


def test_no_address_and_nothing_but_json_lines_leave_the_machine(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text('{"said":"to_anna@firm.test"}\nTraceback: bob@firm.test\n["x"]\n')
    store = FolderStore(tmp_path / "store")
    ship(store, tmp_path, "m1")
    text = "".join(_archived(store))
    assert "said" in text
    assert "@firm.test" not in text
    assert "Traceback" not in text


def test_a_large_file_that_is_archived_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "ROTATED_AT", 30)
    monkeypatch.setattr(logs, "MOST_BYTES", 16)
    store, log = FolderStore(tmp_path / "store"), tmp_path / "x.log"
    with log.open("ab") as file:
        file.writelines(b'{"n":%d}\n' % n for n in range(9))
        file.flush()
        assert ship(store, tmp_path, "m1") == 5
        assert log.stat().st_size == 0
        file.write(b'{"n":9}\n')
        file.flush()
    ship(store, tmp_path, "m1")
    assert sorted(_archived(store)) == [f'{{"n":{n}}}' for n in range(10)]
