"""What came of a scenario: what was measured, and what the checker found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.system.chaos.checker import Checker, Violation
from tests.system.chaos.history import History, read
from tests.system.chaos.server import ServerProcess

Progress = Callable[[str], None]


@dataclass
class Report:
    """What came of a scenario: what was measured, and every broken promise."""

    scenario: str
    measured: dict[str, Any] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return it for people."""
        text = ", ".join(f"{name} {value}" for name, value in self.measured.items())
        lines = [f"{self.scenario}: {text}; {len(self.violations)} violations"]
        return lines + [f"  {violation}" for violation in self.violations[:50]]


def quiet(text: str) -> None:
    """Show no progress."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def verdict(name: str, history: History, server: ServerProcess, **measured: Any) -> Report:
    """Have the history checked."""
    checker = Checker().feed(read(history.path, server.effects))
    violations = checker.finish()
    counts = checker.counts
    measured |= {
        "acknowledged": counts["acknowledged"],
        "unknown": counts["unknown"],
        "runs": counts["final"],
        "batches": counts["batch"],
        "effects": counts["effect"],
    }
    return Report(name, measured, violations)


class Unsupported(Exception):
    """This machine or user cannot do what the scenario needs."""
