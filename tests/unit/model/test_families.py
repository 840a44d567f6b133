"""Families live through any order of starts, ends, crashes and retries (see families.py); `make model` runs it long."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from tests.unit.model.families import RARE, live
from tests.unit.model.family_mutants import FAMILY_MUTANTS, caught_in_families, families_live

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "100"))


@pytest.mark.timeout(0 if "MODEL_EXAMPLES" in os.environ else 120)
def test_every_child_is_started_once_and_the_results_are_right() -> None:
    families_live(EXAMPLES, derandomize="MODEL_EXAMPLES" not in os.environ)


@pytest.mark.parametrize("life", RARE)
def test_the_rare_lives(life: Any) -> None:
    asyncio.run(live(*life))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", FAMILY_MUTANTS, ids=lambda mutant: mutant.name)
def test_families_catch_a_defect(mutant: object) -> None:
    assert caught_in_families(mutant, 300)  # type: ignore[arg-type]
