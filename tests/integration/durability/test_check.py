"""`stepwire check`: saved runs are tried against new code, and nothing of them is changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tests.integration.durability.check_flows import Aliased, Before, Picky, Renamed
from tests.integration.durability.support import life, parked, result, status
from tests.integration.rpc_serving import Rpc, event, registry_of, serving
from tests.postgres import MISSING, PostgresServer, programs
from typer.testing import CliRunner, Result

from stepwire.cli import app
from stepwire.server.store import DATABASE

FLOWS = "tests.integration.durability.check_flows"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["check", *arguments], env={"STEPWIRE_TOKEN": "", "COLUMNS": "200"})


def found(*arguments: str, code: int) -> dict[str, Any]:
    answer = run(*arguments, "--json")
    assert answer.exit_code == code, answer.output
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


async def waiting_runs(rpc: Rpc, counts: Sequence[int] = (1, 1, 2)) -> list[str]:
    """Start runs and leave them waiting."""
    ids = []
    for count in counts:
        ids.append((await rpc.start("flow", {"count": count})).run_id)
        await parked(rpc, ids[-1])
    return ids


async def until_status(rpc: Rpc, run_id: str, wanted: str) -> None:
    async with asyncio.timeout(60):
        while status(await rpc.get(run_id)) != wanted:
            pass


def page(rpc: Rpc, path: str) -> str:
    with urlopen(f"http://{rpc.server.observing.admin_address}/{path}", timeout=60) as answer:
        return str(answer.read().decode())


async def test_runs_that_would_be_blocked_are_listed_by_workflow_and_reason(tmp_path: Path) -> None:
    async with life(tmp_path, registry_of(flow=Before, other=Before)) as rpc:
        ids = await waiting_runs(rpc)
        await parked(rpc, (await rpc.start("other", {})).run_id)
        ended = (await rpc.start("flow", {})).run_id
        await parked(rpc, ended)
        await rpc.send(ended, event("Go"))
        await rpc.ended(ended)
    before = (tmp_path / DATABASE).read_bytes()
    data = ("--data", str(tmp_path))
    ok = await asyncio.to_thread(found, f"{FLOWS}:Before=flow", *data, code=0)
    assert (ok["unfinished"], ok["tried"], ok["would_block"], ok["not_named"]) == (3, 3, 0, {"other": 1})
    bad = await asyncio.to_thread(found, f"{FLOWS}:Renamed=flow", *data, code=3)
    (group,) = bad["blocked"]
    assert (group["workflow"], group["count"]) == ("flow", 3)
    assert "charge" in group["reason"]
    assert {each["run_id"] for each in group["runs"]} == set(ids)
    assert (await asyncio.to_thread(found, f"{FLOWS}:Aliased=flow", *data, code=0))["tried"] == 3
    picky = await asyncio.to_thread(found, f"{FLOWS}:Picky=flow", *data, code=3)
    assert [(each["reason"], each["count"]) for each in picky["blocked"]] == [("migrate() raised ValueError", 1)]
    text = await asyncio.to_thread(run, f"{FLOWS}:Renamed=flow", *data)
    assert "blocked  flow: 3 unfinished runs: The snapshot names a step that does not exist: charge" in text.stdout
    assert "tried 3 of 3 unfinished runs" in text.stdout
    assert (tmp_path / DATABASE).read_bytes() == before


async def test_it_works_beside_a_running_server_and_changes_nothing_there(tmp_path: Path) -> None:
    async with life(tmp_path, Before) as rpc:
        ids = await waiting_runs(rpc)
        versions = [(await rpc.get(run_id)).updated_at for run_id in ids]
        for where in (("--data", str(tmp_path)), ("--server", rpc.server.address)):
            bad = await asyncio.to_thread(found, f"{FLOWS}:Renamed=flow", *where, code=3)
            assert (bad["tried"], bad["would_block"]) == (3, 3)
            assert (await asyncio.to_thread(found, f"{FLOWS}:Aliased=flow", *where, code=0))["tried"] == 3
        for run_id, version in zip(ids, versions, strict=True):
            found_run = await rpc.get(run_id)
            assert (status(found_run), found_run.updated_at) == ("WAITING", version)
            await rpc.send(run_id, event("Go"))
            await rpc.ended(run_id)


async def test_runs_that_are_blocked_now_and_would_go_on_are_counted(tmp_path: Path) -> None:
    async with life(tmp_path, Before) as rpc:
        ids = await waiting_runs(rpc)
    async with life(tmp_path, Renamed) as rpc:
        for run_id in ids:
            await until_status(rpc, run_id, "BLOCKED")
    found_now = await asyncio.to_thread(found, f"{FLOWS}:Aliased=flow", "--data", str(tmp_path), code=0)
    assert found_now["would_go_on_again"] == 3


async def test_the_server_blocks_what_does_not_fit_at_its_start_and_tells_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with life(tmp_path, registry_of(flow=Before, picky=Before)) as rpc:
        ids = await waiting_runs(rpc)
        large = (await rpc.start("picky", {"count": 2})).run_id
        small = (await rpc.start("picky", {"count": 1})).run_id
        await parked(rpc, large)
        await parked(rpc, small)
    caplog.clear()
    admin = {"admin_address": "127.0.0.1:0"}
    async with life(tmp_path, registry_of(flow=Renamed, picky=Picky), **admin) as rpc:
        for run_id in (*ids, large):
            await until_status(rpc, run_id, "BLOCKED")
        assert status(await rpc.get(small)) == "WAITING"
        assert small not in {run.key.run_id for run in rpc.pool}  # what fits was not loaded
        text = await asyncio.to_thread(page, rpc, "readyz")
        assert text == "ok\nblocked: 3 runs of flow\nblocked: 1 run of picky\n"
        metrics = await asyncio.to_thread(page, rpc, "metrics")
        assert 'stepwire_runs{status="blocked",workflow="flow"} 3.0' in metrics
        async with asyncio.timeout(60):
            while "1 run of picky is blocked: migrate() raised ValueError" not in caplog.text:
                await rpc.get(small)
        assert "3 runs of flow are blocked: The snapshot names a step that does not exist: charge" in caplog.text
    async with life(tmp_path, registry_of(flow=Aliased, picky=Before), **admin) as rpc:
        for run_id in (*ids, large):
            await until_status(rpc, run_id, "WAITING")
        assert await asyncio.to_thread(page, rpc, "readyz") == "ok\n"
        await rpc.send(large, event("Go"))
        assert result(await rpc.ended(large)) == 2


async def test_nothing_checked_does_not_pass_while_other_names_have_runs(tmp_path: Path) -> None:
    async with life(tmp_path, registry_of(befores=Before, zebra=Before)) as rpc:
        for name in ("befores", "zebra"):
            await parked(rpc, (await rpc.start(name, {})).run_id)
        for where in (("--data", str(tmp_path)), ("--server", rpc.server.address)):
            text = await asyncio.to_thread(run, f"{FLOWS}:Before", *where)
            assert text.exit_code == 4, text.output
            assert "nothing was checked: no unfinished run belongs to Before" in text.stdout
            assert "did you mean Before=befores?" in text.stdout
            assert "skipped  zebra: 1 unfinished run " in text.stdout
            document = await asyncio.to_thread(found, f"{FLOWS}:Before", *where, code=4)
            assert (document["complete"], document["tried"]) == (False, 0)
    # One name on each side: they are the same workflow, however they are called.
    async with life(tmp_path / "one", registry_of(zebra=Before)) as rpc:
        nothing = await asyncio.to_thread(run, f"{FLOWS}:Before", "--server", rpc.server.address)
        assert (nothing.exit_code, "nothing to do" in nothing.stdout) == (0, True)
        await parked(rpc, (await rpc.start("zebra", {})).run_id)
        text = await asyncio.to_thread(run, f"{FLOWS}:Before", "--server", rpc.server.address)
        assert (text.exit_code, "did you mean Before=zebra?" in text.stdout) == (4, True)


async def test_a_call_to_a_blocked_run_says_what_to_do(tmp_path: Path) -> None:
    async with life(tmp_path, Before) as rpc:
        (run_id,) = await waiting_runs(rpc, (1,))
    async with life(tmp_path, Renamed) as rpc:
        await until_status(rpc, run_id, "BLOCKED")
        for arguments in (["send", run_id, "Go"], ["pause", run_id], ["reload", run_id]):
            arguments += ["--server", rpc.server.address]
            answer = await asyncio.to_thread(CliRunner().invoke, app, arguments, env={"COLUMNS": "400"})
            assert answer.exit_code == 1, answer.output
            assert '@step(aliases=["charge"])' in answer.output
            assert "migrate()" in answer.output
            assert "docs/workflows.md" in answer.output
        listed = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            ["runs", "--status", "blocked", "--server", rpc.server.address],
            env={"COLUMNS": "400"},
        )
        assert "does not exist: charge" in listed.output


async def test_it_stops_in_time_and_says_that_it_did(tmp_path: Path) -> None:
    async with life(tmp_path, Before) as rpc:
        await waiting_runs(rpc)
    answer = await asyncio.to_thread(
        found, f"{FLOWS}:Before=flow", "--data", str(tmp_path), "--within", "0.000001s", code=4
    )
    assert not answer["complete"]
    assert answer["tried"] < answer["unfinished"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nothing.here:Flow", "--data", "."], 2, "nothing"),
        ([f"{FLOWS}:Before", "--data", "/nonexistent"], 1, "there is no database"),
        ([f"{FLOWS}:Before", "--data", ":memory:"], 2, "runs in memory"),
        ([f"{FLOWS}:Before", "--data", ".", "--server", "127.0.0.1:1"], 2, "not both"),
        ([f"{FLOWS}:Before", "--server", "127.0.0.1:1"], 1, "no server answers"),
    ],
)
def test_what_cannot_be_checked_is_said(arguments: list[str], code: int, says: str) -> None:
    answer = run(*arguments)
    assert (answer.exit_code, says in answer.output) == (code, True), answer.output


def test_the_doctor_tells_of_runs_that_would_be_blocked(tmp_path: Path) -> None:
    async def prepare() -> None:
        async with life(tmp_path, Before) as rpc:
            await waiting_runs(rpc)

    asyncio.run(prepare())

    def fit(code: str) -> dict[str, str]:
        arguments = ["doctor", f"{FLOWS}:{code}=flow", "--data", str(tmp_path), "--json"]
        checks = json.loads(CliRunner().invoke(app, arguments).stdout)["checks"]
        (check,) = (each for each in checks if each["name"] == "new code")
        return dict(check)

    assert fit("Before")["status"] == "ok"
    told = fit("Renamed")
    assert told["status"] == "warning"
    assert "3 of 3 unfinished runs would be blocked" in told["message"]


@pytest.mark.skipif(programs() is None, reason=MISSING)
async def test_runs_in_postgresql_are_tried_too() -> None:
    with PostgresServer() as postgres:
        nothing = await asyncio.to_thread(run, f"{FLOWS}:Before=flow", "--data", postgres.dsn)
        assert (nothing.exit_code, "no server has used it" in nothing.output) == (1, True)
        async with serving(registry_of(flow=Before), postgres.dsn, grace=0.0) as rpc:
            await waiting_runs(rpc)
            bad = await asyncio.to_thread(found, f"{FLOWS}:Renamed=flow", "--data", postgres.dsn, code=3)
            assert bad["would_block"] == 3
            good = await asyncio.to_thread(found, f"{FLOWS}:Aliased=flow", "--data", postgres.dsn, code=0)
            assert good["tried"] == 3
