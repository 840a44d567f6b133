"""How long a stream may be silent."""

from __future__ import annotations

from datetime import timedelta

from stepwire.client._core.heartbeats import SECOND_LOOK, Heartbeats, SilenceWatch
from stepwire.client.errors import UnavailableError
from stepwire.v1 import run_service_pb2 as runs


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def beat(seconds: float) -> runs.Heartbeat:
    message = runs.Heartbeat(sequence=1)
    message.interval.FromTimedelta(timedelta(seconds=seconds))
    return message


def test_two_heartbeats_may_be_missing() -> None:
    heartbeats = Heartbeats()
    assert heartbeats.limit == 35.0  # the default of 15 s, and a third of it because the network is not punctual
    heartbeats.take(runs.Heartbeat(sequence=1))  # of a server that does not say
    assert heartbeats.limit == 35.0
    heartbeats.take(beat(1))
    assert heartbeats.limit == 4.0
    heartbeats.take(beat(60))
    assert heartbeats.limit == 140.0


def test_a_server_that_was_never_heard_may_have_longer_intervals() -> None:
    heartbeats = Heartbeats()
    limits = []
    for _ in range(4):
        limits.append(heartbeats.limit)
        assert f"nothing for {heartbeats.limit:g} s" in str(heartbeats.lost())
    assert limits == [35.0, 70.0, 140.0, 140.0]
    heartbeats.take(beat(15))
    assert heartbeats.limit == 35.0


def test_silence_cuts_after_a_second_look() -> None:
    clock, cuts = Clock(), []
    watch = SilenceWatch(Heartbeats(), lambda: cuts.append(clock.now), clock)
    assert watch.check() == 35.0
    clock.now += 30
    assert watch.check() == 5.0
    clock.now += 6
    assert watch.check() == SECOND_LOOK
    assert not cuts
    clock.now += SECOND_LOOK
    watch.check()
    assert isinstance(watch.lost, UnavailableError)
    assert cuts == [137.0]
    watch.check()
    assert cuts == [137.0]


def test_a_frame_that_comes_before_the_second_look_saves_the_stream() -> None:
    clock, cuts = Clock(), []
    heartbeats = Heartbeats()
    watch = SilenceWatch(heartbeats, lambda: cuts.append(clock.now), clock)
    clock.now += 50  # the process stood still
    assert watch.check() == SECOND_LOOK
    assert not watch.received()
    watch.waiting()
    clock.now += SECOND_LOOK
    assert watch.check() == 34.0
    clock.now += 34
    assert watch.check() == SECOND_LOOK
    assert not cuts


def test_the_callers_own_time_does_not_count() -> None:
    clock, cuts = Clock(), []
    watch = SilenceWatch(Heartbeats(), lambda: cuts.append(clock.now), clock)
    watch.received()
    clock.now += 1000
    assert watch.check() == 35.0
    watch.waiting()
    clock.now += 34
    assert watch.check() == SECOND_LOOK
    assert not cuts


def test_a_changed_interval_is_told() -> None:
    heartbeats = Heartbeats()
    watch = SilenceWatch(heartbeats, lambda: None, Clock())
    heartbeats.take(beat(1))
    assert watch.received()
    assert not watch.received()
    assert watch.check() == 4.0
