"""From the start of the process to its end, around a server that does nothing."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest

from stepwire.server.process import serving
from stepwire.server.process.loops import cancel_tasks, run_to_end


class StandIn:
    """A server whose start and stop are up to the test."""

    address = "127.0.0.1:1"
    web_address = None

    def __init__(self, error: Exception | None = None) -> None:
        self.observing = self
        self.admin_address = ""
        self.calls: list[str] = []
        self.started = asyncio.Event()
        self.ready = asyncio.Event()
        self._error = error

    def pausing(self) -> Any:
        return nullcontext()

    def take_up(self) -> None:
        self.calls.append("take up")

    async def start(self, *, take_up: bool) -> None:
        assert not take_up  # not before it listens and said so
        self.calls.append("start")
        try:
            await self.started.wait()
        except asyncio.CancelledError:
            self.calls.append("cancelled")
            raise
        if self._error is not None:
            raise self._error

    async def stop(self) -> bool:
        self.calls.append("stop")
        return False


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "gc", StandInCollector())
    monkeypatch.setattr("stepwire.server.process.os_fork.close_sockets_of", lambda address: None)


class StandInCollector:
    def set_threshold(self, *_: int) -> None: ...
    def freeze(self) -> None: ...
    def collect(self) -> None: ...


async def serve(server: StandIn, stopping: asyncio.Event) -> bool:
    def on_ready(_: Any) -> None:
        server.calls.append("ready")
        server.ready.set()

    return await serving._serve(server, stopping, on_ready)  # type: ignore[arg-type]


async def test_a_request_to_stop_ends_a_start_that_hangs() -> None:
    server, stopping = StandIn(), asyncio.Event()
    stopping.set()
    assert await serve(server, stopping)
    assert server.calls == ["start", "cancelled"]


async def test_it_serves_until_it_is_asked_to_stop() -> None:
    server, stopping = StandIn(), asyncio.Event()
    server.started.set()
    task = asyncio.create_task(serve(server, stopping))
    await server.ready.wait()
    stopping.set()
    assert not await task  # as `stop` says
    assert server.calls == ["start", "ready", "take up", "stop"]


async def test_what_a_start_raises_comes_out() -> None:
    server = StandIn(OSError("taken"))
    server.started.set()
    with pytest.raises(OSError, match="taken"):
        await serve(server, asyncio.Event())
    assert server.calls == ["start"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_loop_that_a_task_stopped_is_started_again(error: type[BaseException]) -> None:
    starts: list[None] = []

    async def raises() -> None:
        raise error

    async def main() -> int:
        task = asyncio.create_task(raises())
        await asyncio.wait((task,))
        assert isinstance(task.exception(), error)
        await asyncio.sleep(0)
        return 7

    loop = asyncio.new_event_loop()
    try:
        assert run_to_end(loop, main(), lambda: starts.append(None)) == 7
    finally:
        loop.close()
    assert len(starts) == 2


def test_an_interrupt_of_the_main_coroutine_itself_comes_out() -> None:
    async def main() -> None:
        raise KeyboardInterrupt

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_to_end(loop, main(), lambda: None)
    finally:
        loop.close()


def test_tasks_that_ignore_their_cancellation_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwire.server.process.loops._CANCEL_SECONDS", 0.0)
    loop = asyncio.new_event_loop()
    done = loop.create_future()

    async def stubborn() -> None:
        while not done.done():
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError:
                continue

    async def willing() -> None:
        await asyncio.Event().wait()

    async def main() -> tuple[asyncio.Task[None], ...]:
        tasks = asyncio.create_task(stubborn()), asyncio.create_task(willing())
        await asyncio.sleep(0)
        return tasks

    try:
        tasks = run_to_end(loop, main(), lambda: None)
        assert cancel_tasks(loop) == 1
        done.set_result(None)
        loop.run_until_complete(tasks[0])
    finally:
        loop.close()
