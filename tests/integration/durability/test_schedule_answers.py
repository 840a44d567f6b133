"""No answer about a schedule tells of what a crash can undo, as `test_answers` shows of runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.durability.flows import Flow, ask
from tests.integration.durability.support import held, life, settle
from tests.integration.rpc_serving import Rpc, refusal_of

from stepwire.v1 import schedule_service_pb2 as pb

SPEC = pb.ScheduleSpec(workflow="flow", timing=pb.ScheduleTiming(cron="0 0 1 1 *"))
OTHER = pb.ScheduleSpec(workflow="flow", timing=pb.ScheduleTiming(cron="0 0 2 1 *"))

Call = Callable[[Rpc, str], Awaitable[Any]]


def call(method: str, **fields: Any) -> Call:
    """Return a call of a method for the schedule that is looked at."""
    request = getattr(pb, f"{method}Request")
    return lambda rpc, schedule_id: getattr(rpc.schedules, method)(request(schedule_id=schedule_id, **fields))


async def listed(rpc: Rpc, schedule_id: str) -> list[pb.Schedule]:
    """Return what a list says of a schedule."""
    page = await rpc.schedules.ListSchedules(pb.ListSchedulesRequest(page_size=1000))
    return [each for each in page.schedules if each.schedule_id == schedule_id]


READS: dict[str, Call] = {"GetSchedule": call("GetSchedule"), "ListSchedules": listed}
UNCHANGED = READS.keys() | {"ResumeSchedule"}
"""The calls that change nothing of a schedule that is not paused."""

CHANGES: dict[str, Call] = {
    "UpdateSchedule": call("UpdateSchedule", spec=OTHER),
    "PauseSchedule": call("PauseSchedule", reason="no"),
    "ResumeSchedule": call("ResumeSchedule"),
    "TriggerSchedule": call("TriggerSchedule", request_id="t"),
    "BackfillSchedule": call(
        "BackfillSchedule", start_time={"seconds": 1_700_000_000}, end_time={"seconds": 1_720_000_000}, request_id="b"
    ),
    "DeleteSchedule": call("DeleteSchedule"),
    "CreateSchedule": call("CreateSchedule", spec=SPEC),
}
ALSO: dict[str, Call] = {
    "UpdateSchedule with the old etag": call("UpdateSchedule", spec=SPEC, etag="1"),
    "TriggerSchedule with a used request_id": call("TriggerSchedule", request_id="b"),
}


def test_every_rpc_of_schedules_is_called() -> None:
    service = pb.DESCRIPTOR.services_by_name["ScheduleService"]
    assert {method.name for method in service.methods} == READS.keys() | CHANGES.keys()


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "ResumeSchedule"])
async def test_no_answer_about_a_schedule_tells_of_what_is_not_durable(tmp_path: Path, change: str) -> None:
    probes = {**READS, **CHANGES, **ALSO}
    async with life(tmp_path, Flow(ask)) as rpc:
        if change != "CreateSchedule":
            for name in ("a", "b"):
                for number in range(len(probes)):
                    await CHANGES["CreateSchedule"](rpc, f"{name}{number}")
        # What may be told at once: what a schedule without the change answers.
        before = {name: await outcome(probe(rpc, f"a{number}")) for number, (name, probe) in enumerate(probes.items())}
        with held(rpc.store) as hold:
            making = [asyncio.ensure_future(outcome(CHANGES[change](rpc, f"b{n}"))) for n in range(len(probes))]
            await hold.arrived(len(probes))
            calls = {
                name: asyncio.ensure_future(outcome(probe(rpc, f"b{number}")))
                for number, (name, probe) in enumerate(probes.items())
            }
            await asyncio.gather(*(calls[name] for name in READS))  # they wait for nothing
            await settle(rpc)
            told = {name: asked.result() for name, asked in calls.items() if asked.done()}
            assert not any(each.done() for each in making)
        wrong = {
            name: answer
            for name, answer in told.items()
            if answer != before[name] or (name not in UNCHANGED and answer.upper() != answer)
        }
        assert wrong == {}
        for each in (*calls.values(), *making):
            await each


async def outcome(answering: Awaitable[Any]) -> str:
    """Return what a call answers, without what differs between two schedules, or the reason of its refusal."""
    try:
        answer = await answering
    except grpc.aio.AioRpcError as error:
        return refusal_of(error).reason
    for schedule in answer if isinstance(answer, list) else [answer.schedule] if hasattr(answer, "schedule") else []:
        for field in ("schedule_id", "created_at", "updated_at"):
            schedule.ClearField(field)
    return str(answer)
