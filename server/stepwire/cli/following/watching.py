"""Show one run as it changes, until it ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from rich.console import Group
from rich.live import Live

from stepwire.cli.following.answer_schemas import AnswerSchemas
from stepwire.cli.render.pages import Schemas, run_page
from stepwire.cli.render.records import run_record
from stepwire.cli.render.terminal import Output
from stepwire.client import Client, RunInfo

__all__ = ["watch"]

_TICK_SECONDS: Final = 0.5
"""How often the spans on the page are told anew."""
_LEAST_SECONDS: Final = 0.1
"""The least time between two looks: a run may change a thousand times a second."""
_LOOK_SECONDS: Final = 5.0
"""How often the server is asked although the log has nothing new."""


async def watch(client: Client, info: RunInfo, output: Output) -> RunInfo:
    """Show a run until it has ended or the person leaves; return it as it was last.

    At a terminal the page stays in its place; elsewhere each change is written anew, as JSON a line each.
    """
    run, news, answers = client.run(info.run_id), asyncio.Event(), AnswerSchemas(client)

    async def listen() -> None:
        async for _ in run.events(info.last_sequence, internal=True):
            news.set()
        news.set()

    listening = asyncio.create_task(listen())
    loop = asyncio.get_running_loop()
    looked = loop.time()
    shown: RunInfo | None = None
    live = Live(console=output.err, auto_refresh=False, transient=True, vertical_overflow="ellipsis")
    at_terminal = output.live
    if at_terminal:
        live.start()
    try:
        while True:
            if at_terminal:
                live.update(Group(run_page(info, schemas=await answers.of(info))), refresh=True)
            elif shown is None or _differs(shown, info):
                _write(output, info, await answers.of(info))
                shown = info
            if info.ended:
                return info
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await news.wait()
            if news.is_set() or loop.time() - looked >= _LOOK_SECONDS:
                news.clear()
                await asyncio.sleep(max(0.0, looked + _LEAST_SECONDS - loop.time()))
                info, looked = await run.info(), loop.time()
            if listening.done() and not info.ended:
                listening.result()  # raises why the log cannot be followed
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        if at_terminal:
            live.stop()


def _differs(one: RunInfo, other: RunInfo) -> bool:
    return (one.status, one.active_deliveries, one.pending_waiters, one.pause) != (
        other.status,
        other.active_deliveries,
        other.pending_waiters,
        other.pause,
    )


def _write(output: Output, info: RunInfo, schemas: Schemas) -> None:
    if output.json:
        output.record(run_record(info))
    else:
        output.show(run_page(info, schemas=schemas))
        output.text("")
