"""Paths of the machine where chance seldom leads."""

from __future__ import annotations

from tests.unit.model.machine import BrokerMachine


def rare_path() -> None:
    """Drive the machine where chance seldom leads. First: a body collects a set, runs again and collects another."""
    machine = BrokerMachine()
    machine.start(None, [])
    machine.act(0, ("collect", ("A", 0), ("A",), "x"))
    machine.crash(False, -1)
    machine.act(0, ("collect", ("A", 0), ("A",), "x"))
    machine.commit()
    machine.crash(False, -1)
    machine.diverge(0, ("A", 0), ("A", "B"))
    machine.holds()
    an_answer_is_replayed()
    a_crash_sends_nothing_again()
    a_retry_sends_again()
    a_long_batch_is_committed()
    a_value_changes_in_place()
    a_change_in_place_is_undone()
    a_change_in_place_that_was_seen_stays()


def an_answer_is_replayed() -> None:
    """A step that was answered crashes before it finishes, and waits again."""
    machine = BrokerMachine()
    machine.start(None, [])
    machine.act(0, ("wait", "p", "Answer", None, None, None))
    machine.receive(("Answer", 0))
    machine.dispatch(durable=True)
    machine.crash(False, -1)
    machine.dispatch()
    machine.replay(0)
    machine.holds()


def a_crash_sends_nothing_again() -> None:
    """A step sends and writes, and does so again after a crash: neither has a second effect."""
    machine = BrokerMachine()
    machine.start(None, [])
    machine.act(0, ("send", ("B", 0), None))
    machine.act(0, ("write", ("B", 0)))
    machine.commit()
    machine.crash(False, -1)
    for _ in range(2):
        machine.replay(0)
        machine.holds()


def a_retry_sends_again() -> None:
    """A step sends, writes and fails; what it does again when it runs again has effects."""
    machine = BrokerMachine()
    machine.start(None, [])
    machine.act(0, ("send", ("B", 0), None))
    machine.act(0, ("write", ("B", 0)))
    machine.fail(0, 0)
    for _ in range(2):
        machine.replay(0)
        machine.holds()


def a_long_batch_is_committed() -> None:
    """A step writes much before a commit."""
    machine = BrokerMachine()
    machine.start(None, [])
    for number in range(20):
        machine.act(0, ("write", ("B", number)))
    machine.commit()
    machine.holds()


def a_value_changes_in_place() -> None:
    """A step takes a list out of the state that is durable, and appends to it."""
    machine = BrokerMachine()
    machine.start(None, [])
    for number in range(2):
        machine.act(0, ("append", number))
        machine.commit()
    machine.holds()


def a_change_in_place_is_undone() -> None:
    """A step sets a list and appends to it; it begins again with the list that it set."""
    machine = BrokerMachine()
    machine.start(None, [])
    for number in range(2):
        machine.act(0, ("append", number))
    machine.commit()
    machine.crash(False, -1)
    machine.holds()
    assert machine.model.state == {"bag": [0]}


def a_change_in_place_that_was_seen_stays() -> None:
    """A step appends to a list that another one has just appended to; it begins again with what it found."""
    machine = BrokerMachine()
    machine.start(None, [("A", 0), ("A", 0)])
    machine.use_state(key="append", pick=0, value=8)
    machine.commit()
    machine.use_state(key="append", pick=0, value=7)
    machine.use_state(key="append", pick=1, value=6)
    machine.commit()
    machine.crash(fork=False, pick=-1)
    machine.holds()
    assert machine.model.state == {"bag": [8, 7]}
