"""How `serve --reload` hands an address and its runs from one server process to the next.

A server that is started so first loads its code, says so, and waits until it is told to serve. Only then has the old
server to go: code that loads is served as it was loaded, also when its files have changed since. Later it answers which
files its code comes from. Commands come on its standard input, answers go to a pipe of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

__all__ = ["Successor", "serve_when_told"]

_SERVE: Final = b"s"
_FILES: Final = b"f"
_LOOK_SECONDS: Final = 0.1
"""How often to look whether the process has ended or the wait is to be given up."""
_FILES_SECONDS: Final = 2.0
"""How long a server may take to name its files: it is one line, but a step may hold the interpreter lock."""


class Successor:
    """A server process, from its start on: seen from the process that reloads it.

    Args:
        command: The command of the server.
        env: Its environment.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._answers, theirs = os.pipe()
        try:
            # A session of its own: Ctrl-C reaches the parent alone, which hands it on once.
            self.process = subprocess.Popen(
                [*command, "--handover", str(theirs)],
                env=env,
                stdin=subprocess.PIPE,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except BaseException:  # whatever it is: nobody reads the answers then
            os.close(self._answers)
            raise
        finally:
            os.close(theirs)
        self._unread = b""

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def wait_loaded(self, seconds: float, given_up: Callable[[], bool]) -> bool:
        """Return whether the code was loaded; False when the process ended or the wait was given up.

        Raises:
            TimeoutError: It took longer than `seconds`.
        """
        return self._line(seconds, given_up) is not None

    def serve(self) -> None:
        """Have the process serve once its code is loaded."""
        self._tell(_SERVE)

    def files(self) -> frozenset[str] | None:
        """Return the absolute paths that its modules come from; None when it does not say."""
        self._tell(_FILES)
        ends = time.monotonic() + _FILES_SECONDS
        try:
            while (line := self._line(ends - time.monotonic(), lambda: False)) is not None:
                if line:  # the empty one says that the code is loaded
                    return frozenset(json.loads(line))
        except TimeoutError:
            pass
        return None

    def close(self) -> None:
        """Wait for the process, and close what leads to it."""
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        os.close(self._answers)

    def _tell(self, command: bytes) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which its exit code tells
            os.write(self.process.stdin.fileno(), command)

    def _line(self, seconds: float, given_up: Callable[[], bool]) -> bytes | None:
        ends = time.monotonic() + seconds
        while b"\n" not in self._unread:
            if given_up():
                return None
            if (left := ends - time.monotonic()) <= 0:
                raise TimeoutError
            ended = not self.runs  # looked at first: what it wrote before its end is read
            if select.select([self._answers], [], [], 0 if ended else min(left, _LOOK_SECONDS))[0]:
                if not (more := os.read(self._answers, 65536)):
                    return None
                self._unread += more
            elif ended:
                return None
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def serve_when_told(answers: int) -> None:
    """Say that the code is loaded and wait for the word to serve; then name files when asked.

    From then on the process gets SIGTERM when its standard input ends: when the process that reloads it is gone.

    Args:
        answers: The descriptor of the pipe for answers.

    Raises:
        SystemExit: The parent has ended.
    """
    os.set_inheritable(answers, False)  # programs that steps start must not hold the pipe
    os.write(answers, b"\n")
    if os.read(0, 1) != _SERVE:
        raise SystemExit(0)

    def listen() -> None:
        while os.read(0, 1) == _FILES:
            left = json.dumps(sorted(_files())).encode() + b"\n"
            while left:
                left = left[os.write(answers, left) :]
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=listen, name="stepwire-parent", daemon=True).start()


def _files() -> set[str]:
    """Return the files of all modules, as they were named and with symbolic links resolved."""
    found = {getattr(module, "__file__", None) for module in [*sys.modules.values()]}
    named = {os.path.abspath(file) for file in found if isinstance(file, str)}
    return named | {os.path.realpath(file) for file in named}
