"""`stepwire.server.testing`: what authors test their workflows with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stepwire.server.testing import RunningServer, serve, stepwire_serve
from stepwire.workflow import Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step

__all__ = ["stepwire_serve"]


class Asked(InputRequiredEvent):
    text: str


class Answered(HumanResponseEvent):
    text: str


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
