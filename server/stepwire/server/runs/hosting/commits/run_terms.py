"""The terms of a run, by which lists find it: who started it, what it fails with, where it waits and for what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from stepwire.server.runs.origin import ORIGIN
from stepwire.server.store import RunRecord, Status
from stepwire.server.store.terms import CLOSE, ERROR, EVENT, PARENT, SCHEDULE, STARTED_BY, STEP, TELL, term
from stepwire.workflow.hosting import PARKED, RUNNING, Broker, Delivery

__all__ = ["RunTerms", "undone"]

_FEW: Final = 4
"""Open questions that are looked at anew in each commit. Most runs that wait have fewer: nothing is kept for these."""

Questions = Mapping[int, dict[str, Any]]
_NO_QUESTIONS: Final[Questions] = {}


class RunTerms:
    """Give the terms of one run after each of its commits; a commit costs what changed."""

    __slots__ = ("_counts", "_pending")

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] | None = None
        """How many open questions wait for each type of event, and in each step; None while there are few."""
        self._pending: Questions = _NO_QUESTIONS
        """The questions that were counted."""

    def after(
        self,
        last: RunRecord,
        broker: Broker,
        pending: Questions,
        changed: Mapping[int, dict[str, Any] | None],
        info: Mapping[str, Any],
        *,
        new: bool,
    ) -> tuple[str, ...]:
        """Return the terms of the run after a commit; those of its last one if nothing that they tell of has changed.

        Args:
            last: The record of the last commit.
            broker: The run.
            pending: Its open questions after the commit.
            changed: Those of them that the commit changes; None for closed ones.
            info: What its record says after the commit.
            new: Whether the commit is its first.
        """
        failing = broker.work.failing
        ended = "outcome" in info
        if not (new or ended or failing or pending is not last.pending or _tells_of_failures(last.terms)):
            return last.terms
        found = [term(STARTED_BY, info["principal"])] if info.get("principal") else []
        if (parent := info.get("parent")) is not None:
            found.append(term(PARENT, parent["run_id"]))
        if (origin := info.get(ORIGIN)) is not None:
            found.append(term(SCHEDULE, origin[0]))
        if ended:
            if (failure := info["outcome"].get("failure")) is not None:
                said = ((ERROR, "error_type"), (STEP, "step"))
                found += [term(name, failure[key]) for name, key in said if failure.get(key)]
            elif info["outcome"]["status"] == Status.TIMED_OUT:
                begun = (RUNNING, PARKED)
                found += {term(STEP, each.step) for each in broker.deliveries.values() if each.status in begun}
                found += _of_failing(failing)
            if "parent" in info or "children" in info:
                found += undone(info)
        else:
            if pending or self._counts is not None:
                found += [term(name, value) for name, value in self._asked(last.pending, pending, changed)]
            found += _of_failing(failing)
        return tuple(sorted(set(found))) if len(found) > 1 else tuple(found)

    def _asked(
        self, before: Questions, pending: Questions, changed: Mapping[int, dict[str, Any] | None]
    ) -> set[tuple[str, str]] | dict[tuple[str, str], int]:
        """Return what the open questions wait for and where."""
        if len(pending) <= _FEW:
            self._counts, self._pending = None, _NO_QUESTIONS
            return {said for question in pending.values() for said in _said(question)}
        counts = self._counts
        if counts is None or before is not self._pending:
            counts = self._counts = {}
            for question in pending.values():
                _count(counts, question, 1)
        else:
            for number, now in changed.items():
                if (earlier := before.get(number)) is not None:
                    _count(counts, earlier, -1)
                if now is not None:
                    _count(counts, now, 1)
        self._pending = pending
        return counts


def undone(info: Mapping[str, Any]) -> set[str]:
    """Return what is to be done once a run with this record has ended."""
    found: set[str] = set()
    if "parent" in info:
        found.add(TELL)
    children = info.get("children", {})
    if children.get("to_close") or children.get("to_start"):
        found.add(CLOSE)
    return found


def _of_failing(failing: Mapping[int, Delivery] | None) -> Iterator[str]:
    for delivery in failing.values() if failing else ():
        yield term(STEP, delivery.step)
        if delivery.failure is not None:
            yield term(ERROR, delivery.failure.error_type)


def _said(question: dict[str, Any]) -> tuple[tuple[str, str], tuple[str, str]]:
    return (EVENT, question["event_type"]), (STEP, question["step"])


def _count(counts: dict[tuple[str, str], int], question: dict[str, Any], by: int) -> None:
    for said in _said(question):
        if number := counts.get(said, 0) + by:
            counts[said] = number
        else:
            del counts[said]


def _tells_of_failures(terms: tuple[str, ...]) -> bool:
    for each in terms:  # noqa: SIM110 - a generator takes longer, and most runs have one term or two
        if each.startswith(_ERROR):
            return True
    return False


_ERROR: Final = f"{ERROR}="
