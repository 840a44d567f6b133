"""When a server that stops need not wait any longer: nobody calls, and whoever probes has heard of it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from stepwire.server.rpc.gate import lull as lulls
from stepwire.server.rpc.gate.calls import Calls
from stepwire.server.rpc.gate.lull import Lull
from stepwire.server.telemetry import probes as probing
from stepwire.server.telemetry.probes import Probes


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lulls, "monotonic", clock.time)
    monkeypatch.setattr(probing, "monotonic", clock.time)
    return clock


class Calling:
    """What the calls of a server tell."""

    idle = True
    ended = 0


def test_a_lull_lasts_a_second_without_a_call(clock: Clock) -> None:
    calls = Calling()
    lull = Lull(cast(Calls, calls))
    assert not lull.lasted()
    clock.now += 0.9
    assert not lull.lasted()
    clock.now += 0.2
    assert lull.lasted()


@pytest.mark.parametrize("what", [{"ended": 1}, {"idle": False}])
def test_a_call_that_came_or_is_open_begins_it_anew(clock: Clock, what: dict[str, Any]) -> None:
    calls = Calling()
    lull = Lull(cast(Calls, calls))
    assert not lull.lasted()
    clock.now += 0.9
    vars(calls).update(what)
    assert not lull.lasted()
    calls.idle = True
    clock.now += 0.9
    assert not lull.lasted()
    clock.now += 0.2
    assert lull.lasted()


def test_a_server_that_nobody_probes_waits_for_no_probe(clock: Clock) -> None:
    probes = Probes(lambda: "")
    probes.begin()
    assert probes.heard


def test_one_that_was_probed_waits_until_probes_were_refused_three_times(clock: Clock) -> None:
    why = "starting"
    probes = Probes(lambda: why)
    for _ in range(5):
        assert probes.answer() == "starting"
    why = ""
    assert probes.answer() == ""
    why = "draining"
    probes.begin()
    for _ in range(2):
        assert probes.answer() == "draining"
        clock.now += 5.0
        assert not probes.heard
    probes.note(refused=True)
    assert probes.heard


def test_one_that_was_probed_long_ago_waits_for_no_probe(clock: Clock) -> None:
    probes = Probes(lambda: "")
    probes.answer()
    probes.begin()
    assert not probes.heard
    clock.now += 31.0
    assert probes.heard
