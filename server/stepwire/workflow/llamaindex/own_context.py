"""The context of ours that a run of an adopted workflow has."""

from __future__ import annotations

import asyncio
from typing import Any

from stepwire.workflow.broker.deliveries.delivery import Execution, Waiter
from stepwire.workflow.context.context import Context, run_of
from stepwire.workflow.events import Event
from stepwire.workflow.llamaindex.internal import InternalEvents
from stepwire.workflow.llamaindex.reopening import Reopening
from stepwire.workflow.llamaindex.store_face import StoreFace

__all__ = ["AdoptedContext"]


class AdoptedContext(Context[Any]):
    """The context of a run of an adopted workflow.

    Attributes:
        workflow: The workflow of theirs.
        internal: Writes internal events to the stream.
        theirs: What the steps of the run get: a context of theirs; made at the first need.
        reopening: Holds events back for waits of a saved run; None for a run that began here.
    """

    def __init__(self, workflow: Any, stepwise: bool = False) -> None:
        super().__init__(workflow, stepwise)
        self.workflow = workflow.adopted
        self.theirs: Any = None
        self.internal = InternalEvents(run_of(self).broker, workflow.verbose_output)
        self.reopening: Reopening | None = None
        self._store_face: StoreFace | None = None
        self._just_sent: list[tuple[Execution, Event]] = []

    @property
    def store_face(self) -> StoreFace:
        """Return the state store of the run as one of theirs; made at the first need."""
        if self._store_face is None:
            self._store_face = StoreFace(self.store)
        return self._store_face

    def note_sent(self, execution: Execution, event: Event) -> None:
        """Note what a step has sent to whoever takes it: a wait that it opens before it lets go of the loop does, too.

        Their engine takes what a step sends once the step lets go. Nothing is saved before that, so a step that begins
        again does both again.
        """
        if not self._just_sent:
            try:
                asyncio.get_running_loop().call_soon(self._just_sent.clear)
            except RuntimeError:
                return  # in a thread, where nothing can wait for an event
        self._just_sent.append((execution, event))

    def _opened(self, waiter: Waiter, execution: Execution) -> bool:
        waits = run_of(self).broker.waits
        for number, (sender, event) in enumerate(self._just_sent):
            if sender is execution and waiter in waits.matching(event):
                del self._just_sent[number]
                waits.settle(waiter, event)
                return True
        return False
