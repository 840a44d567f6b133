"""Tell those who wait for a commit, on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from stepwire.server.store.port import Commit, CommitListener


def notify(loop: asyncio.AbstractEventLoop, listeners: Sequence[CommitListener], commit: Commit) -> None:
    """Call the listeners with a durable commit; what one of them raises is reported and no more."""
    for listener in listeners:
        try:
            listener(commit)
        except Exception as error:  # noqa: BLE001 - the commit is durable, its future must resolve
            loop.call_exception_handler({"message": "a commit listener of the store failed", "exception": error})


def resolve(future: asyncio.Future[Any], outcome: Any) -> None:
    """Give a future its result or, when the outcome is an exception, let it fail."""
    if future.done():  # whoever waited has gone
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
