"""The lines of the log."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import Iterator

import pytest

from stepwire.server.telemetry import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("stepwire").level)
    yield io.StringIO()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in before[0]:
        root.addHandler(handler)
    root.setLevel(before[1])
    logging.getLogger("stepwire").setLevel(before[2])
    logging.captureWarnings(False)


def written(stream: io.StringIO) -> str:
    """Return what the log's thread wrote."""
    logs.flush()
    return stream.getvalue()


def test_time_level_message(stream: io.StringIO) -> None:
    logs.configure("info", stream)
    logging.getLogger("stepwire.server").info("took up %d runs", 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO     took up 3 runs\n", written(stream))


def test_a_message_cannot_forge_a_line(stream: io.StringIO) -> None:
    logs.configure("info", stream)
    logging.getLogger("stepwire").warning("a\nb\x1b[2J")
    assert written(stream).endswith("WARNING  a\\nb\\x1b[2J\n")


def test_a_traceback_is_indented(stream: io.StringIO) -> None:
    logs.configure("info", stream)
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("stepwire").exception("it failed")
    first, *rest = written(stream).splitlines()
    assert first.endswith("it failed")
    assert rest[-1].endswith("ValueError: boom")
    assert all(line.startswith("    ") for line in rest)


def test_levels(stream: io.StringIO) -> None:
    logs.configure("info", stream)
    of_a_library("of another library", logging.INFO)
    logging.getLogger("stepwire").debug("too much")
    logging.getLogger("author").debug("too much")
    assert written(stream) == ""
    of_a_library("of importance", logging.WARNING)
    logging.getLogger("asyncio").info("the author's, whatever its name")
    logs.flush()
    logs.configure("debug", stream)
    of_a_library("in detail", logging.DEBUG)
    assert [line.split()[2] for line in written(stream).splitlines()] == ["WARNING", "INFO", "DEBUG"]


def of_a_library(text: str, level: int) -> None:
    """Log as code of the standard library does."""
    logger = logging.getLogger("asyncio")
    logger.handle(logger.makeRecord(logger.name, level, asyncio.__file__, 1, text, (), None))
