"""Postgres refuses to run as root: this finds whose rights it gets, without making users or opening folders.

In this order: an existing unprivileged user, if it can reach the folders; a user namespace, in which root's files
seem to be that user's; a scratch folder of that user's under the system's temporary folder, with a copy of the programs.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ops.embedded.place import CannotStart
from ops.embedded.process import MYSELF, RunAs

USERS = ("nobody", "postgres", "daemon")


@dataclass(frozen=True)
class Home:
    """Where the programs and the data stand, and whose rights the server gets."""

    programs: Path
    data: Path
    run_as: RunAs = MYSELF


def find_home(programs: Path, folder: Path) -> Home:
    """A home for a server whose programs and folder are given; its data folder exists. Raises CannotStart."""
    home = _find(programs, folder)
    home.data.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        _give(home.data, 0 if home.run_as.prefix else home.run_as.uid, 0 if home.run_as.prefix else home.run_as.gid)
    return home


def remove_scratch(folder: Path) -> None:
    """Remove what stands outside the folder, if anything does."""
    if scratch := _remembered_scratch(folder):
        shutil.rmtree(scratch, ignore_errors=True)


def can_reach(path: Path, user: pwd.struct_passwd) -> bool:
    """Whether the user may pass every folder down to the path and read what all may read there."""
    return all(_may_pass(folder, user) for folder in (path.resolve(), *path.resolve().parents))


def _find(programs: Path, folder: Path) -> Home:
    if os.geteuid() != 0:
        return Home(programs, folder / "data")
    user = _unprivileged_user()
    if can_reach(programs, user) and can_reach(folder, user):
        return Home(programs, folder / "data", RunAs(user.pw_uid, user.pw_gid))
    namespace = RunAs(prefix=_namespace(user))
    if _works(namespace, programs):
        return Home(programs, folder / "data", namespace)
    scratch = _scratch(programs, folder, user)
    return Home(scratch / "programs" / "bin", scratch / "data", RunAs(user.pw_uid, user.pw_gid))


def _unprivileged_user() -> pwd.struct_passwd:
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise CannotStart(
        f"Postgres does not run as root and none of the users {', '.join(USERS)} exists; "
        f"make one of them or start as an ordinary user."
    )


def _may_pass(folder: Path, user: pwd.struct_passwd) -> bool:
    status = folder.stat()
    if status.st_uid == user.pw_uid:
        return bool(status.st_mode & 0o100)
    return bool(status.st_mode & 0o001)


def _namespace(user: pwd.struct_passwd) -> tuple[str, ...]:
    tool = shutil.which("unshare") or "unshare"
    return (tool, "-U", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}")


def _works(run_as: RunAs, programs: Path) -> bool:
    command = [*run_as.prefix, str(programs / "postgres"), "--version"]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _scratch(programs: Path, folder: Path, user: pwd.struct_passwd) -> Path:
    scratch = _remembered_scratch(folder) or _new_scratch(folder, user)
    copy = scratch / "programs"
    if not (copy / "copied").exists():
        shutil.copytree(programs.resolve().parent, copy, symlinks=True, dirs_exist_ok=True)
        (copy / "copied").touch()
    _give(copy, user.pw_uid, user.pw_gid)
    return scratch


def _new_scratch(folder: Path, user: pwd.struct_passwd) -> Path:
    scratch = Path(tempfile.mkdtemp(prefix="mailfleet-postgres-"))
    if not can_reach(scratch.parent, user):
        scratch.rmdir()
        raise CannotStart(
            f"Postgres does not run as root and user {user.pw_name} can reach neither {folder} nor {scratch.parent}; "
            f"set TMPDIR to a folder that every user may enter, or start as an ordinary user."
        )
    os.chown(scratch, user.pw_uid, user.pw_gid)
    (folder / "scratch").write_text(str(scratch))
    return scratch


def _remembered_scratch(folder: Path) -> Path | None:
    # Anyone may write under the temporary folder: only a folder that is not root's own and was ours is used again.
    try:
        scratch = Path((folder / "scratch").read_text())
        owner = scratch.stat().st_uid
    except OSError:
        return None
    return scratch if owner == _unprivileged_user().pw_uid else None


def _give(folder: Path, uid: int, gid: int) -> None:
    if folder.stat().st_uid == uid:
        return
    for path in folder.rglob("*"):
        os.chown(path, uid, gid, follow_symlinks=False)
    os.chown(folder, uid, gid)  # last: an interrupted change is done again
