"""What is typed: key=value, JSON, times, answers."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from stepwire.cli._parsing import fields, json_object, labels, moment, pairs, run_and_sequence, seconds, value
from stepwire.cli._schedule_options import ScheduleOptions
from stepwire.client import At


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ('"5"', "5"),
        ("[1,2]", [1, 2]),
        ('{"a":1}', {"a": 1}),
        ("Ada", "Ada"),
        ("", ""),
        ("a=b", "a=b"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("True", "True"),
        ("0123", "0123"),
        ("1e400", "1e400"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_value_is_json_when_it_is_json_else_text(text: str, expected: Any) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


def test_pairs() -> None:
    assert pairs(["name=Ada", "n=3", "eq=a=b", "empty="]) == {"name": "Ada", "n": 3, "eq": "a=b", "empty": ""}


@pytest.mark.parametrize("items", [["name"], ["=x"], ["a=1", "a=2"]])
def test_bad_pairs(items: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        pairs(items)


def test_fields_of_a_document_and_of_arguments(tmp_path: Path) -> None:
    file = tmp_path / "in.json"
    file.write_text('{"a": 1, "b": {"c": 2}}', encoding="utf-8")
    assert fields(["a=7"], f"@{file}") == {"a": 7, "b": {"c": 2}}
    assert fields([], None) is None
    assert fields([], "{}") == {}


def test_document_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1}'))
    assert json_object("@-", "--input") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON (line 1"),
        ("[1]", "not a JSON object"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1e400}', "1e400 is too large"),
        ("[" * 100_000, "nested too deep"),
        ("@no/such", "no/such"),
    ],
)
def test_bad_documents(text: str, said: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        json_object(text, "--input")
    assert said in str(caught.value)
    assert "--input" in str(caught.value)


def test_labels_are_text() -> None:
    assert labels(["n=5", "team=blue=green"]) == {"n": "5", "team": "blue=green"}
    with pytest.raises(typer.BadParameter):
        labels(["team"])


@pytest.mark.parametrize(
    ("text", "expected"), [("30", 30.0), ("0.5", 0.5), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0), ("1d", 86400.0)]
)
def test_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_a_document_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert json_object(f"@{file}", "--input") == {"a": 1}


@pytest.mark.parametrize("text", ["", "-1", "2 weeks", "s", "1e3", "99999999999999d"])
def test_bad_seconds(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        seconds(text)


def test_moment() -> None:
    assert moment("2026-01-31T12:00:00+02:00") == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert moment("2026-01-31T12:00").tzinfo is UTC
    before = datetime.now(UTC)
    assert before <= moment("2h") + timedelta(hours=2) <= datetime.now(UTC)
    for bad in ("yesterday", "0001-01-01T00:00:00+14:00", "9999999d"):
        with pytest.raises(typer.BadParameter):
            moment(bad)


def test_run_and_sequence() -> None:
    assert run_and_sequence("a:b.c-d") == "a:b.c-d"
    assert run_and_sequence("r@12") == ("r", 12)
    for bad in ("r@", "@3", "r@x", "r@-1"):
        with pytest.raises(typer.BadParameter):
            run_and_sequence(bad)


def test_a_time_of_a_schedule_is_ahead() -> None:
    def at(text: str) -> datetime:
        when = ScheduleOptions(at=text).spec("w", []).when
        assert isinstance(when, At)
        return when.time

    before = datetime.now(UTC)
    assert before <= at("2h") - timedelta(hours=2) <= datetime.now(UTC)
    end = ScheduleOptions(every="5m", end="30d").spec("w", []).end_time
    assert end is not None
    assert before <= end - timedelta(days=30) <= datetime.now(UTC)
    with pytest.raises(typer.BadParameter, match="nor a time span from now"):
        at("gestern")
    with pytest.raises(typer.BadParameter, match="is after the year 9999"):
        at("3650000d")
