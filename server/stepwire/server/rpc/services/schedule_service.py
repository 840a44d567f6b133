"""Serve ScheduleService: schedules that start runs at due times."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from stepwire.server.principal import Principal
from stepwire.server.rpc.convert import pages
from stepwire.server.rpc.convert import schedules as convert
from stepwire.server.rpc.convert.labels import labels_of
from stepwire.server.rpc.convert.times import time_of
from stepwire.server.rpc.gate.call import caller_of_call
from stepwire.server.rpc.gate.method_scopes import permit
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.runs.errors import Violation
from stepwire.server.runs.limits import check_label_count, check_label_texts, check_length, refuse
from stepwire.server.runs.payloads import digest
from stepwire.server.runs.scheduling.schedules import Schedules
from stepwire.server.scopes import SCHEDULE, WRITE, Action
from stepwire.v1 import schedule_service_pb2 as pb
from stepwire.v1 import schedule_service_pb2_grpc as grpc_code


class ScheduleService(grpc_code.ScheduleServiceServicer):
    """Create, look at, change, trigger and delete schedules."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    async def CreateSchedule(self, request: pb.CreateScheduleRequest, context: Context) -> pb.CreateScheduleResponse:
        caller = caller_of_call()
        permit(caller, SCHEDULE, request.spec.workflow)
        refuse(check_length("request_id", request.request_id))
        spec = await convert.spec_of(request.spec)
        view = await self._schedules.create(
            caller, request.schedule_id, spec, request_id=request.request_id, paused=request.paused
        )
        return pb.CreateScheduleResponse(schedule=convert.schedule(view))

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Context) -> pb.GetScheduleResponse:
        view = await self._schedules.runs.get(caller_of_call(), request.schedule_id)
        return pb.GetScheduleResponse(schedule=convert.schedule(view))

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: Context) -> pb.ListSchedulesResponse:
        caller, labels = caller_of_call(), labels_of(request.labels)
        refuse(check_label_count(labels) + check_label_texts(labels))
        page = pages.Page(pages.page_size(request.page_size))
        bound = digest("schedules", caller.namespace, request.workflow, labels)
        place: list[Any] = pages.page_place(request.page_token, bound, float, str) if request.page_token else []
        before = (place[0], place[1]) if place else None
        response = pb.ListSchedulesResponse()
        async for view, at in self._schedules.list(caller, workflow=request.workflow, labels=labels, before=before):
            await asyncio.sleep(0)  # the next due times take a millisecond
            message = convert.schedule(view)
            if not page.takes(message):
                response.next_page_token = pages.page_token(place, bound)
                break
            response.schedules.append(message)
            place = list(at)
        return response

    async def UpdateSchedule(self, request: pb.UpdateScheduleRequest, context: Context) -> pb.UpdateScheduleResponse:
        caller = await self._permitted(SCHEDULE, request.schedule_id)
        permit(caller, SCHEDULE, request.spec.workflow)
        spec = await convert.spec_of(request.spec)
        view = await self._schedules.update(caller, request.schedule_id, spec, request.etag)
        return pb.UpdateScheduleResponse(schedule=convert.schedule(view))

    async def PauseSchedule(self, request: pb.PauseScheduleRequest, context: Context) -> pb.PauseScheduleResponse:
        caller = await self._permitted(WRITE, request.schedule_id)
        view = await self._schedules.pause(caller, request.schedule_id, request.reason)
        return pb.PauseScheduleResponse(schedule=convert.schedule(view))

    async def ResumeSchedule(self, request: pb.ResumeScheduleRequest, context: Context) -> pb.ResumeScheduleResponse:
        caller = await self._permitted(WRITE, request.schedule_id)
        view = await self._schedules.resume(caller, request.schedule_id)
        return pb.ResumeScheduleResponse(schedule=convert.schedule(view))

    async def TriggerSchedule(self, request: pb.TriggerScheduleRequest, context: Context) -> pb.TriggerScheduleResponse:
        caller = await self._permitted(WRITE, request.schedule_id)
        request.request_id = request.request_id or uuid4().hex  # a replica that it is passed on to must use the same
        run_id = await self._schedules.on_demand.trigger(caller, request.schedule_id, request.request_id)
        return pb.TriggerScheduleResponse(run_id=run_id)

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, context: Context) -> pb.DeleteScheduleResponse:
        caller = caller_of_call()
        view = await self._schedules.runs.get(caller, request.schedule_id, ended=True)
        permit(caller, SCHEDULE, view.schedule.spec.workflow)
        await self._schedules.delete(caller, request.schedule_id)
        return pb.DeleteScheduleResponse()

    async def BackfillSchedule(
        self, request: pb.BackfillScheduleRequest, context: Context
    ) -> pb.BackfillScheduleResponse:
        caller = await self._permitted(SCHEDULE, request.schedule_id)
        refuse([Violation(name, "is required") for name in ("start_time", "end_time") if not request.HasField(name)])
        count = await self._schedules.on_demand.backfill(
            caller,
            request.schedule_id,
            time_of(request.start_time),
            time_of(request.end_time),
            at_once=request.at_once,
            request_id=request.request_id,
        )
        return pb.BackfillScheduleResponse(due_times=count)

    async def _permitted(self, action: Action, schedule_id: str) -> Principal:
        """Return the caller, if it may do that with the workflow of a schedule; PermissionDeniedError if not."""
        caller = caller_of_call()
        if not caller.scopes.everywhere(action):
            view = await self._schedules.runs.get(caller, schedule_id)
            permit(caller, action, view.schedule.spec.workflow)
        return caller
