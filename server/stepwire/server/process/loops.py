"""Run the event loop of the process, which ends when its main coroutine does and for no other reason."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from stepwire.workflow.hosting import in_step, watch_tasks

__all__ = ["cancel_tasks", "new_loop", "run_to_end"]

logger = logging.getLogger("stepwire.server")

T = TypeVar("T")

_CANCEL_SECONDS: Final = 1.0
"""How long tasks that are left over may take to end when they are cancelled."""


def new_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop: uvloop's where it is installed. Steps can neither stop it nor cancel the server's tasks."""
    base: Any = asyncio.SelectorEventLoop
    with contextlib.suppress(ImportError):  # uvloop does not exist for Windows
        import uvloop

        base = uvloop.Loop
    loop: asyncio.AbstractEventLoop = _guarded(base)()
    watch_tasks(loop)
    return loop


def _guarded(base: Any) -> Any:
    class ServerLoop(base):  # type: ignore[misc]  # the class depends on what is installed
        """An event loop that steps cannot stop, in whole or in part."""

        def stop(self) -> None:
            if _allowed("stop"):
                super().stop()

        async def shutdown_asyncgens(self) -> None:
            if _allowed("shutdown_asyncgens"):
                await super().shutdown_asyncgens()

        async def shutdown_default_executor(self, timeout: float | None = None) -> None:
            if _allowed("shutdown_default_executor"):
                await super().shutdown_default_executor()

        def set_task_factory(self, factory: Any) -> None:
            if _allowed("set_task_factory"):
                super().set_task_factory(factory)

    return ServerLoop


def _allowed(method: str) -> bool:
    """Return whether the caller is no step. What a step must not do to the event loop is logged."""
    step = in_step()
    if step:
        logger.error("step %s called %s() of the server's event loop: refused", step, method)
    return not step


def run_to_end(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T], on_start: Callable[[], object]) -> T:
    """Run a coroutine on a loop and return its result.

    A task that raises KeyboardInterrupt or SystemExit stops a loop, and so does whoever calls its `stop`. It may be any
    step's, so the loop is started again.

    Args:
        loop: The loop, which does not run.
        main: What to run.
        on_start: Called on the loop each time that it starts.
    """
    task = loop.create_task(main, name="stepwire-main")
    while not task.done():
        loop.call_soon(on_start)
        try:
            loop.run_until_complete(task)
        except (KeyboardInterrupt, SystemExit) as error:
            if not task.done():
                # The text of the error may be secret: the log shows where it was raised.
                place = traceback.extract_tb(error.__traceback__)[-1]
                message = "a task of a step raised %s; the server goes on (%s:%s in %s)"
                logger.error(message, type(error).__name__, place.filename, place.lineno, place.name)
        except RuntimeError:
            if task.done() or loop.is_closed():
                raise
            logger.error("something stopped the event loop; the server goes on")
    return task.result()


def cancel_tasks(loop: asyncio.AbstractEventLoop) -> int:
    """Cancel the tasks that are left on a loop that does not run; return how many do not end within a second."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if not tasks:
        return 0

    async def ended() -> int:
        return len((await asyncio.wait(tasks, timeout=_CANCEL_SECONDS))[1])

    return run_to_end(loop, ended(), lambda: None)
