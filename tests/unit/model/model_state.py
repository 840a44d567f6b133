"""The state of the reference model, and which changes are undone when a delivery begins again."""

from __future__ import annotations

from typing import Any

from tests.unit.model.records import Work


class ModelState:
    """What steps set stays; what they changed in place is put back, unless somebody else has seen it since."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.works: dict[int, Work] = {}

    def set(self, key: str, value: Any, work: Work) -> None:
        """Set a value: what a step sets stays. If it can change, the step may change it in place from now on."""
        self.seen(key, work)
        self.state[key] = value
        for noted in (work.undo, work.before):
            noted.pop(key, None)
        work.got.discard(key)
        if isinstance(value, list):
            self.get(key, work)

    def get(self, key: str, work: Work) -> Any:
        """Return a value for a step that may change it in place."""
        self.seen(key, work)
        if key not in work.got:
            work.got.add(key)
            if key not in work.undo:
                work.before[key] = list(self.state[key])
        return self.state[key]

    def seen(self, key: str, by: Work) -> None:
        """Keep what all others have changed in a value: somebody builds on it."""
        for work in self.works.values():
            if work is not by:
                work.undo.pop(key, None)
                work.before.pop(key, None)

    def note_changes(self, work: Work) -> None:
        """Note what a delivery has changed in place: it may begin again."""
        for key, before in work.before.items():
            if self.state[key] != before:
                work.undo.setdefault(key, before)
