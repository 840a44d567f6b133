"""How requests to stop move the deadline of the process."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable
from typing import Any

import pytest

from stepwire.server.process.ending import STOP_SECONDS, Ending


class Left(Exception):
    """The process would have ended."""


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    clock = 1000.0

    def move(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    monkeypatch.setattr(time, "monotonic", lambda: clock)
    return move


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch, advance: Any) -> tuple[Ending, list[str]]:
    calls: list[str] = []
    made = Ending(32.0, extra=0.0, stop=lambda: calls.append("stop"), hasten=lambda: calls.append("hasten"))

    def leave(why: str = "") -> None:
        calls.append(why)
        raise Left

    monkeypatch.setattr(made, "leave", leave)
    return made, calls


def test_nothing_ends_a_process_that_nobody_asked(ending: Any, advance: Any) -> None:
    made, calls = ending
    advance(1e6)
    made.expire()
    assert made.remaining() is None
    assert calls == []


def test_the_first_request_gives_the_grace_and_a_bound(ending: Any, advance: Any) -> None:
    made, calls = ending
    made.ask()
    assert calls == ["stop"]
    assert made.remaining() == 32.0 + STOP_SECONDS
    advance(35.5)
    made.expire()
    advance(0.25)
    assert made.remaining() == 0.0
    with pytest.raises(Left):
        made.expire()
    assert "its event loop is at" in calls[-1]
    assert "test_ending.py" in calls[-1]


def test_the_second_cuts_the_grace_and_the_third_leaves(ending: Any, advance: Any) -> None:
    made, calls = ending
    made.ask()
    advance(1.0)
    made.ask()
    assert calls == ["stop", "hasten"]
    assert made.remaining() == STOP_SECONDS
    with pytest.raises(Left):
        made.ask()


def test_a_second_request_never_moves_the_deadline_back(ending: Any, advance: Any) -> None:
    made, _ = ending
    made.ask()
    advance(35.0)
    made.ask()
    assert made.remaining() == STOP_SECONDS - 3.0


def test_a_server_that_has_stopped_leaves_a_second_later(ending: Any, advance: Any) -> None:
    made, calls = ending
    made.ask()
    made.finish(0)
    assert made.remaining() == 1.0
    advance(1.5)
    with pytest.raises(Left):
        made.expire()
    assert calls == ["stop", ""]  # no complaint


def test_the_last_resort_comes_after_the_deadline(ending: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = ending
    armed: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, **_: armed.append(seconds))
    for _ in range(4):
        made.arm()
    assert armed == [32.0 + STOP_SECONDS + 1.0, STOP_SECONDS + 1.0, 1.0, 1.0]
