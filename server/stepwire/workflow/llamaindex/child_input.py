"""The input of a child: it goes to another run, maybe in another process, as JSON; what JSON does not keep is none."""

from __future__ import annotations

from typing import Any

from stepwire.workflow.codec.encoder import to_tagged
from stepwire.workflow.codec.names import Names
from stepwire.workflow.errors import SerializationError
from stepwire.workflow.events import Event, event_from_json, event_to_json
from stepwire.workflow.llamaindex.event_form import fields_of
from stepwire.workflow.llamaindex.libraries import is_memory

__all__ = ["UnfitError", "input_of"]


class UnfitError(Exception):
    """The input of a run cannot be passed on to a run of its own."""


def input_of(event: Any, kind: Any, names: Names, most: int) -> bytes:
    """Return a start event as JSON.

    Args:
        event: The event.
        kind: The class that the workflow starts with.
        names: The types of the workflow by their names.
        most: How many bytes it may have.

    Raises:
        UnfitError: Another process would not get the same event from it.
    """
    if type(event) is not kind:
        raise UnfitError(f"its start event is a {type(event).__name__}, not a {kind.__name__}")
    for name, value in fields_of(event):
        if is_memory(value):
            raise UnfitError(f"{name} is a memory object of the caller, which a run of its own cannot share")
    try:
        data = event_to_json(event)
        if len(data) > most:
            raise UnfitError(f"its input has more bytes as JSON than the {most} that it may have (max_entry_bytes)")
        for _, value in fields_of(event):
            to_tagged(value, names)  # a snapshot of an event would hold a text of what this refuses
        again: Event = event_from_json(type(event), data)
        if _told(event, names) != _told(again, names):
            raise UnfitError(f"{_differing(event, again, names)} would not be the same after JSON")
    except UnfitError:
        raise
    except Exception as error:  # an author's serializers and validators raise anything
        why = str(error) if isinstance(error, SerializationError) else type(error).__name__
        raise UnfitError(f"{_unsaved(event, names)} cannot be saved: {why}") from error
    return data


def _told(value: Any, names: Names) -> Any:
    """Return all that a snapshot would hold of a value, except which fields were given rather than left out."""
    return _without_given(to_tagged(value, names))


def _without_given(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_without_given(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    if "$model" in tree and len(tree["$model"]) > 2:  # a dict of an author that looks like this is written as $dict
        name, fields, rest = tree["$model"]
        rest = {key: rest[key] for key in rest if key != "set"}
        return {"$model": _without_given([name, fields, rest] if rest else [name, fields])}
    return {key: _without_given(each) for key, each in tree.items()}


def _differing(event: Any, again: Any, names: Names) -> str:
    after = dict(fields_of(again))
    return ", ".join(
        name
        for name, value in fields_of(event)
        if name not in after or _told(value, names) != _told(after[name], names)
    )


def _unsaved(event: Any, names: Names) -> str:
    found: list[str] = []
    for name, value in fields_of(event):
        try:
            to_tagged(value, names)
        except Exception:  # noqa: BLE001 - the caller tells of it
            found.append(name)
    return ", ".join(found) or "its input"
