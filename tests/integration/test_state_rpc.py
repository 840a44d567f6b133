"""StateService: the state of a run, read and written from outside."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_serving import JSON, VALUE, Rpc, event, payload, plain, refused, serving

from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types

LONG = Duration(seconds=20)


async def get(rpc: Rpc, run_id: str, path: str = "") -> Any:
    """Return the value at a path."""
    return plain((await read(rpc, run_id, path)).value)


async def read(rpc: Rpc, run_id: str, path: str = "", encoding: int = JSON) -> states.GetStateResponse:
    """Read the value at a path."""
    request = states.GetStateRequest(run_id=run_id, path=path, encoding=encoding)  # type: ignore[arg-type]
    answer: states.GetStateResponse = await rpc.states.GetState(request)
    return answer


async def put(rpc: Rpc, run_id: str, values: dict[str, Any], **fields: Any) -> str:
    """Set values at paths and return the etag."""
    items = [states.PathValue(path=path, value=payload(value)) for path, value in values.items()]
    answer: states.SetStateResponse = await rpc.states.SetState(
        states.SetStateRequest(run_id=run_id, values=items, **fields)
    )
    return answer.etag


async def unset(rpc: Rpc, run_id: str, *paths: str, **fields: Any) -> str:
    """Remove the values at paths and return the etag."""
    request = states.UnsetStateRequest(run_id=run_id, paths=paths, **fields)
    answer: states.UnsetStateResponse = await rpc.states.UnsetState(request)
    return answer.etag


async def replace(rpc: Rpc, run_id: str, value: Any, **fields: Any) -> str:
    """Replace the state and return the etag."""
    request = states.ReplaceStateRequest(run_id=run_id, value=payload(value), **fields)
    answer: states.ReplaceStateResponse = await rpc.states.ReplaceState(request)
    return answer.etag


async def test_what_a_step_sets_can_be_read_and_what_is_set_steps_read(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    assert await get(rpc, run.run_id) == {"item": "tea", "count": 1}
    assert await get(rpc, run.run_id, "item") == "tea"
    await put(rpc, run.run_id, {"note": {"by": "me"}})
    run = await rpc.answer(run.run_id)
    assert plain(run.outcome.result)["note"] == {"by": "me"}


async def test_values_round_trip_exactly_in_json(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    for value in (
        None,
        True,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        2**64,
        0.1,
        2.0,
        1e300,
        "",
        'Grüße, 世界 🌍 \u0000 " \\',
        [],
        {},
        [1, [2, [3, {"deep": None}]]],
        {"items": 1, "keys": {"": 2, "a b": 3}},
    ):
        await put(rpc, run.run_id, {"value": value})
        found = await get(rpc, run.run_id, "value")
        assert found == value
        assert type(found) is type(value)


async def test_values_in_the_encoding_for_people(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    message = types.Payload()
    json_format.ParseDict({"n": 3, "x": 0.5, "big": 2**53, "list": [None, "a"]}, message.value)
    request = states.SetStateRequest(run_id=run.run_id, values=[states.PathValue(path="value", value=message)])
    await rpc.states.SetState(request)
    found = await get(rpc, run.run_id, "value")
    assert found == {"n": 3, "x": 0.5, "big": 2**53, "list": [None, "a"]}
    assert (type(found["n"]), type(found["big"])) == (int, int)
    assert (await read(rpc, run.run_id, "value.n", VALUE)).value.value.number_value == 3
    await put(rpc, run.run_id, {"value": 2**53 + 1})
    assert (await read(rpc, run.run_id, "value", VALUE)).value.value.string_value == str(2**53 + 1)
    assert (await read(rpc, run.run_id, "value", types.PAYLOAD_ENCODING_UNSPECIFIED)).value.WhichOneof(
        "encoding"
    ) == "value"


async def test_a_value_too_deep_for_protobuf_asks_for_json(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    await put(rpc, run.run_id, {"deep": deep})
    assert await get(rpc, run.run_id, "deep") == deep
    refusal = await refused(read(rpc, run.run_id, "deep", VALUE))
    assert refusal.reason == "INVALID_REQUEST"
    assert "JSON" in refusal.message


async def test_paths_go_through_dicts_and_lists(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    await put(rpc, run.run_id, {"a.b.c": 1, "list": [{"x": 1}, 2]})
    assert await get(rpc, run.run_id, "a") == {"b": {"c": 1}}
    await put(rpc, run.run_id, {"list.0.x": 5, "a.items": "a key like any other"})
    assert await get(rpc, run.run_id, "list.0") == {"x": 5}
    assert await get(rpc, run.run_id, "a.items") == "a key like any other"
    await unset(rpc, run.run_id, "a.b.c", "list.0.x")
    assert await get(rpc, run.run_id, "a.b") == {}
    assert await get(rpc, run.run_id, "list") == [{}, 2]


async def test_several_paths_are_written_all_or_none(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    etag = (await read(rpc, run.run_id)).etag
    refusal = await refused(put(rpc, run.run_id, {"item": "coffee", "count.deeper": 1}))
    assert refusal.reason == "INVALID_PATH"
    refusal = await refused(unset(rpc, run.run_id, "item", "nothing"))
    assert refusal.reason == "PATH_NOT_FOUND"
    found = await read(rpc, run.run_id)
    assert (plain(found.value), found.etag) == ({"item": "tea", "count": 1}, etag)


async def test_the_etag_changes_with_the_state_and_guards_a_write(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    first = (await read(rpc, run.run_id)).etag
    assert (await read(rpc, run.run_id, "item")).etag == first
    second = await put(rpc, run.run_id, {"a": 1}, etag=first)
    assert second != first
    assert (await read(rpc, run.run_id)).etag == second
    third = await unset(rpc, run.run_id, "a", etag=second)
    fourth = await replace(rpc, run.run_id, {"b": 1}, etag=third)
    assert len({first, second, third, fourth}) == 4
    await rpc.send(run.run_id, event("Note", n=1))
    await rpc.status(run.run_id, "WAITING")
    assert (await refused(put(rpc, run.run_id, {"a": 1}, etag=fourth))).reason == "ETAG_MISMATCH"


async def test_of_many_guarded_writes_one_wins(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    etag = (await read(rpc, run.run_id)).etag
    writes = [put(rpc, run.run_id, {"a": n}, etag=etag) for n in range(8)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    (winner,) = [n for n, result in enumerate(results) if isinstance(result, str)]
    assert await get(rpc, run.run_id, "a") == winner


async def test_replace_puts_another_state_in_place(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    await replace(rpc, run.run_id, {"only": [1]})
    assert await get(rpc, run.run_id) == {"only": [1]}
    await replace(rpc, run.run_id, {})
    assert await get(rpc, run.run_id) == {}
    run = await rpc.answer(run.run_id)
    assert plain(run.outcome.result)["note"] is None


async def test_a_typed_state_validates_and_converts(rpc: Rpc) -> None:
    run = await rpc.start("shop", {})
    await rpc.status(run.run_id, "WAITING")
    whole = {
        "owner": "nobody", "limit": 10, "lines": [], "tags": {}, "size": "small", "blob": "", "at": None,
    }  # fmt: skip
    assert await get(rpc, run.run_id) == whole
    await put(
        rpc,
        run.run_id,
        {
            "owner": "ann",
            "lines": [{"name": "tea", "price": 3}],
            "size": "large",
            "at": "2024-05-01T10:00:00Z",
            "tags.new": 1,
        },
    )
    await put(rpc, run.run_id, {"lines.0.price": 4})
    found = await get(rpc, run.run_id)
    assert found == {
        **whole,
        "owner": "ann",
        "lines": [{"name": "tea", "price": 4}],
        "size": "large",
        "at": "2024-05-01T10:00:00Z",
        "tags": {"new": 1},
    }
    for path, value in (("limit", "many"), ("lines.0.price", "dear"), ("size", "huge"), ("owner", None)):
        assert (await refused(put(rpc, run.run_id, {path: value}))).reason == "INVALID_STATE"
    assert (await refused(put(rpc, run.run_id, {"unknown": 1}))).reason in {"INVALID_PATH", "INVALID_STATE"}
    assert (await refused(get(rpc, run.run_id, "model_dump"))).reason in {"PATH_NOT_FOUND", "INVALID_PATH"}
    assert await get(rpc, run.run_id) == found
    await replace(rpc, run.run_id, {"owner": "bob", "lines": [{"name": "a", "price": 1}, {"name": "b", "price": 2}]})
    await rpc.send(run.run_id, event("HumanResponseEvent", response="no"))
    run = await rpc.ended(run.run_id)
    assert plain(run.outcome.result) == {"total": 3, "lines": ["a", "b"]}


async def test_bytes_are_base64(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    data = b"\x00\xfe\xff"
    blob = base64.b64encode(data).decode()
    await rpc.send(run.run_id, event("Note", n=1, blob=blob))
    await rpc.status(run.run_id, "WAITING")
    # The step got bytes and put them into the state.
    assert base64.urlsafe_b64decode(await get(rpc, run.run_id, "blob")) == data
    found = [plain(entry.payload)["blob"] for entry in await rpc.log(run.run_id) if entry.type == "Note"]
    assert [base64.urlsafe_b64decode(text) for text in found] == [data]


async def test_the_state_of_an_ended_run_can_be_read(tmp_path: Any) -> None:
    async with serving(data=str(tmp_path)) as rpc:
        run = await rpc.asking("tea")
        etag = await put(rpc, run.run_id, {"a": {"b": [1, 2]}})
        await rpc.answer(run.run_id)
        for found in (await read(rpc, run.run_id), await read(rpc, run.run_id)):
            assert plain(found.value) == {"item": "tea", "count": 1, "a": {"b": [1, 2]}}
            assert found.etag == etag
        assert await get(rpc, run.run_id, "a.b.1") == 2
        assert (await refused(get(rpc, run.run_id, "a.c"))).reason == "PATH_NOT_FOUND"
    async with serving(data=str(tmp_path)) as rpc:
        found = await read(rpc, run.run_id)
        assert (plain(found.value)["a"], found.etag) == ({"b": [1, 2]}, etag)


@pytest.mark.parametrize("idle", [60.0, 0.05])
async def test_a_write_survives_release_and_restart(tmp_path: Any, idle: float) -> None:
    async with serving(data=str(tmp_path), idle_after=idle) as rpc:
        run = await rpc.asking("tea")
        etag = await put(rpc, run.run_id, {"a": 1})
    async with serving(data=str(tmp_path), idle_after=idle) as rpc:
        found = await read(rpc, run.run_id)
        assert (plain(found.value)["a"], found.etag) == (1, etag)
        again = await put(rpc, run.run_id, {"a": 2}, etag=etag)
        assert again != etag


async def test_a_run_in_progress_is_read_and_written(rpc: Rpc, gate: Any) -> None:
    run = await rpc.start("hold", {"name": "a"})
    await gate.arrived(1)
    await put(rpc, run.run_id, {"seen": True})
    assert await get(rpc, run.run_id) == {"seen": True}
    gate.opened.set()
    assert (await rpc.ended(run.run_id)).status == types.RUN_STATUS_COMPLETED
    assert await get(rpc, run.run_id) == {"seen": True}
