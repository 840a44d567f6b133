"""Pages of a listing: their size, and the opaque token of the next one."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf.message import Message

from stepwire.server.runs.errors import InvalidError, Violation

_SMALLEST, _LARGEST, _DEFAULT = 1, 1000, 100
"""Items of a page; the default is for requests that name no size."""

PAGE_BYTES = 2 << 20
"""Bytes of a page. With one more item, the largest of which has about as many, it is below the 4 MiB that gRPC clients
accept by default."""


def page_size(asked: int) -> int:
    """Return the number of items of a page, given what the request asks for. InvalidError if that is negative."""
    if asked < 0:
        raise InvalidError(
            "INVALID_REQUEST", "The request is not valid", [Violation("page_size", "must not be negative")]
        )
    return _DEFAULT if asked == 0 else max(_SMALLEST, min(_LARGEST, asked))


def page_token(place: list[Any], bound: str) -> str:
    """Return an opaque token for a place in a listing. `bound` identifies the filter that the token belongs to."""
    return base64.urlsafe_b64encode(json.dumps([bound, place]).encode()).decode()


def page_place(token: str, bound: str, *kinds: type[Any]) -> list[Any]:
    """Return the place of a token, whose parts must be of these types.

    Raises:
        InvalidError: INVALID_PAGE_TOKEN, if the token belongs to another filter or was not made by `page_token`.
    """
    try:
        found, place = json.loads(base64.urlsafe_b64decode(token.encode()).decode())
        fits = [type(part) for part in place] == list(kinds) and all(_storable(part) for part in place)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidError("INVALID_PAGE_TOKEN", "The page_token is not one of this server's") from error
    if found != bound or not fits:
        raise InvalidError("INVALID_PAGE_TOKEN", "The page_token belongs to another filter")
    return list(place)


def _storable(part: Any) -> bool:
    """Tell whether a store can compare with a part of a place. UnicodeEncodeError for text that no store can hold."""
    if isinstance(part, str):
        part.encode()
    return not isinstance(part, int) or abs(part) < 1 << 63


class Page:
    """Count what goes into a page: at most `size` items, and about PAGE_BYTES."""

    __slots__ = ("_items", "_room", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._items = 0
        self._room = PAGE_BYTES

    def takes(self, item: Message) -> bool:
        """Take an item in if there is room for it. The first item always fits."""
        self._room -= item.ByteSize()
        if self._items and (self._room < 0 or self._items == self._size):
            return False
        self._items += 1
        return True
