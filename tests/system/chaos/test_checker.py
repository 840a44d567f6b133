"""The checker itself: each kind of violation, planted in a sound history, is found."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from tests.system.chaos import checker
from tests.system.chaos.checker import check
from tests.system.chaos.history import Record, parse
from tests.system.chaos.slow_disk import parse_trace, unproven


class Sound:
    """A history without a violation, and what to reach its records by."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.log: list[list[Any]] = [
            [1, "RECEIVED", "Open", {"owner": "c0"}],
            [2, "RECEIVED", "Ping", {"token": "p1"}],
            [3, "STREAM", "Pong", {"token": "p1"}],
            [4, "RECEIVED", "Part", {"token": "t1"}],
            [5, "RECEIVED", "Part", {"token": "t2"}],
            [6, "RECEIVED", "Part", {"token": "t3"}],
            [7, "STREAM", "Whole", {"tokens": ["t1", "t2", "t3"]}],
            [8, "RECEIVED", "Ask", {"token": "q1"}],
            [9, "STREAM", "Question", {"token": "q1"}],
            [10, "RECEIVED", "Answer", {"token": "q1", "text": "yes"}],
            [11, "STREAM", "Answered", {"token": "q1", "text": "yes"}],
            [12, "STREAM", "Note", {"token": "n1"}],
            [13, "RECEIVED", "Ask", {"token": "q2"}],
            [14, "STREAM", "Question", {"token": "q2"}],
            [15, "RECEIVED", "Answer", {"token": "q1", "text": "late"}],
        ]
        self.final: Record = {
            "op": "final",
            "run": "A",
            "request": "start-A",
            "status": "WAITING",
            "last": 15,
            "pending": ["q2"],
            "entries": self.log,
            "state": {"c0_a": 2, "c0_b": 2, "done_p1": True},
        }
        self.ended_log: list[list[Any]] = [
            [1, "RECEIVED", "Open", {"owner": "c1"}],
            [2, "RECEIVED", "Ping", {"token": "p9"}],
            [3, "RECEIVED", "Close", {"token": "x1"}],
            [4, "TERMINAL", "StopEvent", {"result": "x1"}],
        ]
        self.ended: Record = {
            "op": "final",
            "run": "B",
            "request": "start-B",
            "status": "COMPLETED",
            "last": 4,
            "pending": [],
            "entries": self.ended_log,
            "state": {},
        }
        self.start = self._done("start", "A", {}, request="start-A")
        self.ping = self._sent(2)
        self.parts = [self._sent(4), self._sent(5), self._sent(6)]
        self.ask = self._sent(8)
        self.answer = self._sent(10)
        self.again = {**self._sent(10), "request": self.answer["request"]}
        self.note = self._sent(12, op="publish")
        self.second_ask = {**self._sent(13), "status": "unknown"}
        self.late_answer = self._sent(15)
        self.second_ask_again = {**self._sent(13), "request": self.second_ask["request"]}
        self.first_set = self._done("set", "A", {"c0_a": 1, "c0_b": 1}, etag="v1")
        self.read = self._done("get", "A", {}, request="", value={"c0_a": 1, "c0_b": 1})
        self.second_set = self._done("set", "A", {"c0_a": 2, "c0_b": 2}, etag="v2")
        self.start_ended = self._done("start", "B", {}, request="start-B")
        self.unknown = {**self._done("send", "B", {"type": "Ping", "token": "p9"}), "status": "unknown"}
        self.close = self._done("send", "B", {"type": "Close", "token": "x1"}, sequence=3)
        self.refused = {**self._done("send", "B", {"type": "Ping", "token": "p8"}), "status": "RUN_ENDED"}
        self.batch = self._batch("r1", 1, 6, internal=False)
        self.next_batch = self._batch("r1", 7, 15, internal=False)
        self.internal_batch = self._batch("r2", 1, 15, internal=True)
        self.effect: Record = self._effect("ping", 2, 1)
        self.second_effect: Record = self._effect("ping", 2, 2)
        self.healed: Record = {"op": "healed"}

    def records(self) -> list[Record]:
        """Return the lines as a file has them."""
        found: list[Record] = []
        for value in vars(self).values():
            if isinstance(value, dict) and "op" in value:
                found.append(value)
            elif isinstance(value, list):
                found += [item for item in value if isinstance(item, dict)]
        return found

    def _done(self, op: str, run: str, args: Record, **more: Any) -> Record:
        self.clock += 1.0
        times = {"start": self.clock, "end": self.clock + 0.5}
        return {"op": op, "run": run, "request": f"q{self.clock}", "args": args, "status": "ok", **times, **more}

    def _sent(self, sequence: int, op: str = "send") -> Record:
        _, _, type_name, fields = self.log[sequence - 1]
        return self._done(op, "A", {"type": type_name, **fields}, sequence=sequence)

    def _batch(self, reader: str, first: int, last: int, *, internal: bool) -> Record:
        entries = [entry for entry in self.log if first <= entry[0] <= last and (internal or entry[1] != "RECEIVED")]
        span = {"from": first, "to": last}
        return {
            "op": "batch",
            "run": "A",
            "reader": reader,
            "internal": internal,
            "entries": copy.deepcopy(entries),
            **span,
        }

    def _effect(self, step: str, delivery: int, attempt: int, token: str = "p1") -> Record:
        return {"op": "effect", "run": "A", "step": step, "delivery": delivery, "attempt": attempt, "token": token}

    def drop_entries(self, *sequences: int) -> None:
        """Take entries out of the log and close the ranks, for what should have been there and is not."""
        kept = [entry for entry in self.log if entry[0] not in sequences]
        self.log[:] = [[number, *entry[1:]] for number, entry in enumerate(kept, start=1)]
        self.final["last"] = len(self.log)

    def become(self, sequence: int, type_name: str, **fields: Any) -> None:
        """Put another event in the place of an entry."""
        self.log[sequence - 1][2:] = [type_name, fields]


Plant = Callable[[Sound], Any]


def swap_ends(s: Sound) -> None:
    s.ping["sequence"], s.ask["sequence"] = s.ask["sequence"], s.ping["sequence"]


PLANTED: list[tuple[str, str, Plant]] = [
    ("the history has no end", "incomplete", lambda s: s.healed.update(op="kill")),
    ("a run is listed twice", "run_doubled", lambda s: setattr(s, "twice", copy.deepcopy(s.final))),
    ("one start made two runs", "run_doubled", lambda s: s.ended.update(request="start-A")),
    ("a run is at work for ever", "stuck", lambda s: setattr(s, "stuck", {"op": "stuck", "run": "A"})),
    (
        "a reader is refused",
        "reader_refused",
        lambda s: setattr(s, "no", {"op": "refused", "run": "A", "status": "OUT_OF_RANGE", "after": 3}),
    ),
    ("a sequence is repeated", "sequence_doubled", lambda s: s.log.insert(3, copy.deepcopy(s.log[2]))),
    ("a sequence is missing", "sequence_missing", lambda s: s.log.pop(6)),
    ("an entry is beyond the last", "sequence_beyond", lambda s: s.final.update(last=14)),
    ("the log is out of order", "order", lambda s: s.log.reverse()),
    ("an earlier one got the later sequence", "order", swap_ends),
    ("a run failed", "run_failed", lambda s: s.final.update(status="BLOCKED")),
    ("an ended run has no terminal entry", "terminal", lambda s: s.ended_log[3].__setitem__(1, "STREAM")),
    ("a living run has a terminal entry", "terminal", lambda s: s.log[14].__setitem__(1, "TERMINAL")),
    ("an acknowledged run is gone", "run_lost", lambda s: s.ended.update(op="kill")),
    ("nobody started a run", "run_unasked", lambda s: s.start_ended.update(request="other")),
    ("a call failed", "refused", lambda s: s.ask.update(status="INTERNAL")),
    ("a run that goes on refused", "refused", lambda s: s.refused.update(run="A")),
    ("a repeat got another answer", "answer_changed", lambda s: s.again.update(sequence=15)),
    (
        "a repeat changed the state again",
        "answer_changed",
        lambda s: s.second_set.update(request=s.first_set["request"]),
    ),
    (
        "an event is in the log twice",
        "send_doubled",
        lambda s: s.become(15, "Ping", token="p1"),
    ),
    ("an acknowledged event is gone", "send_lost", lambda s: s.drop_entries(12)),
    ("an event is elsewhere than told", "send_lost", lambda s: s.ping.update(sequence=99)),
    ("two requests got one sequence", "sequence_shared", lambda s: s.parts[0].update(sequence=5)),
    ("a refused event was taken", "refused_but_done", lambda s: s.unknown.update(status="RUN_ENDED")),
    ("nobody sent an event", "unasked", lambda s: s.unknown.update(args={"type": "Ping", "token": "else"})),
    ("an acknowledged set is gone", "set_lost", lambda s: s.final["state"].update(c0_a=1, c0_b=1)),
    ("a key is gone", "set_lost", lambda s: s.final["state"].pop("c0_a")),
    ("a read is older than what was acknowledged", "read_stale", lambda s: s.read.update(value={})),
    ("a set was done by half", "set_torn", lambda s: s.final["state"].update(c0_b=1)),
    ("nobody set a value", "set_unasked", lambda s: s.final["state"].update(c0_a=7, c0_b=7)),
    ("a reader got what is not in the log", "stream_wrong", lambda s: s.batch["entries"][0][3].update(token="else")),
    ("a reader missed an entry", "stream_wrong", lambda s: s.next_batch["entries"].pop()),
    ("a reader got an entry twice", "stream_wrong", lambda s: s.batch["entries"].append(s.batch["entries"][0])),
    ("a reader read a run that is gone", "stream_wrong", lambda s: s.batch.update(run="C")),
    ("a stream has a gap", "stream_gap", lambda s: s.next_batch.update({"from": 8})),
    ("a stream repeats", "stream_repeat", lambda s: s.next_batch.update({"from": 6})),
    (
        "a reply came twice",
        "reply_doubled",
        lambda s: s.become(9, "Pong", token="p1"),
    ),
    ("a reply to nothing", "reply_unasked", lambda s: s.log[2][3].update(token="p7")),
    ("no reply", "reply_lost", lambda s: s.drop_entries(3)),
    ("nobody answered", "answer_unasked", lambda s: s.become(11, "Answered", token="q2", text="yes")),
    ("a second answer was taken", "answer_doubled", lambda s: s.log[10][3].update(text="late")),
    ("an answer did not arrive", "answer_lost", lambda s: s.drop_entries(11)),
    ("an open question has no waiter", "waiter", lambda s: s.final.update(pending=[])),
    ("a waiter is left over", "waiter", lambda s: s.final.update(pending=["q1", "q2"])),
    ("a whole of two", "whole_wrong", lambda s: s.log[6][3]["tokens"].pop()),
    ("a part was used twice", "part_doubled", lambda s: s.log[6][3].update(tokens=["t1", "t1", "t2"])),
    ("a part that nobody sent", "part_unasked", lambda s: s.log[6][3].update(tokens=["t1", "t2", "t8"])),
    ("parts made no whole", "part_lost", lambda s: s.drop_entries(7)),
    ("an effect under two keys", "effect_key", lambda s: s.second_effect.update(delivery=3)),
    ("one key for two effects", "effect_key", lambda s: s.second_effect.update(token="t1")),
    ("an attempt ran twice", "effect_attempt", lambda s: s.second_effect.update(attempt=1)),
    ("no effect", "effect_lost", lambda s: (s.effect.update(op="kill"), s.second_effect.update(op="kill"))),
    ("an effect of nothing", "effect_unasked", lambda s: s.second_effect.update(token="t8", delivery=8)),
]


def test_a_sound_history_has_no_violation() -> None:
    assert check(Sound().records()) == []


@pytest.mark.parametrize(("what", "kind", "plant"), PLANTED, ids=[what.replace(" ", "_") for what, _, _ in PLANTED])
def test_a_planted_violation_is_found(what: str, kind: str, plant: Plant) -> None:
    sound = Sound()
    plant(sound)
    assert kind in {violation.kind for violation in check(sound.records())}, what


def test_every_kind_of_violation_is_planted() -> None:
    source = inspect.getsource(checker)
    kinds = set(re.findall(r'_found\(\s*"(\w+)"', source)) | {"set_lost", "read_stale"}
    assert kinds == {kind for _, kind, _ in PLANTED}


def test_a_line_that_a_killed_process_had_begun_is_left_out() -> None:
    lines = ['{"op": "kill"}\n', "\n", '{"op": "effe\n', '{"op": "healed"}\n']
    assert [record["op"] for record in parse(lines)] == ["kill", "torn", "healed"]


TRACE = """\
71 100.001000 fdatasync(5) = 0 (DELAYED) <0.004100>
71 100.011000 fdatasync(5 <unfinished ...>
72 100.012000 fdatasync(7) = -1 EIO (Input/output error) <0.004000>
71 100.015200 <... fdatasync resumed>) = 0 (DELAYED) <0.004200>
""".splitlines()


def test_a_trace_is_read() -> None:
    assert parse_trace(TRACE) == [(100.001, pytest.approx(100.0051)), (100.011, 100.0152)]


def test_a_write_with_its_fdatasync_is_proven() -> None:
    assert unproven([(100.0, 100.006), (100.01, 100.016)], parse_trace(TRACE), 0.004) == []


@pytest.mark.parametrize(
    "span",
    [(100.0, 100.003), (100.0, 100.0045), (100.002, 100.0085), (100.02, 100.03)],
    ids=["faster than an fdatasync", "before its end", "after its beginning", "without one"],
)
def test_a_write_without_its_fdatasync_is_found(span: tuple[float, float]) -> None:
    assert [violation.kind for violation in unproven([span], parse_trace(TRACE), 0.004)] == ["not_durable"]
