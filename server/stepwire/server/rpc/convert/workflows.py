"""Served workflows as messages of the contract."""

from __future__ import annotations

import json

from stepwire.server.registry import Served
from stepwire.server.rpc.convert.times import duration
from stepwire.v1 import types_pb2, workflow_service_pb2
from stepwire.workflow.hosting import role_of


def workflow(served: Served) -> workflow_service_pb2.Workflow:
    """Return a served workflow."""
    description = served.description
    message = workflow_service_pb2.Workflow(
        name=served.name,
        version=served.version,
        description=served.doc,
        start_event=served.workflow.start_event_class.__name__,
        stop_event=served.workflow.stop_event_class.__name__,
        state_type=served.state_type,
        mermaid=served.workflow.draw(),
    )
    for step in description.steps:
        message.steps.add(
            name=step.name,
            accepts=step.accepts,
            returns=step.returns,
            num_workers=step.num_workers,
            description=step.doc,
            aliases=step.aliases,
        )
    events = served.names.events()
    for name, cls in served.names.items():
        message.types.add(
            name=name,
            role=types_pb2.EventRole.ValueType(role_of(cls).number),
            is_event=name in events,
            sendable=name in served.sendable,
            internal=name in served.internal,
            aliases=served.names.aliases(name),
            json_schema=json.dumps(served.names.json_schema(name), ensure_ascii=False),
        )
    for edge in description.edges:
        message.edges.add(source=edge.source, event_type=edge.event, target=edge.target)
    if served.timeout is not None:
        message.timeout.CopyFrom(duration(served.timeout))
    return message
