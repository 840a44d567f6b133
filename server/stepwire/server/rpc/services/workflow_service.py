"""Serve WorkflowService: describe the served workflows."""

from __future__ import annotations

from stepwire.server.registry import Registry
from stepwire.server.rpc.convert import pages
from stepwire.server.rpc.convert import workflows as convert
from stepwire.server.rpc.gate.call import caller_of_call
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.runs.errors import WorkflowNotFoundError
from stepwire.v1 import workflow_service_pb2 as pb
from stepwire.v1 import workflow_service_pb2_grpc as grpc_code


class WorkflowService(grpc_code.WorkflowServiceServicer):
    """Describe the served workflows."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, context: Context) -> pb.ListWorkflowsResponse:
        scopes = caller_of_call().scopes
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
            if not page.takes(summary):
                response.next_page_token = pages.page_token([response.workflows[-1].name], "workflows")
                break
            response.workflows.append(summary)
        return response

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, context: Context) -> pb.GetWorkflowResponse:
        served = self._registry.get(request.name)
        if served is None or not caller_of_call().scopes.sees(request.name):
            raise WorkflowNotFoundError("No workflow of this name is served", workflow=request.name[:128])
        return pb.GetWorkflowResponse(workflow=convert.workflow(served))
