"""Each write waits for an fdatasync of its own: strace slows them and tells when each was."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tests.system.chaos.caller import Caller, new_id
from tests.system.chaos.checker import Violation
from tests.system.chaos.history import History
from tests.system.chaos.reader import finals
from tests.system.chaos.report import Progress, Report, Unsupported, quiet, verdict
from tests.system.chaos.server import ServerProcess


async def fdatasync(
    work: Path, *, writes: int = 10_000, delay: float = 0.004, seed: int = 0, progress: Progress = quiet
) -> Report:
    """Trace the server with strace, which also slows each fdatasync: no acknowledgement may come before its own.

    One client writes one thing after another, and nothing else happens. So within each call there must be a whole
    fdatasync, and no call may be faster than the slowed fdatasync is.
    """
    trace = work / "trace"
    if shutil.which("strace") is None:
        raise Unsupported("strace is not installed")
    slow = f"inject=fdatasync:delay_exit={int(delay * 1e6)}"
    prefix = ["strace", "-D", "-f", "-qq", "-ttt", "-T", "-e", "trace=fdatasync", "-e", slow, "-o", str(trace)]
    server = ServerProcess(work, prefix=prefix)
    history = History(work / "history.jsonl")
    server.spawn()
    await server.ready(60)
    caller = Caller(history, server.address, "writer")
    spans: list[tuple[float, float]] = []
    try:
        run = ""
        for number in range(writes):
            if number % 1000 == 0:
                run = await caller.start()
                # Its start step is over, and what it committed, once this answers; then nothing stirs.
                await caller.get(run)
                await asyncio.sleep(0.2)
                progress(f"{number} writes")
            began = time.time()
            await caller.send(run, "Note", token=new_id())
            spans.append((began, time.time()))
        await caller.close()
        await finals(server.address, history)
    finally:
        server.kill()
    syncs = sorted(parse_trace(trace.read_text().splitlines()))
    report = verdict("fdatasync", history, server, seed=seed, writes=len(spans), fdatasyncs=len(syncs))
    report.violations += unproven(spans, syncs, delay)
    report.measured["fastest_write_ms"] = round(min(end - begin for begin, end in spans) * 1000, 2)
    return report


_CALL = re.compile(r"^(?:(\d+) +)?(\d+\.\d+) fdatasync\(\d+(?:\) += 0.*<(\d+\.\d+)>| <unfinished)")


_RESUMED = re.compile(r"^(?:(\d+) +)?(\d+\.\d+) <\.\.\. fdatasync resumed>\) += 0.*<(\d+\.\d+)>")


def parse_trace(lines: Sequence[str]) -> list[tuple[float, float]]:
    """Return when each successful fdatasync began and ended."""
    syncs: list[tuple[float, float]] = []
    open_calls: dict[str, float] = {}
    for line in lines:
        if found := _CALL.match(line):
            thread, at, took = found.groups()
            if took is None:
                open_calls[thread or ""] = float(at)
            else:
                syncs.append((float(at), float(at) + float(took)))
        elif (found := _RESUMED.match(line)) and (found[1] or "") in open_calls:
            syncs.append((open_calls.pop(found[1] or ""), float(found[2])))
    return syncs


def unproven(
    spans: Sequence[tuple[float, float]], syncs: Sequence[tuple[float, float]], delay: float
) -> list[Violation]:
    """Return a violation for each write that has no whole fdatasync of its own, or was faster than one."""
    found: list[Violation] = []
    place = 0
    for number, (begin, end) in enumerate(spans):
        while place < len(syncs) and syncs[place][0] < begin:
            place += 1
        if end - begin < delay:
            found.append(Violation("not_durable", "", f"write {number} took less time than an fdatasync"))
        elif place == len(syncs) or syncs[place][1] > end:
            found.append(Violation("not_durable", "", f"write {number} was acknowledged without an fdatasync"))
    return found
