"""A run that a step has started: what was asked for, what it came to, and who starts it for the steps."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID, uuid5

from stepwire.workflow.broker.children.sends import ChildSend, SentEvents
from stepwire.workflow.broker.deliveries.delivery import Execution
from stepwire.workflow.broker.ledger import Notify
from stepwire.workflow.events import Event, StopEvent

__all__ = [
    "ABANDON",
    "CANCEL",
    "ENDED",
    "LIVING",
    "QUEUED",
    "STARTING",
    "Child",
    "ChildCall",
    "ChildHost",
    "ChildOutcome",
    "child_id",
]

CANCEL: Final = "cancel"
"""The child is cancelled when its parent ends."""
ABANDON: Final = "abandon"
"""The child goes on when its parent ends."""

QUEUED: Final = "queued"
"""Waits until fewer children are under way."""
STARTING: Final = "starting"
"""The host is to start it, and has not said yet that it has."""
LIVING: Final = "living"
"""The host has started it."""
ENDED: Final = "ended"

_NAMESPACE: Final = UUID("7c9b2f0e-51c3-5d0a-8f4e-6368696c6472")
_DIGEST_BYTES: Final = 16


class ChildCall(NamedTuple):
    """What a step asks for when it starts a run.

    Attributes:
        workflow: The name under which the workflow is served.
        data: The fields of the start event, as plain JSON.
        run_id: The id that the child shall have; empty for one that is made from the parent's.
        labels: The labels of the child.
        close: What becomes of it when its parent ends: CANCEL or ABANDON.
        timeout: Seconds that it may take, infinity for no limit; None for what its workflow says.
        from_run: The run that has ended and whose state it begins with; empty for none.
    """

    workflow: str
    data: bytes
    run_id: str = ""
    labels: Mapping[str, str] = {}
    close: str = CANCEL
    timeout: float | None = None
    from_run: str = ""

    def digest(self) -> bytes:
        """Return what tells the call from any other: the workflow, the input, an id that was chosen, the run before."""
        hasher = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        before = (self.from_run.encode(),) if self.from_run else ()
        for each in (self.workflow.encode(), self.run_id.encode(), self.data, *before):
            hasher.update(b"%d " % len(each))
            hasher.update(each)
        return hasher.digest()


class ChildOutcome(NamedTuple):
    """How a child ended.

    Attributes:
        status: One of the terminal statuses of `outcome`.
        event: The terminal event as the child's snapshot holds it; empty if there is none.
        error: The type of the error, of one that was not started or is not there any more.
        message: What to say of that.
    """

    status: str
    event: bytes = b""
    error: str = ""
    message: str = ""


class Child:
    """A run that a delivery has started.

    Attributes:
        number: Its number among the parts of the snapshot.
        run_id: Its id.
        delivery: The delivery that has started it.
        step: The step of that delivery, as far as a snapshot tells it: of one with ABANDON, which may outlive both.
        call: What was asked for; without the input once it is started.
        digest: What tells the call from others.
        state: QUEUED, STARTING, LIVING or ENDED.
        cancelling: Whether it is to be cancelled.
        awaited: Whether the body of its delivery waits for its end.
        outcome: How it ended; None before.
        sent: What steps have sent to it; None for nothing.
        waits: The open waits for its end.
        told: Called once its end is durable.
    """

    __slots__ = (
        "awaited",
        "call",
        "cancelling",
        "delivery",
        "digest",
        "number",
        "outcome",
        "run_id",
        "sent",
        "state",
        "step",
        "told",
        "waits",
    )

    def __init__(self, number: int, run_id: str, delivery: int, call: ChildCall, digest: bytes) -> None:
        self.number = number
        self.run_id = run_id
        self.delivery = delivery
        self.step = ""
        self.call = call
        self.digest = digest
        self.state = QUEUED
        self.cancelling = False
        self.awaited = False
        self.outcome: ChildOutcome | None = None
        self.sent: SentEvents | None = None
        self.waits: list[tuple[Execution, Notify]] | None = None
        self.told: list[Notify] | None = None

    @property
    def unbegun(self) -> bool:
        """Whether it is to be started still: the host has not said that it is, and nobody has cancelled it."""
        return self.state in (QUEUED, STARTING) and not self.cancelling

    @property
    def unsettled(self) -> bool:
        """Whether the host has something to do about it."""
        if self.state == LIVING:
            return self.cancelling or bool(self.sent and self.sent.pending)
        return self.state == STARTING


class ChildHost(Protocol):
    """Starts runs for the steps of one run: what a host may offer."""

    @property
    def at_once(self) -> int:
        """How many children may be under way at a time; further ones wait, in order."""

    @property
    def in_all(self) -> int:
        """How many children the run may start in all."""

    @property
    def input_bytes(self) -> int:
        """How many bytes the input of a child may have as JSON."""

    def served_as(self, workflow: object) -> str:
        """Return the name under which a workflow object is served; empty if it is not, or not clearly."""

    def check(self, workflow: str, fields: Mapping[str, Any] | None) -> bytes | None:
        """Check that a run of a workflow may be started here, and its input.

        Args:
            workflow: The name of the workflow.
            fields: The fields of the start event; None if they are checked already.

        Returns:
            The fields as plain JSON; None if they are checked already.

        Raises:
            ChildRunError: The workflow is not served, or runs are nested too deep.
            WorkflowRuntimeError: The input does not fit.
        """

    def check_call(self, call: ChildCall) -> None:
        """Check the id, the labels and the timeout of a call. WorkflowRuntimeError names the fields that are wrong."""

    def carry_out(self, children: Iterable[Child]) -> None:
        """Do what is to be done about children: start those that are STARTING, cancel those that are `cancelling`.

        Called once everything that led to it is durable, and again for all children when the run was loaded: repeat
        what was not done, and find out about those that have ended meanwhile. Then call `HostedRun.child_started`, and
        `HostedRun.child_ended` when a child has ended.
        """

    def send(self, sends: Iterable[tuple[Child, ChildSend]]) -> None:
        """Send events to children that were started, those for one child in their order.

        Called once the sends are durable, and again, when the run was loaded, for those that are not known to be made:
        the id of the child and the number of the event tell a repeat. Then call `HostedRun.child_sent`, also for an
        event that the child does not take.
        """

    def event_of(self, child: Child) -> StopEvent | None:
        """Return the terminal event of a child that has ended; None if nobody here can read it."""

    def events(self, child: Child) -> AsyncIterator[Event]:
        """Give the public events of a child from its beginning to its end, as they come."""


def child_id(run_id: str, number: int) -> str:
    """Return the id of the child of a number; another run has other ones."""
    return uuid5(_NAMESPACE, f"{run_id}/{number}").hex
