"""Read requests and write responses as protobuf and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from connectrpc.codec import Codec
from google.protobuf import json_format
from google.protobuf.message import Message

from stepwire.server.rpc import LocalCalls
from stepwire.server.runs.errors import InvalidError, Violation
from stepwire.server.web.errors import connect_error
from stepwire.server.web.json_bytes import no_base64

__all__ = ["BinaryCodec", "Encoded", "JsonCodec"]

_READING = "reading a request as JSON"
_WRITING = "writing a response as JSON"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A response: a message, or the bytes of one, and what it is."""

    response: Message | bytes
    kind: Callable[[], Message]

    def binary(self) -> bytes:
        """Return it as protobuf."""
        return self.response if isinstance(self.response, bytes) else self.response.SerializeToString()

    def message(self) -> Message:
        """Return it as a message."""
        if not isinstance(self.response, bytes):
            return self.response
        parsed = self.kind()
        parsed.MergeFromString(self.response)
        return parsed


class BinaryCodec(Codec[Encoded, bytes]):
    """Protobuf passes as it is: the gate checks it."""

    def name(self) -> str:
        """Return the codec's name in content types."""
        return "proto"

    def encode(self, message: Encoded) -> bytes:
        """Write a response."""
        return message.binary()

    def decode(self, data: bytes | bytearray, message_class: Any) -> Any:
        """Return a request as protobuf."""
        return bytes(data)


class JsonCodec(Codec[Encoded, bytes]):
    """JSON on one line. A field that the contract does not have is refused: it is a mistake more often than news.

    Args:
        calls: Turns errors into statuses.
    """

    def __init__(self, calls: LocalCalls) -> None:
        self._calls = calls

    def name(self) -> str:
        """Return the codec's name in content types."""
        return "json"

    def encode(self, message: Encoded) -> bytes:
        """Write a response. ConnectError (INTERNAL) if JSON cannot hold it."""
        try:
            return json_format.MessageToJson(message.message(), indent=None, ensure_ascii=False).encode()
        except Exception as error:  # noqa: BLE001 - the library would tell the caller its text
            raise connect_error(self._calls.status_of(error, _WRITING)) from None

    def decode(self, data: bytes | bytearray, message_class: Any) -> Any:
        """Return a request as protobuf. ConnectError (MALFORMED_MESSAGE)."""
        try:
            return _parsed(bytes(data), message_class()).SerializeToString()
        except InvalidError as error:
            refused = error
        except Exception as error:  # noqa: BLE001 - the parser raises whatever its parts raise
            refused = InvalidError(
                "MALFORMED_MESSAGE", f"The message is not valid JSON of this method's request type: {error}"
            )
        raise connect_error(self._calls.status_of(refused, _READING)) from None


def _parsed(data: bytes, message: Message) -> Message:
    found = json.loads(data.decode(), object_pairs_hook=_unique)
    if not isinstance(found, dict):
        raise ValueError("a message is a JSON object")
    if (field := no_base64(found, message.DESCRIPTOR)) is not None:
        violation = Violation(field, "must be base64, in the standard or the URL-safe alphabet")
        raise InvalidError("MALFORMED_MESSAGE", f"The message is not valid: {field} is not base64", [violation])
    return json_format.ParseDict(found, message)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON. ValueError for two values of one name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"two values of {next(name for name in names if names.count(name) > 1)[:128]!r}")
    return found
