"""A foreign client: `buf curl` knows nothing of us but what reflection tells it."""

from __future__ import annotations

import asyncio
import base64
import json
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2

BUF = Path(sysconfig.get_path("scripts")) / "buf"

pytestmark = pytest.mark.timeout(120)


async def buf_curl(address: str, method: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Call a method; return its messages. AssertionError with what buf says when it fails."""
    code, output, complaint = await try_buf_curl(address, method, request)
    assert code == 0, complaint
    return output


async def try_buf_curl(address: str, method: str, request: dict[str, Any]) -> tuple[int, list[dict[str, Any]], str]:
    process = await asyncio.create_subprocess_exec(
        BUF,
        *("curl", "--http2-prior-knowledge", "--protocol", "grpc", "-d", json.dumps(request)),
        f"http://{address}/stepwire.v1.{method}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    messages: list[dict[str, Any]] = []
    text, decoder = out.decode(), json.JSONDecoder()
    while text := text.lstrip():
        message, end = decoder.raw_decode(text)
        messages.append(message)
        text = text[end:]
    return process.returncode or 0, messages, err.decode()


async def test_a_run_from_start_to_end(address: str) -> None:
    (started,) = await buf_curl(
        address, "RunService/StartRun", {"workflow": "hello", "input": {"value": {"name": "Ada"}}}
    )
    run_id = started["run"]["runId"]
    assert started["run"]["workflow"] == "hello"

    frames = await buf_curl(address, "RunService/StreamEvents", {"runId": run_id, "options": {"includeInternal": True}})
    entries = [entry for frame in frames for entry in frame.get("events", {}).get("entries", [])]
    assert [int(entry["sequence"]) for entry in entries] == list(range(1, len(entries) + 1))
    assert (entries[0]["type"], entries[0]["payload"]) == ("StartEvent", {"value": {"name": "Ada"}})
    assert entries[-1]["kind"] == "ENTRY_KIND_TERMINAL"
    assert frames[-1]["finished"]["outcome"]["status"] == "RUN_STATUS_COMPLETED"
    assert frames[-1]["finished"]["outcome"]["result"] == {"value": "Hello, Ada!"}

    (waited,) = await buf_curl(address, "RunService/WaitRun", {"runId": run_id})
    assert waited["run"]["outcome"]["result"] == {"value": "Hello, Ada!"}


async def test_a_question_answered_and_the_state_read_and_written(address: str) -> None:
    request = {
        "workflow": "approval",
        "input": {"json": base64.b64encode(b'{"who": "Ada", "amount": 120}').decode()},
        "labels": {"by": "buf"},
    }
    (started,) = await buf_curl(address, "RunService/StartRun", request)
    run = {"runId": started["run"]["runId"]}
    (found,) = await buf_curl(
        address,
        "RunService/WaitForEvent",
        {**run, "eventType": "ApprovalQuestion", "afterSequence": 0, "timeout": "20s"},
    )
    question = found["entry"]["payload"]["value"]
    (got,) = await buf_curl(address, "RunService/GetRun", run)
    assert got["run"]["status"] == "RUN_STATUS_WAITING"
    assert got["run"]["pendingWaiters"][0]["prompt"]["payload"]["value"] == question

    (state,) = await buf_curl(address, "StateService/GetState", {**run, "path": "expense.who"})
    assert state["value"] == {"value": "Ada"}
    values = [{"path": "note", "value": {"value": {"seen": [1, 2]}}}]
    await buf_curl(address, "StateService/SetState", {**run, "values": values, "etag": state["etag"]})
    (state,) = await buf_curl(address, "StateService/GetState", {**run, "path": "note.seen.1"})
    assert state["value"] == {"value": 2}

    answer = {"expense_id": question["expense_id"], "verdict": "approve", "by": "buf"}
    event = {"type": "ApprovalAnswer", "payload": {"value": answer}}
    (sent,) = await buf_curl(address, "RunService/SendEvent", {**run, "event": event})
    assert sent["delivered"] == 1
    (waited,) = await buf_curl(address, "RunService/WaitRun", {**run, "timeout": "20s"})
    assert waited["run"]["outcome"]["result"] == {"value": "approved by buf"}
    (listed,) = await buf_curl(address, "RunService/ListRuns", {"labels": {"by": "buf"}})
    assert [item["runId"] for item in listed["runs"]] == [run["runId"]]


async def test_errors_say_what_is_wrong_in_a_way_that_programs_can_read(address: str) -> None:
    code, messages, complaint = await try_buf_curl(address, "RunService/StartRun", {"workflow": "no_such"})
    assert code != 0
    assert messages == []
    error = json.loads(complaint)
    assert error["code"] == "not_found"
    (info,) = (detail for detail in error["details"] if detail["type"] == "google.rpc.ErrorInfo")
    fact = error_details_pb2.ErrorInfo.FromString(base64.b64decode(info["value"] + "=="))
    assert (fact.reason, fact.domain) == ("WORKFLOW_NOT_FOUND", "stepwire")
