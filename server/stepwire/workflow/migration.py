"""The saved form of a run, for the `migrate` of a workflow: what other code wrote, changed until this code can read it.

::

    class Orders(Workflow):
        version = "2"

        def migrate(self, snapshot: Snapshot) -> Snapshot:
            if snapshot.version == "1":
                snapshot.rename_step("charge", "collect")
                snapshot.rename_field("Order", "cost", "price")
                snapshot.state["currency"] = "EUR"
            return snapshot
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from stepwire.workflow.broker.snapshot import parts as keys
from stepwire.workflow.broker.snapshot.former_names import with_former_step, with_former_type
from stepwire.workflow.broker.waits.default_names import with_step, with_type

__all__ = ["Snapshot"]


class Snapshot(dict[str, Any]):
    """The parts of a snapshot, by key, as parsed JSON.

    The methods find their way in it. Values are *tagged JSON*: text, numbers, booleans, None, lists and dicts are as
    they are; a model or event is ``{"$model": [class name, fields]}``, and other types have tags of their own, as in
    ``{"$date": "2026-11-30"}``.

    Attributes:
        version: The version of the workflow that wrote it: its `version`, else a digest of its types and steps.
    """

    def __init__(self, parts: Mapping[str, Any], version: str = "") -> None:
        super().__init__(parts)
        self.version = version

    @property
    def state(self) -> MutableMapping[str, Any]:
        """Return the top-level values of the state, by key; setting and deleting changes the snapshot."""
        return _State(self)

    @property
    def steps(self) -> set[str]:
        """Return the names of the steps that have unfinished work."""
        return {part["s"] for part in self._parts(keys.DELIVERY)}

    def rename_step(self, old: str, new: str) -> None:
        """Give the unfinished work of a step to the step `new`; `@step(aliases=[old])` does the same."""
        for part in self._parts(keys.DELIVERY):
            if part["s"] == old:
                part["s"] = new
        for part in self._parts(keys.CHILD):
            if part.get("s") == old:
                part["s"] = new
        self._rename(lambda saved: with_step(saved, old, new))
        self._note_former(lambda saved: with_former_step(saved, old, new))

    def rename_type(self, old: str, new: str) -> None:
        """Name an event, model, enum, dataclass or named tuple `new` wherever it is saved, waits for it included."""
        for item in self._tagged():
            if item[0] == old:
                item[0] = new
            elif item[0] == f"@{old}":  # dataclasses and named tuples
                item[0] = f"@{new}"
        for part in self._parts(keys.WAITER):
            if part["t"] == old:
                part["t"] = new
        self._rename(lambda saved: with_type(saved, old, new))
        self._note_former(lambda saved: with_former_type(saved, old, new))

    def rename_field(self, type_name: str, old: str, new: str) -> None:
        """Rename a field of an event or model wherever it is saved, requirements of waits included."""
        for name, fields, *rest in self._models():
            if name == type_name and old in fields:
                fields[new] = fields.pop(old)
                for more in rest:
                    if old in more.get("set", ()):
                        more["set"][more["set"].index(old)] = new
        for part in self._parts(keys.WAITER):
            if part["t"] == type_name and old in part["r"]:
                part["r"][new] = part["r"].pop(old)

    def models(self, type_name: str) -> Iterator[dict[str, Any]]:
        """Yield the declared fields of each event or model of this type, wherever it is saved; they may be changed."""
        for name, fields, *_ in list(self._models()):
            if name == type_name:
                yield fields

    def drop_step(self, name: str) -> None:
        """Forget the unfinished work of a step: what it was given, waits for and was answered."""
        gone = {number for number in keys.numbers_of(self, keys.DELIVERY) if self[keys.delivery(number)]["s"] == name}
        for key in list(self):
            kind, _, number, _ = keys.parse(key)
            if kind == keys.WAITER:
                number = self[key]["d"]
            if kind in (keys.DELIVERY, keys.ANSWER, keys.EFFECTS, keys.WAITER) and number in gone:
                del self[key]

    def _rename(self, changed: Callable[[str], str]) -> None:
        """Change the names of waits and buffers that their steps have not named."""
        for key, part in self.items():
            kind = keys.parse(key)[0]
            if kind == keys.WAITER:
                part["id"] = changed(part["id"])
            elif kind in (keys.ANSWER, keys.BUFFERED):
                part["i"] = changed(part["i"])
            elif kind == keys.DELIVERY and "c" in part:
                part["c"] = {changed(buffer_id): results for buffer_id, results in part["c"].items()}

    def _note_former(self, changed: Callable[[Any], Any]) -> None:
        """Keep an earlier name for the digests of sends and writes, which hold it."""
        for number in keys.numbers_of(self, keys.DELIVERY):
            if keys.effects(number, 0) in self:
                part = self[keys.delivery(number)]
                part["n"] = changed(part.get("n"))

    def _parts(self, kind: str) -> Iterator[dict[str, Any]]:
        for number in keys.numbers_of(self, kind):
            yield self[f"{kind}/{number}"]

    def _models(self) -> Iterator[list[Any]]:
        return (item for tag, item in _tags(list(self.values())) if tag == "$model")

    def _tagged(self) -> Iterator[list[Any]]:
        return (item for tag, item in _tags(list(self.values())) if tag in _NAMED)


_NAMED = frozenset({"$model", "$enum", "$flag", "$dataclass", "$namedtuple"})
"""Tags whose item is a list that begins with the name of a type."""


def _tags(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every tag in a tagged value with its item, the inner ones too."""
    pending = [value]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            if len(found) == 1:
                ((tag, item),) = found.items()
                if tag.startswith("$"):
                    yield tag, item
            pending.extend(found.values())
        elif isinstance(found, list):
            pending.extend(found)


class _State(MutableMapping[str, Any]):
    """The values of the state in a snapshot.

    When a step begins again, the values that it had changed in place are put back as they were. Those that `migrate`
    has changed, or may have, are not: they would have the old form.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __getitem__(self, name: str) -> Any:
        value = self._snapshot[keys.state(name)]
        if isinstance(value, dict | list):
            self._keep(name)
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        self._snapshot[keys.state(name)] = value
        self._keep(name)

    def __delitem__(self, name: str) -> None:
        del self._snapshot[keys.state(name)]
        self._keep(name)

    def _keep(self, name: str) -> None:
        for number in keys.numbers_of(self._snapshot, keys.UNDO):
            key = keys.undo(number)
            self._snapshot[key].pop(name, None)
            if not self._snapshot[key]:
                del self._snapshot[key]

    def __iter__(self) -> Iterator[str]:
        return iter([name for key in self._snapshot if (name := keys.state_name(key)) is not None])

    def __len__(self) -> int:
        return sum(1 for _ in self)
