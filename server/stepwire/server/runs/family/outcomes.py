"""How children ended: from memory or from the store to the ledger of the parent, and from there to the step."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from pydantic_core import from_json, to_json

from stepwire.server.registry import Registry
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import RunRecord, Status, StoreCorruptError
from stepwire.workflow.hosting import (
    Child,
    ChildOutcome,
    ContextSerdeError,
    StopEvent,
    from_tagged,
    parts,
    registry_encoder,
)

__all__ = ["DAMAGED", "GONE", "event_of", "outcome_in_memory", "outcome_of"]

logger = logging.getLogger("stepwire.runs")

_warned: set[tuple[str, str]] = set()
"""Names of workflows and of types in their results that were told of."""
_MOST_WARNED: Final = 1000

GONE = ChildOutcome(
    "failed", error="RunNotFoundError", message="the run was deleted before its parent heard of its end"
)
"""The end of a child that is not there any more."""
DAMAGED = ChildOutcome("failed", error="DamagedError", message="its record is damaged")
"""The end of a child of which nobody can read what became."""


def outcome_in_memory(pool: RunPool, record: RunRecord) -> ChildOutcome | None:
    """Return how a run has ended, if it is still in memory; its record is `record`."""
    run = pool.in_memory(record.key)
    if run is None or (outcome := run.broker.outcome) is None:
        return None
    try:
        event = outcome.encoded or registry_encoder(run.served.names)(outcome.event)
    except ContextSerdeError:
        return None
    return ChildOutcome(outcome.status, event)


async def outcome_of(pool: RunPool, record: RunRecord) -> ChildOutcome:
    """Return how a run has ended, from the store. Raises StoreError, but not for a damaged snapshot."""
    status = record.status.lower()
    message = "what it came to is not kept"
    try:
        stored = await pool.store.load(record.key)
        head = {} if stored is None else (await pool.restorer.fold(stored)).get(parts.HEAD, {})
        if head.get("outcome") == status:
            return ChildOutcome(status, to_json(head["event"]))
    except StoreCorruptError:
        message = "what it came to is damaged"
    if record.status == Status.CANCELLED:
        return ChildOutcome(status)  # it could not be loaded, and was ended without its code
    return ChildOutcome(status, error="SnapshotError", message=message)


def event_of(registry: Registry, child: Child, parent: str) -> StopEvent | None:
    """Return the terminal event of a child that has ended; None if it cannot be read here.

    Args:
        registry: The served workflows.
        child: The child.
        parent: The workflow of the parent: its names are tried if the child's workflow is not served here.
    """
    assert child.outcome is not None
    data = from_json(child.outcome.event)
    for name in (child.call.workflow, parent):
        if (served := registry.get(name)) is not None:
            try:
                event = from_tagged(data, served.names)
            except (ContextSerdeError, ValueError, TypeError):
                continue
            if isinstance(event, StopEvent):
                if b'"$opaque"' in child.outcome.event:
                    _tell_of_texts(child, data)
                return event
    return None


def _tell_of_texts(child: Child, data: Any) -> None:
    """Warn, once for each type, that a parent gets texts in the place of what its child returned.

    Of the fields that a library itself declares as anything, such as what a tool of an agent returned, nobody is told.
    """
    for name, tagged in _data_of(data):
        for path, type_name in _opaque(name.removeprefix("_"), tagged):
            if (found := (child.call.workflow, type_name)) in _warned or len(_warned) >= _MOST_WARNED:
                continue
            _warned.add(found)
            logger.warning(
                "run %s of workflow %s is a child, and %s of its end is a %s, which cannot be saved: its parent gets"
                " the text of it, as clients do",
                child.run_id,
                child.call.workflow,
                path.removeprefix("data."),
                type_name.removeprefix("builtins."),
            )


def _data_of(data: Any) -> Iterator[tuple[str, Any]]:
    """Give the private attributes of a model in a snapshot: an event of a library has there what is not declared."""
    if isinstance(data, dict) and isinstance(model := data.get("$model"), list) and len(model) > 2:
        yield from model[2].get("private", {}).items()


def _opaque(path: str, tagged: Any) -> Iterator[tuple[str, str]]:
    """Give the places of texts that stand for something else, and the names of its types."""
    if isinstance(tagged, dict) and isinstance(text := tagged.get("$opaque"), list):
        yield path, str(text[0])
    elif isinstance(tagged, dict):
        for key, item in tagged.items():
            yield from _opaque(path if key.startswith("$") else f"{path}.{key}", item)
    elif isinstance(tagged, list):
        for number, item in enumerate(tagged):
            yield from _opaque(f"{path}.{number}", item)
