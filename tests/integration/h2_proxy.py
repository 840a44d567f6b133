"""An HTTP/2 proxy that ends calls as real proxies do, and answers pings meanwhile.

It forwards frames between two connections, so it knows streams, where a proxy of bytes knows only connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from tests.connections import Connections

BIG_WINDOW = 1 << 24


class H2Proxy:
    """A proxy on a loopback port, as an async context manager.

    Ways to end a call: `rst:CODE`, `status:CODE` (gRPC trailers), `http:CODE` (only before the answer has begun),
    `eof` (END_STREAM without trailers), `silent` (nothing more is forwarded), `tcp` (the connection is closed).

    Args:
        target: HOST:PORT of the server.
        max_streams: How many streams a connection may have; None for no limit.
    """

    def __init__(self, target: str, *, max_streams: int | None = None) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._max_streams = max_streams
        self._connections = Connections(self._serve)
        self._links: set[Link] = set()
        self._rules: dict[str, deque[str]] = {}
        self.address = ""
        self.calls: list[str] = []
        self.connections = 0
        self.moved = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self.address = await self._connections.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._connections.close()

    def cut_next(self, method: str, *kinds: str) -> None:
        """End the next calls of a method in these ways, one each, as soon as their request was forwarded."""
        self._rules.setdefault(method, deque()).extend(kinds)

    async def passed(self, method: str, frames: int) -> None:
        """Wait until an open call of a method has brought the client so many DATA frames."""
        async with self.moved:
            await self.moved.wait_for(
                lambda: any(
                    stream.method == method and stream.frames >= frames
                    for link in self._links
                    for stream in link.streams()
                )
            )

    def cut(self, method: str, kind: str) -> int:
        """End the open calls of a method; return how many there were."""
        found = [(link, stream) for link in self._links for stream in link.streams() if stream.method == method]
        for link, stream in found:
            link.cut(stream, kind)
        return len(found)

    def rule(self, method: str) -> str | None:
        """Return how a new call of a method ends; None when it does not."""
        kinds = self._rules.get(method)
        return kinds.popleft() if kinds else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.CancelledError):  # only the proxy cancels this task, at its own end
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
            link = Link(self, writer, up_writer, self._max_streams)
            self._links.add(link)
            try:
                await link.run(reader, up_reader)
            finally:
                self._links.discard(link)
                writer.transport.abort()
                up_writer.transport.abort()


class Stream:
    """A call: its number on both connections, and what waits to be sent on each."""

    def __init__(self, method: str, down: int, up: int) -> None:
        self.method = method
        self.down = down
        self.up = up
        self.to_client: deque[Callable[[], Any] | bytes] = deque()
        self.to_server: deque[Callable[[], Any] | bytes] = deque()
        self.answered = False
        self.frames = 0
        self.silent = False


class Link:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(
        self,
        proxy: H2Proxy,
        down: asyncio.StreamWriter,
        up: asyncio.StreamWriter,
        max_streams: int | None,
    ) -> None:
        self._proxy = proxy
        self._down_writer, self._up_writer = down, up
        self._down = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._up = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._by_down: dict[int, Stream] = {}
        self._by_up: dict[int, Stream] = {}
        limits = {SettingCodes.MAX_CONCURRENT_STREAMS: max_streams or (1 << 31) - 1, SettingCodes.ENABLE_PUSH: 0}
        self._down.local_settings = Settings(client=False, initial_values=limits)
        for h2 in (self._down, self._up):
            h2.initiate_connection()
            h2.increment_flow_control_window(BIG_WINDOW)

    def streams(self) -> list[Stream]:
        return list(self._by_down.values())

    async def run(self, reader: asyncio.StreamReader, up_reader: asyncio.StreamReader) -> None:
        self._flush()
        tasks = [
            asyncio.create_task(self._read(reader, self._down, self._from_client)),
            asyncio.create_task(self._read(up_reader, self._up, self._from_server)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader, h2: H2Connection, take: Callable[[Event], None]) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for event in h2.receive_data(data):
                    if isinstance(event, ConnectionTerminated):
                        return
                    take(event)
                self._pump()
                async with self._proxy.moved:
                    self._proxy.moved.notify_all()

    def _from_client(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._open(event)
            return
        stream = self._by_down.get(getattr(event, "stream_id", 0) or 0)
        if isinstance(event, DataReceived):
            self._down.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if stream is None:
            return
        if isinstance(event, DataReceived):
            stream.to_server.append(bytes(event.data))
        elif isinstance(event, StreamEnded):
            stream.to_server.append(lambda: self._up.end_stream(stream.up))
        elif isinstance(event, StreamReset):
            self._forget(stream, reset=True)

    def _open(self, event: RequestReceived) -> None:
        headers = list(event.headers)
        method = dict(headers)[b":path"].decode().rpartition("/")[2]
        stream = Stream(method, event.stream_id, self._up.get_next_available_stream_id())
        self._by_down[stream.down] = self._by_up[stream.up] = stream
        self._proxy.calls.append(method)
        self._up.send_headers(stream.up, headers)
        if (kind := self._proxy.rule(method)) is not None:
            stream.to_server.append(lambda: self.cut(stream, kind))

    def _from_server(self, event: Event) -> None:
        stream = self._by_up.get(getattr(event, "stream_id", 0) or 0)
        if isinstance(event, DataReceived):
            with contextlib.suppress(ProtocolError):
                self._up.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if stream is None or stream.silent:
            return
        if isinstance(event, ResponseReceived):
            stream.to_client.append(lambda: self._answer(stream, event.headers, event.stream_ended is not None))
        elif isinstance(event, DataReceived):
            stream.frames += 1
            stream.to_client.append(bytes(event.data))
        elif isinstance(event, TrailersReceived):
            stream.to_client.append(lambda: self._finish(stream, event.headers))
        elif isinstance(event, StreamReset):
            code = event.error_code
            stream.to_client.append(lambda: self._reset(stream, code))

    def _answer(self, stream: Stream, headers: Any, last: bool) -> None:
        stream.answered = True
        self._down.send_headers(stream.down, headers, end_stream=last)
        if last:
            self._forget(stream)

    def _finish(self, stream: Stream, headers: Any) -> None:
        self._down.send_headers(stream.down, headers, end_stream=True)
        self._forget(stream)

    def _reset(self, stream: Stream, code: int) -> None:
        self._down.reset_stream(stream.down, code)
        self._forget(stream)

    def cut(self, stream: Stream, kind: str) -> None:
        """End a call."""
        what, _, code = kind.partition(":")
        if what == "silent":
            stream.silent = True
            stream.to_client.clear()
            return
        if what == "tcp":
            self._down_writer.transport.abort()
            return
        if what == "rst":
            self._down.reset_stream(stream.down, int(code))
        elif what == "http":
            assert not stream.answered
            self._down.send_headers(stream.down, [(":status", code), ("content-type", "text/html")], end_stream=True)
        else:
            if not stream.answered:
                self._down.send_headers(stream.down, [(":status", "200"), ("content-type", "application/grpc")])
            if what == "eof":
                self._down.end_stream(stream.down)
            else:
                trailers = [("grpc-status", code), ("grpc-message", "ended by the proxy")]
                self._down.send_headers(stream.down, trailers, end_stream=True)
        self._forget(stream, reset=True)
        self._flush()

    def _forget(self, stream: Stream, *, reset: bool = False) -> None:
        self._by_down.pop(stream.down, None)
        if self._by_up.pop(stream.up, None) is not None and reset:
            with contextlib.suppress(ProtocolError):
                self._up.reset_stream(stream.up, ErrorCodes.CANCEL)

    def _pump(self) -> None:
        for stream in self.streams():
            self._send(self._up, stream.up, stream.to_server)
            self._send(self._down, stream.down, stream.to_client)
        self._flush()

    def _send(self, h2: H2Connection, number: int, waiting: deque[Callable[[], Any] | bytes]) -> None:
        with contextlib.suppress(ProtocolError):  # the stream has ended meanwhile
            while waiting:
                item = waiting.popleft()
                if not isinstance(item, bytes):
                    item()
                    continue
                room = min(h2.local_flow_control_window(number), h2.max_outbound_frame_size)
                if item[room:]:
                    waiting.appendleft(item[room:])
                if room <= 0:
                    return
                h2.send_data(number, item[:room])

    def _flush(self) -> None:
        for h2, writer in ((self._down, self._down_writer), (self._up, self._up_writer)):
            if (data := h2.data_to_send()) and not writer.is_closing():
                writer.write(data)


__all__ = ["H2Proxy"]
