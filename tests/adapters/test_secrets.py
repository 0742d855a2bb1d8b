"""Secrets stand in files of their owner or in the environment; no text that leaves names their value."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.secrets import SecretMissing, Secrets

VALUE = "s3cret-välue"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good secret, beside a file that is none of its business."""
    inside = tmp_path / "secrets"
    inside.mkdir()
    (inside / "key").write_text(VALUE + "\n")
    (inside / "key").chmod(0o600)
    (tmp_path / "outside").write_text(VALUE)
    (tmp_path / "outside").chmod(0o600)
    return inside


def test_a_file_of_its_owner_is_read_without_its_line_end(folder: Path) -> None:
    assert Secrets(folder).resolve("file:key") == VALUE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620, 0o601, 0o610, 0o777])
def test_a_file_that_others_may_touch_is_refused(folder: Path, mode: int) -> None:
    (folder / "key").chmod(mode)
    with pytest.raises(SecretMissing, match="chmod 600") as failed:
        Secrets(folder).resolve("file:key")
    assert VALUE not in str(failed.value)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_its_owner_alone_is_good(folder: Path, mode: int) -> None:
    (folder / "key").chmod(mode)
    assert Secrets(folder).resolve("file:key") == VALUE


def test_a_rotated_secret_is_read_anew(folder: Path) -> None:
    secrets = Secrets(folder)
    secrets.resolve("file:key")
    (folder / "key").write_text("new")
    assert secrets.resolve("file:key") == "new"


@given(name=st.text(max_size=20))
@example("../outside")
@example("..")
@example(".")
@example("/etc/passwd")
@example("a/../../outside")
@example("key\0")
@example("key/")
def test_no_name_leads_out_of_the_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    inside = tmp_path_factory.getbasetemp() / "traversal"
    inside.mkdir(exist_ok=True)
    (inside.parent / "outside").write_text(VALUE)
    (inside.parent / "outside").chmod(0o600)
    secrets = Secrets(inside)
    with pytest.raises(SecretMissing):
        secrets.resolve(f"file:{name}")
    try:
        path = secrets.path(f"file:{name}")
    except SecretMissing:
        return
    assert Path(os.path.normpath(path)).parent == inside


@pytest.mark.parametrize("ref", ["", "key", "file", "file:", "vault:key", "FILE:key", "env", "env:", ":key"])
def test_what_names_no_secret_is_refused(folder: Path, ref: str) -> None:
    with pytest.raises(SecretMissing, match=r"file:NAME|not set"):
        Secrets(folder).resolve(ref)


def test_a_missing_file_and_a_folder_are_refused_by_name(folder: Path) -> None:
    (folder / "sub").mkdir()
    for ref in ("file:nothing", "file:sub"):
        with pytest.raises(SecretMissing, match=ref):
            Secrets(folder).resolve(ref)


def test_octets_that_are_no_text_are_refused_without_showing_them(folder: Path) -> None:
    (folder / "key").write_bytes(b"\xff\xfe" + VALUE.encode())
    with pytest.raises(SecretMissing, match="not UTF-8") as failed:
        Secrets(folder).resolve("file:key")
    assert failed.value.__cause__ is None
    assert "0xff" not in str(failed.value)


def test_the_environment_is_read_each_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = Secrets(folder)
    with pytest.raises(SecretMissing, match="MAILFLEET_TEST_KEY is not set"):
        secrets.resolve("env:MAILFLEET_TEST_KEY")
    monkeypatch.setenv("MAILFLEET_TEST_KEY", VALUE)
    assert secrets.resolve("env:MAILFLEET_TEST_KEY") == VALUE


def test_what_is_printed_of_the_secrets_shows_none(folder: Path) -> None:
    secrets = Secrets(folder)
    secrets.resolve("file:key")
    assert VALUE not in repr(secrets) + repr(vars(secrets))
