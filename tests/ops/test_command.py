"""The `mailfleet` command as a person meets it: exit codes, sentences instead of tracebacks, secrets of mode 0600."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.cli import cli
from ops.commands.classify import classify
from ops.embedded.process import CannotStart, check_space

UNREACHABLE = {"KAFKA_BROKERS": "127.0.0.1:9", "DATABASE_URL": "postgresql://postgres@127.0.0.1:9/none"}
WRONG = """
[clients.acme]
campaigns = []
postal_address = ""
"""


def mailfleet(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an empty folder, with nothing set but what is given."""
    return subprocess.run(
        [Path(sys.executable).with_name("mailfleet"), *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command_and_every_exit_code(tmp_path: Path) -> None:
    done = mailfleet(tmp_path, "--help")
    assert done.returncode == 0
    said = " ".join(done.stdout.split())
    for word in (*cli.commands, "KAFKA_BROKERS", "0 all well, 1 what", "2 wrong usage, 78 a setting is missing"):
        assert word in said


def test_help_names_every_setting_that_is_read() -> None:
    read = re.findall(r'"([A-Z]+_[A-Z_]+)"', Path("streams/settings.py").read_text("utf-8"))
    helps = [CliRunner().invoke(cli, [*command, "--help"]).output for command in ((), ("door",), ("archive",))]
    elsewhere = {"TELEGRAM_URL", "POSTMASTER_URL"}  # for tests: where a stand-in is
    assert {name for name in read if not any(name in said for said in helps)} == elsewhere


def test_an_unknown_command_is_wrong_usage(tmp_path: Path) -> None:
    done = mailfleet(tmp_path, "frobnicate")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("verify",), ("key",), ("replay", "fleet", "--yes")])
def test_without_settings_a_command_ends_with_78_and_names_the_variable(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = mailfleet(tmp_path, *command)
    assert done.returncode == 78
    assert "KAFKA_BROKERS is not set" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_messages_is_an_error_and_no_empty_table(tmp_path: Path) -> None:
    for how in ([], ["--json"]):
        done = CliRunner().invoke(classify, [str(tmp_path), *how])
        assert done.exit_code == 1
        assert "there is no message" in done.output


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    settings = {**UNREACHABLE, "MAILFLEET_HOME": str(tmp_path / "home")}
    assert mailfleet(tmp_path, "key", **settings).returncode == 0
    key = tmp_path / "home" / "secrets" / "fleet.key"
    made = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert len(bytes.fromhex(made.decode())) == 32
    again = mailfleet(tmp_path, "key", **settings)
    assert again.returncode == 1
    assert "a fleet keeps its key for life" in again.stderr
    assert key.read_bytes() == made
    assert made.decode() not in again.stderr + again.stdout


def test_a_wrong_fleet_file_is_told_before_anything_is_reached(tmp_path: Path) -> None:
    """Neither broker nor key is there: had it gone on to publish, it would have said so."""
    path = tmp_path / "fleet.toml"
    path.write_text(WRONG)
    done = mailfleet(tmp_path, "apply", "fleet.toml", "--yes", **UNREACHABLE)
    assert done.returncode == 1
    assert "postal_address is empty" in done.stderr
    assert "campaigns is empty" in done.stderr
    assert "Kafka" not in done.stderr
    assert "published" not in done.stdout


def test_a_fleet_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert mailfleet(tmp_path, "apply", "none.toml", **UNREACHABLE).returncode == 2


@pytest.mark.parametrize(
    ("command", "says"),
    [(("verify", "--no-postgres"), "Kafka at 127.0.0.1:9 does not answer"), (("migrate",), "is DATABASE_URL right")],
)
def test_a_server_that_does_not_answer_is_a_sentence(tmp_path: Path, command: tuple[str, ...], says: str) -> None:
    done = mailfleet(tmp_path, *command, **UNREACHABLE)
    assert done.returncode == 1
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_too_little_space_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: type("Usage", (), {"free": 499_000_000}))
    with pytest.raises(CannotStart, match=r"only 499 MB are free at .*; make room for 500 MB"):
        check_space(tmp_path)
