"""Traces: one from the client over the server to the steps, kept over restarts; nothing without OpenTelemetry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.serving import ServerProcess

from stepwire.client import RunFailedError, SyncClient
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc

FLOWS = [f"tests/operations/traced_flows.py:{name}={name.lower()}" for name in ("Ask", "Fail", "Slow")]
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
CALLER = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from stepwire.client import SyncClient
trace.set_tracer_provider(TracerProvider())
with SyncClient(sys.argv[1]) as client, trace.get_tracer("caller").start_as_current_span("order") as span:
    run = client.start_run("ask")
    print(run.run_id, format(span.get_span_context().trace_id, "032x"), format(span.get_span_context().span_id, "016x"))
"""


def spans_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def start(address: str, workflow: str, traceparent: str) -> str:
    with grpc.insecure_channel(address) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        metadata = (("traceparent", traceparent), ("tracestate", "vendor=1"))
        return str(stub.StartRun(runs.StartRunRequest(workflow=workflow), metadata=metadata, timeout=20).run.run_id)


def until_asked(client: SyncClient, run_id: str) -> None:
    for event in client.run(run_id).events():
        if event.type == "InputRequiredEvent":
            return


def test_a_trace_goes_from_the_client_to_the_steps_and_over_a_restart(tmp_path: Path) -> None:
    spans = tmp_path / "spans"
    with ServerProcess(tmp_path / "data", FLOWS, env={"SPANS": str(spans)}) as server:
        done = subprocess.run(
            [sys.executable, "-c", CALLER, server.address], capture_output=True, check=True, text=True, timeout=60
        )
        run_id, trace, caller = done.stdout.split()
        with SyncClient(server.address) as client:
            until_asked(client, run_id)
        server.kill()
        server.start()
        with SyncClient(server.address) as client:
            run = client.run(run_id)
            until_asked(client, run_id)
            run.context.send_event(("HumanResponseEvent", {"text": "fine"}))
            assert run.result(20) == "fine"
    found = [span for span in spans_in(spans) if span["trace"] == trace]
    named = {span["name"]: span for span in found}
    call = named["stepwire.v1.RunService/StartRun"]
    assert (call["parent"], call["kind"]) == (caller, "SERVER")
    assert call["attributes"]["rpc.grpc.status_code"] == 0
    run_span = named["run ask"]
    assert run_span["parent"] == call["span"]
    assert run_span["attributes"] == {
        "stepwire.workflow": "ask",
        "stepwire.run_id": run_id,
        "stepwire.resumed": True,
        "stepwire.status": "completed",
    }
    for name, attempt in (("step ask", 2), ("step work", 1)):
        assert named[name]["parent"] == run_span["span"]
        assert named[name]["attributes"]["stepwire.attempt"] == attempt
    assert named["own"]["parent"] == named["step work"]["span"]


def test_a_failed_step_is_an_error_and_tells_no_text(tmp_path: Path) -> None:
    spans = tmp_path / "spans"
    with (
        ServerProcess(tmp_path / "data", FLOWS, env={"SPANS": str(spans)}) as server,
        SyncClient(server.address) as client,
        pytest.raises(RunFailedError),
    ):
        client.start_run("fail", secret="c4n4ry").result(20)
    named = {span["name"]: span for span in spans_in(spans)}
    for name in ("step fail", "run fail"):
        assert named[name]["status"] == "ERROR"
        assert named[name]["attributes"]["error.type"] == "ValueError"
    assert "c4n4ry" not in spans.read_text("utf-8")


def test_an_attempt_that_took_too_long_is_an_error_and_one_that_waits_is_parked(tmp_path: Path) -> None:
    spans = tmp_path / "spans"
    with (
        ServerProcess(tmp_path / "data", FLOWS, args=["--grace", "0"], env={"SPANS": str(spans)}) as server,
        SyncClient(server.address) as client,
    ):
        assert client.start_run("slow").result(20) == "done"
        until_asked(client, client.start_run("ask").run_id)
    found = spans_in(spans)
    attempts = sorted(
        (span["attributes"]["stepwire.attempt"], span["status"], span["attributes"]["stepwire.outcome"])
        for span in found
        if span["name"] == "step dawdle"
    )
    assert attempts == [(1, "ERROR", "failed"), (2, "UNSET", "finished")]
    (late,) = (span for span in found if span["status"] == "ERROR" and span["name"] == "step dawdle")
    assert late["attributes"]["error.type"] == "StepTimeoutError"
    (asked,) = (span for span in found if span["name"] == "step ask")
    assert (asked["status"], asked["attributes"]["stepwire.outcome"]) == ("UNSET", "parked")
    (run,) = (span for span in found if span["name"] == "run ask")
    assert (run["attributes"]["stepwire.status"], asked["parent"]) == ("released", run["span"])


def test_any_clients_trace_is_taken_and_nonsense_is_not(tmp_path: Path) -> None:
    spans = tmp_path / "spans"
    with ServerProcess(tmp_path / "data", FLOWS, env={"SPANS": str(spans)}) as server:
        start(server.address, "ask", PARENT)
        for nonsense in (f"00-{'0' * 32}-b7ad6b7169203331-01", f"ff{PARENT[2:]}", PARENT.upper(), "x", "00-" * 30):
            start(server.address, "ask", nonsense)
    calls = [span for span in spans_in(spans) if span["name"].endswith("StartRun")]
    assert len(calls) == 6
    assert [span["parent"] for span in calls] == ["b7ad6b7169203331"] + [""] * 5
    assert [span["trace"] == TRACE for span in calls] == [True] + [False] * 5


def test_without_opentelemetry_runs_keep_their_callers_trace_for_the_log(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked" / "opentelemetry"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text('raise ImportError("not installed")\n', "utf-8")
    with ServerProcess(
        tmp_path / "data", FLOWS, args=["--log-format", "json"], env={"PYTHONPATH": str(blocked.parent)}
    ) as server:
        run_id = start(server.address, "ask", PARENT)
        server.kill()
        server.start()
        with SyncClient(server.address) as client:
            run = client.run(run_id)
            until_asked(client, run_id)
            run.context.send_event(("HumanResponseEvent", {"text": "fine"}))
            assert run.result(20) == "fine"
    lines = [json.loads(line) for line in server.log.splitlines()]
    steps = [line for line in lines if line["logger"] == "author"]
    assert {line["step"] for line in steps} == {"ask", "work"}
    assert {(line["run"], line["trace"]) for line in steps} == {(run_id, TRACE)}


def test_an_export_without_its_packages_stops_the_start(tmp_path: Path) -> None:
    blocked = tmp_path / "opentelemetry"
    blocked.mkdir()
    (blocked / "__init__.py").write_text('raise ImportError("not installed", name="opentelemetry")\n', "utf-8")
    server = ServerProcess(
        tmp_path / "data",
        FLOWS,
        args=["--otlp-endpoint", "http://127.0.0.1:4317"],
        env={"PYTHONPATH": str(tmp_path)},
    )
    with pytest.raises(RuntimeError, match=r"opentelemetry is not installed: pip install 'stepwire\[otel\]'"):
        server.start()


LIBRARY = """
import asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from stepwire.workflow import StartEvent, StopEvent, Workflow, step

class Hello(Workflow):
    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=getattr(trace.get_current_span(), "name", ""))

async def main():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    assert await Hello().run() == ""  # nobody traces yet
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    with trace.get_tracer("caller").start_as_current_span("caller"):
        assert await Hello().run() == "step greet"
    names = {span.context.span_id: span.name for span in exporter.get_finished_spans()}
    for span in exporter.get_finished_spans():
        print(span.name, "in", names[span.parent.span_id] if span.parent else None)

asyncio.run(main())
"""


def test_a_library_run_is_a_span_of_its_caller() -> None:
    done = subprocess.run([sys.executable, "-c", LIBRARY], capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["caller in None", "run Hello in caller", "step greet in run Hello"]
