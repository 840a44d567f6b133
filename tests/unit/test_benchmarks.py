"""The guard of the benchmarks: which ratios count as worse than the committed ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import report
from benchmarks.measure import AT_LEAST, AT_MOST, Row, Sample, make_row


@pytest.fixture(autouse=True)
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps({"full": {"rate": 0.5, "time": 2.0}}))
    monkeypatch.setattr(report, "BASELINE", baseline)


def row(key: str, ratio: float, sense: str, *, guarded: bool = True) -> Row:
    return Row(key, key, "s", ratio, 1.0, "limit", ratio, sense, guarded=guarded)


@pytest.mark.parametrize(
    ("found", "worse"),
    [
        (row("rate", 0.43, AT_LEAST), False),
        (row("rate", 0.42, AT_LEAST), True),
        (row("rate", 0.9, AT_LEAST), False),
        (row("time", 2.29, AT_MOST), False),
        (row("time", 2.31, AT_MOST), True),
        (row("time", 1.0, AT_MOST), False),
        (row("time", 9.0, AT_MOST, guarded=False), False),
        (row("new", 9.0, AT_MOST), False),
    ],
)
def test_guard_allows_15_percent(found: Row, worse: bool) -> None:
    assert bool(report.regressions([found], "full")) is worse


def test_guard_compares_runs_of_one_kind() -> None:
    assert report.regressions([row("rate", 0.1, AT_LEAST)], "quick") == []


def test_written_ratios_are_the_next_baseline() -> None:
    report.write_baseline([row("rate", 0.8, AT_LEAST)], "full")
    assert report.regressions([row("rate", 0.6, AT_LEAST)], "full") == ["rate: ratio 0.60, committed 0.80"]
    assert report.regressions([row("time", 2.0, AT_MOST)], "full") == []


def test_ratio_is_the_median_of_the_rounds() -> None:
    ours = [Sample(10.0), Sample(30.0), Sample(20.0)]
    made = make_row("k", "t", "1/s", ours, [10.0, 10.0, 40.0], limit_name="l", target=1.0)
    assert (made.ratio, made.low, made.high, made.met) == (1.0, 0.5, 3.0, True)
