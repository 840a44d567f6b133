"""Defects of families, put in one at a time: the lives of `families` must catch every one.

`python -m tests.unit.model.family_mutants` tries all and prints a table.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from tests.unit.model.families import RARE, deeds, live, plans
from tests.unit.model.mutants import Mutant, Wrapped, applied, report, said

from stepwire.workflow.broker.children.child import Child, ChildCall
from stepwire.workflow.broker.children.children import Children
from stepwire.workflow.broker.deliveries.delivery import Delivery, Execution
from stepwire.workflow.broker.snapshot import writer as _snapshot
from stepwire.workflow.runner.runner import Runner

__all__ = ["FAMILY_MUTANTS", "caught_in_families", "families_live"]


def families_live(examples: int, *, derandomize: bool = True, shrink: bool = True) -> None:
    """Have families live, each through something else."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(plan=plans, todo=deeds)
    def lives(plan: Any, todo: Any) -> None:
        asyncio.run(live(plan, todo))

    lives()


def caught_in_families(mutant: Mutant, examples: int) -> str:
    """Have families live with the defect; return what they said, "" when they saw nothing."""

    def go() -> None:
        with applied(mutant):
            for life in RARE:
                asyncio.run(live(*life))
            families_live(examples, shrink=False)

    return said(go)


# -- the defects ------------------------------------------------------------------------------------------------------


def _retry_forgets_all(right: Wrapped) -> Wrapped:
    def retry(self: Children, delivery: Delivery) -> None:
        right(self, delivery)
        for known in self._of.get(delivery.id, {}).values():
            for child in [each for each in known if each.outcome is not None]:
                known.remove(child)
                self._forget(child)

    return retry


def _retry_keeps_failures(right: Wrapped) -> Wrapped:
    def retry(self: Children, delivery: Delivery) -> None:
        pass

    return retry


def _equal_calls_are_one(right: Wrapped) -> Wrapped:
    def start(self: Children, run: Any, run_id: str, execution: Execution, call: ChildCall) -> Child:
        known = self._of.get(execution.delivery.id, {}).get(call.digest())
        return known[0] if known else right(self, run, run_id, execution, call)

    return start


def _outcome_not_saved(right: Wrapped) -> Wrapped:
    def part(child: Child) -> bytes:
        found = json.loads(right(child))
        found.pop("o", None)
        return json.dumps(found).encode()

    return part


def _not_awaited_after_a_crash(right: Wrapped) -> Wrapped:
    def part(child: Child) -> bytes:
        found = json.loads(right(child))
        found.pop("a", None)
        return json.dumps(found).encode()

    return part


def _start_not_repeated(right: Wrapped) -> Wrapped:
    def restore(self: Children, child: Child, delivery: Delivery | None) -> None:
        right(self, child, delivery)
        self.todo = [each for each in self.todo if each.state != "starting"]

    return restore


def _start_before_the_commit(right: Wrapped) -> Wrapped:
    def pump(self: Runner) -> None:
        if (children := self.broker.made_children) is not None and children.todo and not self.broker.frozen:
            self._carry_out(children.take_todo(), children.take_sends())
        right(self)

    return pump


def _queue_lost(right: Wrapped) -> Wrapped:
    def restore(self: Children, child: Child, delivery: Delivery | None) -> None:
        right(self, child, delivery)
        self._queue.clear()

    return restore


def _no_bound(right: Wrapped) -> Wrapped:
    def start_more(self: Children) -> None:
        host: Any = self.host
        while self._queue:
            host.at_once += 1
            right(self)

    return start_more


def _forgotten_at_its_end(right: Wrapped) -> Wrapped:
    def end(self: Children, run: Any, child: Child, outcome: Any) -> None:
        right(self, run, child, outcome)
        for known in self._of.get(child.delivery, {}).values():
            if child in known:
                known.remove(child)

    return end


def _left_forgotten(right: Wrapped) -> Wrapped:
    def run_ended(self: Children, *, keep: bool) -> None:
        right(self, keep=keep)
        for child in list(self):
            self._forget(child)

    return run_ended


FAMILY_MUTANTS = [
    Mutant("child-again", "a retry starts completed children anew", Children, "retry", _retry_forgets_all),
    Mutant("failure-kept", "a retry is told the old failure again", Children, "retry", _retry_keeps_failures),
    Mutant("equal-children", "two equal starts are one child", Children, "start", _equal_calls_are_one),
    Mutant("end-not-saved", "the end of a child is not in the commit", _snapshot, "_child_part", _outcome_not_saved),
    Mutant("await-lost", "a crash forgets who waits", _snapshot, "_child_part", _not_awaited_after_a_crash),
    Mutant("start-lost", "a start that a crash prevented is not made", Children, "restore", _start_not_repeated),
    Mutant("start-early", "a child is started before it is durable", Runner, "pump", _start_before_the_commit),
    Mutant("queue-lost", "a crash loses children that wait for a place", Children, "restore", _queue_lost),
    Mutant("no-bound", "more children are started than may be", Children, "_start_more", _no_bound),
    Mutant("left-forgotten", "what is to go on is lost with its parent", Children, "run_ended", _left_forgotten),
    Mutant("end-forgotten", "the ledger forgets a child at its end", Children, "end", _forgotten_at_its_end),
]


if __name__ == "__main__":
    raise SystemExit(report(FAMILY_MUTANTS, caught_in_families))
