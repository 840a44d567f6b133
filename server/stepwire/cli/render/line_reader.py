"""Lines that a person types, read without blocking the event loop."""

from __future__ import annotations

import asyncio
import os
import sys

__all__ = ["LineReader"]


class LineReader:
    """Read lines of a terminal. A read can be cancelled: what was typed stays for the next one."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = sys.stdin.fileno() if fd is None else fd
        self._typed = b""

    async def readline(self) -> str | None:
        """Return the next line without its end, None at the end of the input.

        At a terminal that is Ctrl-D, and further lines can follow.
        """
        while b"\n" not in self._typed:
            data = await self._read()
            if not data:
                rest, self._typed = self._typed, b""
                return rest.decode(errors="replace") if rest else None
            self._typed += data
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        try:
            loop.add_reader(self._fd, wake)
        except NotImplementedError:  # Windows: a thread reads, which cannot be cancelled
            return await asyncio.to_thread(os.read, self._fd, 4096)
        try:
            await ready
        finally:
            loop.remove_reader(self._fd)
        try:
            return os.read(self._fd, 4096)
        except OSError:  # the terminal is gone
            return b""
