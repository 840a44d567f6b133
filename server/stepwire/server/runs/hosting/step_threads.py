"""Threads for sync steps that never hold up the end of the process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class StepThreads(Executor):
    """Run calls in at most `limit` daemon threads, made at need.

    The standard pool joins its threads when the interpreter exits: a sync step that does not return would hang a
    drain for ever.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting = 0
        """Calls queued or running."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call in a thread."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting += 1
            grow = self._threads < min(self._limit, self._waiting)
            if grow:
                self._threads += 1
                name = f"stepwire-step-{self._threads}"
        self._calls.put((future, lambda: fn(*args, **kwargs)))
        if grow:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    @property
    def backlog(self) -> int:
        """How many calls wait for a thread."""
        return max(0, self._waiting - self._limit)

    def _work(self) -> None:
        while True:
            future, call = self._calls.get()
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:  # noqa: BLE001 - handed to whoever awaits the step
                    future.set_exception(error)
                else:
                    future.set_result(result)
            with self._lock:
                self._waiting -= 1
            del future, call
