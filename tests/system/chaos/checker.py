"""The one checker: it reads a history, whatever produced it, and tells every violation.

It knows what the service promises (an acknowledged operation is never lost and never doubled, the log has no gap, who
follows it sees just it) and what the workload's steps do (see `workload`), and nothing of the scenario.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.system.chaos.history import OK, UNKNOWN, Record
from tests.system.chaos.logs import FinalLog, identity
from tests.system.chaos.workload import EFFECTFUL, GROUP, REPLIES

PUBLIC = ("STREAM", "TERMINAL")


REFUSALS = ("RUN_ENDED",)
"""The only refusals that the workload's clients can meet: they write to runs that others have closed."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: its kind, the run, and what was seen."""

    kind: str
    run: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} (run {self.run}): {self.text}"


class Checker:
    """Read the lines of a history, then `finish`."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self._operations: list[Record] = []
        self._batches: dict[tuple[str, str], list[Record]] = defaultdict(list)
        self._effects: list[Record] = []
        self._finals: dict[str, Record] = {}
        self._logs: dict[str, FinalLog] = {}

    def feed(self, records: Iterable[Record]) -> Checker:
        """Take in lines."""
        for record in records:
            op = record["op"]
            self.counts[op] += 1
            if op in ("start", "send", "publish", "set", "get"):
                self._operations.append(record)
                self.counts["acknowledged" if record["status"] == OK else record["status"]] += 1
            elif op == "batch":
                self._batches[record["reader"], record["run"]].append(record)
            elif op == "effect":
                self._effects.append(record)
            elif op == "final":
                if record["run"] in self._finals:
                    self._found("run_doubled", record["run"], "listed twice")
                self._finals[record["run"]] = record
            elif op == "stuck":
                self._found("stuck", record["run"], "still at work long after the last operation")
            elif op == "refused":
                self._found("reader_refused", record["run"], f"{record['status']} after {record['after']}")
        return self

    def finish(self) -> list[Violation]:
        """Check everything that was taken in."""
        if self.counts["healed"] != 1:
            self._found("incomplete", "", "the history does not tell what the healed server holds")
        for run, record in self._finals.items():
            self._logs[run] = FinalLog(record, record["entries"])
        self._check_logs()
        self._check_starts()
        self._check_answers()
        self._check_sends()
        self._check_states()
        self._check_readers()
        self._check_replies()
        self._check_wholes()
        self._check_effects()
        return self.violations

    def _found(self, kind: str, run: str, text: str) -> None:
        self.violations.append(Violation(kind, run, text))

    # -- the service ----------------------------------------------------------------------------------------------

    def _check_logs(self) -> None:
        """Check that each log goes 1, 2, 3 … to the record's last, and that no run failed."""
        for run, log in self._logs.items():
            sequences = [entry[0] for entry in log.entries]
            expected = list(range(1, log.record["last"] + 1))
            if len(set(sequences)) != len(sequences):
                self._found("sequence_doubled", run, f"{[s for s, n in Counter(sequences).items() if n > 1][:5]}")
            if missing := sorted(set(expected) - set(sequences)):
                self._found("sequence_missing", run, f"{missing[:5]} of {len(expected)}")
            if set(sequences) - set(expected):
                self._found("sequence_beyond", run, f"beyond the record's last, {log.record['last']}")
            if sequences != sorted(sequences):
                self._found("order", run, "the log is not in order")
            if log.record["status"] not in ("WAITING", "COMPLETED"):
                self._found("run_failed", run, f"{log.record['status']} {log.record.get('failure', '')}")
            terminal = [entry[0] for entry in log.entries if entry[1] == "TERMINAL"]
            if log.ended and terminal != expected[-1:]:
                self._found("terminal", run, f"terminal entries at {terminal}, the log ends at {log.record['last']}")
            if not log.ended and terminal:
                self._found("terminal", run, "a terminal entry in a run that has not ended")

    def _check_starts(self) -> None:
        """Check that an acknowledged start made just one run, any other at most one."""
        by_request = defaultdict(set)
        for run, final in self._finals.items():
            by_request[final["request"]].add(run)
        known = set()
        for record in self._operations:
            if record["op"] != "start":
                continue
            known.add(record["request"])
            made = by_request[record["request"]]
            if record["status"] == OK and record["run"] not in made:
                self._found("run_lost", record["run"], "its start was acknowledged")
            if len(made) > 1:
                self._found("run_doubled", ", ".join(sorted(made)), "one start made them")
        for request, made in by_request.items():
            if made and request not in known:
                self._found("run_unasked", ", ".join(sorted(made)), "nobody started it")

    def _check_answers(self) -> None:
        """Check that a repeated request got its first answer, and that nothing was refused without cause."""
        answers: dict[tuple[str, str], Any] = {}
        for record in self._operations:
            run = record.get("run", "")
            if record["status"] not in (OK, UNKNOWN, *REFUSALS):
                self._found("refused", run, f"{record['op']}: {record['status']}: {record.get('detail', '')}")
            if record["status"] == "RUN_ENDED" and run in self._logs and not self._logs[run].ended:
                self._found("refused", run, f"{record['op']}: RUN_ENDED, but it has not ended")
            if record["status"] != OK or not record["request"]:
                continue
            answer = record.get("sequence") or record.get("etag") or run
            place = (record["op"], record["request"])
            if answers.setdefault(place, answer) != answer:
                self._found("answer_changed", run, f"request {record['request']}: {answers[place]}, then {answer}")

    def _check_sends(self) -> None:
        """Check what was sent or published: in the log once at its sequence when acknowledged, else at most once."""
        # A request that was made again may have been refused once its run had ended, and done before.
        effective = {(r["op"], r["request"]) for r in self._operations if r["status"] in (OK, UNKNOWN)}
        begun: dict[str, float] = {}
        claimed: dict[tuple[str, int], str] = {}
        asked: dict[str, set[tuple[str, str]]] = defaultdict(set)
        acknowledged: dict[str, list[Record]] = defaultdict(list)
        for record in self._operations:
            if record["op"] not in ("send", "publish"):
                continue
            run, args = record["run"], record["args"]
            what = (args["type"], identity(args["type"], args))
            begun[record["request"]] = min(record["start"], begun.get(record["request"], math.inf))
            asked[run].add(what)
            if record["status"] == OK:
                acknowledged[run].append(record)
            log = self._logs.get(run)
            if log is None:
                if record["status"] == OK:
                    self._found("send_lost", run, f"{what} was acknowledged, the run is gone")
                continue
            places = (log.received if record["op"] == "send" else log.streamed).get(what, [])
            if len(places) > 1:
                self._found("send_doubled", run, f"{what} is in the log at {places}")
            if record["status"] == OK:
                if record["sequence"] not in places:
                    self._found("send_lost", run, f"{what} was acknowledged at {record['sequence']}, is at {places}")
                owner = claimed.setdefault((run, record["sequence"]), record["request"])
                if owner != record["request"]:
                    self._found("sequence_shared", run, f"{record['sequence']} was given to two requests")
            elif record["status"] != UNKNOWN and places and (record["op"], record["request"]) not in effective:
                self._found("refused_but_done", run, f"{what}: {record['status']}, but it is at {places}")
        for run, log in self._logs.items():
            notes = {what: places for what, places in log.streamed.items() if what[0] == "Note"}
            for what in {**log.received, **notes}:
                if what not in asked[run] and what[0] != "Open":
                    self._found("unasked", run, f"{what} is in the log, nobody sent it")
        for run, records in acknowledged.items():
            self._check_order(run, records, begun)

    def _check_order(self, run: str, records: list[Record], begun: dict[str, float]) -> None:
        """Check that what returned before another request was first made comes before it in the log."""
        firsts: dict[str, Record] = {}
        for record in sorted(records, key=lambda item: float(item["end"])):
            firsts.setdefault(record["request"], record)
        returned = list(firsts.values())
        done, highest = 0, 0
        for record in sorted(returned, key=lambda item: begun[item["request"]]):
            while done < len(returned) and returned[done]["end"] < begun[record["request"]]:
                highest = max(highest, returned[done]["sequence"])
                done += 1
            if record["sequence"] < highest:
                self._found("order", run, f"{record['sequence']} was given after {highest} had been acknowledged")

    def _check_states(self) -> None:
        """Check each key, which only one client writes: reads and the end see the last acknowledged set or later."""
        sets: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in self._operations:
            if record["op"] == "set":
                for key in record["args"]:
                    sets[record["run"]][key].append(record)
        reads: dict[str, list[Record]] = defaultdict(list)
        for record in self._operations:
            if record["op"] == "get" and record["status"] == OK:
                reads[record["run"]].append(record)
        for run, keys in sets.items():
            final = self._finals.get(run)
            for key, records in keys.items():
                if final is not None:
                    value = final["state"].get(key)
                    self._check_value(run, key, records, value, math.inf, math.inf, "set_lost")
                elif any(record["status"] == OK for record in records):
                    self._found("set_lost", run, f"{key} was acknowledged, the run is gone")
                for read in reads[run]:
                    value = read["value"].get(key)
                    self._check_value(run, key, records, value, read["start"], read["end"], "read_stale")
        for run, final in self._finals.items():
            for values in [final["state"], *(read["value"] for read in reads[run])]:
                for key, value in values.items():
                    if key.endswith("_a") and values.get(key[:-2] + "_b") != value:
                        self._found("set_torn", run, f"{key[:-2]} was set in one request, its two keys differ")

    def _check_value(
        self, run: str, key: str, records: list[Record], value: Any, start: float, end: float, kind: str
    ) -> None:
        """Check a value seen between two times against the sets of its key."""
        last = 0
        for record in records:
            if record["status"] == OK and record["end"] < start:
                last = max(last, record["args"][key])
        possible = {r["args"][key] for r in records if r["status"] in (OK, UNKNOWN) and r["start"] <= end}
        if last and (value is None or value < last):
            self._found(kind, run, f"{key} was set to {last} and acknowledged, is {value}")
        elif value is not None and value not in possible:
            self._found("set_unasked", run, f"{key} is {value}, which nobody set (or was told so)")

    def _check_readers(self) -> None:
        """Check that what each reader got is the log, from its beginning, without gap or repeat."""
        for (reader, run), batches in self._batches.items():
            log = self._logs.get(run)
            if log is None:
                self._found("stream_wrong", run, f"reader {reader} read a log that is gone")
                continue
            cursor = 0
            seen: list[list[Any]] = []
            for batch in batches:
                if batch["from"] > cursor + 1:
                    self._found("stream_gap", run, f"reader {reader}: {batch['from']} after {cursor}")
                if batch["from"] <= cursor:
                    self._found("stream_repeat", run, f"reader {reader}: {batch['from']} after {cursor}")
                cursor = batch["to"]
                seen += batch["entries"]
            expected = [
                entry for entry in log.entries if entry[0] <= cursor and (batches[0]["internal"] or entry[1] in PUBLIC)
            ]
            if seen != expected:
                got, due = ({json.dumps(entry) for entry in entries} for entries in (seen, expected))
                extra, missing = sorted(got - due)[:2], sorted(due - got)[:2]
                text = f"reader {reader}: not in the log {extra}, missing {missing}"
                self._found("stream_wrong", run, text)

    # -- the workload's steps -------------------------------------------------------------------------------------

    def _check_replies(self) -> None:
        """Check that each received event got its one reply."""
        answers = {reply: cause for cause, reply in REPLIES.items()}
        for run, log in self._logs.items():
            for (type_name, token), places in log.streamed.items():
                if len(places) > 1:
                    self._found("reply_doubled", run, f"{type_name} {token} is at {places}")
                cause = answers.get(type_name)
                if cause is not None and (cause, token) not in log.received:
                    self._found("reply_unasked", run, f"{type_name} {token} without its {cause}")
            for type_name, token in log.received:
                reply = REPLIES.get(type_name)
                if reply is not None and not log.ended and (reply, token) not in log.streamed:
                    self._found("reply_lost", run, f"{type_name} {token} was received and got no {reply}")
            self._check_questions(run, log)

    def _check_questions(self, run: str, log: FinalLog) -> None:
        """Check that the first answer to a question, and no other, was taken."""
        first: dict[str, tuple[int, str]] = {}
        for sequence, kind, type_name, fields in log.entries:
            if kind == "RECEIVED" and type_name == "Answer" and ("Question", fields["token"]) in log.streamed:
                asked = log.streamed["Question", fields["token"]][0]
                if sequence > asked:
                    first.setdefault(fields["token"], (sequence, fields["text"]))
        told = {
            fields["token"]: fields["text"]
            for _, kind, name, fields in log.entries
            if (kind, name) == ("STREAM", "Answered")
        }
        for token, text in told.items():
            if token not in first:
                self._found("answer_unasked", run, f"question {token} was answered by nobody")
            elif first[token][1] != text:
                self._found("answer_doubled", run, f"question {token} took another answer than the first")
        if log.ended:
            return
        for token in first:
            if token not in told:
                self._found("answer_lost", run, f"question {token} was answered, its step did not hear of it")
        open_questions = {token for name, token in log.streamed if name == "Question"} - set(told) - set(first)
        if open_questions != set(log.record["pending"]):
            self._found(
                "waiter", run, f"open questions {sorted(open_questions)[:3]}, waiters {log.record['pending'][:3]}"
            )

    def _check_wholes(self) -> None:
        """Check that parts were collected in groups, none twice and none left over."""
        for run, log in self._logs.items():
            received = {token for name, token in log.received if name == "Part"}
            used: Counter[str] = Counter()
            wholes = 0
            for _, kind, name, fields in log.entries:
                if (kind, name) == ("STREAM", "Whole"):
                    wholes += 1
                    used.update(fields["tokens"])
                    if len(fields["tokens"]) != GROUP:
                        self._found("whole_wrong", run, f"a whole of {len(fields['tokens'])} parts")
            if doubled := [token for token, count in used.items() if count > 1]:
                self._found("part_doubled", run, f"{doubled[:3]}")
            if set(used) - received:
                self._found("part_unasked", run, f"{sorted(set(used) - received)[:3]}")
            if not log.ended and wholes != len(received) // GROUP:
                self._found("part_lost", run, f"{len(received)} parts made {wholes} wholes")

    def _check_effects(self) -> None:
        """Check that every effect happened at least once, under one key, each attempt of it once."""
        keys: dict[tuple[str, str], set[tuple[str, int]]] = defaultdict(set)
        tokens: dict[tuple[str, str, int], set[str]] = defaultdict(set)
        attempts: Counter[tuple[str, str, int, int]] = Counter()
        for record in self._effects:
            run, step, delivery = record["run"], record["step"], record["delivery"]
            keys[run, record["token"]].add((step, delivery))
            tokens[run, step, delivery].add(record["token"])
            attempts[run, step, delivery, record["attempt"]] += 1
        for (run, token), found in keys.items():
            if len(found) > 1:
                self._found("effect_key", run, f"{token} had its effect as {sorted(found)}")
        for (run, step, delivery), found_tokens in tokens.items():
            if len(found_tokens) > 1:
                self._found("effect_key", run, f"{step} {delivery} is the key of two effects")
        for (run, step, delivery, attempt), count in attempts.items():
            if count > 1:
                self._found("effect_attempt", run, f"attempt {attempt} of {step} {delivery} ran {count} times")
        if not self.counts["effect"] and not self._effects_expected():
            return
        for run, log in self._logs.items():
            for type_name, token in log.received:
                if type_name in EFFECTFUL and not log.ended and (run, token) not in keys:
                    self._found("effect_lost", run, f"{type_name} {token} was received and had no effect")
        for run, token in keys:
            held = self._logs.get(run)
            if held is None or not any((name, token) in held.received for name in EFFECTFUL):
                self._found("effect_unasked", run, f"an effect of {token}, which is not in the log")

    def _effects_expected(self) -> bool:
        return any(name in EFFECTFUL for log in self._logs.values() for name, _ in log.received)


def check(records: Iterable[Record]) -> list[Violation]:
    """Return the violations in a history."""
    return Checker().feed(records).finish()
