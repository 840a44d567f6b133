"""What replicas promise beyond what the checker of a history knows: how soon, and nothing for no reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.system.chaos.checker import Violation
from tests.system.chaos.history import Record

TAKEOVER_SECONDS = 4.0
PROGRESS_SECONDS = 10.0


def late_takeovers(seconds: Iterable[float]) -> list[Violation]:
    """Find calls to runs of a dead replica that took too long."""
    return [Violation("takeover_late", "", f"{each:.1f} s") for each in seconds if each >= TAKEOVER_SECONDS]


def late_progress(seconds: Iterable[float]) -> list[Violation]:
    """Find times after a mended cut in which a client got nothing done."""
    return [
        Violation("progress_late", "", f"{each:.1f} s after it was mended")
        for each in seconds
        if each >= PROGRESS_SECONDS
    ]


def spurious_takeovers(logs: Sequence[str]) -> list[Violation]:
    """Find replicas that were taken for dead by one that had just been paused itself.

    Only one is paused at a time, and one that was paused and taken for dead hears of it when it goes on. So each death
    needs its own confession.
    """
    deaths = sum(text.count("is dead: ") for text in logs)
    heard = sum(text.count("took this one for dead") for text in logs)
    if deaths > heard:
        return [Violation("takeover_spurious", "", f"{deaths} deaths, {heard} replicas heard of theirs")]
    return []


def repeated_steps(records: Iterable[Record]) -> list[Violation]:
    """Find steps that ran again though no replica died."""
    return [
        Violation("step_repeated", line["run"], f"attempt {line['attempt']} of {line['step']} {line['delivery']}")
        for line in records
        if line["op"] == "effect" and line["attempt"] > 1
    ]
