"""Calls that share a stream between two replicas: a real gRPC server carries them out by services of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from tests.unit.server.others import Others

from stepwire.server.rpc.handlers import Handlers
from stepwire.server.rpc.local import LocalCalls, RefusedError
from stepwire.server.rpc.peers import relaying, relays
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.links import Links, LinkSecurity
from stepwire.server.rpc.peers.relay_frames import PART_BYTES, Outbox, read_frame
from stepwire.server.rpc.peers.relaying import BEGIN, RELAY, Relayed
from stepwire.server.rpc.peers.relays import Relays
from stepwire.server.telemetry.metrics import Metrics

KEY = b"a key"
ECHO = "/test.Service/Echo"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.value[0]
DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]

Act = Callable[[bytes], Awaitable[bytes]]


async def echo(data: bytes) -> bytes:
    return b"echo " + data


class Services:
    """What a replica serves: one method. Notes what it was called with, and how."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.told: list[tuple[str, Any, float | None, str]] = []
        self.alone = 0

    async def unary(self, method: str, data: bytes, metadata: Any, timeout: float | None, peer: str) -> bytes:
        self.told.append((method, metadata, timeout, peer))
        async with asyncio.timeout(timeout):
            return await self.act(data)

    def status_of(self, error: Exception, method: str) -> Status:
        return Status(code=grpc.StatusCode.INTERNAL.value[0], message=type(error).__name__)

    def service(self, details: Any) -> Any:
        """Serve the method for calls that come alone, as gRPC's generic handler."""

        async def handle(data: bytes, context: Any) -> bytes:
            self.alone += 1
            return await self.act(data)

        return grpc.unary_unary_rpc_method_handler(handle) if details.method == ECHO else None


class Pair:
    """A replica that passes calls on, and the one that carries them out."""

    def __init__(self, services: Services, *, serves: bool, key: bytes) -> None:
        self.services = services
        self.metrics = Metrics()
        self.others = Others()
        self.relayed = Relayed(cast(LocalCalls, services), HopSigner(KEY))
        self.address = "127.0.0.1:0"
        self._serves = serves
        self._links = Links(self.others, LinkSecurity())
        self.relays = Relays(self._links, HopSigner(key), self.metrics)

    async def begin(self) -> None:
        handlers = Handlers()
        if self._serves:
            self.relayed.add_to(handlers)
        handlers.add_generic_rpc_handlers((cast(grpc.GenericRpcHandler, self.services),))
        self.server = grpc.aio.server(handlers=(handlers,), options=(("grpc.so_reuseport", 0),))
        self.address = f"127.0.0.1:{self.server.add_insecure_port(self.address)}"
        await self.server.start()

    async def call(self, data: bytes = b"", timeout: float | None = 60.0, method: str = ECHO) -> bytes:
        return await self.relays.call(self.address, method, data, (("a", "b"),), timeout)

    async def close(self) -> None:
        await self.relays.close()
        await self._links.close()
        await self.server.stop(None)


@asynccontextmanager
async def pair(act: Act = echo, *, serves: bool = True, key: bytes = KEY) -> AsyncIterator[Pair]:
    found = Pair(Services(act), serves=serves, key=key)
    await found.begin()
    try:
        async with asyncio.timeout(60):
            yield found
    finally:
        await found.close()


async def refusal(call: Awaitable[bytes]) -> Status:
    with pytest.raises(RefusedError) as refused:
        await call
    return refused.value.status


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


class Held:
    """A method that answers when it is told to, and notes who came and who was cancelled."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.cancelled: list[bytes] = []
        self.go = asyncio.Event()

    async def __call__(self, data: bytes) -> bytes:
        if data.startswith(b"held"):
            self.begun.append(data)
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled.append(data)
                raise
        return b"echo " + data


# -- calls ------------------------------------------------------------------------------------------------------------


async def test_each_of_many_calls_gets_its_own_answer_on_one_stream() -> None:
    async with pair() as two:
        answers = await asyncio.gather(*(two.call(b"%d" % n) for n in range(500)))
        assert answers == [b"echo %d" % n for n in range(500)]
        assert two.metrics.relays == 1
        assert two.services.alone == 0


async def test_a_call_comes_with_its_metadata_its_deadline_and_the_address_of_the_replica() -> None:
    async with pair() as two:
        await two.call(timeout=60.0)
        await two.call(timeout=None)
        (method, metadata, timeout, peer), (_, _, never, _) = two.services.told
        assert (method, [tuple(each) for each in metadata], timeout, never) == (ECHO, [("a", "b")], 60.0, None)
        assert peer.startswith("ipv4:127.0.0.1:")


async def test_a_refusal_comes_with_all_its_details() -> None:
    status = Status(code=3, message="no", details=[AnyMessage()])
    status.details[0].Pack(BadRequest(field_violations=[BadRequest.FieldViolation(field="f", description="d" * 4000)]))

    async def refuse(data: bytes) -> bytes:
        raise RefusedError(status)

    async with pair(refuse) as two:
        assert await refusal(two.call()) == status


async def test_an_unexpected_error_is_a_status_and_harms_no_other_call() -> None:
    async def fail(data: bytes) -> bytes:
        if data == b"bad":
            raise LookupError("secret")
        return data

    async with pair(fail) as two:
        bad, good = await asyncio.gather(refusal(two.call(b"bad")), two.call(b"good"))
        assert (bad.code, good) == (grpc.StatusCode.INTERNAL.value[0], b"good")
        assert "secret" not in bad.message


async def test_a_call_that_waits_holds_up_no_other() -> None:
    held = Held()
    async with pair(held) as two:
        waiting = asyncio.create_task(two.call(b"held", timeout=None))
        await until(lambda: bool(held.begun))
        assert await two.call(b"quick") == b"echo quick"
        assert not waiting.done()
        held.go.set()
        assert await waiting == b"echo held"


async def test_a_cancelled_call_is_cancelled_there_and_no_other_is() -> None:
    held = Held()
    async with pair(held) as two:
        calls = [asyncio.create_task(two.call(b"held %d" % n)) for n in range(3)]
        await until(lambda: len(held.begun) == 3)
        calls[1].cancel()
        await until(lambda: held.cancelled == [b"held 1"])
        held.go.set()
        assert [await calls[0], await calls[2]] == [b"echo held 0", b"echo held 2"]


async def test_a_call_ends_at_its_deadline_here_and_there_and_no_other_does() -> None:
    held = Held()
    async with pair(held) as two:
        other = asyncio.create_task(two.call(b"held other"))
        assert (await refusal(two.call(b"held", timeout=0.2))).code == DEADLINE_EXCEEDED
        await until(lambda: held.cancelled == [b"held"])
        held.go.set()
        assert await other == b"echo held other"


# -- long messages, bounds --------------------------------------------------------------------------------------------


async def test_a_long_request_goes_alone_and_a_long_answer_comes_in_parts() -> None:
    long = b"x" * (PART_BYTES * 50 + 7)

    async def answer(data: bytes) -> bytes:
        return long if data == b"long" else b"%d" % len(data)

    async with pair(answer) as two:
        found = await asyncio.gather(two.call(b"long"), two.call(b"short"), two.call(b"long"))
        assert list(found) == [long, b"5", long]
        assert two.services.alone == 0
        assert await two.call(long) == b"%d" % len(long)
        assert two.services.alone == 1


async def test_what_is_short_is_sent_between_the_parts_of_what_is_long() -> None:
    outbox = Outbox(lambda: 2)
    outbox.put(1, 0, data=b"x" * (PART_BYTES * 2 + 1))
    outbox.put(2, 0, data=b"short")
    outbox.close()
    frames = [[(item.call, len(item.data), item.left) for item in read_frame(frame)[1]] async for frame in outbox]
    assert frames == [[(1, PART_BYTES, PART_BYTES + 1)], [(2, 5, 0), (1, PART_BYTES, 1)], [(1, 1, 0)]]
    assert outbox.size == 0


async def test_calls_beyond_the_bound_of_a_stream_go_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "MOST_CALLS", 2)
    held = Held()
    async with pair(held) as two:
        calls = [asyncio.create_task(two.call(b"held %d" % n)) for n in range(3)]
        await until(lambda: len(held.begun) == 3)
        assert two.services.alone == 1
        held.go.set()
        assert await asyncio.gather(*calls) == [b"echo held %d" % n for n in range(3)]


async def test_a_replica_takes_no_more_calls_on_a_stream_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying, "MOST_CALLS", 2)
    held = Held()
    async with pair(held) as two:
        calls = [asyncio.create_task(two.call(b"held %d" % n)) for n in range(2)]
        await until(lambda: len(held.begun) == 2)
        assert (await refusal(two.call())).code == UNAVAILABLE
        given_up = calls.pop()
        given_up.cancel()
        await asyncio.wait([given_up])  # that makes room at once
        assert await two.call() == b"echo "
        held.go.set()
        await asyncio.gather(*calls)


async def test_no_calls_are_received_from_a_replica_that_does_not_read_its_answers() -> None:
    outbox = Outbox(lambda: 2)
    outbox.put(1, 0, data=b"x" * 100)
    room = asyncio.create_task(outbox.room(100))
    await asyncio.sleep(0)
    assert not room.done()
    await anext(outbox)
    await asyncio.wait_for(room, 60)


async def test_calls_that_come_together_share_a_frame_and_a_lone_one_waits_for_none() -> None:
    under_way = 1
    outbox = Outbox(lambda: under_way)
    outbox.put(1, 0)
    lone = asyncio.ensure_future(anext(outbox))
    await asyncio.sleep(0)
    assert lone.done()
    under_way = 3
    outbox.put(1, 0)
    shared = asyncio.ensure_future(anext(outbox))
    await asyncio.sleep(0)
    outbox.put(2, 0)
    await asyncio.sleep(0)
    outbox.put(3, 0)
    found, items = read_frame(await shared)
    assert (found, [item.call for item in items]) == (3, [1, 2, 3])


def test_what_a_later_version_adds_to_a_frame_is_ignored() -> None:
    head = b'[1,[[2,0,7,"m",{"new":1}]],"new"]'
    assert read_frame(len(head).to_bytes(4, "big") + head + b"ab") == (1, [(b"ab", 0, 7, ["m", {"new": 1}])])


# -- the life of a stream ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("serves", "key"), [(False, KEY), (True, b"another key")])
async def test_calls_go_alone_to_a_replica_that_opens_no_stream(serves: bool, key: bytes) -> None:
    async with pair(serves=serves, key=key) as two:
        # Those that were sent on the stream before it was refused, too.
        assert await asyncio.gather(*(two.call(b"%d" % n) for n in range(20))) == [b"echo %d" % n for n in range(20)]
        assert await two.call(b"more") == b"echo more"
        assert (two.services.alone, len(two.services.told)) == (21, 0)
        await until(lambda: two.metrics.relays == 0)


async def test_a_stream_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "_ALONE_SECONDS", 0.0)
    async with pair(serves=False) as two:
        assert await two.call() == b"echo "
        await two.server.stop(None)
        two._serves = True
        await two.begin()
        async with asyncio.timeout(60):
            while not two.services.told:
                try:
                    await two.call()
                except RefusedError as error:
                    assert error.status.code == UNAVAILABLE  # noqa: PT017 - until the connection is open again
        assert two.services.told


async def test_calls_on_a_stream_that_breaks_are_unavailable_without_a_reason_and_the_next_opens_another() -> None:
    held = Held()
    async with pair(held) as two:
        calls = [asyncio.create_task(refusal(two.call(b"held %d" % n))) for n in range(3)]
        await until(lambda: len(held.begun) == 3)
        await two.server.stop(None)
        for status in await asyncio.gather(*calls):
            assert (status.code, list(status.details)) == (UNAVAILABLE, [])
        await until(lambda: len(held.cancelled) == 3)
        assert (await refusal(two.call())).code == UNAVAILABLE
        await two.begin()
        async with asyncio.timeout(60):
            while True:
                try:
                    assert await two.call(b"again") == b"echo again"
                    break
                except RefusedError:
                    await asyncio.sleep(0.02)


async def test_calls_of_a_replica_that_is_taken_for_dead_are_unavailable() -> None:
    held = Held()
    async with pair(held) as two:
        calls = [asyncio.create_task(refusal(two.call(b"held"))) for _ in range(2)]
        await until(lambda: len(held.begun) == 2)
        two.others.lose_all()
        assert [status.code for status in await asyncio.gather(*calls)] == [UNAVAILABLE] * 2
        await until(lambda: len(held.cancelled) == 2)


async def test_a_replica_that_stops_answers_what_it_has_and_takes_no_more() -> None:
    held = Held()
    async with pair(held) as two:
        call = asyncio.create_task(two.call(b"held"))
        await until(lambda: bool(held.begun))
        ending = asyncio.create_task(two.relayed.end(60.0))
        await asyncio.sleep(0)
        assert (await refusal(_refused(two))).code == UNAVAILABLE
        assert not ending.done()
        held.go.set()
        assert await call == b"echo held"
        await ending
        await until(lambda: two.metrics.relays == 0)


async def _refused(two: Pair) -> bytes:
    """Call until a call is refused: what was sent before the other replica said that it stops is still answered."""
    while True:
        await two.call()


async def test_the_end_of_a_replica_does_not_wait_for_ever() -> None:
    held = Held()
    async with pair(held) as two:
        call = asyncio.create_task(refusal(two.call(b"held")))
        await until(lambda: bool(held.begun))
        await two.relayed.end(0.0)
        await two.server.stop(None)
        assert (await call).code == UNAVAILABLE


async def test_an_idle_stream_is_closed_and_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "_IDLE_SECONDS", 0.02)
    held = Held()
    async with pair(held) as two:
        waiting = asyncio.create_task(two.call(b"held"))
        await until(lambda: bool(held.begun))
        await asyncio.sleep(0.1)
        assert two.metrics.relays == 1  # a call that waits is not idle
        held.go.set()
        assert await waiting == b"echo held"
        await until(lambda: two.metrics.relays == 0)
        assert await two.call() == b"echo "
        assert two.services.alone == 0


# -- who may --------------------------------------------------------------------------------------------------------


PART = b'[1,[[1,5,1,"/test.Service/Echo",[],60.0]]]'


@pytest.mark.parametrize("frame", [b"nonsense", len(PART).to_bytes(4, "big") + PART + b"x"])
async def test_what_is_no_frame_of_calls_ends_the_stream_with_a_status(frame: bytes) -> None:
    async with pair() as two, grpc.aio.insecure_channel(two.address) as channel:
        both: Any = channel.stream_stream(RELAY)
        stream = both(metadata=(HopSigner(KEY).sign(RELAY),))
        assert [(item.call, item.said) for item in read_frame(await stream.read())[1]] == [(0, [BEGIN])]
        await stream.write(frame)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_internal_methods_do_not_go_on_a_stream() -> None:
    async with pair() as two:
        status = await refusal(two.call(method="/stepwire.internal.Replicas/Act"))
        assert status.code == grpc.StatusCode.UNIMPLEMENTED.value[0]
        assert two.services.told == []
