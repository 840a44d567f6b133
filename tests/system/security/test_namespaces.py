"""Two namespaces, driven by a state machine: nobody ever reads, lists, changes or notices what is the other's."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.system.security.support import METHODS, Keys, call, channel_to, count, crowd, frames, requests_for, serving

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2, state_service_pb2, types_pb2

STEPS = count(600, 50_000)
Code = grpc.StatusCode


class Tenant:
    """One namespace as its principal knows it: the model that every answer is compared with."""

    def __init__(self, name: str, metadata: Any) -> None:
        self.name = name
        self.metadata = metadata
        self.runs: dict[str, str] = {}
        """Its runs: id to the marker in its input."""
        self.taking: set[str] = set()
        self.requests = 0


class Machine:
    """Do random things as one tenant, now and then with what belongs to the other."""

    def __init__(self, channel: grpc.aio.Channel, tenants: list[Tenant], random_: random.Random) -> None:
        self.channel = channel
        self.tenants = tenants
        self.random = random_
        self.seen: Counter[str] = Counter()
        self.secrets = {tenant.name: f"secret-of-{tenant.name}".encode() for tenant in tenants}

    async def call(self, tenant: Tenant, name: str, request: Any, most: int = 50) -> Any:
        answer = await call(self.channel, METHODS[name], frames(request), tenant.metadata, timeout=60, most=most)
        for other in self.tenants:
            if other is not tenant:
                # Whatever is asked: not a byte of the other's is in the answer.
                for part in (*answer.messages, answer.status, answer.details.encode()):
                    assert self.secrets[other.name] not in part, (name, answer)
        assert answer.code not in (Code.UNKNOWN, Code.INTERNAL), answer
        return answer

    async def step(self, number: int) -> None:
        tenant = self.random.choice(self.tenants)
        other = next(item for item in self.tenants if item is not tenant)
        actions = [self.start, self.list_runs, self.own, self.own, self.foreign, self.foreign, self.same_id, self.page]
        await self.random.choice(actions)(tenant, other)

    async def start(self, tenant: Tenant, other: Tenant, run_id: str = "") -> None:
        tenant.requests += 1
        marker = self.secrets[tenant.name].decode()
        # The same request ids in both namespaces: they never meet.
        request = runs.StartRunRequest(workflow="asking", run_id=run_id, request_id=f"r{tenant.requests}")
        request.labels["owner"] = marker
        request.input.json = f'{{"text": "{marker}"}}'.encode()
        answer = await self.call(tenant, "StartRun", request)
        if run_id and run_id in tenant.runs:
            assert answer.reason == "RUN_EXISTS"
            return
        assert answer.code is Code.OK, answer
        run = runs.StartRunResponse.FromString(answer.messages[0]).run
        assert run.labels["owner"] == marker
        tenant.runs[run.run_id] = marker
        self.seen["started"] += 1

    async def same_id(self, tenant: Tenant, other: Tenant) -> None:
        """Take an id that the other has: it is free here."""
        run_id = self.random.choice(list(other.runs)) if other.runs else ""
        if run_id and run_id not in tenant.taking:
            tenant.taking.add(run_id)
            await self.start(tenant, other, run_id)
            tenant.taking.discard(run_id)
            self.seen["same id"] += 1

    async def list_runs(self, tenant: Tenant, other: Tenant) -> None:
        answer = await self.call(tenant, "ListRuns", runs.ListRunsRequest(page_size=1000))
        for run in runs.ListRunsResponse.FromString(answer.messages[0]).runs:
            assert run.labels["owner"] == self.secrets[tenant.name].decode()
        self.seen["listed"] += 1

    async def page(self, tenant: Tenant, other: Tenant) -> None:
        """Use the other's page token: it is of another listing."""
        answer = await self.call(other, "ListRuns", runs.ListRunsRequest(page_size=1))
        token = runs.ListRunsResponse.FromString(answer.messages[0]).next_page_token
        if token:
            answer = await self.call(tenant, "ListRuns", runs.ListRunsRequest(page_size=1, page_token=token))
            assert answer.reason == "INVALID_PAGE_TOKEN"
            self.seen["page tokens"] += 1

    async def own(self, tenant: Tenant, other: Tenant) -> None:
        if not tenant.runs:
            return
        run_id = self.random.choice(list(tenant.runs))
        marker = self.secrets[tenant.name]
        kind = self.random.randrange(4)
        if kind == 0:
            request: Any = state_service_pb2.GetStateRequest(run_id=run_id, path="text")
            answer = await self.call(tenant, "GetState", request)
            assert marker in answer.messages[0] or answer.reason == "PATH_NOT_FOUND", answer
        elif kind == 1:
            answer = await self.call(tenant, "GetSnapshot", snapshot_service_pb2.GetSnapshotRequest(run_id=run_id))
            assert answer.code is Code.OK, answer
        elif kind == 2:
            answer = await self.call(tenant, "StreamEvents", runs.StreamEventsRequest(run_id=run_id, no_follow=True))
            assert answer.code in (Code.OK, Code.CANCELLED), answer
        else:
            write = state_service_pb2.SetStateRequest(run_id=run_id)
            write.values.add(path="extra.mine", value=types_pb2.Payload(json=b'"' + marker + b'"'))
            answer = await self.call(tenant, "SetState", write)
            assert answer.code in (Code.OK, Code.FAILED_PRECONDITION), answer
        self.seen["own"] += 1

    async def foreign(self, tenant: Tenant, other: Tenant) -> None:
        """Call any method with a run of the other's."""
        foreign = [run_id for run_id in other.runs if run_id not in tenant.runs and run_id not in tenant.taking]
        if not foreign:
            return
        run_id = self.random.choice(foreign)
        name = self.random.choice([name for name, method in METHODS.items() if _names_a_run(method)])
        answer = await self.call(tenant, name, requests_for(run_id)[name])
        if run_id in tenant.runs or run_id in tenant.taking:  # taken meanwhile by another step
            return
        assert answer.code is Code.NOT_FOUND, (name, answer)
        assert answer.reason == "RUN_NOT_FOUND", (name, answer)
        self.seen["foreign"] += 1


def _names_a_run(method: Any) -> bool:
    name = method.name.rpartition("/")[2]
    return name != "StartRun" and (name == "Converse" or "run_id" in method.request.fields_by_name)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("data", ["memory", "sqlite"])
async def test_two_namespaces_never_read_each_other(tmp_path: Path, data: str):
    keys = Keys(tmp_path / "access.toml")
    tenants = [Tenant(name, keys.add(name, ["admin"], name)) for name in ("red", "blue")]
    where = ":memory:" if data == "memory" else str(tmp_path / "data")
    settings = {"data": where, "api_keys": keys.path, "max_events_per_second": 0, "idle_after": 0.2}
    async with serving(**settings) as server, channel_to(server) as channel:
        machine = Machine(channel, tenants, random.Random(50))
        await crowd(STEPS // 2, 8, machine.step)
    assert machine.seen["foreign"] > STEPS / 20
    assert min(machine.seen[name] for name in ("started", "same id", "listed", "own", "page tokens")) > STEPS / 50
