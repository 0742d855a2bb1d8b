"""Logs go to the archive piece by piece, each whole line once, without addresses; large files begin anew."""

import gzip
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.folder import FolderStore
from ops import logs as written
from ops.archive import logs
from ops.archive.logs import ship
from ops.logs import WIRE, LogFile, set_up
from ops.run import EX_CONFIG


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


def test_a_long_line_is_still_json_in_the_archive_and_names_no_address(tmp_path: Path) -> None:
    error = "\n".join(["File x", *["y" * 90] * 20, "E: anna@firm.test"])
    line = {"message": "lost", "error": error, "a@b.test": [1]}
    (tmp_path / "x.log").write_text(json.dumps(line) + "\n")
    store = FolderStore(tmp_path / "store")
    ship(store, tmp_path, "m1")
    (piece,) = store.list("logs/")
    found = json.loads(gzip.decompress(store.get(piece.name)))
    assert found == {
        "message": "lost",
        "error": error.replace("anna@firm.test", "<recipient>"),
        "<recipient>": [1],
    }


def _run(role: str, folder: Path, name: str, **more: str) -> subprocess.CompletedProcess[str]:
    settings = {"KAFKA_BROKERS": "127.0.0.1:9", "LOG_FOLDER": str(folder), "MAILFLEET_NAME": name, "LOG_FORMAT": "text"}
    settings |= more
    command = [sys.executable, "-m", "ops.run", role]
    return subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60, check=False
    )


def test_what_a_process_says_stands_in_the_file_of_its_name_and_is_archived(tmp_path: Path) -> None:
    folder, store = tmp_path / "made" / "logs", FolderStore(tmp_path / "store")
    for name in ("door-1", "door-2"):
        ended = _run("door", folder, name)  # DOOR_PORT is missing
        assert (ended.returncode, "DOOR_PORT is not set" in ended.stderr) == (EX_CONFIG, True)
    assert ship(store, folder, "archive-1") == 2
    said = [json.loads(gzip.decompress(store.get(piece.name))) for piece in store.list("logs/archive-1/")]
    assert [line["process"] for line in said] == ["door-1", "door-2"]
    assert all(line["message"].startswith("DOOR_PORT is not set") for line in said)


def test_an_error_that_ends_a_process_stands_in_its_log_as_any_other(tmp_path: Path) -> None:
    ended = _run("door", tmp_path, "door-1", METRICS_PORT="70000")
    (line,) = (tmp_path / "door-1.log").read_text().splitlines()
    assert (ended.returncode, json.loads(line)["level"]) == (1, "critical")
    assert "OverflowError" in json.loads(line)["error"]


def test_a_log_folder_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = _run("door", tmp_path / "file", "door-1")
    assert ended.returncode == EX_CONFIG
    assert "LOG_FOLDER is" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def own_root() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    root = logging.getLogger()
    handlers, level, libraries = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in WIRE}
    yield root
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in libraries.items():
        logging.getLogger(name).setLevel(was)


def test_at_no_level_do_libraries_log_what_goes_over_the_wire(tmp_path: Path, own_root: logging.Logger) -> None:
    set_up("telegram-1", "DEBUG", "json", str(tmp_path))
    logging.getLogger("httpx").info("HTTP Request: POST https://api.telegram.org/bot%s/getMe", "123:SECRET")
    for name in ("httpcore.http11", "telegram.Bot", "aiokafka.conn", "botocore.auth", "imapclient.imaplib", "faust.x"):
        logging.getLogger(name).debug("123:SECRET")
    logging.getLogger("mailfleet").debug("whole")
    assert [json.loads(line)["message"] for line in (tmp_path / "telegram-1.log").read_text().splitlines()] == ["whole"]


def test_a_process_keeps_its_logs_small_and_every_line_reaches_the_archive_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "LARGEST", 1000)
    store, handler = FolderStore(tmp_path / "store"), LogFile(tmp_path, "x-1")
    for n in range(40):
        handler.emit(logging.makeLogRecord({"msg": f"line {n}", "name": "x"}))
        if n % 5 == 4:
            ship(store, tmp_path, "m1")
    handler.close()
    assert sorted(path.name for path in tmp_path.glob("*.log")) == ["x-1.log", "x-1.old.log"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.glob("*.log"))
    pieces = [gzip.decompress(store.get(piece.name)).splitlines() for piece in store.list("logs/")]
    found = [json.loads(line)["message"] for piece in pieces for line in piece]
    assert sorted(found) == sorted(f"line {n}" for n in range(40))


def test_a_log_that_cannot_be_written_ends_nothing_and_prints_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = LogFile(tmp_path, "x-1")
    handler.close()
    (tmp_path / "x-1.log").unlink()
    tmp_path.rmdir()
    handler.emit(logging.makeLogRecord({"msg": "anna@firm.test"}))
    assert capsys.readouterr().err == ""
