"""Long waits made of short calls, without a transport and without time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from stepwire import client as api
from stepwire.client._core.call import Call
from stepwire.client._core.places import MOST_PLACES, Places
from stepwire.client._core.polls import POLL, RELAX, SLACK, Waiting
from stepwire.v1 import run_service_pb2 as runs


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lost(code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> api.StepwireError:
    return api.UnavailableError("cut", code=code)


class World:
    """Answers the polls of a wait: `script` gets the seconds that a poll asks for and moves the clock."""

    def __init__(self, script: Callable[[float], Any], **settings: Any) -> None:
        self.clock = Clock()
        self.script = script
        self.polls: list[float] = []
        self.delays: list[float] = []
        settings = {"timeout": None, "reconnect_timeout": 120.0, **settings}
        self.waiting = Waiting(**settings, late="it is late", clock=self.clock)

    def ask(self) -> Any:
        operation = self.waiting.ask("RunService.WaitRun", runs.WaitRunRequest(run_id="r"))
        step = next(operation)
        while True:
            try:
                if isinstance(step, Call):
                    seconds = step.request.timeout.ToTimedelta().total_seconds()  # type: ignore[attr-defined]
                    assert step.budget == pytest.approx(seconds + SLACK, abs=1e-5)
                    assert not step.safe
                    self.polls.append(seconds)
                    answer = self.script(seconds)
                    step = operation.throw(answer) if isinstance(answer, Exception) else operation.send(answer)
                else:
                    self.delays.append(step)
                    self.clock.now += step
                    step = operation.send(None)
            except StopIteration as stop:
                return stop.value


def cutting(world: list[World], limit: float) -> Callable[[float], Any]:
    """A proxy that ends calls after `limit` seconds."""

    def script(seconds: float) -> Any:
        if seconds >= limit:
            world[0].clock.now += limit
            return lost()
        world[0].clock.now += seconds
        return "not ended"

    return script


@pytest.mark.parametrize("limit", [2.0, 10.0, 15.0, 29.0])
def test_polls_are_shorter_than_a_proxys_limit_after_the_first_cut(limit: float) -> None:
    worlds: list[World] = []
    world = World(cutting(worlds, limit))
    worlds.append(world)
    for _ in range(10):
        assert world.ask() == "not ended"
    first, *later = world.polls
    assert first == POLL
    assert len(later) == 10
    assert all(1.0 <= seconds < limit for seconds in later)


def test_longer_polls_are_tried_again_later() -> None:
    worlds: list[World] = []
    world = World(cutting(worlds, 15.0))
    worlds.append(world)
    world.ask()
    world.clock.now += RELAX
    world.ask()
    assert world.polls == [POLL, 10.5, POLL, 10.5]


def test_a_refused_connection_does_not_shorten_polls() -> None:
    answers = [lost(), lost(), "ended"]
    world = World(lambda _: answers.pop(0))
    assert world.ask() == "ended"
    assert world.polls == [POLL] * 3


@pytest.mark.parametrize("text", ["Stream removed (ping timeout)", "keepalive watchdog timeout"])
def test_a_connection_that_fell_silent_is_no_proxys_limit(text: str) -> None:
    answers = iter([api.UnavailableError(text, code=grpc.StatusCode.UNAVAILABLE), runs.WaitRunResponse()])

    def script(seconds: float) -> Any:
        worlds[0].clock.now += 8.0
        return next(answers)

    worlds: list[World] = []
    worlds.append(World(script))
    worlds[0].ask()
    assert worlds[0].polls == [POLL, POLL]


def test_cuts_are_no_outage_while_polls_are_answered_between() -> None:
    worlds: list[World] = []
    world = World(cutting(worlds, 15.0), reconnect_timeout=20.0)
    worlds.append(world)
    for _ in range(100):
        world.ask()
        world.clock.now += RELAX


def test_a_lost_server_is_given_up() -> None:
    world = World(lambda _: lost(), reconnect_timeout=20.0)
    with pytest.raises(api.UnavailableError):
        world.ask()
    assert 14.0 < sum(world.delays) <= 20.0


def test_a_server_that_asks_for_time_gets_it() -> None:
    answers = [api.UnavailableError("", code=grpc.StatusCode.UNAVAILABLE, retry_after=7.0), "ended"]
    world = World(lambda _: answers.pop(0))
    world.ask()
    assert world.delays == [7.0]


@pytest.mark.parametrize("code", [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL])
def test_no_deadline_error_before_the_callers_time_is_over(code: grpc.StatusCode) -> None:
    def script(seconds: float) -> Any:
        worlds[0].clock.now += max(1e-6, min(seconds, 15.0))  # no call takes no time
        return api.DeadlineError("", code=code) if seconds >= 15.0 else "not ended"

    worlds: list[World] = []
    world = World(script, timeout=200.0)
    worlds.append(world)
    began = world.clock.now
    with pytest.raises(api.DeadlineError, match="it is late"):  # noqa: PT012 - the loop ends only so
        while True:
            assert world.ask() == "not ended"
            world.waiting.check()
    assert world.clock.now - began >= 200.0


def test_the_callers_time_is_over_in_an_outage() -> None:
    answers: list[Any] = ["not ended"]
    world = World(lambda _: answers.pop(0) if answers else lost(), timeout=30.0, reconnect_timeout=None)
    world.ask()
    with pytest.raises(api.DeadlineError, match="it is late; the last call failed: cut"):
        world.ask()


def test_a_server_that_never_answered_is_unavailable() -> None:
    world = World(lambda _: lost(), timeout=0.0)
    with pytest.raises(api.UnavailableError):
        world.ask()
    assert 0 < sum(world.delays) <= SLACK


def test_what_another_connection_cannot_mend_is_raised() -> None:
    world = World(lambda _: api.NotFoundError("", code=grpc.StatusCode.NOT_FOUND, reason="RUN_NOT_FOUND"))
    with pytest.raises(api.NotFoundError):
        world.ask()
    assert world.polls == [POLL]


def test_a_negative_timeout_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout must be 0 or more, not -1"):
        World(lambda _: None, timeout=-1.0)


def test_equal_waits_go_on_after_each_other() -> None:
    places = Places(0)
    first, other = ("Question", b"{}"), ("Question", b'{"order":"7"}')
    assert places.after(first) == 0
    places.found(first, 9)
    assert (places.after(first), places.after(other)) == (9, 0)


def test_places_do_not_grow_without_end() -> None:
    places = Places(5)
    for number in range(MOST_PLACES + 1):
        places.found(("Question", b"%d" % number), 100 + number)
    assert places.after(("Question", b"0")) == 5
    assert places.after(("Question", b"1")) == 101
