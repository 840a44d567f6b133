"""What each method needs, by its full name. What is not named here nobody may call: deny by default."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from stepwire.server.counters import COUNTERS
from stepwire.server.rpc.calls import Call, permit, permit_start
from stepwire.server.runs import RunManager
from stepwire.server.runs.errors import PermissionDeniedError
from stepwire.server.runs.principal import ADMIN, READ, WRITE, Action


class Rule(NamedTuple):
    """What a method needs.

    `action` None: open to everyone. `run`: the request names a run, whose workflow the action must be allowed with.
    `kind`: unary, wait (a call that waits for news) or stream.
    """

    action: Action | None
    kind: str = "unary"
    run: bool = False


_V1: Final = "/stepwire.v1."
RULES: Final[dict[str, Rule]] = {
    _V1 + "WorkflowService/ListWorkflows": Rule(READ),
    _V1 + "WorkflowService/GetWorkflow": Rule(READ),
    _V1 + "RunService/StartRun": Rule(WRITE),
    _V1 + "RunService/GetRun": Rule(READ, run=True),
    _V1 + "RunService/ListRuns": Rule(READ),
    _V1 + "RunService/WaitRun": Rule(READ, "wait", run=True),
    _V1 + "RunService/CancelRun": Rule(WRITE, run=True),
    _V1 + "RunService/DeleteRun": Rule(ADMIN, run=True),
    _V1 + "RunService/SendEvent": Rule(WRITE, run=True),
    _V1 + "RunService/PublishEvent": Rule(WRITE, run=True),
    _V1 + "RunService/WaitForEvent": Rule(READ, "wait", run=True),
    _V1 + "RunService/StreamEvents": Rule(READ, "stream", run=True),
    _V1 + "RunService/Converse": Rule(READ, "stream"),
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

_SPENDS: Final = frozenset({_V1 + "RunService/StartRun", _V1 + "RunService/SendEvent", _V1 + "RunService/PublishEvent"})
START: Final = _V1 + "RunService/StartRun"
_WAIT_FOR_EVENT: Final = _V1 + "RunService/WaitForEvent"


class Gate:
    """Admit requests: scopes, quotas and limits."""

    def __init__(self, manager: RunManager) -> None:
        self._manager = manager

    def check_method(self, call: Call, rule: Rule) -> None:
        """Refuse a method that the caller may use with no workflow at all. PermissionDeniedError."""
        if rule.action is not None and not call.caller.scopes.anywhere(rule.action):
            COUNTERS.add("permission_denied", rule.action)
            raise PermissionDeniedError(f"This needs the scope {rule.action}", scope=rule.action)

    def check_limits(self, call: Call, request: Any) -> None:
        """Refuse what is too much or too big. LimitError."""
        if call.method in _SPENDS:
            call.spend(self._manager.sync_backlog)
        call.limits.check_request(request)

    def needs_look(self, call: Call, rule: Rule, request: Any) -> bool:
        """Tell whether `check_request` has anything to do for this caller."""
        action = rule.action
        if action is None or call.caller.scopes.everywhere(WRITE if call.method == _WAIT_FOR_EVENT else action):
            return False
        return rule.run or call.method == START

    async def check_request(self, call: Call, rule: Rule, request: Any) -> None:
        """Refuse what the caller may not do with this workflow. PermissionDeniedError.

        What the caller may not even see passes: the handler does not find it, as if it had never been.
        """
        caller, action = call.caller, rule.action
        if call.method == START:
            permit_start(caller, request.workflow)
            return
        if call.method == _WAIT_FOR_EVENT and request.HasField("waiter_event"):
            action = WRITE
        record = await self._manager.find(caller.key(request.run_id))
        if record is not None and action is not None and caller.scopes.sees(record.workflow):
            permit(caller, action, record.workflow)
