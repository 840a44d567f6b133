"""Bound what a connection may send, and for how long, before its request can be answered.

uvicorn keeps a request's head until it is complete, whoever sends it: a head without end would fill the memory, many
that never end would take all file descriptors.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = ["BoundedProtocol"]

MAX_HEAD_BYTES: Final = 64 * 1024
"""Bytes of a request's line and headers, or of trailers. gRPC takes 16 KiB, most HTTP servers 8 to 64."""
MAX_HEADERS: Final = 256
"""Headers of a request, trailers included."""
HEAD_SECONDS: Final = 30.0
"""How long a head may take to arrive. A client sends it in one piece."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which cuts connections whose request does not get as far as its body.

    What is read between two callbacks of the parser that tell of progress is what the parser keeps: a head or trailers
    that are not complete.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unfinished = 0
        """Bytes read since the parser got on."""
        self._got_on = False
        self._awaits_head = True
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take a connection."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, and refuse a head that does not end."""
        self._got_on = False
        super().data_received(data)
        if self._got_on:
            self._unfinished = 0
        else:
            self._unfinished += len(data)
            if self._unfinished > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse()
        if self._awaits_head and self._head_timer is None and self._answered():
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self._got_on = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that a request's head is complete. ValueError, which makes uvicorn refuse it, if it has too much."""
        self._got_on, self._awaits_head = True, False
        self._stop_timer()
        if len(self.headers) > MAX_HEADERS:
            raise ValueError(f"a request may have at most {MAX_HEADERS} headers")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that a part of a request's body is here."""
        self._got_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request is complete."""
        self._got_on = self._awaits_head = True
        super().on_message_complete()

    def _answered(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn says
        return cycle is None or cycle.response_complete

    def _refuse(self) -> None:
        if self._answered():
            self.send_400_response("The head of the request is too long.")
        else:  # a response is under way, which a second one would garble
            self.transport.abort()

    def _too_slow(self) -> None:
        self._head_timer = None
        self.transport.abort()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
