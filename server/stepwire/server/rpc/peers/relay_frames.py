"""The frames in which calls and their answers go between two replicas, many in one where they come close together.

A frame is the length of its head (4 bytes), the head as JSON, and the bytes of its items one after the other. The head
is a list: how many calls are under way, and the list of the items. An item is a list of the number of its bytes, how
many are still to come, the number of its call, and more. What a later version adds behind any of them an earlier one
ignores: replicas of two versions run side by side while they are updated.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from stepwire.server.rpc.peers.content import json_of

__all__ = ["PART_BYTES", "Item", "Outbox", "read_frame"]

PART_BYTES: Final = 64 << 10
"""Bytes of a frame after which it takes no further item, and of an item in one frame: what is longer is sent in parts,
so that it holds up the others for no longer than this takes. Far below the 1 MiB that every server receives."""
_ITEMS: Final = 32
"""Items of a frame at most: the credentials of so many calls fit into what a server receives, and they share enough."""
_TURNS: Final = 48
"""Turns of the event loop for which a frame waits for company at most. gRPC hands over calls and messages one in each
of several turns. A turn in which nothing happens costs 1 µs, a frame more than 100 µs at either replica."""
_SECONDS: Final = 0.005
"""Seconds after which it waits no longer, where turns are long because much else is going on."""
_TURNS_PER_CALL: Final = 8
"""How many of them for each call under way: the fewer there are, the less likely is company."""


class Item(NamedTuple):
    """What a frame says of one call.

    Attributes:
        data: The bytes of a message, or a part of them.
        left: How many bytes of it are still to come, in later frames.
        call: The number of the call; 0 for the stream.
        said: What else is said.
    """

    data: bytes
    left: int
    call: int
    said: list[Any]


class _Waiting(NamedTuple):
    """What waits to be sent: the bytes, or a view of what is left of them."""

    data: bytes | memoryview
    call: int
    said: tuple[Any, ...]


class Outbox:
    """What waits to be sent on one stream. Iterate it for the frames; they end once it is closed and all are sent.

    A frame has what came while the one before was written. If several calls are under way, it also waits for more, for
    some turns of the event loop: sharing a frame is what makes calls cheap. A call that is alone is sent at once.
    """

    def __init__(self, under_way: Callable[[], int]) -> None:
        """Be empty. `under_way` returns how many calls the replica that makes them waits for."""
        self.size = 0
        """Bytes that wait."""
        self._under_way = under_way
        self._items: deque[_Waiting] = deque()
        self._closed = False
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    def put(self, call: int, *said: Any, data: bytes = b"") -> None:
        """Send something about a call with the next frame; a long message goes in parts, between other items."""
        self._items.append(_Waiting(data, call, said))
        self.size += len(data)
        self._wake()

    def close(self) -> None:
        """End the frames when everything is sent."""
        self._closed = True
        self._wake()

    async def room(self, most: int) -> None:
        """Wait until fewer bytes than `most` wait; for one task only."""
        while self.size >= most:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def __aiter__(self) -> Outbox:
        return self

    async def __anext__(self) -> bytes:
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        await self._company()
        return self._frame()

    async def _company(self) -> None:
        """Let further items come."""
        if (calls := self._under_way()) > 1:
            time = asyncio.get_running_loop().time
            end = time() + _SECONDS
            for _ in range(min(_TURNS, _TURNS_PER_CALL * calls)):
                if self.size >= PART_BYTES or len(self._items) >= _ITEMS or time() >= end:
                    return
                await asyncio.sleep(0)

    def _frame(self) -> bytes:
        head: list[tuple[Any, ...]] = []
        parts: list[bytes | memoryview] = []
        rest: list[_Waiting] = []
        size = 0
        while self._items and size < PART_BYTES and len(head) < _ITEMS:
            data, call, said = self._items.popleft()
            left = len(data) - PART_BYTES
            if left > 0:
                data = memoryview(data)
                rest.append(_Waiting(data[PART_BYTES:], call, said))
                data = data[:PART_BYTES]
            head.append((len(data), max(0, left), call, *said))
            parts.append(data)
            size += len(data)
        self._items += rest  # behind the others
        self.size -= size
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        text = json.dumps((self._under_way(), head), separators=(",", ":")).encode()
        return b"".join((len(text).to_bytes(4, "big"), text, *parts))

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def read_frame(frame: bytes) -> tuple[int, list[Item]]:
    """Return how many calls are under way, and the items. ValueError or TypeError if the bytes are no frame."""
    end = 4 + int.from_bytes(frame[:4], "big")
    under_way, head = json_of(frame[4:end])[:2]
    items = []
    for size, left, call, *said in head:
        if not isinstance(call, int):
            raise ValueError("a call is a number")
        items.append(Item(frame[end : end + size], left, call, said))
        end += size
    return under_way, items
