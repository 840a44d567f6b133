"""What callers get that are no replica, and replicas that send what this one does not understand: never INTERNAL."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from tests.integration.cluster.conftest import Trio

from stepwire.server.rpc import peers
from stepwire.server.rpc.peers.following import INTERNAL
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.v1 import run_service_pb2 as pb

KINDS = {"Act": "unary_unary", "Follow": "unary_stream", "Relay": "stream_stream", "Who": "unary_unary"}
"""How each method for replicas is called."""

GET_RUN = "/stepwire.v1.RunService/GetRun"
JUNK_JSON: Sequence[Any] = [{}, [], 5, None, "x", ["x"], ["x", 5], [5, 5], [{}, {}], [[], []], ["x", {}], ["x", []]]
JUNK: Sequence[bytes] = [
    *(b"", b"\0", b"\xff" * 9, b"x" * 70_000, b"[" * 100_000, b"[NaN, 1e999]"),
    *(json.dumps(each).encode() for each in JUNK_JSON),
]
"""What is no request of any of them."""
NO_NUMBERS: Sequence[Any] = ["x", [], {}]
NO_HEADERS: Sequence[Any] = [5, None, [5], [["a"]], [["a", 5]], [[None, "a"]], ["ab"]]
BROKEN_CALLS: Sequence[list[Any]] = [
    [],
    [0],
    *([0, 0, call, GET_RUN, [], 1] for call in NO_NUMBERS),
    *([size, 0, 1, GET_RUN, [], 1] for size in NO_NUMBERS),
    *([0, 0, 1, GET_RUN, headers, 1] for headers in NO_HEADERS),
    *([0, 0, 1, GET_RUN, [], seconds] for seconds in NO_NUMBERS),
    [0, 0, 1, 5, [], 1],
    [0, 0, 1, None, [], 1],
    [0, 0, 1, GET_RUN],
    [0, 0, 1, GET_RUN, []],
    [0, 9, 1, GET_RUN, [], 1],
]
BROKEN_FRAMES: Sequence[Any] = [[], [0], [0, 5], [0, [5]], *([1, [call]] for call in BROKEN_CALLS)]
CALLS: Sequence[tuple[str, Any, grpc.StatusCode]] = [
    (GET_RUN, None, grpc.StatusCode.NOT_FOUND),
    (GET_RUN, -5, grpc.StatusCode.DEADLINE_EXCEEDED),
    ("/stepwire.v1.RunService/Nothing", 1, grpc.StatusCode.UNIMPLEMENTED),
    ("/stepwire.v1.RunService/Converse", 1, grpc.StatusCode.UNIMPLEMENTED),
    (INTERNAL + "Act", 1, grpc.StatusCode.UNIMPLEMENTED),
    ("", 1, grpc.StatusCode.UNIMPLEMENTED),
]
"""Calls on a stream that are refused alone."""


def frame(head: Any, data: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return len(text).to_bytes(4, "big") + text + data


async def outcome(
    channel: grpc.aio.Channel, method: str, messages: Sequence[bytes], header: tuple[str, str] | None
) -> tuple[grpc.StatusCode, list[bytes]]:
    """Call a method for replicas; return how it ended, and what it answered."""
    call: Any = getattr(channel, KINDS[method])(INTERNAL + method)
    metadata = [header] if header else []
    answers: list[bytes] = []

    async def requests() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    try:
        async with asyncio.timeout(30):
            if KINDS[method] == "unary_unary":
                answers.append(await call(messages[0], metadata=metadata))
            else:
                given = requests() if KINDS[method] == "stream_stream" else messages[0]
                answers += [answer async for answer in call(given, metadata=metadata)]
    except grpc.aio.AioRpcError as error:
        return error.code(), answers
    return grpc.StatusCode.OK, answers


@pytest.fixture
def signer(trio: Trio) -> HopSigner:
    key = trio.database.sql("SELECT encode(value, 'hex') FROM secrets WHERE name = 'cluster key'")
    return HopSigner(bytes.fromhex(key))


def test_all_methods_for_replicas_are_called_here() -> None:
    modules = [
        importlib.import_module(f"{peers.__name__}.{each.name}") for each in pkgutil.iter_modules(peers.__path__)
    ]
    names = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    assert {name.removeprefix(INTERNAL) for name in names if name.startswith(INTERNAL)} - {""} == set(KINDS)


@pytest.mark.parametrize("method", KINDS)
async def test_only_replicas_may_call(trio: Trio, method: str, signer: HopSigner) -> None:
    other = "Act" if method != "Act" else "Follow"
    headers = [None, ("stepwire-hop", ""), ("stepwire-hop", "x"), ("stepwire-hop", "%%%.%%%")]
    headers += [signer.sign(INTERNAL + other), HopSigner(b"another key").sign(INTERNAL + method)]
    several = [1, 10] if method == "Relay" else [1]
    async with grpc.aio.insecure_channel(trio.a.address) as channel:
        ends = [
            (await outcome(channel, method, [message] * count, header))[0]
            for header in headers
            for message in (b"", b"junk", b"x" * 70_000)
            for count in several
        ]
    assert set(ends) == {grpc.StatusCode.PERMISSION_DENIED}


@pytest.mark.parametrize("method", ["Act", "Follow", "Relay"])
async def test_what_is_no_request_is_an_invalid_argument(trio: Trio, method: str, signer: HopSigner) -> None:
    async with grpc.aio.insecure_channel(trio.a.address) as channel:
        for message in JUNK:
            code, answers = await outcome(channel, method, [message], signer.sign(INTERNAL + method))
            if code is grpc.StatusCode.OK:  # it says what to do, which a replica of another version may know
                assert method == "Act"
                assert "again" in json.loads(answers[0])
            else:
                assert code is grpc.StatusCode.INVALID_ARGUMENT, message[:80]
    assert trio.a.running
    assert "Traceback" not in trio.a.log


async def test_what_is_to_be_done_with_other_arguments_is_an_invalid_argument(trio: Trio, signer: HopSigner) -> None:
    async with grpc.aio.insecure_channel(trio.a.address) as channel:
        for what in ("start", "cancel", *(f"family.{each}" for each in ("start", "tell", "cancel", "answer", "send"))):
            for given in ({}, {"nothing": 5}):
                asked = json.dumps([what, given]).encode()
                code, answers = await outcome(channel, "Act", [asked], signer.sign(INTERNAL + "Act"))
                assert code is grpc.StatusCode.INVALID_ARGUMENT, (what, answers)


async def test_frames_that_are_none_end_their_stream(trio: Trio, signer: HopSigner) -> None:
    async with grpc.aio.insecure_channel(trio.a.address) as channel:
        for head in BROKEN_FRAMES:
            code, _ = await outcome(channel, "Relay", [frame(head)], signer.sign(INTERNAL + "Relay"))
            assert code is grpc.StatusCode.INVALID_ARGUMENT, head
    assert "Traceback" not in trio.a.log


async def test_a_call_that_is_wrong_is_refused_alone(trio: Trio, signer: HopSigner) -> None:
    data = pb.GetRunRequest(run_id="nowhere").SerializeToString()
    items = [[len(data), 0, number, method, [], seconds] for number, (method, seconds, _) in enumerate(CALLS)]
    async with grpc.aio.insecure_channel(trio.a.address) as channel:
        sent = [frame([len(CALLS), items], data * len(CALLS))]
        code, answers = await outcome(channel, "Relay", sent, signer.sign(INTERNAL + "Relay"))
    assert code is grpc.StatusCode.OK
    codes: dict[int, int] = {}
    for answer in answers:
        end = 4 + int.from_bytes(answer[:4], "big")
        for size, _, number, *said in json.loads(answer[4:end])[1]:
            if said != ["begin"]:
                codes[number] = answer[end : end + size][1]  # of a google.rpc.Status
            end += size
    assert codes == {number: expected.value[0] for number, (_, _, expected) in enumerate(CALLS)}
