"""Requests whose payloads are wrong: inputs, events, paths and values of the state."""

from __future__ import annotations

from google.protobuf import struct_pb2
from tests.integration.refusals.table import (
    World,
    case,
    number_value,
    set_state,
)
from tests.integration.rpc_flows import SECRET
from tests.integration.rpc_serving import (
    JSON,
    Refusal,
    event,
    payload,
    plain,
    raw,
    refused,
)

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types


def _input(data: types.Payload, *fields: str, name: str, reason: str = "INVALID_INPUT") -> None:
    async def attempt(w: World) -> Refusal:
        return await refused(w.rpc.runs.StartRun(runs.StartRunRequest(workflow="ask", input=data)))

    attempt.__name__ = f"input_{name}"
    case(reason, *fields)(attempt)


def _unset_value() -> types.Payload:
    message = types.Payload()
    message.value.struct_value.fields["item"].SetInParent()
    return message


_input(payload({"item": 5, "count": SECRET}), "item", "count", name="of_wrong_types")


_input(payload({}), "item", name="with_a_field_missing")


_input(payload([SECRET]), name="that_is_a_list")


_input(raw(b'{"item": "' + SECRET.encode()), name="that_is_cut_off")


_input(raw(b'{"item": "\xff\xfe"}'), name="that_is_not_utf8")


_input(raw(b""), "item", name="of_no_bytes")


_input(raw(b'{"item": "tea", "count": NaN}'), name="with_nan_as_json")


_input(raw(b'{"item": "tea", "count": -Infinity}'), name="with_an_infinity_as_json")


_input(raw(b'{"item": "tea", "n": 1e999}'), "n", name="with_a_number_beyond_floats")


_input(number_value(float("nan")), name="with_nan_as_value")


_input(number_value(float("inf")), name="with_an_infinity_as_value")


_input(_unset_value(), name="with_an_unset_value")


_input(types.Payload(value=struct_pb2.Value()), name="that_is_an_unset_value")


@case("INVALID_EVENT", "n")
async def event_that_does_not_validate(w: World) -> Refusal:
    return await refused(w.rpc.send(w.open, event("Note", n=SECRET)))


@case("INVALID_EVENT", "event.type")
async def event_without_a_type(w: World) -> Refusal:
    return await refused(w.rpc.send(w.open, types.Event(payload=payload({"n": 1}))))


@case("INVALID_EVENT", "event.type")
async def no_event_at_all(w: World) -> Refusal:
    return await refused(w.rpc.runs.SendEvent(runs.SendEventRequest(run_id=w.open)))


@case("INVALID_EVENT", "n")
async def event_without_a_payload(w: World) -> Refusal:
    return await refused(w.rpc.send(w.open, types.Event(type="Note")))


@case("INVALID_EVENT")
async def event_of_nan(w: World) -> Refusal:
    sent = types.Event(type="Note", payload=types.Payload(value=number_value(float("nan")).value))
    return await refused(w.rpc.send(w.open, sent))


@case("INVALID_EVENT", "n")
async def published_event_that_does_not_validate(w: World) -> Refusal:
    request = runs.PublishEventRequest(run_id=w.open, event=event("Note", n=SECRET))
    return await refused(w.rpc.runs.PublishEvent(request))


@case("INVALID_EVENT", "text")
async def prompt_that_does_not_validate(w: World) -> Refusal:
    request = runs.WaitForEventRequest(run_id=w.open, event_type="Note", waiter_event=event("Question"))
    return await refused(w.rpc.runs.WaitForEvent(request))


@case("UNKNOWN_EVENT_TYPE")
async def event_of_an_unknown_type(w: World) -> Refusal:
    refusal = await refused(w.rpc.send(w.open, event("Nothing", x=SECRET)))
    assert refusal.facts == {"workflow": "ask", "type": "Nothing"}
    return refusal


@case("UNKNOWN_EVENT_TYPE")
async def event_that_no_client_may_send(w: World) -> Refusal:
    return await refused(w.rpc.send(w.open, event("StopEvent", result=SECRET)))


@case("INTERNAL_EVENT")
async def event_that_only_steps_send(w: World) -> Refusal:
    refusal = await refused(w.rpc.send(w.open, event("Ledger", x=SECRET)))
    assert refusal.facts == {"workflow": "ask", "type": "Ledger"}
    return refusal


@case("UNKNOWN_EVENT_TYPE")
async def wait_for_an_unknown_type(w: World) -> Refusal:
    return await refused(w.rpc.runs.WaitForEvent(runs.WaitForEventRequest(run_id=w.open, event_type="Nothing")))


@case("STEP_DOES_NOT_ACCEPT")
async def event_to_a_step_that_does_not_accept_it(w: World) -> Refusal:
    refusal = await refused(w.rpc.send(w.open, event("Answer", yes=True), step="note"))
    assert refusal.facts == {"workflow": "ask", "step": "note", "type": "Answer"}
    return refusal


def _path(path: str, name: str) -> None:
    async def read(w: World) -> Refusal:
        return await refused(w.rpc.states.GetState(states.GetStateRequest(run_id=w.open, path=path)))

    async def write(w: World) -> Refusal:
        return await refused(set_state(w, w.open, path, SECRET))

    read.__name__ = f"read_of_{name}"
    write.__name__ = f"write_to_{name}"
    case("INVALID_PATH", "path")(read)
    case("INVALID_PATH", "path")(write)


_path("_private", "a_private_name")


_path("__class__.__mro__", "a_dunder")


_path("a..b", "an_empty_segment")


_path(".".join("a" * 65), "a_path_that_is_too_long")


@case("INVALID_PATH", "path")
async def write_to_the_empty_path(w: World) -> Refusal:
    return await refused(set_state(w, w.open, "", {}))


@case("INVALID_PATH", "path")
async def write_below_a_text(w: World) -> Refusal:
    return await refused(set_state(w, w.open, "item.deeper", 1))


@case("INVALID_STATE", "values.1.value")
async def set_without_a_value(w: World) -> Refusal:
    values = [states.PathValue(path="a", value=payload(1)), states.PathValue(path="b")]
    return await refused(w.rpc.states.SetState(states.SetStateRequest(run_id=w.open, values=values)))


@case("INVALID_STATE")
async def set_of_malformed_json(w: World) -> Refusal:
    values = [states.PathValue(path="a", value=payload(1)), states.PathValue(path="b", value=raw(b"{"))]
    return await refused(w.rpc.states.SetState(states.SetStateRequest(run_id=w.open, values=values)))


@case("INVALID_STATE")
async def set_of_nan(w: World) -> Refusal:
    values = [states.PathValue(path="a", value=number_value(float("nan")))]
    return await refused(w.rpc.states.SetState(states.SetStateRequest(run_id=w.open, values=values)))


@case("INVALID_STATE", "limit")
async def set_that_the_state_does_not_take(w: World) -> Refusal:
    shop = await w.rpc.start("shop", {})
    await w.rpc.status(shop.run_id, "WAITING")
    refusal = await refused(set_state(w, shop.run_id, "limit", -1))
    found = await w.rpc.states.GetState(states.GetStateRequest(run_id=shop.run_id, path="limit", encoding=JSON))
    assert plain(found.value) == 10
    return refusal


@case("INVALID_STATE", "limit")
async def whole_state_that_does_not_fit(w: World) -> Refusal:
    shop = await w.rpc.start("shop", {})
    value = payload({"owner": "ann", "limit": SECRET})
    return await refused(w.rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=shop.run_id, value=value)))


@case("INVALID_STATE")
async def whole_state_that_is_no_object(w: World) -> Refusal:
    return await refused(w.rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=w.open, value=payload([SECRET]))))


@case("INVALID_STATE", "value")
async def replace_without_a_value(w: World) -> Refusal:
    return await refused(w.rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=w.open)))
