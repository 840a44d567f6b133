"""Malformed requests over every method: no crash, no UNKNOWN, no INTERNAL.

From a byte mutator on recorded calls, and from hypothesis, which fills the fields of each request as its descriptor
allows. `make security` makes a million of them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from tests.system.security.support import (
    METHODS,
    Method,
    call,
    channel_to,
    count,
    crowd,
    frames,
    mutate,
    requests_for,
    say,
    serving,
    start_run,
    waiting,
)

from stepwire.server.app import Server
from stepwire.server.runs.payloads import digest
from stepwire.v1 import snapshot_service_pb2, types_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEED = int(os.environ.get("STEPWIRE_SECURITY_SEED", "6"))
"""Another one makes other calls."""
NEVER = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS}
MUTATIONS = count(1_500, 450_000)
EXAMPLES = count(150, 50_000)
"""For each kind of store."""


class World:
    """A server, a run on it, and valid requests about it."""

    server: Server
    channel: grpc.aio.Channel
    run_id: str
    recorded: dict[str, list[bytes]]

    async def fresh(self) -> None:
        """Have a run that waits; the attacks end it now and then, and pause its workflow."""
        resumed = await call(self.channel, METHODS["ResumeWorkflow"], frames(requests_for("")["ResumeWorkflow"]))
        assert resumed.code is grpc.StatusCode.OK, resumed
        self.run_id = await start_run(self.channel)
        await waiting(self.channel, self.run_id)
        request = snapshot_service_pb2.GetSnapshotRequest(run_id=self.run_id)
        answer = await call(self.channel, METHODS["GetSnapshot"], frames(request))
        snapshot = snapshot_service_pb2.GetSnapshotResponse.FromString(answer.messages[0]).snapshot
        self.recorded = {name: frames(request) for name, request in requests_for(self.run_id).items()}
        self.with_snapshot = frames(requests_for(self.run_id, snapshot=snapshot)["StartRun"])


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    data = ":memory:" if request.param == "memory" else str(tmp_path_factory.mktemp("data"))
    # What is malformed must not wait for long either.
    async with serving(data=data, max_calls=4096) as server, channel_to(server) as channel:
        found = World()
        found.server, found.channel = server, channel
        await found.fresh()
        yield found
        # It still serves.
        await found.fresh()


async def attack(world: World, method: Method, requests: list[bytes], codes: Counter[Any]) -> None:
    answer = await call(world.channel, method, requests, timeout=1.0, most=2)
    assert answer.code not in NEVER, (method.name, answer, requests)
    codes[answer.code] += 1
    if answer.status:
        assert len(answer.status) < 8 * 1024
        assert answer.reason, answer


async def test_the_recorded_calls_are_good(world: World):
    await world.fresh()
    schedule = requests_for(world.run_id)["CreateSchedule"]
    schedule.schedule_id = "s"  # the one that the other calls are about
    assert (await call(world.channel, METHODS["CreateSchedule"], frames(schedule))).code is grpc.StatusCode.OK
    # What ends the run comes last, and what needs that comes after.
    last = ("CancelRun", "RetryRun", "DeleteRun", "DeleteSchedule")
    for name in sorted(METHODS, key=lambda name: last.index(name) if name in last else -1):
        answer = await call(world.channel, METHODS[name], world.recorded[name], most=2)
        assert answer.code in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED), (name, answer)
    await world.fresh()


@pytest.mark.timeout(7200)
async def test_mutated_bytes(world: World):
    random_ = random.Random(SEED)
    names = list(METHODS)
    codes: Counter[Any] = Counter()

    async def job(number: int) -> None:
        if number % 500 == 499:
            await world.fresh()
        name = names[number % len(names)]
        base = world.with_snapshot if name == "StartRun" and random_.random() < 0.5 else world.recorded[name]
        others = [item for recorded in world.recorded.values() for item in recorded]
        requests = list(base)
        place = random_.randrange(len(requests))
        requests[place] = mutate(requests[place], random_, others)
        await attack(world, METHODS[name], requests, codes)
        if number % 50_000 == 49_999:
            say(f"{number + 1} mutated calls: { ({code.name: count for code, count in codes.items()}) }")

    await crowd(MUTATIONS, 48, job)
    assert sum(codes.values()) == MUTATIONS
    # The mutator reaches the parser, and what lies behind it.
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > MUTATIONS / 20
    assert codes[grpc.StatusCode.NOT_FOUND] > MUTATIONS / 100


# -- by descriptor ------------------------------------------------------------------------------------------------

_TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "", "asking", "free", "Note", "Answer", "Question", "text", "inner.count", "extra.a.b", "__class__",
            "a" * 300, "..", "\x00", "🦀", "-1", "items.0", "'; DROP TABLE runs; --",
        ]
    ),
)  # fmt: skip
_JSON = st.one_of(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ).map(lambda value: __import__("json").dumps(value).encode()),
    st.binary(max_size=30),
    st.sampled_from(
        [
            b"[" * 200,
            b'{"text": "t"}',
            b'{"text": 1e999}',
            b'{"a":1,"a":2}',
            b'"\\ud800"',
            b"\xef\xbb\xbf{}",
            b'{"text": "\\ud800"}',
            b'{"\\udfff": 1}',
            b'{"text": "\\u0000"}',
        ]
    ),
)
_NUMBERS = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_BYTES: _JSON,
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(-2, 20),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: st.one_of(st.integers(-2, 10), st.integers(-(2**63), 2**63 - 1)),
    FieldDescriptor.TYPE_UINT64: st.one_of(st.integers(0, 10), st.integers(0, 2**64 - 1)),
}


@st.composite
def filled(draw: Any, message: Any, run_id: str, depth: int = 0) -> Any:
    """Fill fields of a message in place."""
    descriptor: Descriptor = message.DESCRIPTOR
    if not descriptor.fields:
        return message
    chosen = draw(st.lists(st.sampled_from(list(descriptor.fields)), max_size=5, unique_by=lambda field: field.name))
    for field in chosen:
        times = draw(st.integers(0, 3)) if field.is_repeated else 1
        entry = field.message_type is not None and field.message_type.GetOptions().map_entry
        for _ in range(times):
            if entry:
                key = draw(_TEXTS)
                value = field.message_type.fields_by_name["value"]
                if value.message_type is not None:
                    getattr(message, field.name)[key].SetInParent()
                else:
                    getattr(message, field.name)[key] = draw(_NUMBERS[value.type])
            elif field.message_type is not None:
                if depth < 4:
                    inner = getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
                    if not field.is_repeated:
                        inner.SetInParent()
                    draw(filled(inner, run_id, depth + 1))
            elif field.is_repeated:
                getattr(message, field.name).append(draw(_NUMBERS[field.type]))
            elif field.name == "run_id" and draw(st.booleans()):
                message.run_id = run_id
            else:
                setattr(message, field.name, draw(_NUMBERS[field.type]))
    return message


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", METHODS)
async def test_fields_that_descriptors_allow(world: World, name: str):
    method = METHODS[name]
    codes: Counter[Any] = Counter()
    found: list[list[bytes]] = []

    @seed(SEED)
    @settings(
        max_examples=max(8, EXAMPLES // len(METHODS)),
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def collect(data: st.DataObject) -> None:
        number = data.draw(st.integers(1, 3)) if method.many_requests else 1
        found.append([data.draw(filled(method.make(), world.run_id)).SerializeToString() for _ in range(number)])

    await asyncio.to_thread(collect)

    async def job(number: int) -> None:
        await attack(world, method, found[number], codes)

    await crowd(len(found), 32, job)
    assert sum(codes.values()) == len(found)
    await world.fresh()


ODD = [
    rb'"\ud800"', rb'{"text": "\ud800"}', rb'{"text": "a\udfffb"}', rb'{"\ud800": 1}',
    rb'{"text": "t", "x": ["\ude00"]}',
    b'{"text": "\xed\xa0\x80"}', b'{"text": "\xff"}', rb'{"text": "\u0000"}', b'{"text": NaN}', b'{"text": 1e999}',
    b'{"text": "t", "text": 1}', b'{"text": "t"} {}', b"\xef\xbb\xbf{}", b"", b"null", b"[]", b"1" * 5000,
]  # fmt: skip


def payloads_in(message: Any) -> list[types_pb2.Payload]:
    """Return the payloads inside a message."""
    if isinstance(message, types_pb2.Payload):
        return [message]
    found = []
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE and not field.message_type.GetOptions().map_entry:
            for item in value if field.is_repeated else [value]:
                found += payloads_in(item)
    return found


@pytest.mark.parametrize("name", METHODS)
async def test_json_that_is_no_text_and_text_that_is_no_json(world: World, name: str):
    codes: Counter[Any] = Counter()
    for number, odd in enumerate(ODD):
        for with_id in (False, True):
            good = requests_for(world.run_id)[name]
            messages = good if isinstance(good, list) else [good]
            for message in messages:
                for payload in payloads_in(message):
                    payload.json = odd
                # A repeat is known by the digest of what it says.
                if "request_id" in message.DESCRIPTOR.fields_by_name:
                    message.request_id = f"odd{number}" if with_id else ""
            await attack(world, METHODS[name], frames(good), codes)
    assert sum(codes.values()) == 2 * len(ODD)
    await world.fresh()


@pytest.mark.parametrize("name", ["ListRuns", "ListWorkflows", "ListSnapshots"])
async def test_tokens_that_someone_made(world: World, name: str):
    # What binds a token to its filter is no secret.
    request = requests_for(world.run_id)[name]
    if name == "ListRuns":
        request.ClearField("labels")
        bound = digest("runs", "default", "", [], {}, None, None, None)
    else:
        bound = digest("snapshots", world.run_id) if name == "ListSnapshots" else "workflows"
    parts: list[Any] = [
        0, -1, 2**63 - 1, 2**63, -(2**63), 10**30, -(10**30), 10**400, 0.0, -1.5, 1e308, float("inf"), float("nan"),
        "", "x", "\x00" * 1000, "\ud800", "\udfffx", None, True, [], {},
    ]  # fmt: skip
    for place in [[part] for part in parts] + [[first, second] for first in parts for second in parts]:
        token = base64.urlsafe_b64encode(json.dumps([bound, place]).encode()).decode()
        request.page_token = token
        answer = await call(world.channel, METHODS[name], frames(request))
        assert answer.code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT), (place, answer)


async def test_tokens_nested_without_end(world: World):
    for text in (b"[" * 200_000, b'{"a":' * 100_000, b'["x", [' + b"9" * 5000 + b"]]"):
        token = base64.urlsafe_b64encode(text).decode()
        for name in ("ListRuns", "ListWorkflows", "ListSnapshots"):
            request = requests_for(world.run_id)[name]
            request.page_token = token
            answer = await call(world.channel, METHODS[name], frames(request))
            assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"), answer
