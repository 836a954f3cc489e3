"""Runs as a script of its own between the server and PostgreSQL: drop privileges, tie the life to the
parent's, exec.

Arguments: parent pid, user id, group id (-1: stay), then the command. A script and not `preexec_fn`, because
Python code between fork and exec can deadlock in a process with threads. Imports nothing of this package.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Never returns on success."""
    parent, user, group, command = int(argv[1]), int(argv[2]), int(argv[3]), argv[4:]
    if user >= 0:
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    os.umask(0o077)
    if sys.platform == "linux":
        # After setuid, which clears it. SIGINT is PostgreSQL's fast shutdown; it survives exec.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        with contextlib.suppress(OSError):
            # The server's longer turns (docs/decisions/0009) are not for those it waits for.
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the signal was armed
    os.execv(command[0], command)  # noqa: S606  no shell is the point


if __name__ == "__main__":
    main(sys.argv)
