"""What is done to a server, with how often as a parameter; each writes a history and has it checked."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import grpc
import grpc.aio
from tests.system.chaos.caller import Caller, PublicCaller, new_id
from tests.system.chaos.clients import Crowd
from tests.system.chaos.history import History, parse
from tests.system.chaos.proxy import CuttingProxy, LosingProxy
from tests.system.chaos.reader import finals, follow
from tests.system.chaos.report import Progress, Report, Unsupported, percentile, quiet, verdict
from tests.system.chaos.server import CHANNEL_OPTIONS, ServerProcess

from stepwire.server.failpoints import POINTS
from stepwire.v1 import run_service_pb2_grpc


async def sigkill(
    work: Path, *, kills: int = 50, clients: int = 8, seed: int = 0, progress: Progress = quiet, pause: float = 0.01
) -> Report:
    """SIGKILL the server at random moments under clients that start runs, send events and set state."""
    rng = random.Random(f"sigkill/{seed}")
    server = ServerProcess(work)
    history = History(work / "history.jsonl")
    recoveries: list[float] = []
    cpu: list[float] = []
    server.spawn()
    await server.ready()
    try:
        async with Crowd(history, server.address, seed, clients=clients, pause=pause):
            for number in range(kills):
                if rng.random() < 0.1:
                    await asyncio.sleep(rng.uniform(0.0, 1.0))  # also while it starts
                else:
                    recoveries.append(await server.ready())
                    cpu.append(server.cpu)
                    await asyncio.sleep(rng.uniform(0.0, 0.5))
                server.kill()
                history.add("kill", start=time.time())
                server.spawn()
                if number % 50 == 49:
                    progress(f"{number + 1} kills, recovery p99 {percentile(recoveries, 0.99):.2f} s")
            recoveries.append(await server.ready())
        await finals(server.address, history)
    finally:
        server.kill()
    return verdict(
        "sigkill",
        history,
        server,
        seed=seed,
        kills=kills,
        recovery_p50=round(percentile(recoveries, 0.5), 3),
        recovery_p99=round(percentile(recoveries, 0.99), 3),
        recovery_cpu_p99=round(percentile(cpu, 0.99), 3),
    )


async def crash_at(
    work: Path, *, hits: int = 20, points: Sequence[str] = POINTS, seed: int = 0, progress: Progress = quiet
) -> Report:
    """Have the server die before and after every commit, acknowledgement, snapshot and restore, each so often."""
    rng = random.Random(f"failpoints/{seed}")
    server = ServerProcess(work)
    history = History(work / "history.jsonl")
    died: Counter[str] = Counter()
    plan = [point for point in points for _ in range(hits)]
    rng.shuffle(plan)
    try:
        async with Crowd(history, server.address, seed, pause=0.01):
            for number, point in enumerate(plan):
                # A start restores only what has work; a commit happens all the time.
                visits = rng.randint(1, 4) if point.startswith("restore") else rng.randint(1, 80)
                server.spawn({"STEPWIRE_FAILPOINTS": f"{point}={visits}"})
                code = await asyncio.to_thread(server.wait, 60)
                if code != -signal.SIGKILL:
                    raise RuntimeError(f"the server ended with {code} instead of dying at {point}\n{server.tail()}")
                died[point] += 1
                history.add("kill", at=point, start=time.time())
                if number % 20 == 19:
                    progress(f"{number + 1} of {len(plan)} deaths")
            server.spawn()
            await server.ready()
        await finals(server.address, history)
    finally:
        server.kill()
    return verdict("failpoints", history, server, seed=seed, **{point: died[point] for point in points})


async def lost_replies(
    work: Path, *, calls: int = 10_000, share: float = 0.3, seed: int = 0, progress: Progress = quiet
) -> Report:
    """Lose a share of the answers on their way; clients repeat with the same request_id."""
    server = ServerProcess(work)
    history = History(work / "history.jsonl")
    server.spawn()
    await server.ready()
    try:
        async with LosingProxy(server.address, share=share, seed=seed) as proxy:
            async with Crowd(history, proxy.address, seed, gives_up=0.0) as crowd:
                while proxy.calls < calls:
                    await asyncio.sleep(0.2)
                    progress(f"{proxy.calls} calls, {proxy.lost} answers lost, {crowd.operations} operations")
            measured = {"calls": proxy.calls, "lost": proxy.lost}
        await finals(server.address, history)
    finally:
        server.kill()
    return verdict("lost_replies", history, server, seed=seed, **measured)


async def stream_cuts(
    work: Path, *, cuts: int = 5000, readers: int = 16, seed: int = 0, progress: Progress = quiet
) -> Report:
    """Cut connections in the middle of streams, live ones and replays; readers resume at their cursor."""
    server = ServerProcess(work)
    history = History(work / "history.jsonl")
    server.spawn()
    await server.ready()
    resumed = 0
    done = asyncio.Event()

    def cut() -> None:
        nonlocal resumed
        resumed += 1
        if resumed >= cuts:
            done.set()

    async def write() -> None:
        """Fill one run after another; each is read while it grows and after it has ended."""
        caller = Caller(history, server.address, "writer")
        while not done.is_set():
            run = await caller.start()
            written.append(run)
            for _ in range(150):
                await caller.send(run, "Ping", token=new_id())
            await caller.send(run, "Close", token=new_id())
        await caller.close()

    async def read_on(number: int, address: str) -> None:
        """Read the newest run to its end, then the next one."""
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            stub = run_service_pb2_grpc.RunServiceStub(channel)
            count = 0
            while not done.is_set():
                if not written:
                    await asyncio.sleep(0.01)
                    continue
                count += 1
                run = written[-1] if number % 2 else written[0]
                await follow(stub, history, run, f"r{number}-{count}", internal=number % 4 < 2, on_cut=cut)

    written: list[str] = []
    try:
        async with CuttingProxy(server.address, most=6000, seed=seed) as proxy, asyncio.TaskGroup() as group:
            group.create_task(write())
            for number in range(readers):
                group.create_task(read_on(number, proxy.address))
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), 2)
                progress(f"{resumed} resumed")
        await finals(server.address, history)
    finally:
        server.kill()
    return verdict("stream_cuts", history, server, seed=seed, resumed=resumed, connections_cut=proxy.cuts)


async def disk_full(
    work: Path, *, rounds: int = 50, size: str = "256m", seed: int = 0, progress: Progress = quiet
) -> Report:
    """Fill the disk under load and free it again; needs the right to mount a tmpfs."""
    rng = random.Random(f"disk/{seed}")
    history = History(work / "history.jsonl")
    disk = work / "disk"
    disk.mkdir()
    await _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk))
    server = ServerProcess(work, data=disk / "data")
    refused = 0
    try:
        server.spawn()
        await server.ready()
        probe = Caller(history, server.address, "probe")
        run = await probe.start()
        healed: list[float] = []
        async with Crowd(history, server.address, seed, pause=0.01):
            for number in range(rounds):
                await asyncio.sleep(rng.uniform(0.05, 0.3))
                ballast = disk / "ballast"
                fill(ballast)
                # A log that was checkpointed is written anew in its place: it takes a while until space runs out.
                for _ in range(200):
                    if await probe.send(run, "Note", once=True, token=new_id(), padding="x" * 65536) is None:
                        refused += 1
                        break
                await asyncio.sleep(rng.uniform(0.05, 0.3))
                ballast.unlink()
                freed = time.monotonic()
                if not await probe.start():
                    raise RuntimeError(f"the server does not write again\n{server.tail()}")
                healed.append(time.monotonic() - freed)
                if number % 10 == 9:
                    progress(f"{number + 1} rounds")
        await probe.close()
        await finals(server.address, history)
    finally:
        server.kill()
        await _run("umount", "-l", str(disk))
    return verdict(
        "disk_full",
        history,
        server,
        seed=seed,
        rounds=rounds,
        rounds_with_refusal=refused,
        healed_p99=round(percentile(healed, 0.99), 3),
    )


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    block = 1 << 16
    with path.open("ab", buffering=0) as file:
        while block:
            try:
                file.write(b"\0" * block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                block //= 4


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, output = await process.communicate()
    if process.returncode:
        raise Unsupported(f"{' '.join(command)}: {output.decode().strip()}")


async def sigterm(work: Path, *, restarts: int = 100, seed: int = 0, progress: Progress = quiet) -> Report:
    """Restart the server with SIGTERM under load; the public client's own retries hide it from every call."""
    rng = random.Random(f"sigterm/{seed}")
    server = ServerProcess(work)
    history = History(work / "history.jsonl")
    server.spawn()
    await server.ready()
    stops: list[float] = []
    recoveries: list[float] = []
    try:
        async with Crowd(history, server.address, seed, pause=0.01, gives_up=0.0, caller=PublicCaller) as crowd:
            for number in range(restarts):
                # Whatever the machine's pace is, each restart meets clients at work.
                await crowd.each_did_something()
                await asyncio.sleep(rng.uniform(0.0, 0.5))
                server.terminate()
                began = time.monotonic()
                code = await asyncio.to_thread(server.wait, 60)
                stops.append(time.monotonic() - began)
                if code:
                    raise RuntimeError(f"SIGTERM ended the server with {code}\n{server.tail()}")
                server.spawn()
                recoveries.append(await server.ready())
                if number % 10 == 9:
                    progress(f"{number + 1} restarts")
        await finals(server.address, history)
    finally:
        server.kill()
    return verdict(
        "sigterm",
        history,
        server,
        seed=seed,
        restarts=restarts,
        stop_p99=round(percentile(stops, 0.99), 3),
        recovery_p99=round(percentile(recoveries, 0.99), 3),
    )


async def mid_step(
    work: Path, *, kills: int = 2000, runs: int = 4, seed: int = 0, progress: Progress = quiet
) -> Report:
    """SIGKILL the server while steps are at work, async and sync ones; each effect happens, under one key."""
    rng = random.Random(f"steps/{seed}")
    server = ServerProcess(work)
    history = History(work / "history.jsonl")
    effects = EffectsFile(server.effects)
    interrupted = 0
    run_ids: list[str] = []
    caller = Caller(history, server.address, "steps")
    server.spawn()
    await server.ready()
    try:
        for number in range(kills):
            if number % 25 == 0:
                run_ids = [await caller.start() for _ in range(runs)]
            tokens = set()
            for run in run_ids:
                # They would take far longer than the server has: only its death can interrupt them.
                for kind in ("Slow", "SlowSync"):
                    token = new_id()
                    await caller.send(run, kind, token=token, seconds=60.0)
                    tokens.add(token)
            await effects.wait_for(tokens)
            await asyncio.sleep(rng.uniform(0.0, 0.02))
            interrupted += len(tokens)
            server.kill()
            history.add("kill", start=time.time())
            server.spawn()
            await server.ready()
            if number % 50 == 49:
                progress(f"{number + 1} kills, {interrupted} steps interrupted")
        await caller.close()
        await finals(server.address, history)
    finally:
        server.kill()
    return verdict("mid_step", history, server, seed=seed, kills=kills, interrupted=interrupted)


class EffectsFile:
    """See tokens as steps append them to the file of effects."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._seen: set[str] = set()

    async def wait_for(self, tokens: set[str], timeout: float = 60.0) -> None:
        """Wait until each of these tokens has had an effect."""
        async with asyncio.timeout(timeout):
            while not tokens <= self._seen:
                if self._path.exists():
                    with self._path.open("rb") as file:
                        file.seek(self._place)
                        data = file.read()
                    whole = data[: data.rfind(b"\n") + 1]
                    self._place += len(whole)
                    self._seen.update(item["token"] for item in parse(whole.decode().splitlines()) if "token" in item)
                await asyncio.sleep(0.002)
        self._seen -= tokens
