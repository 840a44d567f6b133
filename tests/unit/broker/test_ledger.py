"""The ledger of a delivery: what its calls got."""

from __future__ import annotations

from tests.unit.broker.support import Item, Other

from stepwire.workflow.broker.ledger import TIMED_OUT, Buffered, Ledger, digest_of, effects_by_digest, has_fields
from stepwire.workflow.broker.snapshot.parts import EFFECT_SIZE


def test_answers_by_id_and_place() -> None:
    ledger = Ledger()
    assert ledger.answer("q", 0, Item(n=1)) == 0
    assert ledger.answer("r", 0, TIMED_OUT) == 1
    assert ledger.answer("q", 1, Item(n=2)) == 2
    assert ledger.answered("q", 1, Item, {"n": 2}) == Item(n=2)
    assert ledger.answered("r", 0, Item, {"n": 7}) is TIMED_OUT, "a deadline fits every wait"
    assert ledger.answered("q", 2, Item, {}) is None
    assert ledger.answered("s", 0, Item, {}) is None


def test_an_answer_to_another_wait_is_none() -> None:
    ledger = Ledger()
    ledger.answer("q", 0, Item(n=1))
    assert ledger.answered("q", 0, Other, {}) is None
    assert ledger.answered("q", 0, Item, {"n": 2}) is None
    assert ledger.answer("q", 0, Other(n=5)) == 0, "the new answer takes the place of the old one"
    assert ledger.answered("q", 0, Other, {}) == Other(n=5)


def test_collected_events() -> None:
    ledger = Ledger()
    items = [Buffered(number, "x", Item(n=number), None) for number in (1, 2, 3)]
    ledger.collects["x"] = [None, items[:2]]
    ledger.collects["y"] = [items[2:]]
    assert list(ledger.collected()) == items


def test_fields_declared_and_dynamic() -> None:
    event = Item(n=1, more="m")
    assert has_fields(event, {})
    assert has_fields(event, {"n": 1, "more": "m"})
    assert not has_fields(event, {"n": 2})
    assert not has_fields(event, {"absent": None})


def test_digests_tell_calls_types_and_data_apart() -> None:
    calls = [
        digest_of("send ", Item(), b"1"),
        digest_of("send ", Item(), b"2"),
        digest_of("send ", Other(), b"1"),
        digest_of("write", Item(), b"1"),
        digest_of("send ", Item(), None),
        digest_of("write", Item(), None),
    ]
    assert len(set(calls)) == len(calls)
    assert {len(each) for each in calls} == {EFFECT_SIZE}
    assert digest_of("send ", Item(n=1), None) == digest_of("send ", Item(n=2), None), "in process the kind counts"
    effects = bytearray(calls[0] + calls[1] + calls[0])
    assert effects_by_digest(effects) == {calls[0]: 2, calls[1]: 1}
