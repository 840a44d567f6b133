"""Snapshots from clients: mutated ones are refused, and nothing that they name is imported or opened."""

from __future__ import annotations

import copy
import json
import logging
import random
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from tests.system.security.support import (
    METHODS,
    call,
    channel_to,
    count,
    crowd,
    frames,
    mutate,
    serving,
    start_run,
    waiting,
)

from stepwire.server.rpc import Signer
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2, types_pb2

MUTANTS = count(700, 100_000)

ALLOWED = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}
"""The three codes that a mutated snapshot may get."""

GADGETS: list[Any] = [
    {"$model": ["os.system", {"command": "true"}]},
    {"$model": ["subprocess.Popen", {"args": ["true"]}]},
    {"$model": ["Answer", {"text": 1}]},
    {"$model": ["tests.system.security.flows.SecretError", {}]},
    {"$enum": ["os.system", 1]},
    {"$datetime": ["2024-01-01T00:00:00", "../../../../etc/passwd", 0]},
    {"$datetime": ["2024-01-01T00:00:00", "antigravity/this", 0]},
    {"$time": ["00:00:00", "tests/system/security", 0]},
    {"$pickle": "gASVFAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOULg=="},
    {"$type": "builtins.eval"},
    {"$bytes": "%%%"},
    {"$decimal": "NaN" * 100},
    {"$set": [[1], {}]},
    {"$dict": [[{}, 1]]},
    {"$nothing": None},
    {"__is_pydantic": True, "value": {}, "qualified_name": "antigravity.geohash"},
    {"__is_component": True, "value": {}, "qualified_name": "this.d"},
    "stepwire-pickle/1:gASVFAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOULg==",
    10**40,
    -1,
    1.5,
    "",
    None,
    True,
    [],
    {},
    [[[[[[[[[[]]]]]]]]]],
]


class Heard:
    """What an audit hook heard while it listened."""

    def __init__(self) -> None:
        self.listening = False
        self.events: list[tuple[str, Any]] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: Any) -> None:
        if self.listening and (event in _EVENTS or event.startswith(("subprocess.", "os.exec", "os.spawn", "ctypes."))):
            self.events.append((event, args[:1]))

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Listen."""
        self.listening = True
        try:
            yield
        finally:
            self.listening = False


_EVENTS = {
    "import",
    "open",
    "exec",
    "compile",
    "os.system",
    "os.posix_spawn",
    "os.fork",
    "pickle.find_class",
    "marshal.loads",
}


@pytest.fixture(scope="module")
def heard() -> Heard:
    # A hook stays for the life of the process.
    return Heard()


@pytest.fixture
def signer(monkeypatch: pytest.MonkeyPatch) -> Signer:
    known = Signer(b"k" * 32)
    monkeypatch.setattr(Signer, "ephemeral", classmethod(lambda cls: known))
    return known


def places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return every (container, key) inside a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        found.append((value, key))
        places(item, found)
    return found


def twist(data: bytes, random_: random.Random, spare: list[bytes]) -> bytes:
    """Return a part of a snapshot with gadgets in it, or with bytes that are wrong."""
    if random_.random() < 0.25:
        return mutate(data, random_, spare)
    try:
        document = json.loads(data.decode())
    except ValueError:  # twisted before
        return mutate(data, random_, spare)
    for _ in range(random_.choice((1, 1, 2, 5))):
        found = places(document, [])
        if not found:
            return json.dumps(random_.choice(GADGETS)).encode()
        container, key = random_.choice(found)
        kind = random_.randrange(4)
        if kind == 0:
            container[key] = copy.deepcopy(random_.choice(GADGETS))
        elif kind == 1:
            del container[key]
        elif kind == 2 and isinstance(container, dict):
            container[random_.choice(("$model", "__class__", "", "0", "st", "e"))] = container.pop(key)
        else:
            other, place = random_.choice(found)
            container[key] = copy.deepcopy(other[place])
    return json.dumps(document).encode()


def mutant(good: types_pb2.ContextSnapshot, random_: random.Random) -> types_pb2.ContextSnapshot:
    """Return a snapshot with some of its parts twisted."""
    found = types_pb2.ContextSnapshot()
    found.CopyFrom(good)
    spare = [good.head_json, *good.state_json.values()]
    for _ in range(random_.choice((1, 1, 2))):
        kind = random_.randrange(7)
        if kind == 0:
            found.head_json = twist(found.head_json, random_, spare)
        elif kind == 1 and found.state_json:
            key = random_.choice(sorted(found.state_json))
            found.state_json[key] = twist(found.state_json[key], random_, spare)
        elif kind == 2:
            found.state_json[random_.choice(("_data", "__class__", "text", "a.b", ""))] = json.dumps(
                random_.choice(GADGETS)
            ).encode()
        elif kind == 3 and found.in_progress:
            item = random_.choice(found.in_progress)
            item.data_json = twist(item.data_json, random_, spare)
        elif kind == 4 and found.in_progress:
            item = random_.choice(found.in_progress)
            item.ledger_json = twist(item.ledger_json or b"{}", random_, spare)
        elif kind == 5 and found.waiters:
            item = random_.choice(found.waiters)
            item.data_json = twist(item.data_json, random_, spare)
        else:
            name = random_.choice(("state_type", "workflow_version", "run_id", "format_version", "sequence", "effects"))
            if name == "effects":
                for item in found.in_progress:
                    item.effects = random_.randbytes(random_.choice((0, 1, 16, 5000)))
            elif name in ("format_version", "sequence"):
                setattr(found, name, random_.choice((0, 1, 2, 2**31 - 1)))
            else:
                setattr(found, name, random_.choice(("os.system", "", "x" * 100)))
    return found


# Saving what holds a value of another type than its field says warns, and is no error.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("signed", [False, True], ids=["as a client could", "as if the key were stolen"])
async def test_mutated_snapshots(heard: Heard, signer: Signer, signed: bool):
    random_ = random.Random(23)
    codes: Counter[Any] = Counter()
    # The watchdog reads the source of what blocks the loop, whatever that is.
    async with serving(watchdog=0.0) as server, channel_to(server) as channel:
        good = []
        for workflow in ("asking", "free"):
            run_id = await start_run(channel, workflow)
            await waiting(channel, run_id)
            request = snapshot_service_pb2.GetSnapshotRequest(run_id=run_id)
            answer = await call(channel, METHODS["GetSnapshot"], frames(request))
            good.append(snapshot_service_pb2.GetSnapshotResponse.FromString(answer.messages[0]).snapshot)

        async def start(snapshot: types_pb2.ContextSnapshot) -> Any:
            request = runs.StartRunRequest(workflow=snapshot.workflow, snapshot=snapshot)
            answer = await call(channel, METHODS["StartRun"], frames(request))
            if answer.code is grpc.StatusCode.OK:
                started = runs.StartRunResponse.FromString(answer.messages[0]).run.run_id
                for name, end in (
                    ("CancelRun", runs.CancelRunRequest(run_id=started)),
                    ("DeleteRun", runs.DeleteRunRequest(run_id=started)),
                ):
                    ended = await call(channel, METHODS[name], frames(end))
                    assert ended.code is grpc.StatusCode.OK, ended
            return answer

        async def job(number: int) -> None:
            base = good[number % 2]
            if signed:
                snapshot = signer.sign(mutant(base, random_))
            elif number % 3:
                snapshot = mutant(base, random_)
            else:
                snapshot = types_pb2.ContextSnapshot()
                snapshot.CopyFrom(base)
                snapshot.signature = mutate(base.signature, random_, [base.head_json])
            answer = await start(snapshot)
            assert answer.code in ALLOWED, (answer, snapshot)
            if not signed and snapshot != base:
                assert answer.reason == "INVALID_SNAPSHOT", answer
            codes[answer.code] += 1

        for snapshot in good:
            assert (await start(snapshot)).code is grpc.StatusCode.OK
        logging.disable()  # a step's traceback in the log reads the step's source
        try:
            await crowd(100, 4, job)
            codes.clear()
            heard.events.clear()
            with heard.listen():
                await crowd(MUTANTS // 2, 8, job)
        finally:
            logging.disable(logging.NOTSET)
    assert heard.events == []
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > MUTANTS / 10
    if signed:
        # Some changes make another good snapshot.
        assert codes[grpc.StatusCode.OK] > MUTANTS / 100
