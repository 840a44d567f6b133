"""Calls that replicas pass on over a shared stream: what clients, operators and the audit log see of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from tests.integration.cluster.conftest import FLOWS, Start, Trio
from tests.integration.cluster.support import first, until
from tests.integration.cluster.test_operating import metrics

from stepwire.client import Client
from stepwire.server.auth import new_key
from stepwire.server.rpc.peers.hop import HEADER, HopSigner
from stepwire.server.rpc.peers.relay_frames import Outbox, read_frame
from stepwire.server.rpc.peers.relaying import REFUSED, RELAY
from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import run_service_pb2_grpc, types_pb2

BEFORE = [each.replace("flows:", "flows_before:") for each in FLOWS if "ask" in each or "chat" in each]
ADMIN = ["--admin-address", "127.0.0.1:0"]


def note(run_id: str, n: int, request_id: str = "") -> Any:
    event = types_pb2.Event(type="Note", payload=types_pb2.Payload(json=b'{"n": %d}' % n))
    return pb.SendEventRequest(run_id=run_id, event=event, request_id=request_id)


@asynccontextmanager
async def stub_of(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield run_service_pb2_grpc.RunServiceStub(channel)


async def test_calls_that_are_passed_on_share_one_stream(start: Start) -> None:
    (a, b), _ = start(2, ADMIN)
    admin = b.hear(r"admin port on (\S+)")
    async with Client(a.address) as client, stub_of(b.address) as there:
        run = await client.start_run("chat")
        await asyncio.gather(*(there.SendEvent(note(run.run_id, n)) for n in range(100)))
        assert sorted(event.n for event in await first(run, 100)) == list(range(100))
        found = await asyncio.to_thread(metrics, admin)
        assert found['stepwire_forwards_total{outcome="answered"}'] == 100
        assert found["stepwire_relays_open"] == 1


async def test_a_replica_of_the_version_before_is_called_as_before(start: Start) -> None:
    (old,), _ = start(1, specs=BEFORE)
    (new,), database = start(1, ADMIN)
    admin = new.hear(r"admin port on (\S+)")
    async with Client(old.address) as one, Client(new.address) as other, stub_of(new.address) as there:
        run = await one.start_run("chat")
        assert database.owner_of(run.run_id) == old.address
        await asyncio.gather(*(there.SendEvent(note(run.run_id, n)) for n in range(20)))
        assert len(await first(other.run(run.run_id), 20)) == 20
        assert await other.run(run.run_id).context.store.get("count") == 20
        found = await asyncio.to_thread(metrics, admin)
        assert found["stepwire_relays_open"] == 0
        assert found['stepwire_forwards_total{outcome="answered"}'] == 21
        # And the other way round: it passes calls on one by one.
        run = await other.start_run("chat")
        await one.run(run.run_id).context.send_event(("Note", {"n": 1}))
        assert [event.n for event in await first(run, 1)] == [1]


async def test_a_wait_through_another_replica_holds_up_no_call_and_may_be_given_up(trio: Trio) -> None:
    async with Client(trio.a.address) as client, stub_of(trio.b.address) as there:
        run = await client.start_run("ask")
        waits = [there.WaitRun(pb.WaitRunRequest(run_id=run.run_id, timeout=Duration(seconds=60))) for _ in range(3)]
        sent = await asyncio.gather(*(there.SendEvent(note(run.run_id, n)) for n in range(5)))
        assert [each.delivered for each in sent] == [1] * 5
        assert not any(wait.done() for wait in waits)
        waits[0].cancel()
        await client.run(run.run_id).context.send_event(("Answer", {"text": "done"}))
        for wait in waits[1:]:
            assert (await wait).run.status == types_pb2.RUN_STATUS_COMPLETED


async def test_a_deadline_holds_through_another_replica(trio: Trio) -> None:
    async with Client(trio.a.address) as client, stub_of(trio.b.address) as there:
        run = await client.start_run("ask")
        await there.SendEvent(note(run.run_id, 1))
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await there.WaitRun(pb.WaitRunRequest(run_id=run.run_id, timeout=Duration(seconds=60)), timeout=0.5)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await there.SendEvent(note(run.run_id, 2))).delivered == 1


async def test_long_requests_and_answers_go_through_another_replica(trio: Trio) -> None:
    text = "é" * 500_000
    async with Client(trio.a.address) as one, Client(trio.b.address) as other:
        run = await one.start_run("chat")
        store = other.run(run.run_id).context.store
        await store.set("text", text)
        assert trio.database.owner_of(run.run_id) == trio.a.address
        found = await asyncio.gather(store.get("text"), store.get("count"), store.get("text"))
        assert list(found) == [text, 0, text]


async def test_a_refusal_is_the_same_through_another_replica(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        run_id = (await client.start_run("chat")).run_id
    wrong = pb.SendEventRequest(
        run_id=run_id, event=types_pb2.Event(type="Note", payload=types_pb2.Payload(json=b'{"n": "x"}'))
    )
    statuses = []
    for replica in (trio.a, trio.b):
        async with stub_of(replica.address) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.SendEvent(wrong)
        trailing = dict(refused.value.trailing_metadata() or ())
        statuses.append(Status.FromString(trailing["grpc-status-details-bin"]))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert statuses[0] == statuses[1]
    assert any(detail.Is(BadRequest.DESCRIPTOR) for detail in statuses[1].details)


@pytest.mark.slow
async def test_an_owner_that_is_killed_under_calls_gives_each_one_effect(trio: Trio) -> None:
    async with Client(trio.a.address) as client, stub_of(trio.b.address) as there:
        run = await client.start_run("chat")
        sent = [asyncio.ensure_future(there.SendEvent(note(run.run_id, n), timeout=60)) for n in range(200)]
        await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
        trio.a.kill()
        await asyncio.gather(*sent)
    async with Client(trio.b.address, timeout=60) as client:
        there = client.run(run.run_id)
        assert sorted(event.n for event in await first(there, 200)) == list(range(200))
        await until(lambda: trio.database.owner_of(run.run_id) != trio.a.address)
        assert await there.context.store.get("count") == 200


@pytest.mark.slow
async def test_an_owner_that_is_stopped_under_calls_fails_none(trio: Trio) -> None:
    async with Client(trio.a.address) as client, stub_of(trio.b.address) as there:
        run = await client.start_run("chat")
        sent = [asyncio.ensure_future(there.SendEvent(note(run.run_id, n), timeout=60)) for n in range(200)]
        await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(trio.a.stop)
        await asyncio.gather(*sent)
    async with Client(trio.b.address, timeout=60) as client:
        assert sorted(event.n for event in await first(client.run(run.run_id), 200)) == list(range(200))


async def test_the_replica_that_takes_a_call_audits_its_caller_and_the_owner_checks_it(
    start: Start, tmp_path: Path
) -> None:
    access, ann, eve = tmp_path / "access.toml", new_key(), new_key()
    access.write_text(
        f'[[keys]]\nid = "{ann.id}"\nname = "ann"\nhash = "{ann.hash}"\nscopes = ["write"]\n'
        f'[[keys]]\nid = "{eve.id}"\nname = "eve"\nhash = "{eve.hash}"\nscopes = ["read"]\n'
    )
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    (a,), _ = start(1, ["--api-keys", str(access), "--audit-log", str(logs[0])])
    (b,), _ = start(1, ["--api-keys", str(access), "--audit-log", str(logs[1])])
    async with Client(a.address, token=ann.key) as client, stub_of(b.address) as there:
        run = await client.start_run("chat")
        await there.SendEvent(note(run.run_id, 1), metadata=(("authorization", f"Bearer {ann.key}"),))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await there.SendEvent(note(run.run_id, 2), metadata=(("authorization", f"Bearer {eve.key}"),))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    of_a, of_b = ([json.loads(line) for line in log.read_text().splitlines()] for log in logs)
    assert not [record for record in of_a if record["method"] == "SendEvent"]
    sent, denied = (record for record in of_b if record["method"] == "SendEvent")
    assert (sent["principal"], sent["result"], sent["via"]) == ("ann", "OK", "grpc")
    assert sent["address"].startswith("127.0.0.1:")
    assert (denied["principal"], denied["result"]) == ("eve", "PERMISSION_DENIED")


async def test_a_call_that_the_owner_refuses_is_recorded_once_where_it_came(start: Start, tmp_path: Path) -> None:
    ann, bob = new_key(), new_key()
    known = [f'[[keys]]\nid = "{key.id}"\nname = "{name}"\nhash = "{key.hash}"\nscopes = ["write"]\n'
             for name, key in (("ann", ann), ("bob", bob))]  # fmt: skip
    (tmp_path / "a.toml").write_text(known[0])
    (tmp_path / "b.toml").write_text("".join(known))
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    (a,), _ = start(1, ["--api-keys", str(tmp_path / "a.toml"), "--audit-log", str(logs[0])])
    (b,), _ = start(1, ["--api-keys", str(tmp_path / "b.toml"), "--audit-log", str(logs[1])])
    async with Client(a.address, token=ann.key) as client, stub_of(b.address) as there:
        run = await client.start_run("chat")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await there.SendEvent(note(run.run_id, 1), metadata=(("authorization", f"Bearer {bob.key}"),))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    of_a, of_b = ([json.loads(line) for line in log.read_text().splitlines()] for log in logs if log.exists())
    assert not [record for record in of_a if record["method"] == "SendEvent"]
    (record,) = [record for record in of_b if record["method"] == "SendEvent"]
    assert (record["principal"], record["result"]) == ("bob", "UNAUTHENTICATED")


async def relayed(address: str, metadata: Any, method: str, request: Any) -> tuple[int, bytes]:
    """Make a call on a stream of one's own; return what the answer says, and its bytes."""
    begun = asyncio.Event()

    async def frames() -> AsyncIterator[bytes]:
        await begun.wait()
        outbox = Outbox(lambda: 1)
        outbox.put(1, method, metadata, 60.0, data=request.SerializeToString())
        outbox.close()
        async for frame in outbox:
            yield frame

    answers = []
    async with grpc.aio.insecure_channel(address) as channel:
        both: Any = channel.stream_stream(RELAY)
        async for frame in both(frames(), metadata=metadata):
            begun.set()
            answers += [item for item in read_frame(frame)[1] if item.call]
    ((data, _, _, (said,)),) = answers
    return said, data


async def test_only_replicas_open_streams_and_calls_on_them_pass_the_gate(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        run_id = (await client.start_run("chat")).run_id
    request = note(run_id, 1)
    send = "/stepwire.v1.RunService/SendEvent"
    for metadata in ((), (HopSigner(b"another key").sign(RELAY),), ((HEADER, "nonsense"),)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await relayed(trio.a.address, metadata, send, request)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    secret = trio.database.sql("SELECT encode(value, 'hex') FROM secrets WHERE name = 'cluster key'")
    metadata = (HopSigner(bytes.fromhex(secret)).sign(RELAY),)
    # Streams have streams of their own, and what is not served is not served.
    for method in ("StreamEvents", "Converse", "Nothing"):
        said, data = await relayed(trio.a.address, metadata, f"/stepwire.v1.RunService/{method}", request)
        assert (said, Status.FromString(data).code) == (REFUSED, grpc.StatusCode.UNIMPLEMENTED.value[0])
    # What the request of a call says must be valid, as if it had come alone.
    said, data = await relayed(trio.a.address, metadata, send, pb.SendEventRequest(run_id="nothing"))
    assert (said, Status.FromString(data).code) == (REFUSED, grpc.StatusCode.NOT_FOUND.value[0])
