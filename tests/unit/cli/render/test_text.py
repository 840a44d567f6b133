"""Text that is safe to show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stepwire.cli.render.text import clean, clean_json, compact, duration, exact


def test_clean_leaves_text_and_disarms_terminals() -> None:
    assert clean("Grüße, 世界 👩‍👧\u00a0!") == "Grüße, 世界 👩‍👧\u00a0!"
    assert clean("a\x1b[2Jb\x9bc\rd") == "a\\x1b[2Jb\\x9bc\\x0dd"
    assert clean("\u202eevil") == "\\u202eevil"
    assert clean("two\nlines") == "two\nlines"
    assert clean("two\nlines", keep="") == "two\\x0alines"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Ada", "Ada"),
        ("two words", '"two words"'),
        ("", '""'),
        ("5", '"5"'),
        (5, "5"),
        (None, "null"),
        ({"a": [1, 2]}, '{"a":[1,2]}'),
        ("\x1b[31m", "\\x1b[31m"),
        ("x" * 100, "x" * 59 + "…"),
    ],
)
def test_compact(value: Any, expected: str) -> None:
    assert compact(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0.0s"), (3.21, "3.2s"), (125, "2m05s"), (3780, "1h03m"), (2 * 86400 + 4 * 3600, "2d04h")],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize("indent", [None, 2])
def test_json_disarms_terminals_and_says_the_same(indent: int | None) -> None:
    value = {"a\x9b31m": ["b\u202ec\x7f", "\U000e0041", "\x1b]0;\x07"], "plain": "héllo 漢字 👩\u200d🔬"}
    text = clean_json(json.dumps(value, ensure_ascii=False, indent=indent))
    assert json.loads(text) == value
    assert text.replace("\n", "").replace("\u200d", "").isprintable()
    assert "héllo 漢字 👩\u200d🔬" in text


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (0.5, "0.5s"), (45, "45s"), (60, "1m"), (90.5, "1m30.5s"), (86400, "1d"), (90_061, "1d1h1m1s")],
)
def test_a_span_that_was_set(seconds: float, expected: str) -> None:
    assert exact(seconds) == expected
