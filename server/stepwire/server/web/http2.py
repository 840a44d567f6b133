"""What clients of HTTP/2 get from the web, which speaks HTTP/1.1.

A gRPC client that calls the web's address opens its connection with HTTP/2, which a server of HTTP/1.1 takes for a
malformed request. Its user would read of frames and parsers, and not of the port. So each request of such a connection
is refused in the words of HTTP/2, with a text that says where gRPC is. Nothing else of HTTP/2 is served.

Other clients offer in a request of HTTP/1.1 to go on with HTTP/2, as Java's HttpClient and `curl --http2` do. The offer
is ignored, as RFC 9110 allows.
"""

from __future__ import annotations

import re
import struct
from typing import Final

__all__ = ["PREFACE", "Http2Refusal", "grpc_is_elsewhere", "is_grpc", "without_offer"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client of HTTP/2 sends first. No method of HTTP/1.1 begins so."""
_LONGEST_FRAME: Final = 1 << 14
"""Bytes of a frame that a client may send to a server that has not allowed more (RFC 9113, 4.2)."""
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY = 0, 1, 4, 6, 7
_ACK: Final = 1
_END_STREAM: Final = 1
_END_HEADERS: Final = 4
_FRAME_SIZE_ERROR: Final = 6
_OK: Final = b"\x88"
"""`:status: 200`, compressed."""
_GRPC: Final = (b"application/grpc", bytes.fromhex("1d75d0620d263d4c4d6564"))
"""The beginning of the content type of gRPC, as a text and in the Huffman code of HTTP/2's headers."""


def grpc_is_elsewhere(port: int) -> str:
    """Return what a gRPC client is told."""
    where = f"gRPC is on port {port}" if port else "gRPC has an address of its own"
    return f"this is the web address of Stepwire, for browsers, Connect and gRPC-Web over HTTP/1.1; {where}"


_OFFER: Final = re.compile(rb"(?i)(?<=\r\n)upgrade:[^\r\n]*\r\n")


def without_offer(data: bytes) -> bytes:
    """Return the beginning of a request without an offer of another protocol.

    The parser takes the body of a request with an offer for the other protocol, and would lose it.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _OFFER.sub(b"", head + end) + rest


def is_grpc(content_type: bytes) -> bool:
    """Return whether a request is gRPC, and not gRPC-Web."""
    return content_type[:16] == b"application/grpc" and content_type[16:20] != b"-web"


class Http2Refusal:
    """Refuse every request of one connection of HTTP/2.

    Args:
        text: Why, in ASCII.
    """

    def __init__(self, text: str) -> None:
        self._text = text.encode("ascii")
        self._received = bytearray()
        self._begun = False
        self._grpc = False  # only the first request spells what later ones say by a number
        self.over = False
        """Whether the client has broken the protocol: the connection is to be closed."""

    def answer(self, data: bytes) -> bytes:
        """Take what the client sent, which begins with the preface; return what to send."""
        self._received += data
        answer = b""
        if not self._begun and len(self._received) >= len(PREFACE):
            self._begun = True
            del self._received[: len(PREFACE)]
            answer += _frame(_SETTINGS)
        while self._begun and not self.over and len(self._received) >= 9:
            length = int.from_bytes(self._received[:3], "big")
            if length > _LONGEST_FRAME:
                self.over = True
                return answer + _frame(_GOAWAY, payload=struct.pack(">II", 0, _FRAME_SIZE_ERROR))
            if len(self._received) < 9 + length:
                break
            kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
            payload = bytes(self._received[9 : 9 + length])
            del self._received[: 9 + length]
            answer += self._answer_frame(kind, flags, stream, payload)
        return answer

    def _answer_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            return _frame(kind, _ACK, payload=payload if kind == _PING else b"")
        if kind == _HEADERS:
            self._grpc = self._grpc or any(name in payload for name in _GRPC)
        if kind == _HEADERS and self._grpc:
            fields = {b"content-type": b"application/grpc", b"grpc-status": b"12", b"grpc-message": self._text}
            return _frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, _OK + _fields(fields))
        if kind not in (_HEADERS, _DATA) or self._grpc or not flags & _END_STREAM:
            return b""
        fields = {b":status": b"505", b"content-type": b"text/plain"}
        headers = _frame(_HEADERS, _END_HEADERS, stream, _fields(fields))
        return headers + _frame(_DATA, _END_STREAM, stream, self._text + b"\n")


def _frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _fields(fields: dict[bytes, bytes]) -> bytes:
    """Write header fields literally, without a place in the table (RFC 7541, 6.2.2)."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields.items())


def _string(text: bytes) -> bytes:
    """Write a text of at most 254 bytes without the Huffman code (RFC 7541, 5.2)."""
    length = len(text)
    return (bytes([length]) if length < 127 else bytes([127, length - 127])) + text
