"""Answers to the questions of children that are sent to their parents."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import as_runs_error
from stepwire.server.runs.family.calls import FamilyCalls
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.scopes import ANSWER
from stepwire.server.store import RunKey, RunQuery, RunRecord, Status, StoreError
from stepwire.server.store.terms import EVENT, PARENT, term

__all__ = ["ChildQuestions", "Relayed"]

_LIVING: Final = (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.PAUSED)
_LOOKED_AT: Final = 100
"""Runs with children of their own that are looked into for one answer, and children with a fitting question."""


class Relayed(NamedTuple):
    """What became of an event that a descendant took.

    Attributes:
        sequence: Its sequence in the log of that run.
        delivered: How many deliveries and waiters of that run took it.
        child: The run.
    """

    sequence: int
    delivered: int
    child: str


class ChildQuestions:
    """Find the descendant whose open question an event answers, and send it there."""

    def __init__(self, pool: RunPool, calls: FamilyCalls) -> None:
        self._pool = pool
        self.calls = calls

    async def find(self, caller: Principal, parent: RunKey, type_name: str, data: bytes) -> str:
        """Return the descendant whose open question an event answers, level by level the oldest; empty if none does.

        Args:
            caller: It must be allowed to answer questions of the descendant's workflow.
            parent: The run that the event was sent to.
            type_name: The type of the event.
            data: Its fields as JSON.
        """
        fields: Any = None
        todo, looked_at = [parent], 0
        try:
            while todo and looked_at < _LOOKED_AT:
                above = todo.pop(0)
                looked_at += 1
                below = term(PARENT, above.run_id)
                asking = await self._list(above.namespace, (below, term(EVENT, type_name)))
                for record in reversed(asking):
                    fields = from_json(data or b"{}") if fields is None else fields
                    if caller.scopes.allow(ANSWER, record.workflow) and _answers(record, type_name, fields):
                        return record.key.run_id
                todo += [
                    each.key
                    for each in reversed(await self._list(above.namespace, (below,)))
                    if each.info.get("children", {}).get("living")
                ]
        except StoreError as error:
            raise as_runs_error(error) from error
        except ValueError:
            pass  # the run itself says what is wrong with it
        return ""

    async def _list(self, namespace: str, terms: tuple[str, ...]) -> list[RunRecord]:
        query = RunQuery(namespace=namespace, terms=terms, statuses=_LIVING, limit=_LOOKED_AT)
        return list(await self._pool.store.list(query))

    async def answer(self, caller: Principal, child: str, type_name: str, data: bytes, request_id: str) -> Relayed:
        """Send an event to a descendant; errors as `RunEvents.send`."""
        sequence, delivered = await self.calls.answer(caller, child, type_name, data, request_id)
        return Relayed(sequence, delivered, child)


def _answers(record: RunRecord, type_name: str, fields: Any) -> bool:
    """Tell whether an event answers an open question of a run."""
    return isinstance(fields, dict) and any(
        question["event_type"] == type_name
        and all(name in fields and fields[name] == value for name, value in question["requirements"].items())
        for question in record.pending.values()
    )
