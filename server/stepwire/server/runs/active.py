"""What a run works on and waits for now: its active deliveries, from memory or from its last snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from stepwire.server.principal import Principal
from stepwire.server.registry import Served
from stepwire.server.runs.errors import RunsError, as_runs_error
from stepwire.server.runs.hosting.commits.delta import fold
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.obstacles import Stuck, obstacle, unserved
from stepwire.server.store import (
    TERMINAL,
    RunQuery,
    RunRecord,
    Status,
    StoreCorruptError,
    StoredSnapshot,
    StoreError,
)
from stepwire.server.store.terms import PARENT, term
from stepwire.workflow.hosting import STARTING, AttemptFailure, Delivery
from stepwire.workflow.hosting import parts as keys

__all__ = ["Active", "ActiveDeliveries", "Activity"]

MOST: Final = 1_000
"""Deliveries that are told of a run: it may have 200,000."""
MOST_BELOW: Final = 100
"""Descendants whose deliveries and questions are told of a run."""
_LIVING: Final = (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.PAUSED, Status.BLOCKED)
_SLOW_BYTES: Final = 1 << 20
"""A stored snapshot of this size is read in a thread."""
_RANKS: Final = {"running": 0, "backoff": 1, "ready": 2, "parked": 3, "queued": 4}
"""Where there are more than MOST, the lowest ranks are told."""


class Active(NamedTuple):
    """One delivery that is not through.

    Attributes:
        delivery: Its id.
        step: Its step.
        status: `queued`, `running`, `parked`, `ready` or `backoff`.
        attempt: How many attempts were started.
        since: When it got its status, in seconds since the epoch; None when that is not known.
        failure: What its last failed attempt failed with.
        next_at: When the next attempt begins, of one in back-off.
        event_type: The type of its event.
        caused_by: The sequence of its event.
    """

    delivery: int
    step: str
    status: str
    attempt: int
    since: float | None
    failure: AttemptFailure | None
    next_at: float | None
    event_type: str
    caused_by: int


class Activity(NamedTuple):
    """The active deliveries of a run, by id; `partial` when some are left out. `record` fits them.

    Attributes:
        below: The activities of living children, of their children, and so on.
        obstacle: Why the run cannot go on by itself; empty if it can.
        stuck: Descendants that cannot go on by themselves, those too that are not started yet.
    """

    record: RunRecord
    deliveries: list[Active]
    partial: bool = False
    below: Sequence[Activity] = ()
    obstacle: str = ""
    stuck: Sequence[Stuck] = ()


class ActiveDeliveries:
    """Look at the deliveries of runs, without loading any."""

    def __init__(self, pool: RunPool) -> None:
        self._pool = pool

    async def of(self, record: RunRecord) -> Activity:
        """Return the active deliveries of the run of a record; of one that has ended, none.

        It never waits for a commit: of a run with changes that are not durable yet, the store tells the last ones that
        are. What a failing store keeps from being told is left out.
        """
        if record.status in TERMINAL:
            return Activity(record, [])
        run = self._pool.in_memory(record.key)
        if run is not None and run.commits.created and run.commits.clean:  # so what is in memory is what is committed
            starting = _starting_of(run)
            found = Activity(run.record, *_of_run(run))
        else:
            try:
                found, starting = await self._stored(record)
            except RunsError:
                found, starting = Activity(record, [], True), []
        reasons = {workflow: unserved(self._pool, workflow) for _, workflow in starting}
        stuck = [Stuck(run_id, workflow, reasons[workflow]) for run_id, workflow in starting if reasons[workflow]]
        return found._replace(obstacle=obstacle(self._pool, found.record), stuck=stuck[:MOST_BELOW])

    async def of_family(self, caller: Principal, record: RunRecord) -> Activity:
        """Return what `of` does, with the activities of the descendants that live and that the caller may see.

        Of more than MOST_BELOW descendants the first ones found are told, level by level.
        """
        activity = await self.of(record)
        below: list[Activity] = []
        stuck = list(activity.stuck)
        todo, partial = [activity.record], activity.partial
        while todo and not partial:
            above = todo.pop(0)
            if not above.info.get("children", {}).get("living"):
                continue
            query = RunQuery(
                namespace=above.key.namespace,
                terms=(term(PARENT, above.key.run_id),),
                statuses=_LIVING,
                limit=MOST_BELOW - len(below) + 1,
            )
            try:
                found = [each for each in await self._pool.store.list(query) if caller.scopes.sees(each.workflow)]
            except StoreError:
                return activity._replace(below=below, partial=True, stuck=stuck)
            partial = len(found) == query.limit
            for child in found[: query.limit - 1]:
                told = await self.of(child)
                if told.obstacle:
                    stuck.append(Stuck(child.key.run_id, child.workflow, told.obstacle))
                stuck += told.stuck
                below.append(told)
                todo.append(told.record)
        return activity._replace(below=below, partial=partial, stuck=stuck)

    async def _stored(self, record: RunRecord) -> tuple[Activity, list[_Starting]]:
        try:
            stored = await self._pool.store.load(record.key)
            if stored is None:
                return Activity(record, []), []
            slow = len(stored.full) + sum(map(len, stored.deltas)) > _SLOW_BYTES
            told = await asyncio.to_thread(_of_snapshot, stored) if slow else _of_snapshot(stored)
        except StoreError as error:
            raise as_runs_error(error) from error
        found, more, starting = told
        if (served := self._pool.registry.get(record.workflow)) is not None:
            found = [_named_now(served, each) for each in found]
        return Activity(record, found, more), starting


def _of_run(run: LiveRun) -> tuple[list[Active], bool]:
    chosen, more = _chosen((each.status, each.id, each) for each in run.broker.deliveries.values())
    return [_of_delivery(run.served, each) for each in chosen], more


def _of_delivery(served: Served, delivery: Delivery) -> Active:
    return Active(
        delivery.id,
        delivery.step,
        delivery.status,
        delivery.attempt,
        delivery.since,
        delivery.failure,
        delivery.due,
        served.names.name_of(type(delivery.event)),
        delivery.sequence,
    )


_Starting = tuple[str, str]
"""The id and the workflow of a child that is to be started, and is not yet."""


def _starting_of(run: LiveRun) -> list[_Starting]:
    children = run.broker.made_children
    found = () if children is None else children
    return [(child.run_id, child.call.workflow) for child in found if child.state == STARTING]


def _of_snapshot(stored: StoredSnapshot) -> tuple[list[Active], bool, list[_Starting]]:
    """Read deliveries and children from parts as they are stored, without the workflow's code.

    Raises:
        StoreCorruptError: The snapshot is damaged.
    """
    parts = fold(stored)
    try:
        if "outcome" in parts[keys.HEAD]:
            return [], False, []
        made = (parts[keys.child(number)] for number in keys.numbers_of(parts, keys.CHILD))
        starting = [(part["r"], part["w"]) for part in made if part["st"] == STARTING]
        found = ((number, parts[keys.delivery(number)]) for number in keys.numbers_of(parts, keys.DELIVERY))
        chosen, more = _chosen((part["st"], number, (number, part)) for number, part in found)
        return [_of_part(number, part) for number, part in chosen], more, starting
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorruptError(f"the snapshot at sequence {stored.sequence} cannot be read") from error


def _of_part(number: int, part: Mapping[str, Any]) -> Active:
    return Active(
        number,
        part["s"],
        part["st"],
        part["a"],
        part.get("w"),
        AttemptFailure.restored(part.get("x")),
        part["u"],
        event_type_of(part["e"]),
        part["q"],
    )


def _named_now(served: Served, active: Active) -> Active:
    """Return a delivery with the names that its step and its event have in the served code."""
    step, event_type = served.current_step(active.step), served.names.current(active.event_type)
    return active._replace(step=step, event_type=event_type)


def event_type_of(event: Any) -> str:
    """Return the type name of an event as a snapshot holds it."""
    tagged = event.get("$model") if isinstance(event, dict) else None
    return str(tagged[0]) if isinstance(tagged, list) and tagged else ""


def _chosen(ranked: Iterable[tuple[str, int, Any]]) -> tuple[list[Any], bool]:
    """Return what to tell of deliveries, by id, and whether there is more. Takes (status, id, delivery)."""
    found = [(_RANKS.get(status, 9), number, delivery) for status, number, delivery in ranked]
    more = len(found) > MOST
    if more:
        found = sorted(found, key=lambda each: each[:2])[:MOST]
    return [delivery for _, _, delivery in sorted(found, key=lambda each: each[1])], more
