"""What is done to three replicas and their database; each scenario writes a history and has it checked."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.system.chaos.caller import Caller, PublicCaller, new_id
from tests.system.chaos.checker import Checker, Violation
from tests.system.chaos.clients import Crowd
from tests.system.chaos.cluster.promises import late_progress, late_takeovers, repeated_steps, spurious_takeovers
from tests.system.chaos.cluster.replicas import Replicas
from tests.system.chaos.history import History, read
from tests.system.chaos.proxy import LosingProxy
from tests.system.chaos.reader import finals
from tests.system.chaos.report import Progress, Report, percentile, quiet
from tests.system.chaos.server import ProcessEndedError, ServerProcess

from stepwire.server.failpoints import REPLICA_POINTS

_DATABASE_KILLS = 6
"""How often the database is killed for a replica to be amid a commit then."""


def verdict(
    name: str, history: History, replicas: Replicas, violations: Sequence[Violation] = (), **more: Any
) -> Report:
    """Have the history checked."""
    checker = Checker().feed(read(history.path, replicas.effects))
    found = [*checker.finish(), *violations]
    counts = checker.counts
    more |= {"acknowledged": counts["acknowledged"], "unknown": counts["unknown"], "runs": counts["final"]}
    more |= {"batches": counts["batch"], "effects": counts["effect"]}
    return Report(name, more, found)


async def taken_over(replicas: Replicas, history: History, dead: ServerProcess, run: str | None, rng: Any) -> float:
    """Send to a run of a replica that has just died, through another one; return the seconds until it answers."""
    if run is None:
        return 0.0
    caller = Caller(history, rng.choice(replicas.others(dead)).address, f"probe-{new_id()}")
    began = time.monotonic()
    try:
        await caller.send(run, "Note", token=new_id())
    finally:
        await caller.close()
    return time.monotonic() - began


async def sigkill(
    work: Path, *, kills: int = 20, clients: int = 8, seed: int = 0, progress: Progress = quiet, pause: float = 0.01
) -> Report:
    """SIGKILL one replica after the other, at random moments, under clients of all of them."""
    rng = random.Random(f"sigkill/{seed}")
    history = History(work / "history.jsonl")
    takeovers: list[float] = []
    async with Replicas(work) as replicas:
        async with Crowd(history, replicas.target, seed, clients=clients, pause=pause) as crowd:
            for number in range(kills):
                await crowd.each_did_something()
                await asyncio.sleep(rng.uniform(0.0, 0.5))
                victim = rng.choice(replicas.servers)
                run = await replicas.some_run_of(victim, rng)
                victim.kill()
                history.add("kill", start=time.time())
                takeovers.append(await taken_over(replicas, history, victim, run, rng))
                await replicas.start(victim)
                if number % 10 == 9:
                    progress(f"{number + 1} kills, takeover p99 {percentile(takeovers, 0.99):.2f} s")
        await finals(replicas.target, history)
        return verdict(
            "sigkill",
            history,
            replicas,
            late_takeovers(takeovers),
            seed=seed,
            kills=kills,
            takeover_p50=round(percentile(takeovers, 0.5), 2),
            takeover_p99=round(percentile(takeovers, 0.99), 2),
        )


async def sigkill_all(
    work: Path, *, kills: int = 5, clients: int = 8, seed: int = 0, progress: Progress = quiet
) -> Report:
    """SIGKILL all replicas at once, and start them again."""
    rng = random.Random(f"all/{seed}")
    history = History(work / "history.jsonl")
    recoveries: list[float] = []
    async with Replicas(work) as replicas:
        async with Crowd(history, replicas.target, seed, clients=clients, pause=0.01) as crowd:
            for number in range(kills):
                await crowd.each_did_something()
                await asyncio.sleep(rng.uniform(0.0, 0.5))
                for server in replicas.servers:
                    server.kill()
                history.add("kill", start=time.time())
                began = time.monotonic()
                await asyncio.gather(*map(replicas.start, replicas.servers))
                recoveries.append(time.monotonic() - began)
                progress(f"{number + 1} kills of all")
        await finals(replicas.target, history)
        p99 = round(percentile(recoveries, 0.99), 2)
        return verdict("sigkill_all", history, replicas, seed=seed, kills=kills, recovery_p99=p99)


async def sigterm(
    work: Path, *, restarts: int = 6, clients: int = 8, seed: int = 0, progress: Progress = quiet
) -> Report:
    """Restart one replica after the other with SIGTERM under load; no call of the public client fails."""
    rng = random.Random(f"sigterm/{seed}")
    history = History(work / "history.jsonl")
    async with Replicas(work) as replicas:
        crowd = Crowd(history, replicas.target, seed, clients=clients, pause=0.01, gives_up=0.0, caller=PublicCaller)
        async with crowd:
            for number in range(restarts):
                await crowd.each_did_something()
                await asyncio.sleep(rng.uniform(0.0, 0.5))
                server = replicas.servers[number % len(replicas.servers)]
                server.terminate()
                code = await asyncio.to_thread(server.wait, 60)
                if code:
                    raise RuntimeError(f"SIGTERM ended the replica with {code}\n{server.tail()}")
                await replicas.start(server)
                progress(f"{number + 1} restarts")
        await finals(replicas.target, history)
        return verdict("sigterm", history, replicas, seed=seed, restarts=restarts)


async def sigstop(
    work: Path,
    *,
    pauses: int = 5,
    clients: int = 8,
    seed: int = 0,
    progress: Progress = quiet,
    span: tuple[float, float] = (1.0, 10.0),
) -> Report:
    """Pause replicas for a while, then let them go on: they commit and answer nothing that is stale.

    A replica that was paused must not take the others for dead because it did not see their beats.
    """
    rng = random.Random(f"sigstop/{seed}")
    history = History(work / "history.jsonl")
    async with Replicas(work) as replicas:
        async with Crowd(history, replicas.target, seed, clients=clients, pause=0.01) as crowd:
            for number in range(pauses):
                await crowd.each_did_something()
                victim = rng.choice(replicas.servers)
                victim.signal(signal.SIGSTOP)
                await asyncio.sleep(rng.uniform(*span))
                victim.signal(signal.SIGCONT)
                history.add("pause", start=time.time())
                await asyncio.sleep(rng.uniform(0.5, 1.5))
                progress(f"{number + 1} pauses")
        await finals(replicas.target, history)
        spurious = spurious_takeovers([server.log.read_text(errors="replace") for server in replicas.servers])
        return verdict("sigstop", history, replicas, spurious, seed=seed, pauses=pauses)


async def database_kill(
    work: Path, *, kills: int = 5, clients: int = 8, seed: int = 0, progress: Progress = quiet
) -> Report:
    """Kill the database with all its processes, and start it again: nothing is lost and no step runs twice."""
    rng = random.Random(f"database/{seed}")
    history = History(work / "history.jsonl")
    gaps: list[float] = []
    async with Replicas(work, postgres=()) as replicas:
        async with Crowd(history, replicas.target, seed, clients=clients, pause=0.01) as crowd:
            for number in range(kills):
                await crowd.each_did_something()
                await asyncio.sleep(rng.uniform(0.0, 0.5))
                replicas.database.kill()
                began = time.monotonic()
                await asyncio.sleep(rng.uniform(0.0, 2.0))
                await asyncio.to_thread(replicas.database.start)
                await crowd.each_did_something()
                gaps.append(time.monotonic() - began)
                progress(f"{number + 1} kills of the database")
        await finals(replicas.target, history)
        repeated = repeated_steps(read(replicas.effects))
        p99 = round(percentile(gaps, 0.99), 2)
        return verdict("database_kill", history, replicas, repeated, seed=seed, kills=kills, gap_p99=p99)


async def failover(
    work: Path, *, promotions: int = 3, clients: int = 8, seed: int = 0, progress: Progress = quiet
) -> Report:
    """Kill the database and promote its synchronous standby: nothing is lost and no step runs twice."""
    rng = random.Random(f"failover/{seed}")
    history = History(work / "history.jsonl")
    gaps: list[float] = []
    async with Replicas(work, standby=True) as replicas:
        async with Crowd(history, replicas.target, seed, clients=clients, pause=0.01) as crowd:
            for number in range(promotions):
                await crowd.each_did_something()
                await asyncio.sleep(rng.uniform(0.0, 0.5))
                began = time.monotonic()
                await replicas.promote()
                await crowd.each_did_something()
                gaps.append(time.monotonic() - began)
                progress(f"{number + 1} promotions")
        await finals(replicas.target, history)
        repeated = repeated_steps(read(replicas.effects)) if max(gaps) < 30.0 else []
        p99 = round(percentile(gaps, 0.99), 2)
        return verdict("failover", history, replicas, repeated, seed=seed, promotions=promotions, gap_p99=p99)


async def partitions(
    work: Path, *, cuts: int = 6, clients: int = 8, seed: int = 0, progress: Progress = quiet
) -> Report:
    """Cut replicas off from the database and from each other, both ways or one, and mend it: work goes on."""
    rng = random.Random(f"partitions/{seed}")
    history = History(work / "history.jsonl")
    modes: Counter[str] = Counter()
    stalls: list[float] = []
    async with Replicas(work, cables=True) as replicas:
        async with Crowd(history, replicas.target, seed, clients=clients, pause=0.01) as crowd:
            for number in range(cuts):
                await crowd.each_did_something()
                what = rng.choice(("database", "replica"))
                cable = rng.choice(replicas.to_database if what == "database" else replicas.to_replica)
                mode = rng.choice(("reset", "silent", "there", "back"))
                modes[f"{what}_{mode}"] += 1
                cable.cut(mode)
                began = time.monotonic()
                await asyncio.sleep(rng.uniform(0.5, 6.0))
                cable.mend()
                mended = time.monotonic()
                await crowd.each_did_something()
                stalls.append(time.monotonic() - mended)
                progress(f"{number + 1} cuts, {what} {mode} for {mended - began:.1f} s")
        await finals(replicas.target, history)
        slow = late_progress(stalls)
        p99 = round(percentile(stalls, 0.99), 2)
        return verdict("partitions", history, replicas, slow, seed=seed, cuts=cuts, progress_p99=p99, modes=dict(modes))


async def lost_replies(
    work: Path, *, calls: int = 400, share: float = 0.3, seed: int = 0, progress: Progress = quiet
) -> Report:
    """Lose answers between a client and a replica that passes all calls on: each has one effect."""
    history = History(work / "history.jsonl")
    async with Replicas(work) as replicas:
        owner, other = replicas.servers[:2]
        starter = Caller(history, owner.address, "starter")
        runs = [await starter.start() for _ in range(4)]
        async with LosingProxy(other.address, share=share, seed=seed) as proxy:
            caller = Caller(history, proxy.address, "caller")
            limit = asyncio.Semaphore(16)

            async def one(number: int) -> None:
                async with limit:
                    run = runs[number % len(runs)]
                    kind = ("Ping", "Note", "Tick", "Part")[number // 4 % 4]
                    await caller.send(run, kind, token=new_id())

            for start in range(0, calls, 100):
                await asyncio.gather(*(one(number) for number in range(start, min(calls, start + 100))))
                progress(f"{min(calls, start + 100)} calls, {proxy.lost} answers lost")
            await caller.close()
            lost = proxy.lost
        await starter.close()
        await finals(replicas.target, history)
        return verdict("lost_replies", history, replicas, seed=seed, calls=calls, lost=lost)


async def crash_at(
    work: Path, *, hits: int = 1, points: Sequence[str] = REPLICA_POINTS, seed: int = 0, progress: Progress = quiet
) -> Report:
    """Have replicas die at claims, releases, hand-overs, resends and while they pass calls on."""
    rng = random.Random(f"points/{seed}")
    history = History(work / "history.jsonl")
    plan = [point for point in points for _ in range(hits)]
    rng.shuffle(plan)
    died: Counter[str] = Counter()
    async with Replicas(work) as replicas:
        async with Crowd(history, replicas.target, seed, pause=0.01) as crowd:
            for number, point in enumerate(plan):
                server = rng.choice(replicas.servers)
                server.kill()
                # Each of these comes once: at the end, or after a lost connection.
                visits = 1 if point.startswith(("hand_over", "resend")) else rng.randint(1, 4)
                with contextlib.suppress(ProcessEndedError):  # it can come to its point before it answers anyone
                    await replicas.start(server, {"STEPWIRE_FAILPOINTS": f"{point}={visits}"})
                await crowd.each_did_something()
                if visits == 1 and point.startswith(("hand_over", "resend")):
                    async with asyncio.timeout(60):
                        while await replicas.some_run_of(server, rng) is None:  # noqa: ASYNC110 - clients start runs
                            await asyncio.sleep(0.05)
                if point.startswith("hand_over"):
                    server.terminate()
                for _ in range(_DATABASE_KILLS if point.startswith("resend") else 0):
                    replicas.database.kill()
                    await asyncio.to_thread(replicas.database.start)
                    await crowd.each_did_something()
                    if not server.running:
                        break
                code = await _ended(server, 20.0)
                if code == -signal.SIGKILL:
                    died[point] += 1
                server.kill()
                history.add("kill", at=point, start=time.time())
                await replicas.start(server)
                progress(f"{number + 1} of {len(plan)}: {point}, {'died' if code else 'lived'}")
        await finals(replicas.target, history)
        return verdict("failpoints", history, replicas, seed=seed, died=dict(died))


async def _ended(server: ServerProcess, timeout: float) -> int | None:
    try:
        return await asyncio.to_thread(server.wait, timeout)
    except Exception:  # noqa: BLE001 - it did not come to that point
        return None
