"""The earlier names in the digests of sends and writes."""

from __future__ import annotations

import pytest
from tests.unit.broker.support import Item, Other

from stepwire.workflow.broker.ledger import digest_of, digest_under, effects_by_digest
from stepwire.workflow.broker.snapshot.former_names import FormerNames, known_digest, with_former_step, with_former_type

FORMER = FormerNames.of({"Thing": "Item", "old.Part": "new.Item"}, {"charge": "bill"})


@pytest.mark.parametrize("name", ["Thing", "Part", "Item"])
@pytest.mark.parametrize(("made", "repeated"), [("send bill", "send bill"), ("send charge", "send bill")])
def test_a_call_is_found_under_each_name(name: str, made: str, repeated: str) -> None:
    digest = digest_under(made, name, b"1")
    replay = effects_by_digest(bytearray(digest))
    assert known_digest(FORMER, replay, repeated, Item(), b"1") == digest
    unknown = [
        known_digest(FORMER, replay, repeated, Item(), b"2"),
        known_digest(FORMER, replay, repeated, Other(), b"1"),
        known_digest(FORMER, replay, "send ", Item(), b"1"),
        known_digest(FORMER, replay, "write", Item(), b"1"),
        known_digest(None, replay, "send other", Item(), b"1"),
    ]
    assert digest not in unknown


def test_the_name_of_today_goes_first_and_costs_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    replay = effects_by_digest(bytearray(digest_under("write", "Thing", b"1") + digest_of("write", Item(), b"1")))
    monkeypatch.setattr(FormerNames, "digests", None)
    assert known_digest(FORMER, replay, "write", Item(), b"1") == digest_of("write", Item(), b"1")
    assert known_digest(FORMER, None, "write", Item(), b"1") == digest_of("write", Item(), b"1"), "it never ran before"


def test_names_that_are_given_up_one_after_the_other() -> None:
    saved = with_former_type(None, "A", "B")
    saved = with_former_step(saved, "go", "walk")
    saved = with_former_type(saved, "B", "C")
    assert saved == [{"A": "C", "B": "C"}, {"go": "walk"}]
    assert with_former_type(saved, "C", "A") == [{"B": "A", "C": "A"}, {"go": "walk"}], "a name that is back is none"
    joined = FormerNames.joined(saved, FormerNames.of({"C": "D"}, {"walk": "run"}))
    assert joined == ({"A": "D", "B": "D", "C": "D"}, {"go": "run", "walk": "run"})
    assert FormerNames.joined(None, FORMER) is FORMER
    assert FormerNames.joined(with_former_type(None, "new.Item", "old.Item"), None) is None, "only its module changed"
