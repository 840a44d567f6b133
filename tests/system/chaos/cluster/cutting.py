"""Cables between processes that can be pulled: with a reset, silently, or for one direction alone."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Cable:
    """Forward bytes to a target. While it is cut nothing passes; `mend` lets new connections through again."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._target_port = int(port)
        self.port = 0
        self.cuts = 0
        self._mode = ""
        self._whole = asyncio.Event()
        self._whole.set()
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def open(self) -> Self:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def cut(self, mode: str) -> None:
        """Cut it.

        Args:
            mode: `reset`: connections break at once and none can be made; `silent`: bytes are held back both ways;
                `there` or `back`: bytes to the target, or from it, are held back.
        """
        self.cuts += 1
        self._mode = mode
        if mode == "reset":
            self._break()
        else:
            self._whole.clear()

    def mend(self) -> None:
        """Mend it. What a silent cut held back is lost with its connections, as after minutes in a real network."""
        if self._mode and self._mode != "reset":
            self._break()
        self._mode = ""
        self._whole.set()

    def _break(self) -> None:
        for task, writers in list(self._connections.items()):
            for writer in writers:
                writer.transport.abort()
            task.cancel()

    async def close(self) -> None:
        """Break all connections and listen no more."""
        self._break()
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = [writer]
        try:
            if self._mode == "reset":
                return
            up_reader, up_writer = await asyncio.open_connection(self._host, self._target_port)
            self._connections[task].append(up_writer)
            upward = asyncio.create_task(self._pump(reader, up_writer, "back"))
            try:
                await self._pump(up_reader, writer, "there")
            finally:
                upward.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for each in self._connections.pop(task):
                each.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, open_in: str) -> None:
        """Forward bytes of one direction; a cut of the other one (`open_in`) lets them pass."""
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if self._mode not in ("", open_in):
                    await self._whole.wait()
                sink.write(data)
                await sink.drain()
