"""Serve in this process, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable
from typing import Final

from stepwire.server.app import Server
from stepwire.server.config import Settings
from stepwire.server.config_errors import ConfigError
from stepwire.server.process import os_fork
from stepwire.server.process.child_processes import end_children
from stepwire.server.process.ending import Ending
from stepwire.server.process.guards import guard
from stepwire.server.process.loops import cancel_tasks, new_loop, run_to_end
from stepwire.server.process.signals import Signals
from stepwire.server.registry import Registry
from stepwire.server.telemetry import tracing

__all__ = ["serve"]

logger = logging.getLogger("stepwire.server")

_GC_THRESHOLDS: Final = (20_000, 20, 50)
"""Runs make much short-lived garbage and few cycles. Python's own thresholds cost a quarter of a run's time, and of the
time to take up 10,000 runs."""

OnReady = Callable[[Server], None]


def serve(registry: Registry, settings: Settings, on_ready: OnReady | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then stop gracefully. Call it in the main thread.

    Args:
        registry: The workflows.
        settings: How to serve them.
        on_ready: Called on the event loop once the server listens.

    Returns:
        The exit code: 1 when the last commit could not be made. The process exits within a second from then on.

    Raises:
        ConfigError: A setting or a file that it names is wrong.
        StoreError: The store cannot be opened.
        OSError: An address cannot be used.
    """
    try:
        end_tracing = tracing.setup(settings.otlp_endpoint)
    except tracing.TracingError as error:
        raise ConfigError(str(error)) from None
    guard()
    loop = new_loop()
    server = Server(registry, settings)
    server.notes.watch()
    stopping = asyncio.Event()

    def on_loop(call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(call)

    def stop() -> None:
        server.refuse_work()
        on_loop(stopping.set)

    ending = Ending(
        settings.grace,
        extra=tracing.END_SECONDS if end_tracing is not None else 0.0,
        stop=stop,
        hasten=lambda: on_loop(server.hasten),
    )
    signals = Signals(ending, reload=lambda: on_loop(server.reload))
    code, failed = 1, False
    try:
        committed = run_to_end(loop, _serve(server, stopping, on_ready), signals.attach)
        logger.info("stopped")
        code = 0 if committed else 1
        if end_tracing is not None:
            end_tracing()
    except BaseException:  # what is left to end must know whether the process ends by an error
        failed = True
        raise
    finally:
        left = cancel_tasks(loop)
        if ended := end_children():
            logger.info("ended %d child process%s of steps", ended, "" if ended == 1 else "es")
        ending.finish(code, to_tell=failed)
        signals.wake()
    if left:
        logger.warning("%d tasks of steps ignore their cancellation: leaving without them", left)
        ending.leave()
    return code


async def _serve(server: Server, stopping: asyncio.Event, on_ready: OnReady | None) -> bool:
    """Start the server, wait for the request to stop, and stop it; return what `Server.stop` does."""
    # What was imported lives as long as the process: the collector need not look at it.
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.freeze()
    asked = asyncio.create_task(stopping.wait(), name="stepwire-stopping")
    if not await _started(server, asked):
        return True
    for address in filter(None, (server.address, server.web_address, server.observing.admin_address)):
        os_fork.close_sockets_of(address)
    try:
        with server.observing.pausing():
            gc.collect()
            gc.freeze()
        if on_ready is not None:
            on_ready(server)
        server.take_up()
        await asked
    finally:
        committed = await server.stop()
    return committed


async def _started(server: Server, asked: asyncio.Task[bool]) -> bool:
    """Start the server; return False when it was asked to stop before it had started."""
    starting = asyncio.create_task(server.start(take_up=False), name="stepwire-start")
    await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
        if starting.cancelled() or starting.exception() is not None:
            return False
    await starting
    return True
