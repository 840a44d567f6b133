"""Schedules that the code of workflows declares: applied when a server begins to serve the workflows.

What was declared and is declared no more is paused, not deleted: its history stays, and the code of before makes it go
on. Several replicas may apply the same at the same time: the first one wins, the others find it done.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from stepwire.server.principal import Principal
from stepwire.server.registry import Registry, Served
from stepwire.server.runs.errors import (
    EtagMismatchError,
    InvalidError,
    RunsError,
    ScheduleExistsError,
    ScheduleNotFoundError,
    Violation,
)
from stepwire.server.runs.payloads import parse_input
from stepwire.server.runs.scheduling.audit_events import ScheduleAuditEvent
from stepwire.server.runs.scheduling.cron import Timing
from stepwire.server.runs.scheduling.schedules import Schedules
from stepwire.server.runs.scheduling.spec import ScheduleSpec
from stepwire.server.runs.scheduling.starting import may_pass
from stepwire.workflow.hosting import At, Cron, Every, Schedule, WorkflowConfigurationError, declared_schedules

__all__ = ["DECLARER", "apply_declared", "declared_specs"]

logger = logging.getLogger("stepwire.schedules")

DECLARER: Final = "server"
"""The caller as which declared schedules start their runs."""
_GONE: Final = "the code of the workflow does not declare it any more"
_FASTER: Final = frozenset({EtagMismatchError.reason, ScheduleExistsError.reason, ScheduleNotFoundError.reason})
_TRIES: Final = 20
_PAUSE_SECONDS: Final = 0.5
"""Between two tries of what another replica does at the same time, or cannot do yet."""


async def declared_specs(registry: Registry) -> dict[str, ScheduleSpec]:
    """Return what the served workflows declare, by the ids of the schedules.

    Raises:
        WorkflowConfigurationError: A schedule cannot be.
    """
    found: dict[str, ScheduleSpec] = {}
    for served in registry:
        owner = type(served.workflow).__name__
        for name, declared in declared_schedules(owner, getattr(served.workflow, "schedule", None)).items():
            schedule_id = f"{served.name}.{name}" if name else served.name
            try:
                found[schedule_id] = spec = _spec(served, declared)
                if violations := [*spec.violations(), *Schedules.wrong_id(schedule_id)]:
                    raise InvalidError("INVALID_REQUEST", "it cannot be", violations)
                await parse_input(served, (spec.input or "").encode())
            except InvalidError as error:
                wrong = "; ".join(f"{field.removeprefix('spec.')} {text}" for field, text in error.violations)
                raise WorkflowConfigurationError(f"schedule {schedule_id} of {owner}: {wrong or error}") from error
    return found


def _spec(served: Served, declared: Schedule) -> ScheduleSpec:
    wrong: list[Violation] = []
    for name, kind in get_type_hints(type(declared)).items():
        try:
            TypeAdapter(kind).validate_python(getattr(declared, name), strict=True)
        except ValidationError as error:
            wrong += [
                Violation(".".join(map(str, (name, *each["loc"]))), each["msg"].removeprefix("Input "))
                for each in error.errors()
            ]
    if wrong:
        raise InvalidError("INVALID_REQUEST", "it cannot be", wrong)
    return ScheduleSpec(
        workflow=served.name,
        timing=_timing(declared),
        input=None if declared.input is None else to_json(dict(declared.input)).decode(),
        overlap=declared.overlap,
        window=declared.catch_up_window.total_seconds(),
        labels=dict(declared.labels),
        run_timeout=None if declared.run_timeout is None else declared.run_timeout.total_seconds(),
        description=declared.description,
    )


def _timing(declared: Schedule) -> Timing:
    if isinstance(declared, Cron):
        timing = Timing(cron=declared.expression, zone=declared.tz)
    elif isinstance(declared, Every):
        anchor = _seconds("anchor", declared.anchor) or 0.0
        timing = Timing(every=declared.interval.total_seconds(), anchor=anchor)
    else:
        assert isinstance(declared, At)
        timing = Timing(at=_seconds("time", declared.time))
    return replace(
        timing,
        jitter=declared.jitter.total_seconds(),
        start=_seconds("start_time", declared.start_time),
        end=_seconds("end_time", declared.end_time),
    )


def _seconds(name: str, moment: datetime | None) -> float | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InvalidError("INVALID_REQUEST", "it cannot be", [Violation(name, "has no time zone")])
    return moment.astimezone(UTC).timestamp()


async def apply_declared(schedules: Schedules, specs: dict[str, ScheduleSpec], namespace: str) -> None:
    """Create and update the schedules that are declared, and pause those that were.

    Args:
        schedules: The schedules of the server.
        specs: What is declared, by id.
        namespace: The namespace of the declared schedules and their runs.
    """
    me = Principal(DECLARER, namespace)
    for schedule_id, spec in specs.items():
        await _insist(schedules, me, schedule_id, spec)
    try:
        gone = [
            view.schedule.schedule_id
            async for view, _ in schedules.list(me)
            if view.schedule.declared
            and view.schedule.pause is None
            and view.schedule.schedule_id not in specs
            and schedules.serves(view.schedule.spec.workflow)
        ]
    except RunsError as error:
        logger.warning("cannot look for schedules that are declared no more: %s", error)
        return
    for schedule_id in gone:
        await _insist(schedules, me, schedule_id, None)


async def _insist(schedules: Schedules, me: Principal, schedule_id: str, spec: ScheduleSpec | None) -> None:
    """Apply what is declared of one schedule, None for nothing; try again what other replicas or the store refuse."""
    for attempt in range(_TRIES):
        try:
            await _apply(schedules, me, schedule_id, spec)
            return
        except RunsError as error:
            if error.code_reason in _FASTER:
                continue  # another replica was faster
            if not may_pass(error) or attempt == _TRIES - 1:
                logger.error("schedule %s, which the code declares, was not applied: %s", schedule_id, error)
                return
            await asyncio.sleep(_PAUSE_SECONDS)


async def _apply(schedules: Schedules, me: Principal, schedule_id: str, spec: ScheduleSpec | None) -> None:
    try:
        found = (await schedules.runs.get(me, schedule_id)).schedule
    except ScheduleNotFoundError:
        if spec is None:
            return
        if spec.timing.next(schedules.wall.now()) is None:
            logger.warning("schedule %s, which the code declares, has no due time in the future", schedule_id)
            return
        await schedules.create(me, schedule_id, spec, declared=True)
        schedules.audit.tell(ScheduleAuditEvent("create schedule", me, schedule_id, spec.workflow))
        logger.info("schedule %s was created: the code declares it", schedule_id)
        return
    if not found.declared:
        logger.warning("schedule %s was not applied: a caller has created one of that name", schedule_id)
        return
    given = {"caller": [me.name, me.namespace], "schedule_id": schedule_id}
    by_code = found.pause is not None and found.pause[1:] == (DECLARER, _GONE)
    if spec is None:
        await schedules.starter.act_anywhere("pause", {**given, "reason": _GONE})
        schedules.audit.tell(ScheduleAuditEvent("pause schedule", me, schedule_id, found.spec.workflow))
        logger.warning("schedule %s was paused: %s", schedule_id, _GONE)
        return
    if found.spec != spec:
        await schedules.starter.act_anywhere("update", {**given, "spec": spec.saved(), "etag": found.etag})
        schedules.audit.tell(ScheduleAuditEvent("update schedule", me, schedule_id, spec.workflow))
        logger.info("schedule %s was updated: the code declares it anew", schedule_id)
    if by_code:
        await schedules.starter.act_anywhere("resume", given)
        schedules.audit.tell(ScheduleAuditEvent("resume schedule", me, schedule_id, spec.workflow))
