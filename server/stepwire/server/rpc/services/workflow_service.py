"""Serve WorkflowService: describe the served workflows, pause and resume them."""

from __future__ import annotations

from stepwire.server.rpc.convert import pages
from stepwire.server.rpc.convert import workflows as convert
from stepwire.server.rpc.convert.runs import workflow_pause
from stepwire.server.rpc.gate.call import caller_of_call
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.runs import Runs
from stepwire.server.runs.errors import WorkflowNotFoundError
from stepwire.v1 import workflow_service_pb2 as pb
from stepwire.v1 import workflow_service_pb2_grpc as grpc_code


class WorkflowService(grpc_code.WorkflowServiceServicer):
    """Describe the served workflows, pause and resume them."""

    def __init__(self, runs: Runs) -> None:
        self._registry = runs.pool.registry
        self._paused = runs.pool.pauses
        self._pauses = runs.pauses

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, context: Context) -> pb.ListWorkflowsResponse:
        caller = caller_of_call()
        scopes = caller.scopes
        names = [name for name in self._registry.names() if scopes.sees(name)]
        if request.page_token:
            last = str(pages.page_place(request.page_token, "workflows", str)[0])
            names = [name for name in names if name > last]
        page, response = pages.Page(pages.page_size(request.page_size)), pb.ListWorkflowsResponse()
        for name in names:
            served = self._registry.get(name)
            assert served is not None
            description = served.doc.strip().split("\n", 1)[0]
            summary = pb.WorkflowSummary(name=name, version=served.version, description=description)
            if (pause := self._paused.get(caller.namespace, name)) is not None:
                summary.pause.CopyFrom(workflow_pause(pause))
            if not page.takes(summary):
                response.next_page_token = pages.page_token([response.workflows[-1].name], "workflows")
                break
            response.workflows.append(summary)
        return response

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, context: Context) -> pb.GetWorkflowResponse:
        served = self._registry.get(request.name)
        caller = caller_of_call()
        if served is None or not caller.scopes.sees(request.name):
            raise WorkflowNotFoundError(request.name, known=filter(caller.scopes.sees, self._registry.names()))
        message = convert.workflow(served)
        if (pause := self._paused.get(caller.namespace, request.name)) is not None:
            message.pause.CopyFrom(workflow_pause(pause))
        return pb.GetWorkflowResponse(workflow=message)

    async def PauseWorkflow(self, request: pb.PauseWorkflowRequest, context: Context) -> pb.PauseWorkflowResponse:
        pause = await self._pauses.pause_workflow(caller_of_call(), request.name, request.reason)
        return pb.PauseWorkflowResponse(pause=workflow_pause(pause))

    async def ResumeWorkflow(self, request: pb.ResumeWorkflowRequest, context: Context) -> pb.ResumeWorkflowResponse:
        await self._pauses.resume_workflow(caller_of_call(), request.name)
        return pb.ResumeWorkflowResponse()
