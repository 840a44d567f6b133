"""Retention: the logs of living runs are trimmed, and what they then have is told."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.durability.flows import Flow, Note, ask
from tests.integration.durability.support import (
    apply_retention,
    asked,
    crash,
    fork,
    held,
    kept_snapshots,
    life,
    publish,
    reaching,
    refused_reason,
    result,
    snapshot_of,
    until,
)
from tests.integration.rpc_serving import JSON, Rpc, event, refused, registry_of
from tests.serving import ServerProcess
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.client import Client, OutOfRangeError, event_meta
from stepwire.server.config import RetentionRule
from stepwire.v1 import run_service_pb2 as runs
from stepwire.workflow import Context, DictState


async def write_much(flow: Flow, ctx: Context[DictState]) -> int:
    """Write 2,000 notes, in chunks of 256 entries, and ask."""
    for n in range(2000):
        ctx.write_event_to_stream(Note(text=str(n)))
    return await ask(flow, ctx)


async def trimmed(rpc: Rpc, run_id: str) -> tuple[int, int]:
    """Trim the logs; return what the run's has then."""
    await apply_retention(rpc)
    run = await rpc.get(run_id)
    assert 1 < run.first_available <= run.last_sequence - 999 < run.first_available + 256
    return run.first_available, run.last_sequence


async def attach(rpc: Rpc, run_id: str, after: int) -> None:
    """Read a run's log by Converse to its present end."""
    session = rpc.converse()
    options = runs.StreamOptions(encoding=JSON)
    await session.write(
        runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run_id, after_sequence=after, options=options))
    )
    place, last = after, None
    while last is None or place < last:
        frame = await session.read()
        if frame.WhichOneof("frame") == "opened":
            last = frame.opened.run.last_sequence
        elif frame.WhichOneof("frame") == "events":
            assert frame.events.from_sequence == place + 1
            place = frame.events.to_sequence
    session.cancel()


def wait_for_note(rpc: Rpc, run_id: str, after: int) -> Any:
    return rpc.runs.WaitForEvent(runs.WaitForEventRequest(run_id=run_id, event_type="Note", after_sequence=after))


async def check_trimmed(rpc: Rpc, run_id: str, first: int, last: int) -> None:
    """A request for trimmed entries is told what the log still has; everything else stays as it was."""
    run = await rpc.get(run_id)
    assert (run.first_available, run.last_sequence) == (first, last)
    for after in (0, 1, first - 2):
        calls = [
            rpc.log(run_id, after_sequence=after),
            wait_for_note(rpc, run_id, after),
            attach(rpc, run_id, after),
            snapshot_of(rpc, run_id, after + 1),
            fork(rpc, run_id, after + 1, run.workflow),
        ]
        for call in calls:
            refusal = await refused(call)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE")
            assert (refusal.facts["first_available"], refusal.facts["last_available"]) == (str(first), str(last))
    log = await rpc.log(run_id, after_sequence=first - 1)
    assert [entry.sequence for entry in log] == list(range(first, last + 1))
    assert (await wait_for_note(rpc, run_id, first - 1)).entry.sequence == first
    await attach(rpc, run_id, first - 1)
    assert (await snapshot_of(rpc, run_id)).sequence == last
    kept = await kept_snapshots(rpc, run_id)
    assert kept[0] == last
    assert min(kept) >= first


@pytest.mark.parametrize("data", ["directory", "memory"])
async def test_retention_trims_the_log_of_a_living_run(tmp_path: Path, data: str) -> None:
    where: Any = tmp_path if data == "directory" else ":memory:"
    async with life(where, Flow(write_much), retention_entries=1000) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        first, last = await trimmed(rpc, run_id)
        await check_trimmed(rpc, run_id, first, last)
        await publish(rpc, run_id, "more")
        await check_trimmed(rpc, run_id, first, last + 1)
        await apply_retention(rpc)  # nothing to do
        await check_trimmed(rpc, run_id, first, last + 1)
        if data == "directory":
            await crash(rpc)
    if data == "directory":
        async with life(tmp_path, Flow(write_much)) as rpc:
            await check_trimmed(rpc, run_id, first, last + 1)
            forked = (await fork(rpc, run_id, last)).run_id
            await rpc.send(forked, event("Answer", n=6))
            assert result(await rpc.ended(forked)) == 6
            await rpc.send(run_id, event("Answer", n=5))
            assert result(await rpc.ended(run_id)) == 5
            await check_trimmed(rpc, run_id, first, (await rpc.get(run_id)).last_sequence)


async def test_retention_trims_the_logs_of_runs_that_are_not_in_memory(tmp_path: Path) -> None:
    registry = registry_of(a=Flow(write_much), b=Flow(write_much))
    async with life(tmp_path, registry) as rpc:
        ended, waits, other = [(await rpc.start(name, {})).run_id for name in ("a", "a", "b")]
        for run_id in (ended, waits, other):
            await asked(rpc, run_id)
        await rpc.send(ended, event("Answer", n=1))
        await rpc.ended(ended)
    rules = {"a": RetentionRule(entries=1000)}
    async with life(tmp_path, registry, retention_workflows=rules) as rpc:
        for run_id in (ended, waits):
            await check_trimmed(rpc, run_id, *await trimmed(rpc, run_id))
        assert (await rpc.get(other)).first_available == 1
        assert len(await rpc.logged(other)) == 2002


async def test_retention_goes_on_trimming_in_the_background(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
    async with life(tmp_path, Flow(write_much), retention_entries=1000) as rpc:

        async def is_trimmed() -> bool:
            return bool((await rpc.get(run_id)).first_available > 1)

        await until(is_trimmed)


async def test_retention_a_reader_who_is_behind_is_told_what_there_is(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much), retention_entries=1000) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        session = rpc.converse()
        attaching = runs.ConverseAttach(run_id=run_id, max_unacked=1, options=runs.StreamOptions(encoding=JSON))
        await session.write(runs.ConverseRequest(attach=attaching))
        while (await session.read()).WhichOneof("frame") != "events":
            continue
        first, last = await trimmed(rpc, run_id)

        async def go_on() -> None:
            await session.write(runs.ConverseRequest(ack=runs.ConverseAck(sequence=last)))
            while hasattr(await session.read(), "WhichOneof"):
                continue

        refusal = await refused(go_on())
        assert refusal.reason == "SEQUENCE_OUT_OF_RANGE"
        assert (refusal.facts["first_available"], refusal.facts["last_available"]) == (str(first), str(last))


async def test_retention_a_trim_while_a_commit_is_under_way_is_not_undone_by_it(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much), retention_entries=1000) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        with held(rpc.store) as hold:
            publishing = asyncio.ensure_future(publish(rpc, run_id, "meanwhile"))
            await hold.arrived(1)
            first, last = await trimmed(rpc, run_id)
            await hold.pass_all()
            await publishing
        await check_trimmed(rpc, run_id, first, last + 1)


async def test_retention_a_trimmed_log_has_room_again(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much), retention_entries=1000, max_log_entries=2003) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        assert await refused_reason(publish(rpc, run_id, "too much")) == "LIMIT_EXCEEDED"
        await trimmed(rpc, run_id)
        await publish(rpc, run_id, "fits")


async def test_retention_the_command_line_shows_what_is_left_of_a_trimmed_log(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much), retention_entries=1000) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        first, last = await trimmed(rpc, run_id)
        for command in ("history", "events"):
            words = [command, run_id, "--json", "--server", rpc.server.address]
            done = await asyncio.to_thread(CliRunner().invoke, app, words)
            assert (done.exit_code, done.stderr) == (
                0,
                f"the log begins at {first}: the server no longer keeps earlier entries\n",
            )
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            assert [line["sequence"] for line in lines] == list(range(first, last + 1))
        words = ["events", run_id, "--after", "5", "--server", rpc.server.address]
        done = await asyncio.to_thread(CliRunner().invoke, app, words)
        assert done.exit_code == 1
        assert done.stderr.endswith(f"it has {first} to {last}\n")


async def test_retention_a_client_goes_on_where_a_trimmed_log_begins(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much), retention_entries=1000) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        first, last = await trimmed(rpc, run_id)
        async with Client(rpc.server.address) as client:
            run = client.run(run_id)
            with pytest.raises(OutOfRangeError) as caught:
                await anext(run.events())
            assert (caught.value.first_available, caught.value.last_available) == (first, last)
            found = [event_meta(event).sequence async for event in run.events(first - 1, internal=True, follow=False)]
            assert found == list(range(first, last + 1))
            with pytest.raises(OutOfRangeError):
                await run.snapshot(first - 1)


@pytest.mark.slow
async def test_retention_trimming_that_is_killed_leaves_a_whole_log_and_loses_nothing_above_it(tmp_path: Path) -> None:
    rng = random.Random(4)
    flows = ["tests.integration.durability.trim_flows:FLOOD=flood"]
    trimming = ServerProcess(tmp_path, flows, args=["--retention-entries", "1000"])
    resting = ServerProcess(tmp_path, flows)
    acknowledged: dict[int, str] = {}
    run_id, first = "", 1
    for _ in range(2):
        with trimming:
            async with reaching(trimming) as rpc:
                run_id = run_id or (await rpc.start("flood", {})).run_id
                for _ in range(rng.randint(8, 12)):
                    token = f"{len(acknowledged)}"
                    sent = await rpc.send(run_id, event("More", token=token), request_id=token)
                    acknowledged[sent.sequence] = token
                await asyncio.sleep(rng.uniform(0.0, 0.05))  # killed at whatever moment of trimming
                trimming.kill()
        with resting:
            async with reaching(resting) as rpc:
                run = await rpc.get(run_id)
                assert first < run.first_available <= run.last_sequence - 999
                first = run.first_available
                log = await rpc.log(run_id, after_sequence=first - 1)
                assert [entry.sequence for entry in log[: run.last_sequence - first + 1]] == list(
                    range(first, run.last_sequence + 1)
                )
                received = {
                    entry.sequence: json.loads(entry.payload.json)["token"] for entry in log if entry.type == "More"
                }
                assert received == {sequence: token for sequence, token in acknowledged.items() if sequence >= first}
                refusal = await refused(rpc.log(run_id, after_sequence=first - 2))
                assert (refusal.reason, refusal.facts["first_available"]) == ("SEQUENCE_OUT_OF_RANGE", str(first))
                kept = await kept_snapshots(rpc, run_id)
                assert first <= kept[-1]
                assert (await snapshot_of(rpc, run_id, kept[-1])).sequence == kept[-1]
                resting.kill()
