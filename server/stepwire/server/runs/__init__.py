"""Runs: hosted on the engine, made durable by the store."""

from stepwire.server.principal import ANONYMOUS, Principal
from stepwire.server.runs.errors import RunsError
from stepwire.server.runs.events import RunEvents
from stepwire.server.runs.lifecycle import RunLifecycle
from stepwire.server.runs.requests import SnapshotData, StartRequest
from stepwire.server.runs.rooms import Runs
from stepwire.server.runs.state import RunState

__all__ = [
    "ANONYMOUS",
    "Principal",
    "RunEvents",
    "RunLifecycle",
    "RunState",
    "Runs",
    "RunsError",
    "SnapshotData",
    "StartRequest",
]
