"""What operators see of replicas: doctor, the list of replicas, metrics, health while the database is away."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.integration.cluster.conftest import FLOWS, Start, Trio
from tests.integration.cluster.support import first, until
from tests.postgres import PostgresServer
from tests.serving import ServerProcess
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.client import Client, StepwireError, SyncClient


def invoke(*arguments: object) -> tuple[int, Any]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    return result.exit_code, json.loads(result.stdout) if "--json" in arguments and result.stdout else result.output


def doctor(*arguments: object) -> tuple[int, dict[str, dict[str, str]]]:
    code, document = invoke("doctor", "--json", *arguments)
    return code, {check["name"]: check for check in document["checks"]}


def test_replicas_are_listed(trio: Trio) -> None:
    with SyncClient(trio.a.address) as client:
        client.start_run("ask").context.wait_for_event("Question")
    code, found = invoke("replicas", "--json", "--data", trio.database.dsn)
    assert code == 0
    by_address = {each["address"]: each for each in found["replicas"]}
    assert set(by_address) == {each.address for each in trio.replicas}
    assert by_address[trio.a.address]["runs"] >= 1
    assert all(each["beat_age"] < 3.0 and set(each["versions"]) >= {"ask", "chat"} for each in found["replicas"])
    code, text = invoke("replicas", "--data", trio.database.dsn)
    assert code == 0
    assert trio.b.address in text
    assert invoke("replicas", "--data", "stepwire-data")[0] == 2


def test_doctor_looks_at_the_database(trio: Trio, tmp_path: Path) -> None:
    key = tmp_path / "cluster.key"
    key.write_text("short")
    key.chmod(0o600)
    code, checks = doctor(
        *FLOWS, "--data", trio.database.dsn, "--address", "127.0.0.1:0", "--cluster-key", key, "--lease", "3s"
    )
    assert code == 1
    assert checks["cluster key"]["status"] == "problem"
    for name in ("data", "database", "standby", "db clock", "replicas"):
        assert checks[name]["status"] == "ok", checks[name]
    assert trio.c.address in checks["replicas"]["message"]
    nowhere = trio.database.dsn.rpartition("/")[0] + "/nothing"
    code, checks = doctor(*FLOWS, "--data", nowhere, "--address", "127.0.0.1:0")
    assert (code, checks["data"]["status"]) == (1, "problem")


def metrics(address: str) -> dict[str, float]:
    text = urllib.request.urlopen(f"http://{address}/metrics", timeout=60).read().decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.mark.slow
async def test_metrics_tell_of_owners_takeovers_and_forwards(start: Start) -> None:
    (a, b), _ = start(2, ["--admin-address", "127.0.0.1:0"])
    admin = b.hear(r"admin port on (\S+)")
    async with Client(a.address) as one, Client(b.address) as other:
        run = await one.start_run("ask")
        await other.run(run.run_id).context.send_event(("Note", {"n": 1}))
        await first(other.run(run.run_id), 1)
        found = await asyncio.to_thread(metrics, admin)
        assert found["stepwire_replicas"] == 2
        assert found["stepwire_runs_owned"] == 0
        assert found['stepwire_forwards_total{outcome="answered"}'] == 1
        assert 0.0 <= found["stepwire_beat_age_seconds"] < 60.0
        a.kill()
        await other.run(run.run_id).context.send_event(("Note", {"n": 2}))
        found = await asyncio.to_thread(metrics, admin)
        assert found["stepwire_takeovers_total"] == found["stepwire_runs_owned"] == found["stepwire_replicas"] == 1
        # The one that is left counts the runs of all.
        await until(lambda: metrics(admin).get('stepwire_runs{status="waiting",workflow="ask"}') == 1, timeout=20)


@pytest.mark.slow
async def test_a_database_that_is_away_for_a_moment_is_no_reason_not_to_serve(tmp_path: Path) -> None:
    with PostgresServer() as postgres, ServerProcess(postgres.dsn, FLOWS) as server:
        async with Client(server.address, timeout=60) as client, grpc.aio.insecure_channel(server.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)

            async def serving() -> bool:
                answer = await stub.Check(health_pb2.HealthCheckRequest())
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            run = await client.start_run("ask")
            await asyncio.to_thread(postgres.kill)
            sending = asyncio.create_task(run.context.send_event(("Note", {"n": 1})))
            await asyncio.sleep(1.0)
            assert await serving()
            async with asyncio.timeout(60):
                while await serving():  # noqa: ASYNC110 - elsewhere
                    await asyncio.sleep(0.1)
            await asyncio.to_thread(postgres.start)
            await sending
            async with asyncio.timeout(60):
                while not await serving():  # noqa: ASYNC110 - elsewhere
                    await asyncio.sleep(0.1)
            assert [event.n for event in await first(run, 1)] == [1]


async def test_texts_with_a_nul_are_refused_by_every_store(trio: Trio, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, FLOWS) as embedded:
        for address in (trio.a.address, embedded.address):
            async with Client(address) as client:
                for arguments in ({"labels": {"a": "b\0"}}, {"labels": {"a\0": "b"}}, {"request_id": "r\0"}):
                    with pytest.raises(StepwireError) as refused:
                        await client.start_run("ask", **arguments)
                    assert refused.value.reason == "INVALID_REQUEST"
                with pytest.raises(StepwireError) as unknown:
                    await client.run("nothing\0").info()
                assert unknown.value.reason == "RUN_NOT_FOUND"
