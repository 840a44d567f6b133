"""Fixtures and settings that every test shares."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests that are run in the background may ignore SIGINT, and so would the commands that they start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_TESTS = Path(__file__).parent

# Shared machines stall: slow examples are no failure, whether in the test or in their making; pytest-timeout bounds the
# whole test.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", _PATIENT)
# In CI the same examples every time, so that a failure there repeats here.
settings.register_profile("ci", _PATIENT, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Until all tests are collected nothing that they import becomes garbage: looking for it takes a quarter of the time.
gc.disable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run two test processes on each core: tests wait for other processes and the disk now and then."""
    return (os.cpu_count() or 1) * 2


def pytest_configure(config: pytest.Config) -> None:
    """Have each test process begin to collect in another folder.

    Each of them collects all tests. In a new checkout they would otherwise all compile the same file at the same time.
    """
    worker = getattr(config, "workerinput", None)
    if worker is not None and [config.rootpath / each for each in config.args] == [_TESTS]:
        folders = sorted(str(each) for each in _TESTS.iterdir() if each.is_dir() and each.name[0].isalpha())
        first = int(worker["workerid"].removeprefix("gw")) % len(folders)
        config.args = folders[first:] + folders[:first]


def pytest_collection_finish() -> None:
    """Keep what was imported and collected out of the collections of garbage to come: a quarter of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.enable()


_ORDER = ("system", "integration", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that no process works alone on one while the others have finished.

    The order does not depend on the folder that was collected first.
    """
    folder = len(_TESTS.parts)

    def place(item: pytest.Item) -> tuple[int, Path]:
        kind = item.path.parts[folder]
        return (_ORDER.index(kind) if kind in _ORDER else 0, item.path)

    items.sort(key=place)
