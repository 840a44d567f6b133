"""Answers that are given before the questions, as `--answer TYPE:key=value`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import typer

from stepwire.cli._parsing import json_object, value

__all__ = ["Answers"]


class Answers:
    """Answers by event type. Each is used once, in the order given."""

    def __init__(self) -> None:
        self._left: dict[str, list[dict[str, Any]]] = {}

    @classmethod
    def parse(cls, items: Iterable[str]) -> Answers:
        """Return the answers of the options.

        `TYPE:key=value` adds a field to the last answer of that type, or begins a new one when that has the field
        already. `TYPE:{…}` is a whole answer, and so is `TYPE`, which has no fields.
        """
        answers = cls()
        for item in items:
            event_type, _, rest = item.partition(":")
            if not event_type.isidentifier():
                raise typer.BadParameter(f"{item!r} is not of the form TYPE:key=value", param_hint="--answer")
            queue = answers._left.setdefault(event_type, [])
            key, found, text = rest.partition("=")
            if not rest:
                queue.append({})
            elif rest.startswith("{"):
                queue.append(json_object(rest, "--answer"))
            elif not found or not key:
                raise typer.BadParameter(f"{item!r} is not of the form TYPE:key=value", param_hint="--answer")
            elif queue and key not in queue[-1]:
                queue[-1][key] = value(text)
            else:
                queue.append({key: value(text)})
        return answers

    def take(self, event_type: str, requirements: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the next answer of a type that fits the requirements, with their values; None when there is none."""
        queue = self._left.get(event_type, [])
        for index, answer in enumerate(queue):
            if all(answer.get(name, wanted) == wanted for name, wanted in requirements.items()):
                del queue[index]
                return {**requirements, **answer}
        return None

    def unused(self) -> list[str]:
        """Return the types of answers that no question took."""
        return [event_type for event_type, queue in self._left.items() for _ in queue]
