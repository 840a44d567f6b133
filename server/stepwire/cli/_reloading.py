"""`stepwire serve --reload`: run the server as a child, and again under new code whenever files change.

The new server loads its code first, while the old one serves. Code that cannot be loaded is told, and the old server
stays. Else the old server drains and the new one takes its address and its data, with the code that it has loaded;
callers see UNAVAILABLE for a moment, and retry.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from stepwire.cli._handover import Successor

__all__ = ["Reloader", "command", "with_port"]

_GRACE: Final = 1.0
"""Seconds that running steps get at a reload: what is not finished runs again under the new code."""
_END_SECONDS: Final = 10.0
"""Seconds beyond the grace after which the old server is killed: it should be gone after four."""
_LOAD_SECONDS: Final = 60.0
"""Seconds that loading the new code may take."""
_LOOK_MILLISECONDS: Final = 500
"""How often to look whether the server has ended by itself."""


class Reloader:
    """Run a server and restart it when files change.

    Args:
        serve: The command of the server.
        folders: Where files may change, with everything below.
        files: Further files to watch, by absolute path.
        every: Whether each Python file in the folders matters; else those that the served code has imported.
        say: Writes a line for people.
    """

    def __init__(
        self,
        serve: Sequence[str],
        folders: Sequence[Path],
        files: Sequence[Path],
        every: bool,
        say: Callable[[str], None],
    ) -> None:
        self._serve = list(serve)
        self._folders = list(folders)
        self._files = {str(file) for file in files}
        self._every = every
        self._say = say
        self._child: Successor | None = None
        self._broken = False
        self._stop = threading.Event()
        # A file that is saved twice in a second may keep its size: then Python would take the old bytecode for new.
        self._env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code of the last server."""
        from watchfiles import watch

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        self._child = Successor(self._serve, self._env)
        self._child.serve()
        changes = watch(
            *self._folders,
            *(Path(file).parent for file in self._files),
            watch_filter=self._matters,
            stop_event=self._stop,
            yield_on_timeout=True,
            rust_timeout=_LOOK_MILLISECONDS,
            debounce=400,
            raise_interrupt=False,
        )
        told = False
        for changed in changes:
            if self._stop.is_set():
                break
            if changed:
                if names := self._wanted(path for _, path in changed):
                    told = False
                    self._reload(names)
            elif not told and not self._child.runs:
                told = True
                self._say("the server has ended; it starts again when a file changes")
        return self._child.process.wait()

    def _matters(self, _: object, path: str) -> bool:
        if path in self._files:
            return True
        folders = Path(path).parts[:-1]
        return path.endswith(".py") and not any(part.startswith(".") or part == "__pycache__" for part in folders)

    def _wanted(self, changed: Iterable[str]) -> list[str]:
        """Return the names of the changed files that the served code comes from."""
        paths = set(changed)
        # Code that does not load may lack a file that no server has imported yet.
        if not (self._every or self._broken or self._child is None or not self._child.runs):
            imported = self._child.files()
            if imported is not None:
                paths &= imported | self._files
        return sorted({Path(path).name for path in paths})

    def _reload(self, names: Sequence[str]) -> None:
        self._say(f"changed: {', '.join(names)}")
        began = time.monotonic()
        following = Successor(self._serve, self._env)
        loaded = False
        try:
            loaded = following.wait_loaded(_LOAD_SECONDS, self._stop.is_set)
        except TimeoutError:
            self._say(f"error: the code did not load within {_LOAD_SECONDS:g} s")
        if loaded:
            self._end_child()
        if not loaded or self._stop.is_set():
            following.process.kill()
            following.close()
        if self._stop.is_set():
            return
        self._broken = not loaded
        if loaded:
            self._child = following
            following.serve()
            self._say(f"reloaded after {time.monotonic() - began:.1f} s")
        else:
            running = self._child is not None and self._child.runs
            self._say("the server goes on with the code of before" if running else "no server runs")

    def _end_child(self) -> None:
        """Let the server drain; cut its grace after a moment, and kill it if that does not help."""
        if self._child is None:
            return
        child = self._child.process
        for seconds, end in ((_GRACE, child.terminate), (_END_SECONDS, child.terminate)):
            if child.poll() is not None:
                break
            end()
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        if child.poll() is None:
            child.kill()
        self._child.close()

    def _end(self, number: int, _: FrameType | None) -> None:
        self._stop.set()
        if self._child is not None and self._child.runs:
            self._child.process.send_signal(signal.SIGTERM if number == signal.SIGTERM else signal.SIGINT)


def with_port(address: str) -> str:
    """Return an address with a free port in the place of port 0, so that each server in turn has the same."""
    host, _, port = address.rpartition(":")
    if port != "0" or address.startswith("unix:"):
        return address
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(kind) as found:
        found.bind((host.strip("[]"), 0))
        return f"{host}:{found.getsockname()[1]}"


def command(arguments: Sequence[str]) -> list[str]:
    """Return the command line of a stepwire command in a process of its own."""
    return [sys.executable, "-m", "stepwire.cli", *arguments]
