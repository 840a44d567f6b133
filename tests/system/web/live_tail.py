"""Follow a run for long in a real browser and see what the page keeps: `python -m tests.system.web.live_tail`.

The run has more entries than the page keeps before the measurement begins. From then on each new entry pushes an old
one out, so that the heap of a page without a leak stays as it is. Each sample is taken after a forced collection.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from selenium import webdriver
from tests.system.web.conftest import FLOWS, Site, open_browser
from tests.system.web.page import Page

__all__ = ["Sample", "follow", "verdict"]

HELD = 121_000
"""Entries that the run has at first: more than the page keeps (KEPT in views/run.js)."""
GROWTH = 2 << 20
"""Bytes that the heap may grow: a page that kept its entries would grow by this within 8,000 of them."""
NODES = 300
"""Nodes that the page may grow: rows of other entries have more or fewer of them. A row kept has at least ten."""
LISTENERS = 50
"""Listeners that the page may grow. A row kept has one."""
READY = 120.0
"""Seconds within which the page has read what the run has at first."""


class Sample(NamedTuple):
    """What the page holds after a collection."""

    minutes: float
    heap: int
    nodes: int
    listeners: int
    entries: int


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def measure(browser: webdriver.Chrome) -> dict[str, int]:
    """Collect the garbage of the page; return the browser's metrics of it."""
    devtools: Callable[[str, dict[str, Any]], dict[str, Any]] = browser.execute_cdp_cmd  # type: ignore[assignment]
    devtools("Performance.enable", {})
    for _ in range(3):
        devtools("HeapProfiler.collectGarbage", {})
    return {each["name"]: int(each["value"]) for each in devtools("Performance.getMetrics", {})["metrics"]}


def told(page: Page, selector: str) -> str:
    """Return the text of the last element of a kind. The driver would keep an element that it was asked for."""
    return str(page.script("return [...document.querySelectorAll(arguments[0])].at(-1)?.textContent ?? ''", selector))


def open_tail(page: Page, run: str) -> None:
    """Open the events of the run, and wait until the page has read what there is."""
    page.open(f"/runs/{run}?tab=events")
    ends = time.monotonic() + READY
    while "the newest of" not in (filters := told(page, ".filters")):
        if time.monotonic() > ends:
            raise TimeoutError(f"the page has not read the log: {filters}")
        time.sleep(0.5)


def follow(site: Site, page: Page, *, seconds: float, every: float, rate: float, held: int = HELD) -> list[Sample]:
    """Follow a run that writes events steadily; return what the page held meanwhile.

    Args:
        site: A server with the workflow `tides`.
        page: The browser.
        seconds: How long.
        every: Seconds between samples.
        rate: Events that the run writes each second.
        held: Events that it writes at first.
    """
    run = site.start("tides", at_once=held, per_second=rate)
    open_tail(page, run)
    began = time.monotonic()
    samples: list[Sample] = []
    while not samples or time.monotonic() < began + seconds:
        time.sleep(max(0.0, began + every * len(samples) - time.monotonic()))
        found = measure(page.browser)
        last = int(told(page, ".e-seq"))
        elapsed = (time.monotonic() - began) / 60
        samples.append(Sample(elapsed, found["JSHeapUsedSize"], found["Nodes"], found["JSEventListeners"], last))
        say("{:6.1f} min {:>12,} B of heap {:>6,} nodes {:>5,} listeners, entry {:,}".format(*samples[-1]))
    return samples


def verdict(samples: list[Sample]) -> list[str]:
    """Return what grew between the first third of the samples and the last one.

    The least of each third counts: a sample may come while the page has drawn rows that no collection has taken yet.
    """
    third = max(1, len(samples) // 3)
    early, late = samples[:third], samples[-third:]

    def grown(of: Callable[[Sample], int]) -> int:
        return min(map(of, late)) - min(map(of, early))

    found = []
    if (heap := grown(lambda each: each.heap)) > GROWTH:
        found.append(f"the heap grew by {heap:,} B")
    if (nodes := grown(lambda each: each.nodes)) > NODES:
        found.append(f"the page grew by {nodes:,} nodes")
    if (listeners := grown(lambda each: each.listeners)) > LISTENERS:
        found.append(f"the page grew by {listeners:,} listeners")
    if late[-1].entries <= early[0].entries:
        found.append("no entry arrived")
    return found


def main() -> int:
    """Follow for an hour."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.web.live_tail", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=10, help="events that the run writes each second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder) / "data", specs=[f"{FLOWS}:Tides=tides"])
        browser = open_browser()
        try:
            with site.server:
                page = Page(browser, site.url)
                samples = follow(site, page, seconds=options.minutes * 60, every=60, rate=options.rate)
                errors = page.errors()
        finally:
            browser.quit()
    grown = verdict(samples) + errors
    for each in grown:
        say(each)
    first, last = samples[0], samples[-1]
    say(f"{last.entries - first.entries:,} entries in {last.minutes:.0f} minutes")
    say(f"heap {first.heap:,} -> {last.heap:,} B")
    say(f"nodes {first.nodes:,} -> {last.nodes:,}, listeners {first.listeners:,} -> {last.listeners:,}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
