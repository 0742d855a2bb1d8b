"""Run as a script: drops to a user, ties its own life to its parent's, then becomes the given program.

Arguments: parent's pid, signal to get when the parent ends, uid and gid (-1: stay), program, its arguments.
It imports nothing of ours, so that it starts in a few milliseconds.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Never returns: the process becomes the program, or ends because the parent is gone already."""
    parent, signal, uid, gid = (int(value) for value in arguments[:4])
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)  # before prctl: a change of user clears the wish
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(arguments[4], arguments[4:])


if __name__ == "__main__":
    main(sys.argv[1:])
