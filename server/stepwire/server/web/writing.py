"""Write to HTTP connections: what is ready as one piece, and not for ever to a reader that takes nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["JoiningProtocol"]

_RESET: Final = struct.pack("ii", 1, 0)
"""Linger for no time."""


class JoiningProtocol(HttpToolsProtocol):
    """uvicorn's protocol over a transport that joins the writes of one turn of the event loop.

    Args:
        stalled_after: Seconds for which a reader may leave the buffer full, 0 for any time. Then the connection is cut.
    """

    def __init__(self, *args: Any, stalled_after: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stalled_after = stalled_after
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take a connection."""
        super().connection_made(_JoiningTransport(transport, self.loop))  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self._go_on()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Note that the buffer is full."""
        super().pause_writing()
        if self._stalled_after and self._stalled is None:
            self._stalled = self.loop.call_later(self._stalled_after, self._cut)

    def resume_writing(self) -> None:
        """Note that the reader took what was in the buffer."""
        self._go_on()
        super().resume_writing()

    def _cut(self) -> None:
        """Reset the connection, so that what waits in the kernel is freed too."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _go_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class _JoiningTransport:
    """A transport that writes at the end of the turn. Everything else is the transport's own."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, together with what else comes in this turn.

        uvicorn writes the headers and the body of a response apart, which would be a system call each.
        """
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Write what waits, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            self._transport.write(data)
