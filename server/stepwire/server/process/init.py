"""Be the first process of a container: start the server as a child, hand it the signals, reap orphans.

The kernel makes the first process the parent of every process whose own parent has ended. The server must not wait for
those itself: it would take the exit codes of the children of its steps.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

__all__ = ["supervise_as_init"]

_FORWARDED: Final = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT")
"""Signals that people and supervisors send; the others tell a process of itself."""


def supervise_as_init() -> None:
    """Return in the server's process. As process 1 that is a child; this process then supervises it and exits with it.

    Call it before any thread is started.
    """
    if sys.platform == "win32" or os.getpid() != 1:
        return
    code = fork_and_supervise()
    if code is not None:
        os._exit(code)


def fork_and_supervise() -> int | None:
    """Fork; return None in the child, and in the parent the exit code of the child when it has ended."""
    forwarded = {signal.Signals[name] for name in _FORWARDED}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, forwarded | {signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        # A group of its own: what a terminal sends to the first process's group would reach the server twice.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    while True:
        number = signal.sigwait(forwarded | {signal.SIGCHLD})
        if number != signal.SIGCHLD:
            os.kill(child, number)
        elif (code := _reap(child)) is not None:
            return code


def _reap(child: int) -> int | None:
    """Reap all that have ended; return the exit code of this child when it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended
