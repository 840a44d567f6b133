"""The audit log: who changed what, from where, of all rpcs and frames that change something, and no payloads."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from tests.integration.rpc_flows import SECRET, Ask
from tests.integration.rpc_serving import JSON, Rpc, event, payload, registry_of, serving
from tests.system.security.support import METHODS

from stepwire.server.auth import new_key
from stepwire.server.rpc import RULES
from stepwire.server.rpc.gate.method_scopes import FRAMES
from stepwire.server.store import Status
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import schedule_service_pb2 as schedules
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types
from stepwire.v1 import workflow_service_pb2 as workflows
from stepwire.workflow import Context, Event, StartEvent, StopEvent, Workflow, step


class Paid(Event):
    """An answer, but no HumanResponseEvent."""


class Wait(Workflow):
    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Paid, timeout=None)
        return StopEvent()


READING = {
    "ListWorkflows", "GetWorkflow", "GetRun", "ListRuns", "WaitRun", "StreamEvents", "GetState", "GetSnapshot",
    "ListSnapshots", "GetServer", "WhoAmI", "GetSchedule", "ListSchedules",
}  # fmt: skip
"""The rpcs that change nothing. Converse changes something by its frames, ApplyToRuns run by run."""


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def caller(directory: Path, name: str, *scopes: str) -> tuple[str, Path]:
    """Return a key, and the access file that knows it."""
    made, file = new_key(), directory / "keys.toml"
    listed = ", ".join(f'"{scope}"' for scope in scopes)
    file.write_text(f'[[keys]]\nid = "{made.id}"\nhash = "{made.hash}"\nname = "{name}"\nscopes = [{listed}]\n')
    return made.key, file


def post(host: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_every_rpc_that_changes_something_has_a_word_for_the_audit_log() -> None:
    words = {name.rpartition("/")[2]: rule.changes for name, rule in RULES.items() if "stepwire" in name}
    assert set(words) == set(METHODS)
    assert {name for name, word in words.items() if not word} == READING | {"Converse", "ApplyToRuns"}
    assert {kind for kind, method in FRAMES.items() if method and RULES[method].changes} == {"start", "send", "cancel"}


def _spec() -> schedules.ScheduleSpec:
    timing = schedules.ScheduleTiming(cron="0 0 1 1 *")
    return schedules.ScheduleSpec(workflow="ask", timing=timing, input=payload({"item": SECRET}), description=SECRET)


REQUESTS: dict[str, Callable[[str], Any]] = {
    "StartRun": lambda run: runs.StartRunRequest(
        workflow="ask", run_id="made", input=payload({"item": SECRET}), request_id="r-start"
    ),
    "SendEvent": lambda run: runs.SendEventRequest(run_id=run, event=event("Note", n=1, text=SECRET), request_id="r"),
    "PublishEvent": lambda run: runs.PublishEventRequest(run_id=run, event=event("Note", n=2, text=SECRET)),
    "WaitForEvent": lambda run: runs.WaitForEventRequest(
        run_id=run, event_type="StopEvent", waiter_event=event("Question", text=SECRET), timeout={"nanos": 1}
    ),
    "SetState": lambda run: states.SetStateRequest(
        run_id=run, values=[states.PathValue(path="k", value=payload(SECRET))]
    ),
    "UnsetState": lambda run: states.UnsetStateRequest(run_id=run, paths=["k"]),
    "ReplaceState": lambda run: states.ReplaceStateRequest(run_id=run, value=payload({"k": SECRET})),
    "ReloadRun": lambda run: runs.ReloadRunRequest(run_id=run),
    "PauseRun": lambda run: runs.PauseRunRequest(run_id=run, reason=SECRET),
    "ResumeRun": lambda run: runs.ResumeRunRequest(run_id=run),
    "PauseWorkflow": lambda run: workflows.PauseWorkflowRequest(name="ask", reason=SECRET),
    "ResumeWorkflow": lambda run: workflows.ResumeWorkflowRequest(name="ask"),
    "CreateSchedule": lambda run: schedules.CreateScheduleRequest(schedule_id="s", spec=_spec()),
    "UpdateSchedule": lambda run: schedules.UpdateScheduleRequest(schedule_id="s", spec=_spec()),
    "PauseSchedule": lambda run: schedules.PauseScheduleRequest(schedule_id="s", reason=SECRET),
    "ResumeSchedule": lambda run: schedules.ResumeScheduleRequest(schedule_id="s"),
    "TriggerSchedule": lambda run: schedules.TriggerScheduleRequest(schedule_id="s"),
    "BackfillSchedule": lambda run: schedules.BackfillScheduleRequest(
        schedule_id="s", start_time={"seconds": 60}, end_time={"seconds": 120}
    ),
    "DeleteSchedule": lambda run: schedules.DeleteScheduleRequest(schedule_id="s"),
    "CancelRun": lambda run: runs.CancelRunRequest(run_id=run, reason=SECRET),
    "RetryRun": lambda run: runs.RetryRunRequest(run_id=run),
    "DeleteRun": lambda run: runs.DeleteRunRequest(run_id=run),
}
"""A request for each rpc that changes something, in an order in which they can be made."""


def test_there_is_a_request_for_each() -> None:
    assert set(REQUESTS) == {name.rpartition("/")[2] for name, rule in RULES.items() if rule.changes}


@pytest.mark.parametrize("via", ["grpc", "web"])
async def test_each_call_is_a_record_without_payloads(tmp_path: Path, via: str) -> None:
    path = tmp_path / "audit.jsonl"
    key, keys = caller(tmp_path, "alice", "read", "write", "admin")
    more: dict[str, Any] = {"web_address": "127.0.0.1:0"} if via == "web" else {}
    async with serving(registry_of(ask=Ask), audit_log=str(path), api_keys=keys, **more) as rpc:
        token = (("authorization", f"Bearer {key}"),)
        run = await rpc.runs.StartRun(
            runs.StartRunRequest(workflow="ask", input=payload({"item": "x"})), metadata=token
        )
        run_id = run.run.run_id
        path.write_text("")
        for name, make in REQUESTS.items():
            full = METHODS[name].name
            if via == "grpc":
                call = rpc.channel.unary_unary(full)
                await call(make(run_id).SerializeToString(), metadata=token)
            else:
                body = json_format.MessageToDict(make(run_id))
                headers = {"authorization": f"Bearer {key}", "stepwire-client": "1.2.3.4:5"}
                status, text = await asyncio.to_thread(post, str(rpc.server.web_address), full, body, headers)
                assert status == 200, text
    found = records(path)
    assert [record["method"] for record in found] == list(REQUESTS)
    assert [record["action"] for record in found] == [
        "start", "answer", "publish", "ask", "set", "unset", "replace", "reload", "pause", "resume", "pause", "resume",
        "create schedule", "update schedule", "pause schedule", "resume schedule", "trigger schedule",
        "backfill schedule", "delete schedule", "cancel", "retry", "delete",
    ]  # fmt: skip
    for record in found:
        assert (record["principal"], record["via"], record["result"]) == ("alice", via, "OK")
        assert re.fullmatch(r"127\.0\.0\.1:\d+", record["address"]), "whom the web calls for, not what it was told"
        assert record["time"].endswith("Z")
        assert record["namespace"]
        if record["method"].endswith("Workflow"):
            assert record["workflow"] == "ask"
        elif record["method"].endswith("Schedule"):
            assert record["schedule"] == "s"
            assert record.get("run", "").startswith("s-now-") is (record["method"] == "TriggerSchedule")
        else:
            assert record["run"] == ("made" if record["method"] == "StartRun" else run_id)
    assert found[0]["request_id"] == "r-start"
    assert found[1]["event"] == "Note"
    assert found[1]["workflow"] == "ask"
    assert found[-2]["made"] != run_id, "the run that goes on"
    assert SECRET not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_each_frame_is_a_record(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with serving(registry_of(ask=Ask), audit_log=str(path)) as rpc:
        call = rpc.converse()
        start = runs.StartRunRequest(workflow="ask", input=payload({"item": SECRET}), encoding=JSON)
        await call.write(runs.ConverseRequest(start=runs.ConverseStart(request=start)))
        run_id = (await call.read()).opened.run.run_id
        await call.write(runs.ConverseRequest(send=runs.ConverseSend(request_id="a", event=event("Nonsense"))))
        await call.write(runs.ConverseRequest(send=runs.ConverseSend(request_id="b", event=event("Note", n=1))))
        await call.write(runs.ConverseRequest(cancel=runs.ConverseCancel(reason=SECRET)))
        while (frame := await call.read()) is not grpc.aio.EOF and frame.WhichOneof("frame") != "finished":
            pass
        attach = rpc.converse()
        await attach.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run_id)))
        await attach.read()
    found = sorted(records(path), key=lambda record: (record["frame"], record.get("request_id", "")))
    told = [(each["frame"], each["action"], each["result"], each.get("request_id", "")) for each in found]
    assert told == [
        ("cancel", "cancel", "OK", ""),
        ("send", "send", "INVALID_ARGUMENT", "a"),
        ("send", "answer", "OK", "b"),
        ("start", "start", "OK", ""),
    ]
    assert found[1]["reason"] == "UNKNOWN_EVENT_TYPE"
    assert {record["run"] for record in found} == {run_id}
    assert SECRET not in path.read_text()


@pytest.mark.parametrize("frame", ["", "send"])
async def test_an_answer_to_a_run_that_is_not_in_memory_is_one(tmp_path: Path, frame: str) -> None:
    """Most answers come to such runs. The question is of a type that only the question makes an answer."""
    path, data = tmp_path / "audit.jsonl", str(tmp_path / "data")
    async with serving(registry_of(wait=Wait), data) as rpc:
        run_id = (await rpc.start("wait", {})).run_id
        await rpc.status(run_id, Status.WAITING)
    async with serving(registry_of(wait=Wait), data, audit_log=str(path)) as rpc:
        if frame:
            call = rpc.converse()
            await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run_id)))
            await call.write(runs.ConverseRequest(send=runs.ConverseSend(event=event("Paid"))))
        else:
            await rpc.runs.SendEvent(runs.SendEventRequest(run_id=run_id, event=event("Paid")))
        assert (await rpc.ended(run_id)).status == types.RUN_STATUS_COMPLETED
        await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run_id))
    answered, deleted = records(path)
    assert answered["action"] == "answer"
    assert answered.get("frame", "") == frame
    for record in (answered, deleted):
        assert (record["run"], record["workflow"], record["result"]) == (run_id, "wait", "OK")


async def test_what_is_done_with_many_runs_is_a_record_for_each(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with serving(registry_of(ask=Ask), audit_log=str(path)) as rpc:
        made = {(await rpc.asking("tea")).run_id for _ in range(3)}
        path.write_text("")
        for dry_run in (True, False):
            request = runs.ApplyToRunsRequest(
                filter=runs.RunFilter(workflow="ask"), cancel=runs.CancelRuns(reason=SECRET), dry_run=dry_run
            )
            async for _ in rpc.runs.ApplyToRuns(request):
                pass
    found = records(path)
    assert [(each["action"], each["frame"], each["result"]) for each in found] == [("cancel", "apply", "OK")] * 3
    assert {each["run"] for each in found} == made
    assert {each["workflow"] for each in found} == {"ask"}
    assert SECRET not in path.read_text()


async def test_reads_leave_no_record(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with serving(registry_of(ask=Ask), audit_log=str(path)) as rpc:
        run = await rpc.asking("tea")
        await rpc.log(run.run_id)
        await rpc.runs.ListRuns(runs.ListRunsRequest())
        await rpc.states.GetState(states.GetStateRequest(run_id=run.run_id))
        await rpc.runs.WaitForEvent(
            runs.WaitForEventRequest(run_id=run.run_id, event_type="Question", after_sequence=0)
        )
    assert [record["action"] for record in records(path)] == ["start"]


async def test_a_fork_says_where_from(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with serving(registry_of(ask=Ask), audit_log=str(path)) as rpc:
        run = await rpc.asking("tea")
        request = runs.StartRunRequest(workflow="ask", encoding=JSON)
        getattr(request, "from").CopyFrom(types.SnapshotRef(run_id=run.run_id, sequence=run.last_sequence))
        forked = (await rpc.runs.StartRun(request)).run
    record = records(path)[-1]
    assert (record["action"], record["from"]) == ("fork", f"{run.run_id}@{run.last_sequence}")
    assert record["run"] == forked.run_id


async def test_refused_calls_are_records_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    key, keys = caller(tmp_path, "reader", "read")
    async with serving(registry_of(ask=Ask), audit_log=str(path), api_keys=keys) as rpc:
        for metadata in ((("authorization", f"Bearer {key}"),), (("authorization", "Bearer wrong"),), ()):
            with pytest.raises(grpc.aio.AioRpcError):
                await rpc.runs.CancelRun(runs.CancelRunRequest(run_id="some"), metadata=metadata)
    found = records(path)
    assert [(each.get("principal", ""), each["result"], each["action"]) for each in found] == [
        ("reader", "PERMISSION_DENIED", "cancel"),
        ("", "UNAUTHENTICATED", "cancel"),
        ("", "UNAUTHENTICATED", "cancel"),
    ]
    assert all(each["reason"] for each in found)


async def test_a_file_that_was_rotated_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with serving(registry_of(ask=Ask), audit_log=str(path)) as rpc:
        await rpc.asking("tea")
        path.rename(tmp_path / "old.jsonl")
        await rpc.asking("tea")
    assert len(records(path)) == len(records(tmp_path / "old.jsonl")) == 1


async def test_it_may_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(registry_of(ask=Ask), audit_log="log") as rpc:
        run = await rpc.asking("tea")
    (record,) = (each for each in caplog.records if each.name == "stepwire.audit")
    assert re.fullmatch(rf"start of run {run.run_id} by anonymous from \S+: OK", record.getMessage())
    assert record.stepwire["action"] == "start"  # type: ignore[attr-defined]


async def test_without_the_setting_there_is_none(caplog: pytest.LogCaptureFixture, rpc: Rpc) -> None:
    await rpc.asking("tea")
    assert not [each for each in caplog.records if each.name == "stepwire.audit"]


async def test_a_request_without_a_credential_has_no_caller_behind_another_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    key, keys = caller(tmp_path, "alice", "write")
    body = json.dumps({"workflow": "ask", "input": {"value": {"item": "tea"}}})
    async with serving(registry_of(ask=Ask), audit_log=str(path), api_keys=keys, web_address="127.0.0.1:0") as rpc:
        host = str(rpc.server.web_address)
        name, port = host.split(":")
        requests = "".join(
            f"POST /stepwire.v1.RunService/StartRun HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{line}\r\n\r\n{body}"
            for line in (f"authorization: Bearer {key}", "connection: close")
        )
        reader, writer = await asyncio.open_connection(name, int(port))
        writer.write(requests.encode())  # at once: the second one begins where the first one ends
        answers = (await asyncio.wait_for(reader.read(), 60)).decode()
        writer.close()
    assert re.findall(r"HTTP/1\.1 (\d+)", answers) == ["200", "401"]
    assert [(each.get("principal"), each["result"]) for each in records(path)] == [
        ("alice", "OK"),
        (None, "UNAUTHENTICATED"),
    ]
