"""The grammar of the keys of a snapshot's parts."""

from __future__ import annotations

import pytest

from stepwire.workflow.broker.snapshot import parts
from stepwire.workflow.broker.snapshot.parts import PartKey

KEYS = {
    parts.HEAD: PartKey(parts.HEAD, "", 0, 0),
    parts.state("a"): PartKey(parts.STATE, "a", 0, 0),
    parts.state("a/b"): PartKey(parts.STATE, "a/b", 0, 0),
    parts.state(""): PartKey(parts.STATE, "", 0, 0),
    parts.delivery(7): PartKey(parts.DELIVERY, "", 7, 0),
    parts.answer(7, 2): PartKey(parts.ANSWER, "", 7, 2),
    parts.effects(7, 3): PartKey(parts.EFFECTS, "", 7, 3),
    parts.buffered(12): PartKey(parts.BUFFERED, "", 12, 0),
    parts.waiter(13): PartKey(parts.WAITER, "", 13, 0),
}


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_taken_apart_again(key: str) -> None:
    assert parts.parse(key) == KEYS[key]


def test_keys_differ() -> None:
    assert len(KEYS) == 9


@pytest.mark.parametrize("key", ["", "x", "d", "d/", "d/one", "a/1", "q/1", "head"])
def test_other_text_is_no_key(key: str) -> None:
    with pytest.raises(ValueError, match=r"not the key|invalid literal"):
        parts.parse(key)


def test_stored_snapshots_name_their_parts_so() -> None:
    """What is in databases of before: these spellings must not change."""
    assert list(KEYS) == ["h", "s/a", "s/a/b", "s/", "d/7", "a/7/2", "x/7/3", "b/12", "w/13"]


def test_state_names() -> None:
    assert [parts.state_name(key) for key in ("s/a", "s/", "h", "d/1")] == ["a", "", None, None]


def test_numbers_are_sorted_as_numbers() -> None:
    keys = ["d/10", "d/9", "b/1", "s/d/5", "h"]
    assert list(parts.numbers_of(keys, parts.DELIVERY)) == [9, 10]


def test_effects_are_cut_into_pages() -> None:
    digests = bytes(range(256)) * 40
    pages = list(parts.paged(digests))
    assert b"".join(pages) == digests
    assert [len(page) for page in pages] == [parts.EFFECT_PAGE_BYTES, parts.EFFECT_PAGE_BYTES, 2048]
    assert [len(parts.pages_of(size)) for size in (0, 1, 4096, 4097)] == [0, 1, 1, 2]
