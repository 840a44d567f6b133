"""The guard of the benchmarks: which ratios count as worse than the committed ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import report
from benchmarks.harness import Row, Sample
from benchmarks.harness import row as made_row


@pytest.fixture(autouse=True)
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps({"full": {"rate": 0.5, "time": 2.0}}))
    monkeypatch.setattr(report, "BASELINE", baseline)


RATE, TIME = "1/s", "s"


def row(key: str, ratio: float, unit: str, *, guarded: bool = True) -> Row:
    return made_row(key, key, unit, "limit", ratio, 1.0, guarded=guarded)


@pytest.mark.parametrize(
    ("found", "worse"),
    [
        (row("rate", 0.43, RATE), False),
        (row("rate", 0.42, RATE), True),
        (row("rate", 0.9, RATE), False),
        (row("time", 2.29, TIME), False),
        (row("time", 2.31, TIME), True),
        (row("time", 1.0, TIME), False),
        (row("time", 9.0, TIME, guarded=False), False),
        (row("new", 9.0, TIME), False),
    ],
)
def test_guard_allows_15_percent(found: Row, worse: bool) -> None:
    assert bool(report.regressions([found], "full")) is worse


def test_guard_compares_runs_of_one_kind() -> None:
    assert report.regressions([row("rate", 0.1, RATE)], "quick") == []


def test_written_ratios_are_the_next_baseline() -> None:
    report.write_baseline([row("rate", 0.8, RATE)], "full")
    assert report.regressions([row("rate", 0.6, RATE)], "full") == ["rate: ratio 0.60, committed 0.80"]
    assert report.regressions([row("time", 2.0, TIME)], "full") == []


def test_ratio_is_the_median_of_the_rounds() -> None:
    ours = [Sample(10.0), Sample(30.0), Sample(20.0)]
    made = made_row("k", "t", RATE, "l", ours, [Sample(10.0), Sample(10.0), Sample(40.0)], target=1.0)
    assert (made.ratio, made.low, made.high, made.met) == (1.0, 0.5, 3.0, True)
