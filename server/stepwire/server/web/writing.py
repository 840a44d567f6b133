"""Connections of HTTP: write what is ready as one piece, and not for ever; refuse HTTP/2 in its own words."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Final

from stepwire.server.web.heads import BoundedProtocol
from stepwire.server.web.http2 import PREFACE, Http2Refusal, without_offer

__all__ = ["JoiningProtocol"]

_RESET: Final = struct.pack("ii", 1, 0)
"""Linger for no time."""
_REFUSAL_SECONDS: Final = 10.0
"""How long a client of HTTP/2 may take to send its request, and to read that it is refused."""


class JoiningProtocol(BoundedProtocol):
    """uvicorn's protocol over a transport that joins the writes of one turn of the event loop.

    Args:
        stalled_after: Seconds for which a reader may leave the buffer full, 0 for any time. Then the connection is cut.
        refusal: What a client of HTTP/2 is told, in ASCII.
    """

    def __init__(self, *args: Any, stalled_after: float = 0.0, refusal: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stalled_after = stalled_after
        self._stalled: asyncio.TimerHandle | None = None
        self._refusal = refusal
        self._refused: Http2Refusal | None = None
        self._new = True

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        if self._new:
            self._new = False
            if data[:4] == PREFACE[:4]:
                self._refused = Http2Refusal(self._refusal)
                self._stalled = self.loop.call_later(_REFUSAL_SECONDS, self.transport.close)
        if self._refused is None:
            cycle: Any = self.cycle  # None before the first request
            if b"pgrade:" in data and (cycle is None or not cycle.more_body):
                data = without_offer(data)
            super().data_received(data)
            return
        self.transport.write(self._refused.answer(data))
        if self._refused.over:
            self.transport.close()

    def connection_made(self, transport: Any) -> None:
        """Take a connection."""
        super().connection_made(_JoiningTransport(transport, self.loop))

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
