"""Runs one command and says what it took: its process id at once; exit status, seconds and peak memory at its end.

    python -IS bench/launcher.py REPORT_FD COMMAND...

A program of its own and without imports to speak of: a process begins with the peak memory of the one that started
it, so whoever measures must be small. Nothing else may live here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time


def main() -> None:
    report, *command = sys.argv[1:]
    report_fd = int(report)
    os.set_inheritable(report_fd, False)
    own_pid = os.getpid()
    began_s = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _become(command, own_pid)
    os.write(report_fd, b"%d\n" % pid)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.monotonic() - began_s
    # The child's own children are in there, too, if it waited for them.
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    numbers = (os.waitstatus_to_exitcode(status), wall_s, usage.ru_utime + usage.ru_stime, peak_bytes)
    os.write(report_fd, " ".join(map(repr, numbers)).encode())


def _become(command: list[str], parent_pid: int) -> None:
    """In the child: be the command, and die with the launcher."""
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
        if os.getppid() == parent_pid:
            os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


if __name__ == "__main__":
    main()
