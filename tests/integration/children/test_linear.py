"""What a family costs is linear in its children, counted: commits, bytes and function calls, not seconds."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.integration.children.family import Given, Inner, Outer, runs_of

from stepwire.client import RunStatus
from stepwire.server.store import Commit
from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import Context


class Cost(NamedTuple):
    """What one family has cost.

    Attributes:
        commits: Commits of the parent.
        bytes: Bytes of them: deltas and entries of the log.
        largest: Bytes of the largest of them that is not full, of the second half.
        all_commits: Commits of parent and children.
        calls: Functions called on the server's event loop, of Python and of C.
    """

    commits: int
    bytes: int
    largest: int
    all_commits: int
    calls: int


async def gathered(outer: Outer, ctx: Context, ev: Given) -> Any:
    """Start all at once and await them together."""
    found = await asyncio.gather(*(ctx.start_run("Inner", text=f"t{number}") for number in range(ev.n)))
    return len(set(found))


async def one_by_one(outer: Outer, ctx: Context, ev: Given) -> Any:
    """Start and await one after the other."""
    found = [await ctx.start_run("Inner", text=f"t{number}") for number in range(ev.n)]
    return len(set(found))


@contextmanager
def counted(server: RunningServer) -> Iterator[list[int]]:
    """Count the function calls on the server's event loop."""
    found = [0]

    def note(frame: object, event: str, argument: object) -> None:
        found[0] += event in ("call", "c_call")

    async def turn(hook: Any) -> int:
        sys.setprofile(hook)
        return threading.get_ident()

    server._call(turn(note))
    try:
        yield found
    finally:
        server._call(turn(None))


def cost(tmp_path: Path, act: Any, count: int, *, calls: bool = True) -> Cost:
    """Have a parent start so many children on a server with SQLite."""
    sizes: list[tuple[str, int, bool]] = []
    with serve(Outer(act), Inner, data=tmp_path / f"{act.__name__}-{count}") as server, server.client() as client:
        runs_of(server).pool.store.listen(lambda commit: sizes.append(_size(commit)))
        client.start_run("Outer", n=2).result(timeout=60)  # what is made once
        sizes.clear()
        if calls:
            with counted(server) as found:
                run = client.start_run("Outer", n=count)
                assert run.result(timeout=600) == count
        else:
            found = [0]
            run = client.start_run("Outer", n=count)
            assert run.result(timeout=1200) == count
        assert Counter(each.status for each in client.list_runs(parent=run.run_id)) == {RunStatus.COMPLETED: count}
    own = [(size, full) for run_id, size, full in sizes if run_id == run.run_id]
    later = [size for size, full in own[len(own) // 2 : -1] if not full]
    return Cost(len(own), sum(size for size, _ in own), max(later), len(sizes), found[0])


def _size(commit: Commit) -> tuple[str, int, bool]:
    size = len(commit.delta) + sum(chunk.size for chunk in commit.chunks)
    return commit.record.key.run_id, size, commit.full


@pytest.mark.parametrize("act", [gathered, one_by_one])
@pytest.mark.timeout(180)
@pytest.mark.slow
def test_a_family_costs_what_its_children_say(tmp_path: Path, act: Any) -> None:
    small, large = (cost(tmp_path, act, count) for count in (100, 400))
    sys.stdout.write(f"100: {small}\n400: {large}\n")
    for what, slack in (("bytes", 1.5), ("all_commits", 1.1), ("calls", 1.25)):
        # Now and then a commit writes everything. What is quadratic would cost four times as much for each child.
        one, four = getattr(small, what), getattr(large, what)
        assert four <= 4 * slack * one, f"{what}: {one} for 100 children, {four} for 400"
    if act is one_by_one:
        assert large.largest <= small.largest + 64, "a commit grows with the children that have ended"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_children_are_linear(tmp_path: Path) -> None:
    small, large = (cost(tmp_path, gathered, count, calls=False) for count in (1_000, 10_000))
    assert large.all_commits <= 11 * small.all_commits
    assert large.bytes <= 12 * small.bytes
    sys.stdout.write(f"1,000: {small}\n10,000: {large}\n")
