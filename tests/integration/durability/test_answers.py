"""Every answer of every rpc, errors included, tells of nothing that a crash can undo.

Transitions are made while the commits of the store are held back, and every rpc is called meanwhile. A call may answer
at once with what was committed before: the same answer as for a run without the transition. It may wait for the commit.
It must never tell of the transition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from tests.integration.durability.flows import Flow, ask
from tests.integration.durability.support import asked, held, life, settle
from tests.integration.rpc_serving import JSON, Refusal, Rpc, event, payload, refusal_of, refusal_of_status

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types
from stepwire.v1 import workflow_service_pb2 as workflows
from stepwire.workflow import Context, DictState

Call = Callable[[Rpc, str], Awaitable[Any]]

LAST = 3
"""The last sequence that is committed of a run of `ask`: its start event and its question."""

NOW = Duration(seconds=0)


def _values(**values: Any) -> list[states.PathValue]:
    return [states.PathValue(path=path, value=payload(value)) for path, value in values.items()]


def send(type_name: str = "Work", step: str = "", request_id: str = "", **fields: Any) -> Call:
    """Send an event."""
    return lambda rpc, run_id: rpc.runs.SendEvent(
        runs.SendEventRequest(run_id=run_id, event=event(type_name, **fields), step=step, request_id=request_id)
    )


def publish(request_id: str = "", text: str = "") -> Call:
    """Publish an event."""
    return lambda rpc, run_id: rpc.runs.PublishEvent(
        runs.PublishEventRequest(run_id=run_id, event=event("Note", text=text), request_id=request_id)
    )


def set_state(etag: str = "", request_id: str = "", **values: Any) -> Call:
    """Set values of the state."""
    return lambda rpc, run_id: rpc.states.SetState(
        states.SetStateRequest(run_id=run_id, values=_values(**values), etag=etag, request_id=request_id)
    )


def set_path(path: str) -> Call:
    """Set the value at a path."""
    return lambda rpc, run_id: rpc.states.SetState(states.SetStateRequest(run_id=run_id, values=_values(**{path: 1})))


def unset(path: str, etag: str = "") -> Call:
    """Remove a value of the state."""
    return lambda rpc, run_id: rpc.states.UnsetState(states.UnsetStateRequest(run_id=run_id, paths=[path], etag=etag))


def replace(etag: str = "", **values: Any) -> Call:
    """Replace the state."""
    return lambda rpc, run_id: rpc.states.ReplaceState(
        states.ReplaceStateRequest(run_id=run_id, value=payload(values), etag=etag)
    )


def get_state(path: str) -> Call:
    """Read the state."""
    return lambda rpc, run_id: rpc.states.GetState(states.GetStateRequest(run_id=run_id, path=path, encoding=JSON))


def start(run_id: str, request_id: str = "", *, use_existing: bool = False, **fields: Any) -> Call:
    """Start a run whose id, and whose request_id, is made of that of the run that is looked at."""
    policy = runs.RUN_ID_CONFLICT_POLICY_USE_EXISTING if use_existing else runs.RUN_ID_CONFLICT_POLICY_UNSPECIFIED
    return lambda rpc, of: rpc.runs.StartRun(
        runs.StartRunRequest(
            workflow="flow",
            input=payload(fields),
            run_id=run_id and of + run_id,
            request_id=request_id and of + request_id,
            run_id_conflict_policy=policy,
            encoding=JSON,
        )
    )


def fork(sequence: int) -> Call:
    """Start a run from another one."""

    def call(rpc: Rpc, run_id: str) -> Any:
        source: dict[str, Any] = {"from": types.SnapshotRef(run_id=run_id, sequence=sequence)}
        return rpc.runs.StartRun(runs.StartRunRequest(workflow="flow", **source))

    return call


def cancel(rpc: Rpc, run_id: str) -> Any:
    """Cancel a run."""
    return rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run_id))


def wait_for(type_name: str, after: int | None = None) -> Call:
    """Look for an event in the log."""
    return lambda rpc, run_id: rpc.runs.WaitForEvent(
        runs.WaitForEventRequest(run_id=run_id, event_type=type_name, after_sequence=after, timeout=NOW, encoding=JSON)
    )


def snapshot(sequence: int) -> Call:
    """Return a snapshot."""
    return lambda rpc, run_id: rpc.snapshots.GetSnapshot(snapshots.GetSnapshotRequest(run_id=run_id, sequence=sequence))


def stream(after: int) -> Call:
    """Read the stream as far as it is."""

    async def call(rpc: Rpc, run_id: str) -> list[Any]:
        return [frame async for frame in rpc.stream(run_id, after, no_follow=True, include_internal=True)]

    return call


def converse(*frames: runs.ConverseRequest, after: int = 0, answers: int = 2) -> Call:
    """Attach to a run, send frames, and return the first answers."""

    async def call(rpc: Rpc, run_id: str) -> list[Any]:
        session = rpc.converse()
        options = runs.StreamOptions(encoding=JSON, include_internal=True)
        attach = runs.ConverseAttach(run_id=run_id, after_sequence=after, options=options)
        await session.write(runs.ConverseRequest(attach=attach))
        for frame in frames:
            await session.write(frame)
        found = []
        for _ in range(answers):
            answer = await session.read()
            if answer == grpc.aio.EOF and await session.code() is grpc.StatusCode.OK:
                break  # the run has ended
            if answer == grpc.aio.EOF:
                raise grpc.aio.AioRpcError(
                    await session.code(),
                    await session.initial_metadata(),
                    await session.trailing_metadata(),
                    await session.details(),
                )
            found.append(answer)
        session.cancel()
        return found

    return call


def _frame(type_name: str, request_id: str = "", step: str = "", **fields: Any) -> runs.ConverseRequest:
    return runs.ConverseRequest(
        send=runs.ConverseSend(event=event(type_name, **fields), request_id=request_id, step=step)
    )


async def _counted(rpc: Rpc, run_id: str) -> list[Any]:
    """Count what an action on the run, and on the one that is started beside it, would be applied to."""
    chosen = runs.RunFilter(labels={"of": run_id})
    request = runs.ApplyToRunsRequest(filter=chosen, cancel=runs.CancelRuns(), dry_run=True)
    return [answer async for answer in rpc.runs.ApplyToRuns(request)]


def _unknown(method: Any) -> Any:
    """Pause or resume a workflow that is not there: it tells of no run, and one that is there would stop the others."""
    kind = workflows.PauseWorkflowRequest if "Pause" in str(method._method) else workflows.ResumeWorkflowRequest
    return method(kind(name="none"))


class Probe(NamedTuple):
    """A call of an rpc; `writes` says that its success tells of a commit of its own."""

    method: str
    call: Call
    writes: bool = False


PROBES: dict[str, Probe] = {
    "GetRun": Probe("GetRun", lambda rpc, run_id: rpc.get(run_id)),
    "ListRuns": Probe("ListRuns", lambda rpc, run_id: _listed(rpc, run_id)),
    "WaitRun": Probe(
        "WaitRun", lambda rpc, run_id: rpc.runs.WaitRun(runs.WaitRunRequest(run_id=run_id, timeout=NOW, encoding=JSON))
    ),
    "CancelRun": Probe("CancelRun", cancel, writes=True),
    "ReloadRun": Probe("ReloadRun", lambda rpc, run_id: rpc.runs.ReloadRun(runs.ReloadRunRequest(run_id=run_id))),
    "ApplyToRuns": Probe("ApplyToRuns", lambda rpc, run_id: _counted(rpc, run_id)),
    "PauseRun": Probe(
        "PauseRun", lambda rpc, run_id: rpc.runs.PauseRun(runs.PauseRunRequest(run_id=run_id)), writes=True
    ),
    "ResumeRun": Probe("ResumeRun", lambda rpc, run_id: rpc.runs.ResumeRun(runs.ResumeRunRequest(run_id=run_id))),
    "PauseWorkflow": Probe("PauseWorkflow", lambda rpc, run_id: _unknown(rpc.workflows.PauseWorkflow)),
    "ResumeWorkflow": Probe("ResumeWorkflow", lambda rpc, run_id: _unknown(rpc.workflows.ResumeWorkflow)),
    "RetryRun": Probe("RetryRun", lambda rpc, run_id: rpc.runs.RetryRun(runs.RetryRunRequest(run_id=run_id))),
    "DeleteRun": Probe("DeleteRun", lambda rpc, run_id: rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run_id))),
    "SendEvent": Probe("SendEvent", send(), writes=True),
    "SendEvent to a step that does not take it": Probe("SendEvent", send(step="work"), writes=True),
    "SendEvent to an unknown step": Probe("SendEvent", send(step="none"), writes=True),
    "SendEvent of an unknown type": Probe("SendEvent", send("None"), writes=True),
    "SendEvent that is not valid": Probe("SendEvent", send(n="x"), writes=True),
    "SendEvent repeated": Probe("SendEvent", send(request_id="sent"), writes=True),
    "SendEvent with a used request_id": Probe("SendEvent", send(request_id="sent", n=2), writes=True),
    "PublishEvent": Probe("PublishEvent", publish(), writes=True),
    "PublishEvent with a used request_id": Probe("PublishEvent", publish("sent"), writes=True),
    "WaitForEvent": Probe("WaitForEvent", wait_for("Work")),
    "WaitForEvent from the start": Probe("WaitForEvent", wait_for("Note", 0)),
    "WaitForEvent for the end": Probe("WaitForEvent", wait_for("WorkflowCancelledEvent", 0)),
    "WaitForEvent behind the log": Probe("WaitForEvent", wait_for("Work", LAST + 1)),
    "StreamEvents": Probe("StreamEvents", stream(0)),
    "StreamEvents behind the log": Probe("StreamEvents", stream(LAST + 1)),
    "Converse": Probe("Converse", converse()),
    "Converse behind the log": Probe("Converse", converse(after=LAST + 1, answers=1)),
    "Converse, sending": Probe("Converse", converse(_frame("Work"), answers=3), writes=True),
    "Converse, sending to the wrong step": Probe("Converse", converse(_frame("Work", step="work"), answers=3)),
    "Converse, cancelling": Probe(
        "Converse", converse(runs.ConverseRequest(cancel=runs.ConverseCancel()), answers=4), writes=True
    ),
    "StartRun": Probe("StartRun", start(".new"), writes=True),
    "StartRun with a taken run_id": Probe("StartRun", start(".started"), writes=True),
    "StartRun that uses an existing run": Probe("StartRun", start(".started", use_existing=True), writes=True),
    "StartRun repeated": Probe("StartRun", start(".started", ".start"), writes=True),
    "StartRun with a used request_id": Probe("StartRun", start(".new", ".start", a=1), writes=True),
    "StartRun from a run": Probe("StartRun", fork(0), writes=True),
    "StartRun from behind the log": Probe("StartRun", fork(LAST + 1), writes=True),
    "GetState": Probe("GetState", get_state("")),
    "GetState of a value": Probe("GetState", get_state("kept")),
    "GetState of a new value": Probe("GetState", get_state("new")),
    "GetState of a bad path": Probe("GetState", get_state("a..b")),
    "SetState": Probe("SetState", set_state(other=1), writes=True),
    "SetState with the old etag": Probe("SetState", set_state("v1", other=1), writes=True),
    "SetState with the new etag": Probe("SetState", set_state("v2", other=1), writes=True),
    "SetState repeated": Probe("SetState", set_state(request_id="set", new=1), writes=True),
    "SetState with a used request_id": Probe("SetState", set_state(request_id="set", new=2), writes=True),
    "SetState below a value": Probe("SetState", set_path("new.a"), writes=True),
    "UnsetState": Probe("UnsetState", unset("kept"), writes=True),
    "UnsetState of a new value": Probe("UnsetState", unset("new"), writes=True),
    "UnsetState with an etag": Probe("UnsetState", unset("kept", "v2"), writes=True),
    "ReplaceState": Probe("ReplaceState", replace(a=1), writes=True),
    "ReplaceState with an etag": Probe("ReplaceState", replace("v2", a=1), writes=True),
    "GetSnapshot": Probe("GetSnapshot", snapshot(0)),
    "GetSnapshot behind the log": Probe("GetSnapshot", snapshot(LAST + 1)),
    "ListSnapshots": Probe(
        "ListSnapshots",
        lambda rpc, run_id: rpc.snapshots.ListSnapshots(snapshots.ListSnapshotsRequest(run_id=run_id)),
    ),
    "ListWorkflows": Probe(
        "ListWorkflows", lambda rpc, _: rpc.workflows.ListWorkflows(workflows.ListWorkflowsRequest())
    ),
    "GetWorkflow": Probe(
        "GetWorkflow", lambda rpc, _: rpc.workflows.GetWorkflow(workflows.GetWorkflowRequest(name="flow"))
    ),
}

TRANSITIONS: dict[str, Call] = {
    "cancelled": cancel,
    "ended": send("Answer", n=1),
    "sent": send(request_id="sent"),
    "published": publish(),
    "set": set_state(request_id="set", new=1),
    "unset": unset("kept"),
    "replaced": replace(new=1),
    "started": start(".started", ".start"),
    "paused": lambda rpc, run_id: rpc.runs.PauseRun(runs.PauseRunRequest(run_id=run_id, reason="no")),
}


def test_every_rpc_of_the_contract_is_called() -> None:
    files = (runs, states, snapshots, workflows)
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    assert {method.name for service in services for method in service.methods} == {
        probe.method for probe in PROBES.values()
    }


async def _listed(rpc: Rpc, run_id: str) -> list[types.Run]:
    """Return what a list says of a run, and of the run that is started beside it."""
    query = runs.ListRunsRequest(labels={"of": run_id}, encoding=JSON)
    return list((await rpc.runs.ListRuns(query)).runs)


async def _answered(flow: Flow, ctx: Context[DictState]) -> int:
    """End with the answer; a run without the transition stays in its step then."""
    n = await ask(flow, ctx)
    if (ctx.run_id or "").startswith("a"):
        await flow.gate.opened.wait()
    return n


@pytest.mark.parametrize("transition", TRANSITIONS)
async def test_no_answer_tells_of_what_is_not_durable(tmp_path: Path, transition: str) -> None:
    async with life(tmp_path, Flow(_answered)) as rpc:
        names = {f"{kind}{number}": name for number, name in enumerate(PROBES) for kind in ("a", "b")}
        await asyncio.gather(*(_prepare(rpc, run_id) for run_id in names))
        if transition == "ended":
            await asyncio.gather(*(send("Answer", n=1)(rpc, run_id) for run_id in names if run_id[0] == "a"))
        # What may be told at once: what a run without the transition answers.
        before = {
            name: await _outcome(PROBES[name].call(rpc, run_id)) for run_id, name in names.items() if run_id[0] == "a"
        }
        targets = {run_id: name for run_id, name in names.items() if run_id[0] == "b"}
        with held(rpc.store) as hold:
            making = [asyncio.ensure_future(_made(TRANSITIONS[transition](rpc, run_id))) for run_id in targets]
            await hold.arrived(len(targets))
            if transition == "ended":  # the answer is handed to the step once it is durable; then the run ends
                for _ in targets:
                    await hold.pass_one()
                await hold.arrived(2 * len(targets))
            calls = {
                run_id: asyncio.ensure_future(_outcome(PROBES[name].call(rpc, run_id)))
                for run_id, name in targets.items()
            }
            await settle(rpc)
            await settle(rpc)
            told = {name: calls[run_id].result() for run_id, name in targets.items() if calls[run_id].done()}
        wrong = {
            name: (answer, before[name])
            for name, answer in told.items()
            if answer != before[name] or (PROBES[name].writes and not isinstance(answer, str))
        }
        assert wrong == {}
        assert len(told) > 15  # reads of what is committed wait for nothing
        for call in (*calls.values(), *making):
            await call


async def _made(call: Awaitable[Any]) -> None:
    with suppress(grpc.aio.AioRpcError):
        await call


async def _prepare(rpc: Rpc, run_id: str) -> None:
    """Start a run that waits for an answer, with a state that has changed once."""
    await rpc.start("flow", {}, run_id=run_id, labels={"of": run_id})
    assert (await asked(rpc, run_id)).last_sequence == LAST
    await set_state(kept=1)(rpc, run_id)


async def _outcome(call: Awaitable[Any]) -> Any:
    """Return what a call is told, free of run_ids and times: messages as dicts, a refusal as its text."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return _refusal(refusal_of(error))
    for message in answer if isinstance(answer, list) else [answer]:
        if isinstance(message, runs.ConverseResponse) and message.send_result.HasField("error"):
            return _refusal(refusal_of_status(message.send_result.error))
    if isinstance(answer, list):
        return [_plain(message) for message in answer]
    return _plain(answer)


def _refusal(refusal: Refusal) -> str:
    facts = {name: value for name, value in refusal.facts.items() if name != "run_id"}
    return f"{refusal.reason}: {refusal.message} {sorted(facts.items())}"


_UNEQUAL = {
    "runId", "resumeToken", "createdAt", "updatedAt", "endedAt", "time", "of", "signature", "keyId", "sizeBytes",
    "headJson", "dataJson", "since",
}  # fmt: skip
"""Fields that differ between two runs: ids and times."""


def _plain(message: Message) -> Any:
    return dict(_without(json_format.MessageToDict(message)))


def _without(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if key in _UNEQUAL:
            continue
        if isinstance(item, dict):
            yield key, dict(_without(item))
        elif isinstance(item, list):
            yield key, [dict(_without(each)) if isinstance(each, dict) else each for each in item]
        else:
            yield key, item
