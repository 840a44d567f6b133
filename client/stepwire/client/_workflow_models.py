"""What the client returns about servers, callers and workflows; `models` has them all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from stepwire.client.events import EventRole

__all__ = [
    "Identity",
    "Pause",
    "ServerInfo",
    "WorkflowEdge",
    "WorkflowInfo",
    "WorkflowStep",
    "WorkflowSummary",
    "WorkflowType",
]


@dataclass(frozen=True, slots=True)
class Pause:
    """The pause of a run or a workflow: nothing new starts, what runs finishes, input is kept.

    Attributes:
        time: When it was paused.
        by: The caller that paused it.
        reason: Why, for people.
        workflow: Whether the workflow is paused, rather than one run.
    """

    time: datetime | None
    by: str
    reason: str
    workflow: bool


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server, as it tells about itself.

    Attributes:
        version: The version of Stepwire.
        python_version: The version of Python.
        started_at: When it began to serve.
        time: The time of the answer, by its clock.
        store: Where runs are kept: memory, sqlite or postgresql.
        replicas: How many replicas take runs.
        unready: Why it takes no work now; "" when it does.
        authenticates: Whether callers must authenticate.
        settings: Settings that matter, by name, as text; "" for one that is not set.
    """

    version: str
    python_version: str
    started_at: datetime | None
    time: datetime | None
    store: str
    replicas: int
    unready: str
    authenticates: bool
    settings: dict[str, str]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a caller is.

    Attributes:
        principal: Its name; "anonymous" on a server without authentication.
        namespaces: The namespaces that it works in: one.
        scopes: What it may do there: answer, read, write, schedule or admin, or one of them with a workflow, as in
            write:orders.
        expires_at: When its credential expires; None if it does not.
    """

    principal: str
    namespaces: tuple[str, ...]
    scopes: tuple[str, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """A workflow in a list. `pause` is None unless it is paused."""

    name: str
    version: str
    description: str
    pause: Pause | None = None


@dataclass(frozen=True, slots=True)
class WorkflowStep:
    """A step of a workflow. `aliases` are the names that it had before."""

    name: str
    accepts: tuple[str, ...]
    returns: tuple[str, ...]
    num_workers: int
    description: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowType:
    """A type of a workflow's registry with its JSON Schema.

    Attributes:
        sendable: Whether clients may send events of this type.
        internal: Whether the author has declared the event internal: only steps send it.
        aliases: The names that the type had before. Events may be sent under them, too.
    """

    name: str
    role: EventRole
    is_event: bool
    sendable: bool
    json_schema: dict[str, Any]
    internal: bool = False
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowEdge:
    """An edge of a workflow's graph. `source` or `target` is "" for the world outside."""

    source: str
    event_type: str
    target: str


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """A workflow as the server serves it. `timeout` is None when its runs have none, `pause` unless it is paused."""

    name: str
    version: str
    description: str
    start_event: str
    stop_event: str
    state_type: str
    steps: tuple[WorkflowStep, ...]
    types: tuple[WorkflowType, ...]
    edges: tuple[WorkflowEdge, ...]
    mermaid: str
    timeout: timedelta | None
    pause: Pause | None = None
