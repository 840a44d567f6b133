"""The demo with replicas: a review that survives the death of its server, and of the next one.

    make demo-cluster             or: python -m examples.demo_cluster [--package asyncio]

It starts PostgreSQL in a temporary folder (Debian: apt-get install postgresql) and three replicas on it, starts a
review through the first one, kills the replica that has the run while it works, and kills the next one while it waits
for a person. The answer goes to the last one. Every claim is checked; the first one that does not hold ends the demo
with exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
import sysconfig
import tempfile
from collections import Counter, deque
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
from examples.demo import PATIENCE, Demo
from tests.postgres import MISSING, PostgresServer, programs

from stepwire.client import Client, RunStatus, StepwireError, event_meta

EXAMPLES = Path(__file__).resolve().parent
TAKEOVER_SECONDS = 10.0
"""Far more than a takeover takes: four seconds."""


class Replica:
    """A server on PostgreSQL in a process of its own; only these processes are ever ended."""

    def __init__(self, name: str, dsn: str) -> None:
        self.name = name
        self.address = ""
        self._dsn = dsn
        self._process: asyncio.subprocess.Process | None = None
        self._log: deque[str] = deque(maxlen=40)
        self._drain: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Return the last lines that it wrote."""
        return "\n".join(f"{self.name}: {line}" for line in self._log)

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            Path(sysconfig.get_path("scripts")) / "stepwire",
            *("serve", f"{EXAMPLES / 'code_review.py'}:CodeReview=code_review"),
            *("--address", "127.0.0.1:0", "--web", "off", "--data", self._dsn, "--grace", "1s"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None
        lines = self._process.stderr
        async with asyncio.timeout(PATIENCE):
            while line := await lines.readline():
                self._log.append(line.decode(errors="replace").rstrip())
                if found := re.search(r"stepwire: listening on (\S+)", self._log[-1]):
                    self.address = found.group(1)
                    self._drain = asyncio.create_task(self._keep(lines))
                    return
        raise RuntimeError(f"replica {self.name} ended before it listened")

    async def _keep(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            self._log.append(line.decode(errors="replace").rstrip())

    async def end(self, *, kill: bool) -> int:
        """End it with SIGKILL, or kindly with SIGTERM; return its exit code."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill() if kill else self._process.terminate()
        async with asyncio.timeout(PATIENCE):
            code = await self._process.wait()
            if self._drain is not None:
                await self._drain
        return code


class Cluster:
    """Three replicas and their database."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.replicas = [Replica(name, dsn) for name in "ABC"]

    async def owner(self, run_id: str, *dead: Replica) -> Replica:
        """Return the replica that has a run; TimeoutError when none but those that are dead takes it."""
        query = "SELECT address FROM runs JOIN replicas r ON r.id = owner WHERE run_id = $1"
        connection = await asyncpg.connect(self._dsn)
        try:
            async with asyncio.timeout(TAKEOVER_SECONDS):
                while True:
                    address = await connection.fetchval(query, run_id)
                    for replica in self.others(*dead):
                        if replica.address == address:
                            return replica
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()

    def others(self, *dead: Replica) -> list[Replica]:
        """Return the replicas but some."""
        return [replica for replica in self.replicas if replica not in dead]


async def main(package: str) -> None:
    """Run the demo."""
    if programs() is None:
        print(f"{MISSING}: apt-get install postgresql", file=sys.stderr)
        sys.exit(1)
    with tempfile.TemporaryDirectory(prefix="stepwire-demo-") as name, PostgresServer() as database:
        cluster = Cluster(database.dsn)
        try:
            await show(Demo(), cluster, Path(name), package)
        except (StepwireError, RuntimeError, TimeoutError, OSError) as error:
            print(f"   ✗ {type(error).__name__}: {str(error) or 'it took too long'}", file=sys.stderr)
            print("\n".join(replica.log for replica in cluster.replicas), file=sys.stderr)
            sys.exit(1)
        finally:
            for replica in cluster.replicas:
                await replica.end(kill=True)


async def show(demo: Demo, cluster: Cluster, folder: Path, package: str) -> None:
    """Go through the parts."""
    report, work_log = folder / "report.md", folder / "work.log"

    demo.part("Start three replicas on one PostgreSQL")
    await asyncio.gather(*(replica.start() for replica in cluster.replicas))
    for replica in cluster.replicas:
        demo.check(True, f"{replica.name} listens on {replica.address} (pid {replica.pid})")
    first, *rest = cluster.replicas

    demo.part(f"Start a review of the package {package} through {first.name}, and follow it at {rest[0].name}")
    async with Client(first.address, timeout=PATIENCE) as client:
        run_id = (
            await client.start_run("code_review", package=package, report=str(report), work_log=str(work_log))
        ).run_id
    owner = await cluster.owner(run_id)
    demo.check(owner is first, f"run {run_id} is at {owner.name}")
    reader = Client(rest[0].address, timeout=PATIENCE)
    async with reader:
        events = reader.run(run_id).events(internal=True)
        seen = await collect(events, lambda event: event.type == "Progress")
        demo.check(bool(seen), f"{seen[-1].reviewed} of {seen[-1].total} modules reviewed: it is at work")

        demo.part(f"Kill {owner.name}, which has the run, with SIGKILL while it works")
        demo.check(await owner.end(kill=True) < 0, f"{owner.name} (pid {owner.pid}) is dead")
        began = monotonic()
        second = await cluster.owner(run_id, owner)
        demo.check(True, f"{second.name} (pid {second.pid}) has it {monotonic() - began:.1f} s later")
        seen += await collect(events, lambda event: event.type == "ReviewQuestion")
        question = seen[-1]
        demo.check(True, f"the stream at {rest[0].name} went on, and the run asks: {question.text}")
        await events.aclose()
    sequences = [event_meta(event).sequence for event in seen]
    demo.check(sequences == list(range(1, len(sequences) + 1)), f"every sequence from 1 to {sequences[-1]} came once")
    lines = Counter(line.split()[0] for line in work_log.read_text().splitlines())
    again = sum(count - 1 for count in lines.values())
    demo.check(len(lines) == question_total(seen), f"no module was left out; {again} were under way, and done again")

    demo.part(f"Kill {second.name} while the run waits for a person")
    demo.check(await second.end(kill=True) < 0, f"{second.name} (pid {second.pid}) is dead")
    (last,) = cluster.others(owner, second)
    async with Client(last.address, timeout=PATIENCE) as client:
        run = client.run(run_id)
        work = work_log.read_text()
        began = monotonic()
        await run.context.send_event(("ReviewDecision", {"decision": "ticket"}))
        demo.check(True, f"answered through {last.name}, {monotonic() - began:.1f} s later: ticket")
        result = await run.result(timeout=PATIENCE)
        demo.check(result["decision"] == "ticket", f"the run ended at {last.name}: {result['modules']} modules")
        demo.check(work_log.read_text() == work, "the work before the question was not repeated")
        demo.check("**ticket**" in report.read_text(), "the report has the decision")
        log = [event async for event in run.events(internal=True)]
        whole = [event_meta(event).sequence for event in log]
        demo.check(whole == list(range(1, len(whole) + 1)), f"the log has every sequence from 1 to {whole[-1]} once")
        demo.check(
            (await run.info()).status is RunStatus.COMPLETED, f"it ran at {owner.name}, {second.name}, {last.name}"
        )

    demo.part("Stop the last replica")
    demo.check(await last.end(kill=False) == 0, "it stopped cleanly")
    demo.end("docs/cluster.md")


async def collect(events: Any, last: Any) -> list[Any]:
    """Return the next events up to one that is the `last`; TimeoutError when one is long in coming."""
    found: list[Any] = []
    while not found or not last(found[-1]):
        found.append(await asyncio.wait_for(anext(events), PATIENCE))
    return found


def question_total(seen: list[Any]) -> int:
    """Return how many modules there are to review."""
    return int([event for event in seen if event.type == "Progress"][-1].total)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", default="asyncio", help="a package of the standard library (default: asyncio)")
    try:
        asyncio.run(main(parser.parse_args().package))
    except KeyboardInterrupt:
        sys.exit(130)
