"""State paths made of gadgets reach data only: nothing of the process changes, and none gets past its checks."""

from __future__ import annotations

import builtins
import os
import random
import sys
import types
from collections import Counter
from typing import Any

import grpc
import pytest
from tests.system.security.support import METHODS, call, channel_to, count, crowd, serving, start_run, waiting

from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2

PATHS = count(400, 100_000)

GADGETS = [
    "__class__", "__init__", "__globals__", "__builtins__", "__dict__", "__subclasses__", "__mro__", "__base__",
    "__reduce__", "__getattribute__", "__setattr__", "__code__", "__closure__", "__func__", "__self__", "__wrapped__",
    "__import__", "__loader__", "__spec__", "__doc__", "__annotations__", "__pydantic_fields__", "__fields_set__",
    "__pydantic_validator__", "__pydantic_private__", "__pydantic_extra__", "_data", "_private", "_", "__",
    "model_fields", "model_config", "model_dump", "model_validate", "model_copy", "model_construct", "copy", "dict",
    "json", "keys", "values", "items", "get", "set", "pop", "update", "clear", "append", "extend", "sort", "format",
    "gi_frame", "f_globals", "f_back", "tb_frame", "cr_frame", "func_globals", "os", "sys", "system", "popen",
    "environ", "modules", "config", "logger", "root", "secret", "class", "prototype", "constructor", "__proto__",
    "0", "1", "2", "3", "00", "01", "-1", "-0", "+1", "1e3", "0x1", "1.0", " 1", "1 ", "\u0661", "9" * 20, "1_0",
    "", " ", ".", "\x00", "\n", "a" * 300, "text", "inner", "count", "words", "extra", "a", "b", "é", "🦀", "\ud7ff",
    "[0]", "['a']", "a[0]", "a/b", "../..", "*", "$", "{}", "%s", "{0.__class__}", "${jndi:ldap://x}", "`id`", "$(id)",
]  # fmt: skip


def gadget(random_: random.Random) -> str:
    """Return a path: chains of gadgets, some long, some empty."""
    length = random_.choice((0, 1, 1, 2, 2, 3, 4, 8, 63, 64, 65, 200))
    path = ".".join(random_.choice(GADGETS) for _ in range(length))
    starts = ("", "", "text.", "inner.", "inner.words.", "items.", "extra.", "items.0.")
    return random_.choice(starts) + path


_WATCHED = {
    "stepwire", "builtins", "os", "sys", "pydantic", "pydantic_core", "grpc", "google", "logging", "asyncio", "json",
    "typing", "types", "posixpath", "subprocess", "importlib",
}  # fmt: skip


def fingerprint() -> dict[str, dict[str, int]]:
    """Return the identity of every global of the modules that matter, and of what their classes hold."""
    found: dict[str, dict[str, int]] = {}
    for name, module in sorted(sys.modules.items()):
        watched = name.partition(".")[0] in _WATCHED or name == "tests.system.security.flows"
        if not watched or not isinstance(module, types.ModuleType):
            continue
        names = vars(module)
        found[name] = {key: id(value) for key, value in names.items() if not key.startswith("last_")}
        for key, value in names.items():
            if isinstance(value, type) and name.startswith(("stepwire", "tests")):
                # Caches that abstract classes keep of themselves are not attributes of the workflow.
                own = {inner: id(item) for inner, item in vars(value).items() if not inner.startswith("_abc")}
                found[f"{name}.{key}"] = own
    found["builtins"] = {key: id(value) for key, value in vars(builtins).items() if key != "_"}
    found["environ"] = {key: hash(value) for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return found


ALLOWED = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workflow", ["asking", "free"])
async def test_gadget_paths_reach_data_only(workflow: str):
    random_ = random.Random(18)
    codes: Counter[Any] = Counter()
    async with serving() as server, channel_to(server) as channel:
        run_id = ""

        async def fresh() -> str:
            found = await start_run(channel, workflow)
            await waiting(channel, found)
            return found

        run_id = await fresh()

        async def job(number: int) -> None:
            nonlocal run_id
            if number % 5000 == 4999:
                run_id = await fresh()
            path = gadget(random_)
            refused = any(segment.startswith("_") or not segment for segment in path.split("."))
            value = types_pb2.Payload(json=random_.choice((b'"x"', b"1", b"{}", b'{"__class__": "x"}', b"null")))
            written = states.SetStateRequest(run_id=run_id)
            written.values.add(path=path, value=value)
            for name, request in (
                ("GetState", states.GetStateRequest(run_id=run_id, path=path)),
                ("SetState", written),
                ("UnsetState", states.UnsetStateRequest(run_id=run_id, paths=[path])),
            ):
                answer = await call(channel, METHODS[name], [request.SerializeToString()])
                assert answer.code in ALLOWED, (name, path, answer)
                codes[answer.code] += 1
                if refused and not (path == "" and name == "GetState"):
                    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT, (name, path, answer)

        # Everything that is made on first use is made before the count.
        await crowd(100, 8, job)
        before = fingerprint()
        await crowd(PATHS // 2, 16, job)
        after = fingerprint()
    assert before.keys() <= after.keys()
    assert {name: after[name] for name in before} == before
    assert min(codes[code] for code in ALLOWED) > PATHS / 50
