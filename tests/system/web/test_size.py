"""The console in a real browser with as much as it promises to show: the page draws only what is in view."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from tests.system.web.conftest import FLOWS, Site
from tests.system.web.live_tail import Sample, follow, verdict
from tests.system.web.page import Page

from stepwire.server.store import Commit, RunKey, RunRecord, SqliteStore, Status

pytestmark = [pytest.mark.web, pytest.mark.slow]

RUNS = 50_000
EVENTS = 100_000
DRAWN = 80
"""Rows that a window of 900 px may have in the page: those in view and ten on either side."""


async def fill(data: Path) -> None:
    """Write ended runs to a store that no server has open."""
    store = SqliteStore(data)
    await store.open()
    now = time.time()
    for begin in range(0, RUNS, 1000):
        commits = []
        for number in range(begin, begin + 1000):
            at = now - RUNS + number
            record = RunRecord(
                key=RunKey("default", f"run-{number:05}"),
                workflow="notes",
                status=Status.COMPLETED,
                created_at=at,
                updated_at=at + 0.5,
                ended_at=at + 0.5,
                wake_at=None,
                info={"outcome": {"status": Status.COMPLETED, "event_type": "StopEvent"}},
            )
            commits.append(store.commit(Commit(record, None, b"{}", full=True)))
        await asyncio.gather(*commits)
    await store.close()


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Site]:
    data = tmp_path / "data"
    data.mkdir()
    asyncio.run(fill(data))
    site = Site(data)
    with site.server:
        yield site


def bottom(page: Page) -> int:
    """Scroll the list to its end; return how many rows are in the page."""
    page.script("const box = document.querySelector('.windowed'); box.scrollTop = box.scrollHeight")
    return len(page.all(".row.run, .row.entry"))


def test_fifty_thousand_runs_scroll_with_few_rows(browser: webdriver.Chrome, large: Site) -> None:
    page = Page(browser, large.url)
    browser.set_window_size(1360, 900)
    page.errors()
    page.open("/runs")
    page.sees("run-49999")
    most = 0
    ends = time.monotonic() + 180
    while f"{RUNS} runs" not in page.text():
        assert time.monotonic() < ends, page.one(".title").text
        most = max(most, bottom(page))
    page.until(lambda: bottom(page) and "run-00000" in page.text(), "the oldest run is not shown")
    most = max(most, bottom(page))
    assert 10 < most <= DRAWN
    assert page.errors() == []


def test_a_hundred_thousand_events_scroll_with_few_rows(page: Page, site: Site) -> None:
    run = site.start("flood", count=EVENTS)
    site.call("RunService/WaitRun", {"runId": run, "timeout": "50s"})
    page.open(f"/runs/{run}?tab=events")
    most = 0
    ends = time.monotonic() + 180
    last = int(site.call("RunService/GetRun", {"runId": run})["run"]["lastSequence"])
    while f"of {last} entries" not in page.text():
        assert time.monotonic() < ends, page.one(".filters").text
        most = max(most, bottom(page))
    page.until(lambda: bottom(page) and str(last) in [each.text for each in page.all(".e-seq")], "no last entry")
    most = max(most, bottom(page))
    assert 10 < most <= DRAWN
    assert last > EVENTS


@pytest.fixture
def tidal(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data", specs=[f"{FLOWS}:Tides=tides"])
    with site.server:
        yield site


def test_a_live_tail_keeps_no_more_than_it_shows(browser: webdriver.Chrome, tidal: Site) -> None:
    # The hour is `make tail-web`.
    page = Page(browser, tidal.url)
    samples = follow(tidal, page, seconds=30, every=3, rate=50)
    assert verdict(samples) == []
    assert page.errors() == []


@pytest.mark.parametrize("kept", ["heap", "nodes", "listeners"])
def test_a_page_that_kept_its_rows_would_be_found(kept: str) -> None:
    # As in the thirty seconds above: 1,400 rows, each of which keeps an entry of 2 KB, ten nodes and a listener.
    leak = {"heap": 2_000, "nodes": 10, "listeners": 1}[kept]
    steady = Sample(0.0, 37_000_000, 1_100, 100, 121_000)
    samples = [
        steady._replace(**{kept: getattr(steady, kept) + leak * 140 * n, "entries": 121_000 + 140 * n})
        for n in range(11)
    ]
    assert len(verdict(samples)) == 1
