"""Lines read without blocking the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from stepwire.cli.render.line_reader import LineReader


@pytest.fixture
def pipe() -> Iterator[tuple[LineReader, BinaryIO]]:
    read, write = os.pipe()
    with os.fdopen(read, "rb"), os.fdopen(write, "wb", buffering=0) as source:
        yield LineReader(read), source


async def test_lines_that_come_together_and_in_parts(pipe: tuple[LineReader, BinaryIO]) -> None:
    reader, source = pipe
    source.write("one\r\ntwö\nth".encode())
    assert await reader.readline() == "one"
    assert await reader.readline() == "twö"
    third = asyncio.create_task(reader.readline())
    source.write(b"ree\n")
    assert await third == "three"


async def test_the_end(pipe: tuple[LineReader, BinaryIO]) -> None:
    reader, source = pipe
    source.write(b"rest")
    source.close()
    assert await reader.readline() == "rest"
    assert await reader.readline() is None


async def test_a_read_can_be_cancelled(pipe: tuple[LineReader, BinaryIO]) -> None:
    reader, source = pipe
    waiting = asyncio.create_task(reader.readline())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    source.write(b"later\n")
    assert await reader.readline() == "later"
