"""Workflows for a server in another process that they crash."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from typing import Any

from stepwire.workflow import Context, DictState, HumanResponseEvent, StartEvent, StopEvent, Workflow, step


class Crash(Workflow):
    """End the process, at once or late."""

    def __init__(self) -> None:
        super().__init__(timeout=None)  # a server that dies and starts again, on a busy machine, takes its time

    @step
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        await asyncio.sleep(ev.get("after", 0.0))
        if ev.how == "exit":
            os._exit(139)
        if ev.how == "library":  # as native code does: Python sees nothing of it
            ctypes.CDLL(None).kill(os.getpid(), int(signal.SIGKILL))
        os.kill(os.getpid(), signal.SIGKILL if ev.how == "kill" else signal.SIGSEGV)
        await asyncio.sleep(60)
        return StopEvent()


class Long(Workflow):
    """Take a while."""

    def __init__(self) -> None:
        super().__init__(timeout=None)  # the time that the guilty run is searched is not its own

    @step
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        await asyncio.sleep(ev.seconds)
        return StopEvent(result="done")


class Old(Workflow):
    """Crash the process when a newer version loads a run of the first one."""

    version = os.environ.get("OLD_VERSION", "1")

    def migrate(self, parts: dict[str, Any]) -> dict[str, Any]:
        if self.version == "2" and not os.path.exists(os.environ.get("OLD_MENDED", "")):
            os._exit(139)
        return parts

    @step
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        if ev.how == "works" and ctx.step_info().attempt == 1:
            await asyncio.sleep(3600)
        elif ev.how != "works":
            await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        return StopEvent(result="ok")
