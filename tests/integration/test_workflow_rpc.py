"""WorkflowService: what is served, described for clients that know none of its code."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.integration.rpc_flows import Ask, Shop
from tests.integration.rpc_serving import Rpc, registry_of, serving

from stepwire.server.rpc import SERVICES
from stepwire.v1 import types_pb2 as types
from stepwire.v1 import workflow_service_pb2 as pb


async def test_workflows_are_listed_by_name_page_by_page(rpc: Rpc) -> None:
    whole = await rpc.workflows.ListWorkflows(pb.ListWorkflowsRequest())
    names = [found.name for found in whole.workflows]
    assert names == ["ask", "count", "echo", "fail", "hold", "picky", "shop"]
    assert whole.next_page_token == ""
    assert whole.workflows[0].description == "Ask before shipping."
    assert all(found.version for found in whole.workflows)

    paged: list[str] = []
    token, pages = "", 0
    while True:
        page = await rpc.workflows.ListWorkflows(pb.ListWorkflowsRequest(page_size=3, page_token=token))
        paged += [found.name for found in page.workflows]
        pages += 1
        token = page.next_page_token
        if not token:
            break
    assert (paged, pages) == (names, 3)


async def test_a_page_that_ends_with_the_list_has_no_next(rpc: Rpc) -> None:
    page = await rpc.workflows.ListWorkflows(pb.ListWorkflowsRequest(page_size=7))
    assert len(page.workflows) == 7
    assert page.next_page_token == ""


async def test_no_workflows_at_all() -> None:
    async with serving(registry_of()) as rpc:
        assert not (await rpc.workflows.ListWorkflows(pb.ListWorkflowsRequest())).workflows


async def test_a_workflow_describes_itself(rpc: Rpc) -> None:
    found = (await rpc.workflows.GetWorkflow(pb.GetWorkflowRequest(name="ask"))).workflow
    assert found.name == "ask"
    assert found.description == "Ask before shipping.\n\nNotes are kept."
    assert (found.start_event, found.stop_event, found.state_type) == ("Order", "StopEvent", "DictState")
    assert found.timeout.ToTimedelta().total_seconds() == 45.0
    steps = {step.name: step for step in found.steps}
    assert set(steps) == {"ask", "note"}
    assert list(steps["ask"].accepts) == ["Order"]
    assert list(steps["ask"].returns) == ["StopEvent"]
    assert steps["ask"].num_workers == 4
    assert steps["ask"].description == "Ask whether to ship."
    assert list(steps["note"].accepts) == ["Note"]
    edges = {(edge.source, edge.event_type, edge.target) for edge in found.edges}
    assert {("", "Order", "ask"), ("ask", "StopEvent", ""), ("", "Note", "note")} <= edges
    assert found.mermaid.startswith("flowchart")


async def test_types_say_what_they_are_for_and_what_may_be_sent(rpc: Rpc) -> None:
    found = (await rpc.workflows.GetWorkflow(pb.GetWorkflowRequest(name="ask"))).workflow
    kinds = {kind.name: kind for kind in found.types}
    assert len(kinds) == len(found.types)
    roles = {
        "Order": types.EVENT_ROLE_START,
        "Question": types.EVENT_ROLE_INPUT_REQUIRED,
        "Answer": types.EVENT_ROLE_HUMAN_RESPONSE,
        "StopEvent": types.EVENT_ROLE_STOP,
        "Note": types.EVENT_ROLE_HUMAN_RESPONSE,
        "Pong": types.EVENT_ROLE_UNSPECIFIED,
    }
    assert {name: kinds[name].role for name in roles} == roles
    sendable = {name: kinds[name].sendable for name in roles}
    assert sendable == {
        "Order": False,
        "Question": True,
        "Answer": True,
        "StopEvent": False,
        "Note": True,
        "Pong": True,
    }
    assert all(kinds[name].is_event for name in roles)
    schema = json.loads(kinds["Answer"].json_schema)
    assert schema["properties"]["yes"]["type"] == "boolean"
    assert schema["required"] == ["yes"]
    cart = kinds["Cart"]
    assert (cart.is_event, cart.sendable) == (False, False)
    assert "Size" in kinds


async def test_an_untimed_workflow_has_no_timeout_and_a_typed_state_its_name() -> None:
    class Version(Ask):
        version = "2025.1"

    async with serving(registry_of(shop=Shop(timeout=None), ask=Version)) as rpc:
        shop = (await rpc.workflows.GetWorkflow(pb.GetWorkflowRequest(name="shop"))).workflow
        assert not shop.HasField("timeout")
        assert (shop.state_type, shop.stop_event) == ("Cart", "Receipt")
        assert (await rpc.workflows.GetWorkflow(pb.GetWorkflowRequest(name="ask"))).workflow.version == "2025.1"


async def test_health_tells_of_each_service(rpc: Rpc) -> None:
    for service in ("", *SERVICES):
        answer = await rpc.health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert len(SERVICES) == 6


async def test_reflection_names_the_services_and_can_be_switched_off() -> None:
    async def listed(rpc: Rpc) -> set[str]:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(rpc.channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        return {service.name async for answer in call for service in answer.list_services_response.service}

    async with serving() as rpc:
        assert set(SERVICES) <= await listed(rpc)
    async with serving(reflection=False) as rpc:
        services = await rpc.health.Check(health_pb2.HealthCheckRequest(service=SERVICES[0]))
        assert services.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await listed(rpc)
        assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED
