"""The names that `stepwire.client` exports: callers depend on each of them."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

from stepwire import client

ASYNC = ["Client", "Context", "Conversation", "Run", "Schedules", "Store"]
SYNC = ["SyncClient", "SyncContext", "SyncConversation", "SyncRun", "SyncSchedules", "SyncStore"]
ERRORS = [
    "AbortedError",
    "AlreadyExistsError",
    "DeadlineError",
    "EventDecodeError",
    "FailedPreconditionError",
    "FieldViolation",
    "InternalServerError",
    "InvalidArgumentError",
    "NotConnectedError",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "RunCancelledError",
    "RunFailedError",
    "RunOutcomeError",
    "RunTimedOutError",
    "StepwireError",
    "StreamGapError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
]
EVENTS = [
    "ChildEvent",
    "EntryKind",
    "EventLike",
    "EventMeta",
    "EventRole",
    "Execution",
    "ExecutionStatus",
    "GenericEvent",
    "event_meta",
]
MODELS = [
    "ActiveDelivery",
    "ApplyProgress",
    "BlockedRun",
    "ChildSummary",
    "DeliveryStatus",
    "Failure",
    "Identity",
    "Outcome",
    "Pause",
    "PendingWaiter",
    "RunAction",
    "RunInfo",
    "RunParent",
    "RunRefusal",
    "RunStatus",
    "ScheduleOrigin",
    "SendResult",
    "ServerInfo",
    "Snapshot",
    "SnapshotInfo",
    "WorkflowEdge",
    "WorkflowInfo",
    "WorkflowStep",
    "WorkflowSummary",
    "WorkflowType",
]
SCHEDULES = [
    "At",
    "Cron",
    "DueOutcome",
    "DueTime",
    "Every",
    "Overlap",
    "Schedule",
    "ScheduleCounts",
    "ScheduleOrigin",
    "ScheduleSpec",
]
MODULES = {"aio": ASYNC, "sync": SYNC, "errors": ERRORS, "events": EVENTS, "models": MODELS, "schedules": SCHEDULES}


def test_the_package_exports_what_its_modules_do() -> None:
    expected = sorted({*ASYNC, *SYNC, *ERRORS, *EVENTS, *MODELS, *SCHEDULES, "TlsConfig"})
    assert sorted(client.__all__) == expected
    assert [name for name in expected if not hasattr(client, name)] == []


@pytest.mark.parametrize("module", MODULES)
def test_names_of_a_module(module: str) -> None:
    found = import_module(f"stepwire.client.{module}")
    assert found.__all__ == MODULES[module]
    assert [name for name in MODULES[module] if getattr(found, name) is not getattr(client, name)] == []


def test_all_other_modules_are_private() -> None:
    found = {module.name for module in pkgutil.iter_modules(client.__path__)}
    assert {name for name in found if not name.startswith("_")} == set(MODULES)


def test_every_error_is_a_stepwire_error() -> None:
    classes = [getattr(client, name) for name in ERRORS if name.endswith("Error")]
    assert all(issubclass(cls, client.StepwireError) for cls in classes)
    assert issubclass(client.DeadlineError, TimeoutError)
