"""What each method needs, by its full name. What is not named here nobody may call: deny by default."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from stepwire.server.principal import ADMIN, READ, WRITE, Action, Principal
from stepwire.server.rpc.gate.calls import Call, permit, permit_start
from stepwire.server.rpc.gate.limits import CARRIERS
from stepwire.server.runs.errors import PermissionDeniedError
from stepwire.server.runs.hosting.pool import RunPool


class Rule(NamedTuple):
    """What a method needs.

    `action` None: open to everyone. `run`: the request names a run, whose workflow the action must be allowed with.
    `kind`: unary, wait (a call that waits for news) or stream. `spends`: takes one of the caller's events a second.
    """

    action: Action | None
    kind: str = "unary"
    run: bool = False
    spends: bool = False

    @property
    def metered(self) -> bool:
        """Whether the caller's quotas have to do with it."""
        return self.spends or self.kind != "unary"


_V1: Final = "/stepwire.v1."
RULES: Final[dict[str, Rule]] = {
    _V1 + "WorkflowService/ListWorkflows": Rule(READ),
    _V1 + "WorkflowService/GetWorkflow": Rule(READ),
    _V1 + "RunService/StartRun": Rule(WRITE, spends=True),
    _V1 + "RunService/GetRun": Rule(READ, run=True),
    _V1 + "RunService/ListRuns": Rule(READ),
    _V1 + "RunService/WaitRun": Rule(READ, "wait", run=True),
    _V1 + "RunService/CancelRun": Rule(WRITE, run=True),
    _V1 + "RunService/DeleteRun": Rule(ADMIN, run=True),
    _V1 + "RunService/SendEvent": Rule(WRITE, run=True, spends=True),
    _V1 + "RunService/PublishEvent": Rule(WRITE, run=True, spends=True),
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

START: Final = _V1 + "RunService/StartRun"
UNKNOWN: Final = Rule(READ)
"""What holds for other methods while nobody has to say who calls; else they are open to nobody."""
_WAIT_FOR_EVENT: Final = _V1 + "RunService/WaitForEvent"


def permit_method(caller: Principal, action: Action | None) -> None:
    """Refuse a method that the caller may use with no workflow at all. PermissionDeniedError."""
    if action is not None and not caller.scopes.anywhere(action):
        raise PermissionDeniedError(f"This needs the scope {action}", needs=action, scope=action)


def looks_for(method: str) -> Action | None:
    """Return the action whose holders' requests need no `Gate.check_request`; None: nobody's do.

    Whether a run may be read is not looked at here: what a caller does not see, the handlers do not find.
    """
    rule = RULES.get(method)
    if method == _WAIT_FOR_EVENT:
        return WRITE
    return rule.action if rule is not None and rule.action != READ and (rule.run or method == START) else None


def has_limits(method: str) -> bool:
    """Tell whether `Gate.check_limits` has anything to look at in requests of a method."""
    return RULES.get(method, UNKNOWN).spends or method.rpartition("/")[2] in CARRIERS


class Gate:
    """Admit requests: scopes, quotas and limits."""

    def __init__(self, pool: RunPool) -> None:
        self._pool = pool

    def check_limits(self, call: Call, rule: Rule, request: Any) -> None:
        """Refuse what is too much or too big. LimitError."""
        if rule.spends or (call.method == _WAIT_FOR_EVENT and request.HasField("waiter_event")):
            call.spend(self._pool.sync_backlog)
        call.limits.check_request(request)

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
        record = await self._pool.find(caller.key(request.run_id))
        if record is not None and action is not None and caller.scopes.sees(record.workflow):
            permit(caller, action, record.workflow)
