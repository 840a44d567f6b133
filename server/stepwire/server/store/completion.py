"""Report the outcome of a commit on the event loop: to the listeners, then to its future."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from stepwire.server.store.port import CommitListener
from stepwire.server.store.records import Commit


def notify(loop: asyncio.AbstractEventLoop, listeners: Sequence[CommitListener], commit: Commit) -> None:
    """Call the listeners with a durable commit. What a listener raises is reported to the loop, not raised."""
    for listener in listeners:
        try:
            listener(commit)
        except Exception as error:  # noqa: BLE001 - the commit is durable, its future must resolve
            loop.call_exception_handler({"message": "a commit listener of the store failed", "exception": error})


def resolve(future: asyncio.Future[Any], outcome: Any) -> None:
    """Set the future's result, or its exception when the outcome is one. A future that was cancelled is left alone."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
