"""The broker against its reference model (see machine.py); `make model` runs it long."""

from __future__ import annotations

import inspect
import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.unit.model.family_mutants import FAMILY_MUTANTS
from tests.unit.model.machine import BrokerMachine
from tests.unit.model.mutants import MUTANTS, Mutant, caught
from tests.unit.model.rare_paths import rare_path

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "60"))
STEPS = int(os.environ.get("MODEL_STEPS", "40"))


@pytest.mark.timeout(0 if "MODEL_EXAMPLES" in os.environ else 600)
def test_the_broker_does_what_the_model_does() -> None:
    run_state_machine_as_test(
        BrokerMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize="MODEL_EXAMPLES" not in os.environ,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_rare_path() -> None:
    rare_path()


def test_a_step_that_gave_up_one_wait_runs_again_though_an_older_one_is_open() -> None:
    """Found by the machine: the snapshot still had it parked, so it would have waited for the other answer."""
    machine = BrokerMachine()
    machine.begin(None)
    machine.dispatch()
    for id in "pq":
        machine.act(0, ("wait", id, "Answer", None, None, None))
    machine.fail(0, 0)
    machine.replay(0)
    machine.commit()
    machine.give_up(0)
    machine.commit()
    machine.load(-1, fork=False)
    machine.dispatch()
    machine.holds()
    assert machine.broker.executions


def test_an_answer_that_takes_the_place_of_another_is_written_in_its_place() -> None:
    """Found by the machine: a step that waits for something else the next time has two answers to one wait."""
    machine = BrokerMachine()
    machine.begin(None)
    machine.dispatch()
    for name in ("Answer", "B"):
        machine.act(0, ("wait", "p", name, None, None, None))
        machine.receive((name, 0))
        machine.dispatch()
        machine.commit()
        machine.holds()
        if name == "Answer":
            machine.lose(0)
            machine.dispatch()
            machine.diverge(0, ("A", 0), ("A",))
    for _ in range(2):
        machine.load(-1, fork=False)
        machine.dispatch()
        machine.holds()
        delivery = machine.broker.deliveries[1]
        assert delivery.ledger is not None
        assert [type(answer).__name__ for answer in delivery.ledger.waits["p"].values()] == ["B"]
        assert delivery.ledger.answers == [("p", 0)]


@pytest.mark.parametrize("mutant", [*MUTANTS, *FAMILY_MUTANTS], ids=lambda mutant: mutant.name)
def test_a_defect_fits_the_engine(mutant: Mutant) -> None:
    """It takes what the right method takes: else it would be caught by its signature, which shows nothing."""
    right = getattr(mutant.owner, mutant.method)
    taken = inspect.signature(right).parameters.values()
    named = {each.name: None for each in taken if each.kind is each.KEYWORD_ONLY}
    inspect.signature(mutant.make(right)).bind(*[None] * (len(taken) - len(named)), **named)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["equal-dropped", "finish-by-equality", "retry-tail", "worker-kept", "set-lost"])
def test_the_machine_catches_a_defect(name: str) -> None:
    """A few of `mutants.py`; `make model` tries them all."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    assert caught(mutant, 500)


@pytest.mark.parametrize("last", ["crash", "loss"])
def test_a_delivery_that_was_lost_too_often_counts_as_queued(last: str) -> None:
    """Found by the machine: it counted as running, and lost once more, than the snapshot before said."""
    machine = BrokerMachine()
    machine.start(timeout=None, received=[])
    for _ in range(4):
        machine.crash(fork=False, pick=-1)
        machine.commit()
    if last == "crash":
        machine.crash(fork=False, pick=-1)
    else:
        machine.lose(pick=0)
    assert machine.model.outcome == "failed"
    machine.holds()
    machine.commit()
    machine.crash(fork=True, pick=-1)
    machine.holds()
