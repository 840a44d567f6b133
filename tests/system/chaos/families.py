"""Kill the server under families of runs at three levels: every child once, every result right."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import grpc
from tests.system.chaos.checker import Violation
from tests.system.chaos.family_flows import LEAVES, PARENTS, expected
from tests.system.chaos.report import Progress, Report, percentile, quiet
from tests.system.chaos.server import ServerProcess

from stepwire.client import Client, RunInfo, StepwireError

__all__ = ["families"]

_READY_SECONDS = 120.0
"""How long a start may take on a busy machine."""
_AT_ONCE = 4
"""Families under way at a time."""
_LAST_SECONDS = 300.0
"""How long the last families may take once nobody kills any more."""


async def families(
    work: Path, *, kills: int = 50, seed: int = 0, progress: Progress = quiet, settle: float = _LAST_SECONDS
) -> Report:
    """SIGKILL the server at random moments under grandparents, parents and leaves that ask and fail."""
    rng = random.Random(f"families/{seed}")
    server = ServerProcess(work, settings={"max_children": 2})
    recoveries: list[float] = []
    server.spawn()
    await server.ready(_READY_SECONDS)
    crowd = _Crowd(server.address, seed)
    try:
        async with crowd:
            for number in range(kills):
                if rng.random() < 0.1:
                    await asyncio.sleep(rng.uniform(0.0, 0.5))  # also while it starts
                else:
                    recoveries.append(await server.ready(_READY_SECONDS))
                    await asyncio.sleep(rng.uniform(0.0, 1.5))
                server.kill()
                server.spawn()
                if number % 50 == 49:
                    progress(f"{number + 1} kills, {len(crowd.ended)} families, recovery {recoveries[-1]:.2f} s")
            await server.ready(_READY_SECONDS)
            crowd.begin = False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(crowd.done.wait(), settle)
        violations, runs = await _check(server, crowd)
    finally:
        server.kill()
    measured = {
        "kills": kills,
        "families": len(crowd.ended),
        "runs": runs,
        "answered": crowd.answered,
        "recovery_p50": round(percentile(recoveries, 0.5), 2),
        "recovery_p99": round(percentile(recoveries, 0.99), 2),
        "acknowledged": len(crowd.started),
    }
    return Report("families", measured, violations)


class _Crowd:
    """Start families, answer their questions, and note their results."""

    def __init__(self, address: str, seed: int) -> None:
        self.begin = True
        """Whether further families are started."""
        self.started: list[str] = []
        self.open: set[str] = set()
        self.ended: dict[str, Any] = {}
        self.answered = 0
        self.done = asyncio.Event()
        """Set once all families have ended and no further ones begin."""
        self._client = Client(address, timeout=5.0)
        self._seed = seed
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> _Crowd:
        self._tasks = [asyncio.create_task(self._start()), asyncio.create_task(self._answer())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def _start(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(0.01)
            with contextlib.suppress(StepwireError, grpc.aio.AioRpcError):
                for token in list(self.open):
                    info = await self._client.get_run(token)
                    if info.ended:
                        self.ended[token] = info.outcome.result if info.outcome is not None else None
                        self.open.discard(token)
                if not self.begin and not self.open:
                    self.done.set()
                while self.begin and len(self.open) < _AT_ONCE:
                    token = f"f{self._seed}-{number}"
                    await self._client.start_run(
                        "grandparent", token=token, run_id=token, request_id=token, labels={"family": token}
                    )
                    number += 1
                    self.started.append(token)
                    self.open.add(token)

    async def _answer(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            with contextlib.suppress(StepwireError, grpc.aio.AioRpcError):
                async for info in self._client.list_runs(workflow="leaf", waiting_for="LeafAnswer"):
                    for waiter in info.pending_waiters:
                        answer = ("LeafAnswer", {"token": waiter.requirements["token"]})
                        await self._client.run(info.run_id).context.send_event(answer)
                        self.answered += 1


async def _check(server: ServerProcess, crowd: _Crowd) -> tuple[list[Violation], int]:
    """Compare what there is with what there should be."""
    found: list[Violation] = [Violation("family_open", token, "did not end") for token in sorted(crowd.open)]
    for token, result in crowd.ended.items():
        if result != expected(token):
            found.append(Violation("family_result", token, f"{result}, not {expected(token)}"))
    runs: dict[str, list[RunInfo]] = defaultdict(list)
    total = 0
    async with Client(server.address) as client:
        async for info in client.list_runs(page_size=1000):
            total += 1
            runs[info.parent.run_id if info.parent is not None else ""].append(info)
    for top in runs[""]:
        if top.run_id not in crowd.ended:
            continue
        parents = runs.get(top.run_id, [])
        if len(parents) != PARENTS or any(each.workflow != "parent" for each in parents):
            found.append(Violation("family_parents", top.run_id, f"{len(parents)} parents"))
        for parent in parents:
            leaves = runs.get(parent.run_id, [])
            if len(leaves) != LEAVES or any(each.workflow != "leaf" for each in leaves):
                found.append(Violation("family_leaves", parent.run_id, f"{len(leaves)} leaves"))
            found += [Violation("family_living", each.run_id, str(each.status)) for each in leaves if not each.ended]
    if not crowd.ended:
        found.append(Violation("family_none", "", "no run was found"))
    for token, of_token in _effects(server.effects).items():
        if len(of_token) != 1:
            found.append(Violation("family_twice", token, f"was worked on by the runs {sorted(of_token)}"))
    return found, total


def _effects(path: Path) -> dict[str, set[str]]:
    """Return the runs that worked on each token."""
    of_token: dict[str, set[str]] = defaultdict(set)
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # a kill within the write left a part of a line
            told = json.loads(line)
            of_token[told["token"]].add(told["run"])
    return of_token
