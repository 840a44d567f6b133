"""The depth and the weight of JSON documents, found without parsing them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stepwire.server.config import Settings
from stepwire.server.rpc.gate.limits import Limits
from stepwire.server.runs import payloads
from stepwire.server.runs.errors import InvalidError, LimitError
from stepwire.server.runs.payloads import VALUE_BYTES, deeper_than, parse_input, weight
from stepwire.v1 import run_service_pb2 as pb_runs
from stepwire.v1 import state_service_pb2 as pb_state
from stepwire.v1 import types_pb2 as pb
from stepwire.workflow import StartEvent
from stepwire.workflow.errors import SerializationError
from stepwire.workflow.hosting import MAX_DEPTH

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(alphabet='[]{}",\\a')
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='[{",'), inner, max_size=4)
)


def depth_of(value: Any) -> int:
    """Return the levels of lists and dicts."""
    if isinstance(value, list | dict):
        return 1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)
    return 0


def values_of(value: Any) -> int:
    """Count the values in a document, itself included."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(values_of, items))


@given(DOCUMENTS, st.integers(1, 6))
def test_depth_is_that_of_the_parsed_document(value: Any, levels: int) -> None:
    assert deeper_than(json.dumps(value).encode(), levels) == (depth_of(value) > levels)


@pytest.mark.parametrize("data", [b"[" * 200, b'{"a":' * 101, b'["' + b"[" * 200, b"[{" * 60 + b"]" * 10])
def test_depth_of_what_is_cut_off(data: bytes) -> None:
    assert deeper_than(data, 100) == (not data.startswith(b'["'))


@given(DOCUMENTS)
def test_weight_is_that_of_the_text_or_of_the_values(value: Any) -> None:
    data = json.dumps(value).encode()
    found = weight(data)
    assert max(len(data), VALUE_BYTES * (values_of(value) - 1)) <= found
    assert found <= max(len(data), VALUE_BYTES * 2 * values_of(value))
    assert found <= weight(data, limit=1 << 30)


def test_weight_of_text_is_its_length() -> None:
    data = json.dumps({"text": ",[{" * 50_000}).encode()
    assert weight(data) == len(data)


def test_no_setting_admits_what_is_too_deep_to_be_saved() -> None:
    assert Settings(max_depth=MAX_DEPTH).max_depth == Limits().depth == MAX_DEPTH
    with pytest.raises(ValidationError):
        Settings(max_depth=MAX_DEPTH + 1)


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"[1]", "must be a JSON object"), (b"[1", "is not valid JSON"), (b'{"a": 1}', "The input cannot be saved")],
)
async def test_an_input_that_a_library_refuses_is_told_what_is_wrong(
    data: bytes, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*arguments: object) -> None:
        raise SerializationError("it does not fit", keys=["a"])

    monkeypatch.setattr(payloads, "receive", refuse)  # as it does for classes of LlamaIndex
    served: Any = SimpleNamespace(workflow=SimpleNamespace(start_event_class=StartEvent), names=None)
    with pytest.raises(InvalidError, match=told):
        await parse_input(served, data)


def test_a_limit_says_what_is_too_large_its_size_and_the_setting() -> None:
    limits = Limits(event_bytes=10, state_bytes=20, message_bytes=30, snapshot_bytes=40, depth=1)
    large = pb.Payload(json=b'"0123456789"')
    deep = pb.Payload(json=b"[[[]]]")
    path = pb_state.PathValue(path="cart", value=pb.Payload(json=b"0" * 21))
    for check, told in (
        (lambda: limits.check_message(31), "The message has 31 bytes, and may have at most 30 (max_message_bytes)"),
        (lambda: limits.check_event(large), "The event has 12 bytes, and may have at most 10 (max_event_bytes)"),
        (
            lambda: limits.check_request(pb_runs.StartRunRequest(input=large)),
            "The input has 12 bytes, and may have at most 10 (max_event_bytes)",
        ),
        (
            lambda: limits.check_request(pb_state.SetStateRequest(values=[path])),
            "The value of cart has 21 bytes, and may have at most 20 (max_state_bytes)",
        ),
        (lambda: limits.check_event(deep), "The event may be nested at most 1 levels (max_depth)"),
    ):
        with pytest.raises(LimitError) as caught:
            check()
        assert str(caught.value) == told
