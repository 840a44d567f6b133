"""Workflows that do to their process what a server must survive. They log when they are where they should be."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import re
import signal
import sqlite3
import threading
import time
from typing import Any

from stepwire.workflow import StartEvent, StopEvent, Workflow, step

logger = logging.getLogger(__name__)

FOREVER = 3600.0
every_task = asyncio.all_tasks  # as it was before a server hid its own tasks


class Block(Workflow):
    """Block the event loop, in the way that the input names."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def block(self, ev: StartEvent) -> StopEvent:
        """Block it for an hour."""
        logger.warning("blocking")
        for handler in logging.getLogger().handlers:
            handler.flush()  # once the interpreter is kept, no other thread writes
        match ev.get("how"):
            case "sleep":
                time.sleep(FOREVER)  # noqa: ASYNC251 - what this is for
            case "spin":
                end = time.monotonic() + FOREVER
                while time.monotonic() < end:
                    pass
            case "native":  # gives up the interpreter, and looks at no signal
                recursion = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
                sqlite3.connect(":memory:").execute(recursion)
            case "regex":  # keeps the interpreter
                re.match("(a+)+$", "a" * 60 + "b")
        return StopEvent()


class Sleep(Workflow):
    """Take an hour without blocking anybody."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def sleep(self, ev: StartEvent) -> StopEvent:
        """Take an hour."""
        logger.warning("sleeping")
        await asyncio.sleep(FOREVER)
        return StopEvent()


class Interrupt(Workflow):
    """Have a task of the step raise what ends programs."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def interrupt(self, ev: StartEvent) -> StopEvent:
        """Raise it, and go on."""

        async def raises() -> None:
            raise KeyboardInterrupt if ev.get("what") == "KeyboardInterrupt" else SystemExit(3)

        task = asyncio.create_task(raises())
        await asyncio.wait((task,))
        return StopEvent(result=type(task.exception()).__name__)


class Wreck(Workflow):
    """Do to the event loop of the server what ends programs, in the way that the input names."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def wreck(self, ev: StartEvent) -> StopEvent:
        """Do it, and go on."""
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        match ev.get("how"):
            case "stop":
                loop.stop()
            case "stop from outside":
                threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,)).start()
            case "cancel all tasks":
                others = [task for task in asyncio.all_tasks() if task is not me]
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
            case "cancel what the loop has":
                for task in every_task():
                    if task is not me:
                        task.cancel()
            case "SIGTERM" | "SIGINT" as name:
                with contextlib.suppress(PermissionError):
                    os.kill(os.getpid(), getattr(signal, name))
                with contextlib.suppress(PermissionError):
                    signal.raise_signal(getattr(signal, name))
            case "shut down":
                await loop.shutdown_asyncgens()
                await loop.shutdown_default_executor()
        await asyncio.sleep(0.01)
        return StopEvent(result="went on")


class Handler(Workflow):
    """Give the event loop a signal handler."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def handle(self, ev: StartEvent) -> StopEvent:
        """Send this process two signals and return once their handler was called."""
        loop, news = asyncio.get_running_loop(), asyncio.Queue[str]()
        loop.add_signal_handler(signal.SIGUSR1, news.put_nowait, "handled")
        os.kill(os.getpid(), signal.SIGUSR1)
        await news.get()
        os.kill(os.getpid(), signal.SIGHUP)  # after this one the server has its descriptor again
        os.kill(os.getpid(), signal.SIGUSR1)
        result = await news.get()
        if ev.get("keep"):
            loop.add_signal_handler(signal.SIGUSR2, news.put_nowait, "")
        return StopEvent(result=result)


class Threads(Workflow):
    """Start threads that Python waits for before it exits."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def start(self, ev: StartEvent) -> StopEvent:
        """Start one by hand and one by asyncio."""
        threading.Thread(target=time.sleep, args=(FOREVER,)).start()
        asyncio.get_running_loop().run_in_executor(None, time.sleep, FOREVER)
        return StopEvent(result=threading.active_count())


class Fork(Workflow):
    """Fork a child in a sync step; the child does nothing for an hour."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    def fork(self, ev: StartEvent) -> StopEvent:
        """Return the child's id and, if it was to be terminated, how it ended."""
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(FOREVER,))
        child.start()
        code = None
        if ev.get("terminate"):
            child.terminate()
            child.join()
            code = child.exitcode
        return StopEvent(result={"pid": child.pid, "code": code})


class Orphan(Workflow):
    """Leave an orphan behind."""

    @step
    def orphan(self, ev: StartEvent) -> StopEvent:
        """Have a child make a grandchild and end; return the ids of both."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            grandchild = os.fork()
            if grandchild:
                os.write(writer, str(grandchild).encode())
                os._exit(0)
            signal.pause()
        os.close(writer)
        found = int(os.read(reader, 32))
        os.waitpid(child, 0)
        os.kill(found, signal.SIGKILL)
        return StopEvent(result=found)


class Chatter(Workflow):
    """Log more than a full pipe and the server's queue take."""

    @step
    async def chatter(self, ev: StartEvent) -> StopEvent:
        """Log so many lines."""
        lines: Any = ev.get("lines")
        for number in range(lines):
            logger.warning("line %d", number)
        return StopEvent(result=threading.active_count())


class Fine(Workflow):
    """Show that the server works."""

    @step
    async def fine(self, ev: StartEvent) -> StopEvent:
        """Return at once."""
        return StopEvent(result="fine")
