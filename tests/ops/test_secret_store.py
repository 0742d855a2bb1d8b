"""Rotating passwords: 1,200 at once, never half of one, nothing written when a line is wrong, no word of them said."""

import stat
import threading
from pathlib import Path

import pytest

from adapters.secrets import Secrets
from ops.fleet_file import FleetFileWrong
from ops.secret_store import keep_secrets, read_secrets

REFS = {"anna@acme.test": "file:anna.password", "ben@acme.test": "file:shared", "eve@acme.test": "file:shared"}


def test_twelve_hundred_are_rotated_at_once_and_no_reader_ever_sees_half_of_one(tmp_path: Path) -> None:
    folder, export = tmp_path / "secrets", tmp_path / "new.csv"
    refs = {f"box{n}@acme.test": f"file:box{n}.password" for n in range(1_200)}
    keep_secrets(folder, {f"box{n}.password": f"old-{n}" * 50 for n in range(1_200)})
    export.write_text("mailbox,password\n" + "".join(f"{box},{'new-' + box}\n" for box in refs))
    secrets, seen, done = Secrets(folder), set[str](), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(secrets.resolve("file:box600.password"))

    reader = threading.Thread(target=read)
    reader.start()
    keep_secrets(folder, read_secrets(export, refs))
    done.set()
    reader.join()
    assert seen <= {"old-600" * 50, "new-box600@acme.test"}
    assert all(secrets.resolve(ref) == f"new-{box}" for box, ref in refs.items())
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 1_200, "nothing is left over"


def test_a_file_that_others_could_read_is_theirs_no_more(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("old")
    (tmp_path / "shared").chmod(0o644)
    keep_secrets(tmp_path, {"shared": "new"})
    assert Secrets(tmp_path).resolve("file:shared") == "new"


def test_a_secret_of_a_route_is_named_by_its_reference(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text('secret,mailbox,password\nfile:mailgun.key,,"a,b"\n,ANNA@acme.test,x\n')
    assert read_secrets(tmp_path / "new.csv", REFS) == {"mailgun.key": "a,b", "anna.password": "x"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mailbox,word\nanna@acme.test,s3cret\n", "columns must be password"),
        ("password\ns3cret\n", "columns must be password"),
        ("mailbox,password\nanna@acme.test,\n", "line 2: password is empty"),
        ("mailbox,password\nzoe@acme.test,s3cret\n", "line 2: mailbox zoe@acme.test is not declared"),
        ("mailbox,password\nben@acme.test,s3cret\neve@acme.test,s3cret2\n", "line 3: file:shared is given two"),
        ("secret,password\nenv:KEY,s3cret\n", "only file:NAME"),
        ("secret,password\nfile:../fleet.key,s3cret\n", "only file:NAME"),
    ],
)
def test_a_wrong_line_is_named_without_its_password(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "new.csv").write_text(text)
    with pytest.raises(FleetFileWrong, match=says) as failed:
        read_secrets(tmp_path / "new.csv", REFS)
    assert "s3cret" not in str(failed.value)
