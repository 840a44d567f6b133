"""The internal events of LlamaIndex 2.x on the stream of a run in process: which step runs, what nobody took, idling.

Their handlers hide them unless they are asked for (`expose_internal`). A durable run has none: its log and its active
steps tell the same.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Final

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.progress import is_idle
from stepwire.workflow.broker.receipts import Receipt
from stepwire.workflow.events import Event, InputRequiredEvent, StopEvent
from stepwire.workflow.llamaindex import installed

__all__ = ["FAILED", "InternalEvents"]

theirs: Any = installed.events

FAILED: Final = object()
"""Stands for the output of a step that did not return."""


class InternalEvents:
    """Write internal events to the stream of a run, and tell of its steps if the workflow is verbose.

    Args:
        broker: The broker of the run.
        output: Gets a line for what steps do; None if the workflow is not verbose.
    """

    __slots__ = ("__weakref__", "_broker", "_idle", "_output", "_workers")

    def __init__(self, broker: Broker, output: Callable[[str], None] | None = None) -> None:
        self._broker = broker
        self._output = output
        self._workers: dict[str, set[int]] = {}
        self._idle = False

    def begins(self, step: str, event: Event) -> int:
        """Tell that a step runs; return the number of its worker."""
        used = self._workers.setdefault(step, set())
        worker = next(number for number in range(len(used) + 1) if number not in used)
        used.add(worker)
        self._idle = False
        if self._output is not None:
            self._output(f"[{step}:{worker}] started from {type(event).__name__}")
        self._write(
            theirs.StepStateChanged(
                name=step,
                step_state=theirs.StepState.RUNNING,
                worker_id=str(worker),
                input_event_name=type(event).__name__,
            )
        )
        if self._broker.journal is None and self._broker.queues.crowded is None:
            self._broker.queues.crowded = []
        self._tell_crowded()
        return worker

    def _tell_crowded(self) -> None:
        """Tell of the deliveries that have found no free worker."""
        crowded = self._broker.queues.crowded
        if crowded:
            self._broker.queues.crowded = []
            for delivery in crowded:
                if self._output is not None:
                    self._output(f"[{delivery.step}] enqueued (waiting for capacity)")
                self._write(
                    theirs.StepStateChanged(
                        name=delivery.step,
                        step_state=theirs.StepState.PREPARING,
                        worker_id="<enqueued>",
                        input_event_name=type(delivery.event).__name__,
                    )
                )

    def ends(self, step: str, worker: int, event: Event, output: Any) -> None:
        """Tell that a step has ended; `output` is what it returned, or `FAILED`. Of a list they tell the last event."""
        self._workers[step].discard(worker)
        if isinstance(output, list):
            output = output[-1] if output else None
        if self._output is not None:
            name = "no result" if output is None or output is FAILED else type(output).__name__
            self._output(f"[{step}:{worker}] complete with {name}")
            if isinstance(output, StopEvent):
                self._output(f"[result] {installed.summarize_event(output)}")
        self._write(
            theirs.StepStateChanged(
                name=step,
                step_state=theirs.StepState.NOT_RUNNING,
                worker_id=str(worker),
                input_event_name=str(type(event)),
                output_event_name=None if output is FAILED else str(type(output)),
            )
        )
        self._look_soon()  # what the step returned is queued by then

    def waits(self) -> None:
        """Look soon whether the run only waits."""
        self._look_soon()

    def _look_soon(self) -> None:
        if self._broker.journal is None:
            asyncio.get_running_loop().call_soon(_look, weakref.ref(self))

    def _look(self) -> None:
        """Tell of deliveries that wait for a worker, and whether nothing goes on any more."""
        broker = self._broker
        self._tell_crowded()
        if not self._idle and broker.outcome is None and is_idle(broker):
            self._idle = True
            self._write(theirs.WorkflowIdleEvent())

    def sent(self, event: Event, step: str | None, receipt: Receipt) -> None:
        """Tell of an event that nothing took, or that waits for a worker."""
        self._tell_crowded()
        if receipt.delivered or isinstance(event, InputRequiredEvent | StopEvent):
            return
        cls = type(event)
        broker = self._broker
        idle = is_idle(broker)
        self._write(
            theirs.UnhandledEvent(
                event_type=cls.__name__,
                qualified_name=f"{cls.__module__}.{cls.__name__}",
                step_name=step,
                idle=idle,
            )
        )
        if idle:
            self._idle = False
            self.waits()

    def _write(self, event: Any) -> None:
        if self._broker.journal is None and self._broker.outcome is None:
            self._broker.stream.append(event)


def _look(ref: weakref.ref[InternalEvents]) -> None:
    if (events := ref()) is not None:
        events._look()
