"""The admin port and health: what they say while the server works, drains, cannot write, or hangs."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from tests.integration.durability.support import until
from tests.integration.operations.support import fetch, operated, page, parse
from tests.integration.rpc_serving import Rpc, refused

from stepwire.server.app import Server, Settings
from stepwire.server.config_errors import ConfigError
from stepwire.server.registry import Registry
from stepwire.server.rpc import SERVICES
from stepwire.server.store import StoreUnavailableError

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def health(rpc: Rpc, service: str = "") -> int:
    """Return the status of a service."""
    answer = await rpc.health.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def test_a_server_that_works_is_alive_and_ready() -> None:
    async with operated() as rpc:
        assert await page(rpc, "/healthz") == (200, "ok\n")
        assert await page(rpc, "/readyz") == (200, "ok\n")
        status, text = await page(rpc, "/metrics")
        assert status == 200
        assert parse(text)["stepwire_ready", ()] == 1
        status, text = await page(rpc, "/")
        assert status == 404
        assert "/metrics" in text


async def is_draining(rpc: Rpc) -> bool:
    """Tell whether admin port and health service say that the server drains; from a thread, as the loop must answer."""
    return await page(rpc, "/readyz") == (503, "draining\n") and await health(rpc) == NOT_SERVING


async def test_a_draining_server_is_alive_but_not_ready() -> None:
    async with operated(grace=20.0) as rpc:
        run = await rpc.start("work", {"do": "leave"})
        gate = asyncio.Event()
        drain = rpc.keeper.drain

        async def slowly(grace: float, *given: Any) -> bool:
            await gate.wait()
            return await drain(grace, *given)

        rpc.keeper.drain = slowly  # type: ignore[method-assign, assignment]
        stopping = asyncio.create_task(rpc.server.stop())
        try:
            await until(lambda: is_draining(rpc))
            assert await page(rpc, "/healthz") == (200, "ok\n")
            assert {await health(rpc, service) for service in ("", *SERVICES)} == {NOT_SERVING}
            assert (await rpc.get(run.run_id)).run_id == run.run_id
        finally:
            gate.set()  # the server stops in any case
        await stopping
        with pytest.raises(OSError, match="refused"):
            fetch(rpc, "/healthz")


async def test_a_server_that_cannot_write_says_so_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stepwire.server.health.PROBE_SECONDS", 0.05)
    async with operated(str(tmp_path)) as rpc:
        watch = rpc.health.Watch(health_pb2.HealthCheckRequest(service=SERVICES[1]))
        assert (await watch.read()).status == SERVING

        def full(*_: object) -> object:
            raise StoreUnavailableError("the store cannot write: SQLITE_FULL", full=True)

        with monkeypatch.context() as patched:
            for way in ("_write_at_once", "_transact"):
                patched.setattr(rpc.store._writer._batches._batches, way, full)  # type: ignore[attr-defined]
            await refused(rpc.start("work"))
            assert (await watch.read()).status == NOT_SERVING
            assert {await health(rpc, service) for service in ("", *SERVICES)} == {NOT_SERVING}
            assert await page(rpc, "/readyz") == (503, "cannot commit: the store cannot write: SQLITE_FULL\n")
            assert (await page(rpc, "/healthz"))[0] == 200
            assert parse((await page(rpc, "/metrics"))[1])["stepwire_commit_failures_total", ()] > 0
        # Nobody calls: it finds out by itself.
        assert (await watch.read()).status == SERVING
        assert await page(rpc, "/readyz") == (200, "ok\n")
        watch.cancel()
        await rpc.ended((await rpc.start("work")).run_id)
    assert "NOT SERVING: cannot commit" in caplog.text


async def test_it_answers_while_a_step_blocks_the_loop_and_says_not_ready() -> None:
    async with operated() as rpc:
        answers: list[tuple[int, str]] = []

        def ask() -> None:
            answers.extend(fetch(rpc, path) for path in ("/healthz", "/readyz", "/metrics"))

        asked = threading.Thread(target=ask)

        async def hang() -> None:
            asked.start()
            asked.join(20)  # the loop stands still until it was answered

        await hang()
        assert [status for status, _ in answers] == [200, 503, 200]
        assert answers[1][1] == "the event loop is blocked\n"
        assert parse(answers[2][1])["stepwire_ready", ()] == 0
        assert await page(rpc, "/readyz") == (200, "ok\n")


async def test_a_client_that_sends_nothing_keeps_nobody_waiting() -> None:
    async with operated() as rpc:
        host, _, port = rpc.server.observing.admin_address.rpartition(":")
        with socket.create_connection((host, int(port))) as idle, socket.create_connection((host, int(port))) as other:
            other.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\n")
            assert (await page(rpc, "/healthz"))[0] == 200
            assert idle.fileno() >= 0


async def test_a_taken_admin_port_stops_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(Registry(), Settings(address="127.0.0.1:0", data=":memory:", admin_address=f"127.0.0.1:{port}"))
        with pytest.raises(OSError, match=f"admin address 127.0.0.1:{port}"):
            await server.start()


async def test_an_exposed_admin_port_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "stepwire.server"):
        async with operated(admin_address="0.0.0.0:0"):
            pass
    assert "other machines can reach the admin port" in caplog.text


def test_an_admin_address_without_a_port_is_refused() -> None:
    with pytest.raises(ConfigError, match="admin_address: must be HOST:PORT"):
        Settings.load(None, admin_address="localhost")
