"""The scope that each method and each frame of a conversation needs. Methods that are not listed are closed."""

from __future__ import annotations

from typing import Final, NamedTuple

from stepwire.server.principal import ADMIN, READ, WRITE, Action, Principal
from stepwire.server.runs.errors import PermissionDeniedError


class Rule(NamedTuple):
    """What a method needs.

    Attributes:
        action: The scope; None if the method is open to everyone.
        kind: `unary`, `wait` (a call that waits for news) or `stream`.
        run: Whether the request names a run. The scope must then hold for the run's workflow.
        spends: Whether a call takes one of the caller's events a second.
    """

    action: Action | None
    kind: str = "unary"
    run: bool = False
    spends: bool = False

    @property
    def metered(self) -> bool:
        """Whether a call counts against the caller's quotas."""
        return self.spends or self.kind != "unary"


_V1: Final = "/stepwire.v1."
START: Final = _V1 + "RunService/StartRun"
SEND: Final = _V1 + "RunService/SendEvent"
CANCEL: Final = _V1 + "RunService/CancelRun"
STREAM: Final = _V1 + "RunService/StreamEvents"
WAIT_FOR_EVENT: Final = _V1 + "RunService/WaitForEvent"
CONVERSE: Final = _V1 + "RunService/Converse"

RULES: Final[dict[str, Rule]] = {
    _V1 + "WorkflowService/ListWorkflows": Rule(READ),
    _V1 + "WorkflowService/GetWorkflow": Rule(READ),
    START: Rule(WRITE, spends=True),
    _V1 + "RunService/GetRun": Rule(READ, run=True),
    _V1 + "RunService/ListRuns": Rule(READ),
    _V1 + "RunService/WaitRun": Rule(READ, "wait", run=True),
    CANCEL: Rule(WRITE, run=True),
    _V1 + "RunService/DeleteRun": Rule(ADMIN, run=True),
    SEND: Rule(WRITE, run=True, spends=True),
    _V1 + "RunService/PublishEvent": Rule(WRITE, run=True, spends=True),
    WAIT_FOR_EVENT: Rule(READ, "wait", run=True),
    STREAM: Rule(READ, "stream", run=True),
    CONVERSE: Rule(READ, "stream"),
    _V1 + "StateService/GetState": Rule(READ, run=True),
    _V1 + "StateService/SetState": Rule(WRITE, run=True),
    _V1 + "StateService/UnsetState": Rule(WRITE, run=True),
    _V1 + "StateService/ReplaceState": Rule(WRITE, run=True),
    _V1 + "SnapshotService/GetSnapshot": Rule(READ, run=True),
    _V1 + "SnapshotService/ListSnapshots": Rule(READ, run=True),
    "/grpc.health.v1.Health/Check": Rule(None),
    "/grpc.health.v1.Health/List": Rule(None),
    "/grpc.health.v1.Health/Watch": Rule(None, "stream"),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(READ, "stream"),
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Rule(READ, "stream"),
}
"""The rules of the methods by their full names."""

UNKNOWN: Final = Rule(READ)
"""The rule of other methods on a server without authentication. With authentication nobody may call them."""

FRAMES: Final[dict[str, str | None]] = {"start": START, "attach": STREAM, "send": SEND, "ack": None, "cancel": CANCEL}
"""The method whose rule a frame of Converse must keep; None for a frame that only concerns its own stream."""


def permit_method(caller: Principal, action: Action | None) -> None:
    """Raise PermissionDeniedError if the caller holds the scope for no workflow at all."""
    if action is not None and not caller.scopes.anywhere(action):
        raise PermissionDeniedError(f"This needs the scope {action}", needs=action, scope=action)


def permit(caller: Principal, action: Action, workflow: str) -> None:
    """Raise PermissionDeniedError unless the caller holds the scope for a workflow that it may see.

    A workflow that the caller may not see passes: the handler then answers as if it did not exist.
    """
    if caller.scopes.sees(workflow) and not caller.scopes.allow(action, workflow):
        message = f"This needs the scope {action} for the workflow"
        raise PermissionDeniedError(message, needs=action, scope=action, workflow=workflow)
