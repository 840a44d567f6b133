"""The scope that each method and each frame of a conversation needs. Methods that are not listed are closed."""

from __future__ import annotations

from typing import Final, NamedTuple

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import PermissionDeniedError
from stepwire.server.scopes import ADMIN, ANSWER, READ, SCHEDULE, SEE, WRITE, Action


class Rule(NamedTuple):
    """What a method needs.

    Attributes:
        action: The scope; None if the method is open to everyone.
        kind: `unary`, `wait` (a call that waits for news) or `stream`.
        run: Whether the request names a run. The scope must then hold for the run's workflow.
        workflow: Whether the request names a workflow that the scope must hold for.
        spends: Whether a call takes one of the caller's events a second.
        changes: What the audit log calls what the method changes; empty for one that changes nothing.
    """

    action: Action | None
    kind: str = "unary"
    run: bool = False
    workflow: bool = False
    spends: bool = False
    changes: str = ""

    @property
    def metered(self) -> bool:
        """Whether a call counts against the caller's quotas."""
        return self.spends or self.kind != "unary"


_V1: Final = "/stepwire.v1."
START: Final = _V1 + "RunService/StartRun"
RETRY: Final = _V1 + "RunService/RetryRun"
SEND: Final = _V1 + "RunService/SendEvent"
DELETE: Final = _V1 + "RunService/DeleteRun"
PAUSE: Final = _V1 + "RunService/PauseRun"
RESUME: Final = _V1 + "RunService/ResumeRun"
CANCEL: Final = _V1 + "RunService/CancelRun"
STREAM: Final = _V1 + "RunService/StreamEvents"
WAIT_FOR_EVENT: Final = _V1 + "RunService/WaitForEvent"
TRIGGER: Final = _V1 + "ScheduleService/TriggerSchedule"
CONVERSE: Final = _V1 + "RunService/Converse"

RULES: Final[dict[str, Rule]] = {
    _V1 + "WorkflowService/ListWorkflows": Rule(SEE),
    _V1 + "WorkflowService/GetWorkflow": Rule(SEE),
    _V1 + "WorkflowService/PauseWorkflow": Rule(ADMIN, workflow=True, changes="pause"),
    _V1 + "WorkflowService/ResumeWorkflow": Rule(ADMIN, workflow=True, changes="resume"),
    START: Rule(WRITE, spends=True, changes="start"),
    _V1 + "RunService/GetRun": Rule(SEE, run=True),
    _V1 + "RunService/ListRuns": Rule(SEE),
    _V1 + "RunService/WaitRun": Rule(SEE, "wait", run=True),
    CANCEL: Rule(WRITE, run=True, changes="cancel"),
    DELETE: Rule(ADMIN, run=True, changes="delete"),
    _V1 + "RunService/ReloadRun": Rule(WRITE, run=True, changes="reload"),
    RETRY: Rule(WRITE, run=True, spends=True, changes="retry"),
    PAUSE: Rule(WRITE, run=True, changes="pause"),
    RESUME: Rule(WRITE, run=True, changes="resume"),
    _V1 + "RunService/ApplyToRuns": Rule(WRITE, "stream"),
    SEND: Rule(ANSWER, run=True, spends=True, changes="send"),
    _V1 + "RunService/PublishEvent": Rule(WRITE, run=True, spends=True, changes="publish"),
    WAIT_FOR_EVENT: Rule(READ, "wait", run=True, changes="ask"),
    STREAM: Rule(SEE, "stream", run=True),
    CONVERSE: Rule(SEE, "stream"),
    _V1 + "StateService/GetState": Rule(READ, run=True),
    _V1 + "StateService/SetState": Rule(WRITE, run=True, changes="set"),
    _V1 + "StateService/UnsetState": Rule(WRITE, run=True, changes="unset"),
    _V1 + "StateService/ReplaceState": Rule(WRITE, run=True, changes="replace"),
    _V1 + "SnapshotService/GetSnapshot": Rule(READ, run=True),
    _V1 + "ServerService/GetServer": Rule(READ),
    _V1 + "ServerService/WhoAmI": Rule(SEE),
    _V1 + "SnapshotService/ListSnapshots": Rule(READ, run=True),
    _V1 + "ScheduleService/CreateSchedule": Rule(SCHEDULE, spends=True, changes="create schedule"),
    _V1 + "ScheduleService/GetSchedule": Rule(SEE),
    _V1 + "ScheduleService/ListSchedules": Rule(SEE),
    _V1 + "ScheduleService/UpdateSchedule": Rule(SCHEDULE, spends=True, changes="update schedule"),
    _V1 + "ScheduleService/PauseSchedule": Rule(WRITE, changes="pause schedule"),
    _V1 + "ScheduleService/ResumeSchedule": Rule(WRITE, changes="resume schedule"),
    TRIGGER: Rule(WRITE, spends=True, changes="trigger schedule"),
    _V1 + "ScheduleService/DeleteSchedule": Rule(SCHEDULE, changes="delete schedule"),
    _V1 + "ScheduleService/BackfillSchedule": Rule(SCHEDULE, spends=True, changes="backfill schedule"),
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
        raise PermissionDeniedError(
            f"This needs the scope {_asked(action)}", needs=_asked(action), scope=_asked(action)
        )


def permit(caller: Principal, action: Action, workflow: str) -> None:
    """Raise PermissionDeniedError unless the caller holds the scope for a workflow that it may see.

    A workflow that the caller may not see passes: the handler then answers as if it did not exist.
    """
    if caller.scopes.sees(workflow) and not caller.scopes.allow(action, workflow):
        scope = _asked(action)
        message = f"This needs the scope {scope} for the workflow"
        raise PermissionDeniedError(message, needs=scope, scope=scope, workflow=workflow)


def _asked(action: Action) -> Action:
    """Return the scope to ask for."""
    return READ if action == SEE else action
