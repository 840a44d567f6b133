"""When the sends of a conversation are repeated, without a transport."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import grpc
import pytest

from stepwire import client as api
from stepwire.client._core.sends import Sends
from stepwire.v1 import run_service_pb2 as runs

UNKNOWN = api.UnavailableError("unknown", code=grpc.StatusCode.UNAVAILABLE, reason="STORE_UNAVAILABLE")
LATER = api.UnavailableError("later", code=grpc.StatusCode.UNAVAILABLE, reason="DRAINING", retry_after=4)
WRONG = api.InvalidArgumentError("no", code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_REQUEST")


class Talk:
    """Sends at a time of their own; frames are called by their request_id."""

    def __init__(self, budget: float = 30, addresses: int = 1) -> None:
        self.now = 100.0
        self.sends = Sends("r", budget, addresses, lambda: self.now)
        self.futures: dict[str, Future[Any]] = {}

    def send(self, *names: str) -> list[bool]:
        return [self._send(name) for name in names]

    def _send(self, name: str) -> bool:
        self.futures[name] = Future()
        frame = runs.ConverseRequest(send=runs.ConverseSend(request_id=name))
        return self.sends.add(frame, self.futures[name])

    def cancel(self) -> bool:
        return self.sends.add(runs.ConverseRequest(cancel=runs.ConverseCancel(reason="why")), None)

    def repeats(self) -> tuple[list[str], float | None]:
        frames, at = self.sends.due()
        return names_of(frames), None if at is None else at - self.now

    def repeats_later(self) -> list[str]:
        """Wait as long as is said, and return the frames to write then."""
        frames, wait = self.repeats()
        assert frames == []
        assert wait is not None
        assert wait > 0
        self.now += wait
        frames, wait = self.repeats()
        assert wait is None
        return frames


def names_of(frames: list[runs.ConverseRequest]) -> list[str]:
    return [frame.send.request_id or frame.WhichOneof("frame") or "" for frame in frames]


def test_a_refused_send_is_written_again_after_a_short_while() -> None:
    talk = Talk()
    assert talk.send("a") == [True]
    assert talk.repeats() == ([], None)
    assert talk.sends.refused("a", UNKNOWN)
    began = talk.now
    assert talk.repeats_later() == ["a"]
    assert 0.05 <= talk.now - began <= 0.1
    assert talk.sends.answered("a") is talk.futures["a"]
    assert talk.repeats() == ([], None)
    assert talk.sends.pending == []


@pytest.mark.parametrize(
    "error",
    [
        WRONG,
        api.ResourceExhaustedError("full", code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="STORE_FULL"),
        api.AbortedError("other", code=grpc.StatusCode.ABORTED, reason="OTHER"),
    ],
)
def test_other_refusals_are_final_as_of_send_event(error: api.StepwireError) -> None:
    talk = Talk()
    talk.send("a")
    assert not talk.sends.refused("a", error)
    assert not talk.sends.refused("unknown id", UNKNOWN)


def test_what_is_sent_meanwhile_waits_its_turn() -> None:
    talk = Talk()
    assert talk.send("a", "b") == [True, True]
    assert talk.sends.refused("a", UNKNOWN)
    assert talk.sends.refused("b", UNKNOWN)
    assert talk.send("c") == [False]
    assert not talk.cancel()
    assert talk.send("d") == [False]
    assert talk.repeats_later() == ["a", "b", "c", "cancel", "d"]
    assert talk.send("e") == [True]


def test_a_repeat_waits_for_the_sends_behind_it_which_may_be_refused_too() -> None:
    talk = Talk()
    talk.send("a", "b", "c")
    assert talk.sends.refused("a", UNKNOWN)
    talk.now += 1
    assert talk.repeats() == ([], 29)
    talk.sends.answered("b")
    assert talk.repeats() == ([], 29)
    assert talk.sends.refused("c", UNKNOWN)
    assert talk.repeats_later() == ["a", "c"]


def test_delays_grow_and_the_server_may_ask_for_longer_ones() -> None:
    talk = Talk()
    talk.send("a")
    waits = []
    for _ in range(4):
        assert talk.sends.refused("a", UNKNOWN)
        began = talk.now
        talk.repeats_later()
        waits.append(talk.now - began)
    assert waits[3] > waits[0] * 2
    assert talk.sends.refused("a", LATER)
    assert talk.repeats()[1] == pytest.approx(4)


def test_a_send_is_repeated_within_its_time_and_no_longer() -> None:
    talk = Talk(budget=30)
    talk.send("a")
    talk.now += 28
    assert not talk.sends.refused("a", LATER)
    assert talk.sends.refused("a", UNKNOWN)
    talk.repeats_later()
    talk.now += 2
    assert not talk.sends.refused("a", UNKNOWN)


def test_a_send_whose_time_ends_while_it_waits_fails_with_its_refusal() -> None:
    talk = Talk(budget=30)
    talk.send("a")
    talk.now += 10
    talk.send("b")
    assert talk.sends.refused("a", UNKNOWN)
    assert talk.send("c") == [False]
    assert talk.repeats() == ([], 20)
    talk.now += 20
    assert talk.repeats() == (["c"], None)
    assert talk.futures["a"].exception(0) is UNKNOWN
    assert talk.sends.pending == [talk.futures["b"], talk.futures["c"]]


def test_what_the_caller_gave_up_is_not_repeated() -> None:
    talk = Talk()
    talk.send("a", "b")
    assert talk.sends.refused("a", UNKNOWN)
    talk.futures["a"].cancel()
    talk.futures["b"].cancel()
    assert not talk.sends.refused("b", UNKNOWN)
    talk.sends.answered("b")
    assert talk.send("c") == [False]
    assert talk.repeats() == (["c"], None)


def test_a_new_connection_repeats_everything_in_order() -> None:
    talk = Talk()
    talk.send("a", "b")
    talk.cancel()
    assert talk.sends.refused("b", UNKNOWN)
    talk.send("c")
    assert names_of(talk.sends.reopened()) == ["a", "b", "cancel", "c"]
    assert talk.repeats() == ([], None)
    assert talk.send("d") == [True]


@pytest.mark.parametrize("addresses", [1, 3])
def test_the_second_refusal_on_a_connection_is_a_reason_to_leave_if_there_is_another_address(addresses: int) -> None:
    talk = Talk(addresses=addresses)
    talk.send("a")
    for _ in range(2):
        for times in (1, 2):
            assert talk.sends.refused("a", UNKNOWN)
            assert (talk.sends.unserved is UNKNOWN) == (addresses > 1 and times == 2)
            if times == 1:
                talk.repeats_later()
        talk.sends.reopened()
        assert talk.sends.unserved is None


def test_a_cancel_is_repeated_within_its_time() -> None:
    talk = Talk(budget=30)
    assert talk.cancel()
    assert 0.05 <= talk.sends.lost(UNKNOWN) <= 0.1
    assert names_of(talk.sends.reopened()) == ["cancel"]
    assert talk.sends.lost(UNKNOWN) >= 0.1
    talk.now += 29
    assert talk.sends.lost(None) == 0
    assert names_of(talk.sends.reopened()) == ["cancel"]
    talk.now += 1
    assert talk.sends.lost(None) == 0
    assert names_of(talk.sends.reopened()) == []


def test_a_cancel_that_is_refused_for_good_is_not_repeated() -> None:
    talk = Talk()
    talk.cancel()
    assert talk.sends.lost(WRONG) == 0
    assert names_of(talk.sends.reopened()) == []


def test_the_end_of_the_run_leaves_in_doubt_what_may_have_had_its_effect() -> None:
    talk = Talk()
    talk.send("a", "b")
    assert talk.sends.refused("a", UNKNOWN)
    talk.send("c")
    ended = api.FailedPreconditionError("ended")
    talk.sends.fail(ended, doubtful=False)
    assert [talk.futures[name].exception(0) for name in "bc"] == [ended, ended]
    asked = talk.sends.settle()
    call: Any = next(asked)
    assert (call.method, call.request.run_id, call.request.request_id) == ("RunService.SendEvent", "r", "a")
    assert (call.safe, call.budget) == (True, 30)
    with pytest.raises(StopIteration):
        asked.send(api.SendResult(3, 1))
    assert talk.futures["a"].result(0) == api.SendResult(3, 1)
    assert talk.sends.pending == []


def test_the_error_of_a_send_in_doubt_is_that_of_send_event() -> None:
    talk = Talk()
    talk.send("a")
    talk.sends.reopened()
    talk.sends.fail(api.FailedPreconditionError("ended"), doubtful=False)
    asked = talk.sends.settle()
    next(asked)
    with pytest.raises(StopIteration):
        asked.throw(WRONG)
    assert talk.futures["a"].exception(0) is WRONG
