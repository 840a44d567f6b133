"""Bound what a connection may send, and for how long, before its request can be answered.

uvicorn keeps a request's head until it is complete, whoever sends it: a head without end would fill the memory, many
that never end would take all file descriptors. A body that never ends takes a file descriptor and a call.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from google.rpc.status_pb2 import Status
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from stepwire.server.rpc.errors import status_with
from stepwire.server.web.browsers import CONFINING
from stepwire.server.web.errors import error_answer

__all__ = ["BoundedProtocol"]

MAX_HEAD_BYTES: Final = 64 * 1024
"""Bytes of a request's line and headers, or of trailers. gRPC takes 16 KiB, most HTTP servers 8 to 64."""
MAX_HEADERS: Final = 256
"""Headers of a request."""
HEAD_SECONDS: Final = 30.0
"""How long a head may take to arrive. A client sends it in one piece."""
BODY_SECONDS: Final = 30.0
"""How long a body may take for its next BODY_BYTES."""
BODY_BYTES: Final = 16 * 1024
"""What a body brings at least in BODY_SECONDS, unless it ends: the worst networks of phones carry more."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which cuts connections whose request does not arrive, and tells what is no HTTP as an error.

    What is read between two callbacks of the parser that tell of progress is what the parser keeps: a head or trailers
    that are not complete.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unfinished = 0
        """Bytes read since the parser got on."""
        self._got_on = False
        self._awaits_head = True
        self._timer: asyncio.TimerHandle | None = None
        """Cuts the connection if the head, or some of the body, does not come in time."""
        self._brought = 0
        """Bytes of the body since the timer was set."""
        self._was_answered = False
        """Whether the request was answered before its body ended, when the timer was set."""

    def connection_made(self, transport: Any) -> None:
        """Take a connection."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, self._no_head)

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
        if self._timer is None and not self._awaits_head:
            self._watch_body()
        elif self._timer is None and self._answered():
            self._timer = self.loop.call_later(HEAD_SECONDS, self._no_head)

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self._got_on = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Leave trailers out: uvicorn would add them to the headers, where they could name a caller."""
        if self._awaits_head:
            super().on_header(name, value)

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
        self._brought += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request is complete."""
        self._got_on = self._awaits_head = True
        self._stop_timer()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request of HTTP as an error with its reason."""
        self._tell(400, status_with("INVALID_REQUEST", msg))

    def _answered(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn says
        return cycle is None or cycle.response_complete

    def _refuse(self) -> None:
        if self._answered():
            self.send_400_response("The head of the request is too long.")
        else:  # a response is under way, which a second one would garble
            self.transport.abort()

    def _no_head(self) -> None:
        self._timer = None
        self.transport.abort()

    def _watch_body(self) -> None:
        self._brought, self._was_answered = 0, self._answered()
        self._timer = self.loop.call_later(BODY_SECONDS, self._look_at_body)

    def _look_at_body(self) -> None:
        """Cut the connection if its body comes too slowly, or was refused for so long that its end is of no use."""
        cycle: RequestResponseCycle = self.cycle
        waits = self.pipeline or self.flow.read_paused  # for another request, or for the application to read
        if waits or (cycle.response_started and not cycle.response_complete):
            self._watch_body()
        elif self._was_answered:
            self.transport.abort()
        elif self._brought >= BODY_BYTES or cycle.response_complete:
            self._watch_body()
        else:
            told = f"The body of the request must bring {BODY_BYTES} bytes, or end, within {BODY_SECONDS:g} seconds"
            self._tell(408, status_with("LIMIT_EXCEEDED", told, {"limit": "body_seconds"}))

    def _tell(self, http_status: int, status: Status) -> None:
        """Answer a request that did not arrive, and close the connection.

        While one before it has no answer yet, that would be taken for its answer: then close without a word.
        """
        cycle: RequestResponseCycle | None = self.cycle
        if (
            not self._answered()
            and cycle is not None
            and (cycle.response_started or not cycle.more_body or self.pipeline)
        ):
            self.transport.abort()
            return
        answer = error_answer({"headers": self.headers or []}, http_status, status)
        headers = [*answer.raw_headers, *CONFINING, (b"connection", b"close")]
        lines = [b"%b: %b\r\n" % each for each in headers]
        self.transport.write(b"".join([STATUS_LINE[http_status], *lines, b"\r\n", bytes(answer.body)]))
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
