"""A real server in a process of its own, for tests."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: the servers' working directory, so that specs like `examples.hello:Hello` import."""

COMMAND = Path(sysconfig.get_path("scripts")) / "stepwire"
"""The command, as installed beside the interpreter that runs the tests."""

_READY = re.compile(r"listening on ([^\s\"]+:\d+)")


class ServerProcess:
    """Run `stepwire serve` on SQLite in `data_dir`; a context manager, or `start` and `stop` it.

    `specs` are the workflows as the command takes them, `args` further arguments, `env` additions to the environment;
    `command` is what is run instead of the installed one, and `web` what tells it not to serve the web.
    The first start takes a free port; later ones take the same again, so that clients find the server anew.
    """

    def __init__(
        self,
        data_dir: Path | str,
        specs: Sequence[str],
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (str(COMMAND),),
        web: Sequence[str] = ("--web", "off"),
        timeout: float = 60.0,
    ) -> None:
        self._data_dir = data_dir
        self._specs = [specs] if isinstance(specs, str) else list(specs)
        self._args = list(args)
        self._command = list(command)
        self._web = list(web)
        self._env = dict(env or {})
        self._timeout = timeout
        self._address = ""
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()
        self._lines: list[str] = []
        self._news = threading.Condition()

    @property
    def address(self) -> str:
        """Return HOST:PORT; it stays the same over restarts."""
        if not self._address:
            raise RuntimeError("the server has not been started")
        return self._address

    @property
    def pid(self) -> int:
        """Return the id of the process, also after its end."""
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Say whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Return what all processes so far wrote to stderr and stdout."""
        return "".join(self._lines)

    def start(self) -> Self:
        """Start it and wait until it listens. RuntimeError with its output when it does not."""
        if self.running:
            raise RuntimeError("the server is running")
        command = [*self._command, "serve", *self._specs]
        # The web starts only where a test asks for it: it costs 0.3 seconds a start.
        address = self._address or f"127.0.0.1:{free_port()}"
        command += ["--address", address, *self._web, "--data", str(self._data_dir)]
        command += self._args
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        self._ready = threading.Event()
        before = len(self._lines)
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **self._env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process, self._ready), daemon=True)
        self._reader.start()
        heard = self._ready.wait(self._timeout)
        output = "".join(self._lines[before:])
        found = _READY.search(output)
        if found is None:
            self.kill()
            problem = "ended" if heard else f"did not listen within {self._timeout} seconds"
            raise RuntimeError(f"the server {problem}:\n{output[-4000:]}")
        self._address = found.group(1)
        return self

    def kill(self) -> None:
        """End it with SIGKILL: nothing of it gets to finish anything."""
        if self._process is not None:
            self._process.kill()
            self._join()

    def stop(self) -> int:
        """End it with SIGTERM, as a deploy does; return its exit code. RuntimeError when it does not end."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._join()
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"the server did not stop within {self._timeout} seconds:\n{self.log[-4000:]}") from None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        return self._join()

    def hear(self, pattern: str) -> str:
        """Wait until its output matches; return the first group, or the match. AssertionError when it does not."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.log)

        with self._news:
            match = self._news.wait_for(found, self._timeout)
        assert match is not None, f"not heard: {pattern}\n{self.log[-4000:]}"
        return match[match.re.groups and 1]

    def restart(self, *, kill: bool = False) -> Self:
        """Stop it, or kill it, and start it again on the same data and port."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            self.kill()
            error.add_note(f"the server's output:\n{self.log[-8000:]}")

    def _join(self) -> int:
        assert self._process is not None
        code = self._process.wait(self._timeout)
        if self._reader is not None:
            self._reader.join(self._timeout)
            self._reader = None
        return code

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
                if _READY.search(line):
                    ready.set()
        ready.set()
