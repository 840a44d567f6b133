"""Calls between replicas: lost replies, owners that cannot be reached, signatures, limits, conversations."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import pytest
from tests.integration.cluster.conftest import Start, Trio
from tests.integration.cluster.support import first
from tests.ports import free_port
from tests.system.chaos.proxy import LosingProxy

from stepwire.client import Client, StepwireError
from stepwire.server.auth import new_key
from stepwire.server.rpc.peers.hop import HEADER, HopSigner
from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import run_service_pb2_grpc, types_pb2


async def test_lost_replies_between_replicas_have_one_effect(start: Start) -> None:
    here = free_port()
    async with LosingProxy(f"127.0.0.1:{here}", share=0.3, seed=7) as proxy:
        (a,), database = start(1, ["--address", f"127.0.0.1:{here}", "--advertise", proxy.address])
        (b,), _ = start(1)
        async with Client(a.address) as one, Client(b.address) as other:
            run = await one.start_run("chat")
            there = other.run(run.run_id)
            # The client gives no request_id of its own: the replica that takes the call adds one.
            async with grpc.aio.insecure_channel(b.address) as channel:
                stub = run_service_pb2_grpc.RunServiceStub(channel)
                for n in range(60):
                    event = types_pb2.Event(type="Note", payload=types_pb2.Payload(json=b'{"n": %d}' % n))
                    await stub.SendEvent(pb.SendEventRequest(run_id=run.run_id, event=event))
            assert [event.n for event in await first(there, 60)] == list(range(60))
            assert await there.context.store.get("count") == 60
            assert database.owner_of(run.run_id) == proxy.address
        assert proxy.lost > 10


@pytest.mark.slow
async def test_a_run_is_taken_from_an_owner_that_cannot_be_reached(start: Start) -> None:
    (a,), database = start(1, ["--advertise", f"127.0.0.1:{free_port()}"])
    (b,), _ = start(1)
    async with Client(a.address, timeout=60) as one, Client(b.address, timeout=60) as other:
        run = await one.start_run("chat")
        await run.context.store.set("seen", 1)
        began = monotonic()
        await other.run(run.run_id).context.store.set("seen", 2)
        assert monotonic() - began > 3.0
        # The old owner is alive and connected, and knows at once that the run is not its own any more.
        assert await run.context.store.get("seen") == 2
        assert (await run.info()).last_sequence >= 1
        await run.context.send_event(("Note", {"n": 1}))
        assert [event.n for event in await first(other.run(run.run_id), 1)] == [1]
        assert database.owner_of(run.run_id) == b.address


async def test_a_conversation_at_another_replica_keeps_the_order(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        run = await client.start_run("chat")
    assert trio.database.owner_of(run.run_id) == trio.a.address

    async with grpc.aio.insecure_channel(trio.b.address) as channel:
        frames: asyncio.Queue[Any] = asyncio.Queue()

        async def requests():
            while (frame := await frames.get()) is not None:
                yield frame

        options = pb.StreamOptions(encoding=types_pb2.PAYLOAD_ENCODING_JSON, include_internal=True)
        frames.put_nowait(pb.ConverseRequest(attach=pb.ConverseAttach(run_id=run.run_id, options=options)))
        for n in range(100):
            event = types_pb2.Event(type="Note", payload=types_pb2.Payload(json=b'{"n": %d}' % n))
            frames.put_nowait(pb.ConverseRequest(send=pb.ConverseSend(request_id=f"r{n}", event=event)))
        results: dict[str, int] = {}
        entries: list[types_pb2.LogEntry] = []
        async for frame in run_service_pb2_grpc.RunServiceStub(channel).Converse(requests()):
            if frame.HasField("send_result"):
                assert not frame.send_result.HasField("error"), frame.send_result.error.message
                results[frame.send_result.request_id] = frame.send_result.sequence
            elif frame.HasField("events"):
                if frame.events.entries:
                    # A result precedes the entries of its commit.
                    sent = {entry.sequence for entry in frame.events.entries if entry.type == "Note"}
                    assert sent <= set(results.values())
                entries += frame.events.entries
                pongs = [entry for entry in entries if entry.type == "Pong"]
                if len(pongs) == 100:
                    break
        frames.put_nowait(None)
    assert [entry.payload.json for entry in pongs] == [b'{"n":%d}' % n for n in range(100)]
    assert list(results) == [f"r{n}" for n in range(100)]
    sequences = [entry.sequence for entry in entries]
    assert sequences == sorted(set(sequences))


async def test_a_conversation_starts_and_ends_a_run_of_any_replica(trio: Trio) -> None:
    async with Client(trio.a.address) as one, Client(trio.b.address) as other:
        run = await one.start_run("ask")
        async with other.run(run.run_id).converse() as talk:
            async for event in talk:
                if event.type == "Question":
                    await talk.send(("Answer", {"text": "talked"}))
            assert talk.outcome is not None
        assert await run.result() == "talked"
        cancelled = await one.start_run("ask")
        async with other.run(cancelled.run_id).converse() as talk:
            talk.cancel("enough")
            async for _ in talk:
                pass
        assert (await cancelled.info()).status.name == "CANCELLED"


async def test_a_prompt_is_written_once_and_its_wait_survives_the_owner(trio: Trio) -> None:
    async with Client(trio.b.address, timeout=60) as one, Client(trio.c.address, timeout=60) as other:
        run = await one.start_run("chat")
        there = other.run(run.run_id)
        prompt = ("Question", {"text": "Sure?"})
        waiting = asyncio.create_task(
            there.context.wait_for_event("Answer", waiter_event=prompt, waiter_id="sure", timeout=60)
        )
        assert (await first(there, 1, "Question"))[0].text == "Sure?"
        trio.b.kill()
        await there.context.send_event(("Note", {"n": 1}))
        await there.context.send_event(("Answer", {"text": "sure"}))
        assert (await waiting).text == "sure"
        assert len([event async for event in there.events() if event.type == "Question"]) == 1


async def test_only_replicas_with_the_key_may_follow_and_hop(trio: Trio) -> None:
    async with Client(trio.a.address) as client:
        run = await client.start_run("ask")
    request = b'["default", "%s"]' % run.run_id.encode()
    async with grpc.aio.insecure_channel(trio.a.address) as channel:
        follow: Any = channel.unary_stream("/stepwire.internal.Replicas/Follow")
        forged = HopSigner(b"another key").sign("/stepwire.internal.Replicas/Follow")
        for metadata in ((), (forged,), ((HEADER, "nonsense"),)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in follow(request, metadata=metadata):
                    pass
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    # A forged hop is a call of a client: it is passed on, where one with the key would be refused.
    async with grpc.aio.insecure_channel(trio.b.address) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        event = types_pb2.Event(type="Note", payload=types_pb2.Payload(json=b'{"n": 1}'))
        send = pb.SendEventRequest(run_id=run.run_id, event=event)
        method = "/stepwire.v1.RunService/SendEvent"
        assert await stub.SendEvent(send, metadata=(HopSigner(b"another key").sign(method),))
        secret = trio.database.sql("SELECT encode(value, 'hex') FROM secrets WHERE name = 'cluster key'")
        with pytest.raises(grpc.aio.AioRpcError) as elsewhere:
            await stub.SendEvent(send, metadata=(HopSigner(bytes.fromhex(secret)).sign(method),))
        assert elsewhere.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "Another replica" in (elsewhere.value.details() or "")


async def test_a_caller_is_charged_once_and_the_owner_checks_its_key(start: Start, tmp_path: Path) -> None:
    access, made = tmp_path / "access.toml", new_key()
    access.write_text(f'[[keys]]\nid = "{made.id}"\nname = "ann"\nhash = "{made.hash}"\nscopes = ["write"]\n')
    token = made.key
    (a, b), _ = start(2, ["--api-keys", str(access), "--max-events-per-second", "20"])
    async with Client(a.address, token=token) as one, Client(b.address, token=token) as other:
        run = await one.start_run("chat")
        there = other.run(run.run_id)
        for n in range(18):  # the bucket of the replica that takes them has room for these, and the owner's for more
            await there.context.send_event(("Note", {"n": n}))
        for n in range(18):
            await run.context.send_event(("Note", {"n": 100 + n}))
    async with Client(b.address, token="sk_wrong_wrong", timeout=2) as nobody:
        with pytest.raises(StepwireError) as refused:
            await nobody.run(run.run_id).context.send_event(("Note", {"n": 1}))
        assert refused.value.reason == "UNAUTHENTICATED"


async def test_a_deleted_run_is_gone_for_readers_everywhere_within_a_second(trio: Trio) -> None:
    async with Client(trio.a.address) as one, Client(trio.b.address) as other:
        run = await one.start_run("ask")
        there = other.run(run.run_id)
        await run.context.send_event(("Answer", {"text": "bye"}))
        assert await there.result() == "bye"
        assert (await there.info()).status.name == "COMPLETED"
        await run.delete()
        with pytest.raises(StepwireError) as gone:
            await there.info()
        assert gone.value.reason == "RUN_NOT_FOUND"


async def test_a_stream_goes_on_while_owners_change(trio: Trio) -> None:
    a, b, c = trio.replicas
    async with Client(a.address) as one, Client(c.address, timeout=60) as reader:
        run = await one.start_run("chat")
        there = reader.run(run.run_id)
        seen: list[int] = []
        done = asyncio.Event()

        async def read() -> None:
            async with aclosing(there.events()) as events:
                async for event in events:
                    if event.type == "Pong":
                        seen.append(event.n)
                        if event.n == 59:
                            return

        reading = asyncio.create_task(read())
        for n in range(20):
            await there.context.send_event(("Note", {"n": n}))
        a.kill()
        for n in range(20, 40):
            await there.context.send_event(("Note", {"n": n}))
        await asyncio.to_thread(a.start)
        owner = trio.database.owner_of(run.run_id)
        if owner == b.address:
            await asyncio.to_thread(b.stop)
        for n in range(40, 60):
            await there.context.send_event(("Note", {"n": n}))
        await asyncio.wait_for(reading, 60)
        done.set()
        assert seen == list(range(60))
