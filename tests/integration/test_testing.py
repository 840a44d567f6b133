"""`stepwire.server.testing`: what authors test their workflows with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepwire.client import FailedPreconditionError
from stepwire.server.testing import RunningServer, serve, stepwire_restore, stepwire_serve
from stepwire.workflow import (
    Context,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

__all__ = ["stepwire_restore", "stepwire_serve"]

pytest_plugins = ["pytester"]


class Asked(InputRequiredEvent):
    text: str


class Answered(HumanResponseEvent):
    text: str


class Interrupts(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        async def leave() -> None:
            raise SystemExit

        left = asyncio.create_task(leave())
        await asyncio.wait([left])
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return StopEvent(result="goes on")


class Echo(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answered, Asked(text=ev.text))
        return StopEvent(result=answer.text)


def test_a_blocking_test_talks_with_a_real_server(stepwire_serve: Callable[..., RunningServer]) -> None:
    server = stepwire_serve(Echo)
    with server.client() as client:
        run = client.start_run("Echo", text="?")
        assert next(iter(run.events())).type == "Asked"
        run.context.send_event(("Answered", {"text": "yes"}))
        assert run.result() == "yes"


def test_a_step_does_not_end_the_server(stepwire_serve: Callable[..., RunningServer]) -> None:
    with stepwire_serve(Interrupts, Echo).client() as client:
        assert client.start_run("Interrupts").result(timeout=60) == "goes on"
        assert next(iter(client.start_run("Echo", text="?").events())).type == "Asked"


async def test_an_asyncio_test_does_too(stepwire_serve: Callable[..., RunningServer]) -> None:
    server = stepwire_serve(echo=Echo(timeout=None))
    async with server.async_client() as client:
        run = await client.start_run("echo", text="?")
        assert (await anext(run.events())).type == "Asked"
        await run.context.send_event(("Answered", {"text": "yes"}))
        assert await run.result() == "yes"


def test_a_data_directory_outlives_the_server(tmp_path: Path) -> None:
    with serve(Echo, data=tmp_path) as first, first.client() as client:
        run = client.start_run("Echo", text="?")
        assert next(iter(run.events())).type == "Asked"
        run_id = run.run_id
    with serve(Echo, data=tmp_path) as second, second.client() as client:
        run = client.run(run_id)
        assert [waiter.event_type for waiter in run.info().pending_waiters] == ["Answered"]
        run.context.send_event(("Answered", {"text": "later"}))
        assert run.result() == "later"


SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


class Twice(Workflow):
    """Hang at the first attempt."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        info = ctx.step_info()
        SEEN.append(info.key)
        if info.attempt == 1:
            await asyncio.Event().wait()
        await ctx.store.set("done", True)
        return StopEvent(result=info.attempt)


def test_a_killed_server_repeats_the_step_under_the_same_key(
    stepwire_serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    server = stepwire_serve(Twice, data=tmp_path)
    address = server.address
    with server.client() as client:
        run = client.start_run("Twice")
        server.skip()
        server.restart(kill=True)
        assert server.address == address
        assert run.result() == 2
    assert [f"{run.run_id}/1"] * 2 == SEEN


def test_other_code_can_be_started_and_a_saved_run_tried_against_it(
    stepwire_serve: Callable[..., RunningServer], stepwire_restore: Callable[..., Context], tmp_path: Path
) -> None:
    class Renamed(Workflow):
        @step
        async def other(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    server = stepwire_serve(Echo, data=tmp_path)
    with server.client() as client:
        run = client.start_run("Echo", text="?")
        server.skip()
        saved = tmp_path / "run.snapshot"
        saved.write_bytes(bytes(run.snapshot()))
        assert isinstance(stepwire_restore(Echo, saved), Context)
        with pytest.raises(
            AssertionError, match="would be blocked: The snapshot names a step that does not exist: ask"
        ):
            stepwire_restore(Renamed, saved)
        server.restart(Echo=Renamed)
        with pytest.raises(FailedPreconditionError, match="ask"):
            run.reload()
        assert "BLOCKED: The snapshot names a step" in server.report()


def test_the_history_is_that_of_the_log(stepwire_serve: Callable[..., RunningServer]) -> None:
    server = stepwire_serve(Echo)
    with server.client() as client:
        run = client.start_run("Echo", text="?")
        assert next(iter(run.events())).type == "Asked"
        run.context.send_event(("Answered", {"text": "yes"}))
        run.result()
        public = [entry for entry in server.history(run.run_id) if entry.kind in ("received", "stream", "end")]
        assert [(entry.kind, entry.type) for entry in public] == [
            ("received", "StartEvent"),
            ("stream", "Asked"),
            ("received", "Answered"),
            ("end", "StopEvent"),
        ]
        assert public[2].fields == {"text": "yes"}
        assert "received Answered(text='yes')" in str(public[2])
        assert server.history("nothing") == []


def test_a_test_that_fails_says_what_became_of_the_runs(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where these are set, pytest's summary says each message once more.
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("BUILD_NUMBER", raising=False)
    pytester.makeconftest('pytest_plugins = ["stepwire.server.testing"]')
    pytester.makepyfile(
        """
        from stepwire.server.testing import serve
        from stepwire.workflow import StartEvent, StopEvent, Workflow, step

        class Breaks(Workflow):
            @step
            async def pay(self, ev: StartEvent) -> StopEvent:
                raise ValueError("the bank is closed")

        def test_by_the_fixture(stepwire_serve):
            with stepwire_serve(Breaks).client() as client:
                assert client.start_run("Breaks", amount=7).result() == "paid"

        def test_by_the_block():
            with serve(Breaks) as server, server.client() as client:
                run = client.start_run("Breaks", amount=7)
                run.wait()
                assert run.info().outcome.result == "paid"
        """
    )
    answer = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    answer.assert_outcomes(failed=2)
    text = answer.stdout.str()
    assert text.count("What became of the runs:") == 2
    for line in (
        "of Breaks: FAILED in step pay after 1 attempt(s): ValueError: the bank is closed",
        'raise ValueError("the bank is closed")',
        "received StartEvent(amount=7)",
    ):
        assert text.count(line) >= 2, line
