"""Traces: one from the client over the server to the steps, kept over restarts; nothing without OpenTelemetry."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from tests.serving import ServerProcess

from stepwire.client import RunFailedError, SyncClient
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc

FLOWS = [f"tests/integration/operations/traced_flows.py:{name}={name.lower()}" for name in ("Ask", "Fail", "Slow")]
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


def start(address: str, workflow: str, *metadata: tuple[str, str]) -> str:
    with grpc.insecure_channel(address) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        return str(stub.StartRun(runs.StartRunRequest(workflow=workflow), metadata=metadata, timeout=60).run.run_id)


def until_asked(client: SyncClient, run_id: str) -> None:
    for event in client.run(run_id).events():
        if event.type == "InputRequiredEvent":
            return


def answer_after_a_kill(server: ServerProcess, run_id: str) -> None:
    """Kill the server, start it again, and answer what the run asks."""
    server.kill()
    server.start()
    with SyncClient(server.address) as client:
        run = client.run(run_id)
        until_asked(client, run_id)
        run.context.send_event(("HumanResponseEvent", {"text": "fine"}))
        assert run.result(60) == "fine"


def test_a_trace_goes_from_the_client_to_the_steps_and_over_a_restart(tmp_path: Path) -> None:
    spans = tmp_path / "spans"
    with ServerProcess(tmp_path / "data", FLOWS, env={"SPANS": str(spans)}) as server:
        done = subprocess.run(
            [sys.executable, "-c", CALLER, server.address], capture_output=True, check=True, text=True, timeout=60
        )
        run_id, trace, caller = done.stdout.split()
        with SyncClient(server.address) as client:
            until_asked(client, run_id)
        answer_after_a_kill(server, run_id)
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


def test_a_trace_goes_on_from_a_call_over_http(tmp_path: Path) -> None:
    spans = tmp_path / "spans"
    args = ["--web", "127.0.0.1:0"]
    with ServerProcess(tmp_path / "data", FLOWS, args=args, env={"SPANS": str(spans)}) as server:
        (page,) = re.findall(r"console at (http://\S+)", server.log)
        headers = {"content-type": "application/json", "traceparent": PARENT}
        url = f"{page}/stepwire.v1.RunService/StartRun"
        with urllib.request.urlopen(urllib.request.Request(url, b'{"workflow": "ask"}', headers), timeout=60) as answer:
            run_id = json.load(answer)["run"]["runId"]
        with SyncClient(server.address) as client:
            until_asked(client, run_id)
    named = {span["name"]: span for span in spans_in(spans) if span["trace"] == TRACE}
    call = named["stepwire.v1.RunService/StartRun"]
    assert (call["parent"], call["kind"]) == (PARENT.split("-")[2], "SERVER")
    assert named["run ask"]["attributes"]["stepwire.run_id"] == run_id
    assert named["run ask"]["parent"] == call["span"]


STATE = ("tracestate", "vendor=1")
LONG_STATE = ("tracestate", ",".join(f"v{number}={'x' * 60}" for number in range(12)))
"""What callers send as their trace, and whether it is taken: with which state, or not at all (None)."""
CALLERS: dict[str, tuple[list[tuple[str, str]], str | None]] = {
    "good": ([("traceparent", PARENT), STATE], "vendor=1"),
    "without state": ([("traceparent", PARENT)], ""),
    "unknown flags": ([("traceparent", f"{PARENT[:-2]}ff"), STATE], "vendor=1"),
    "a version to come": ([("traceparent", f"cc{PARENT[2:]}"), STATE], "vendor=1"),
    "a version to come that says more": (
        [("traceparent", f"cc{PARENT[2:]}-what-the-future.will-be"), STATE],
        "vendor=1",
    ),
    "space around": ([("traceparent", f" {PARENT} "), STATE], "vendor=1"),
    "state in two parts": ([("traceparent", PARENT), STATE, ("tracestate", "other=2")], "vendor=1,other=2"),
    "state too long": ([("traceparent", PARENT), LONG_STATE], ""),
    "too many states": ([("traceparent", PARENT), ("tracestate", ",".join(f"a{n}=1" for n in range(33)))], ""),
    "state that is none": ([("traceparent", PARENT), ("tracestate", "=,;===")], ""),
    "empty state": ([("traceparent", PARENT), ("tracestate", "")], ""),
    "nothing": ([], None),
    "state alone": ([STATE], None),
    "empty": ([("traceparent", ""), STATE], None),
    "not a trace": ([("traceparent", "x"), STATE], None),
    "no trace id": ([("traceparent", f"00-{'0' * 32}-b7ad6b7169203331-01"), STATE], None),
    "no span id": ([("traceparent", f"00-{TRACE}-{'0' * 16}-01"), STATE], None),
    "the version that is none": ([("traceparent", f"ff{PARENT[2:]}"), STATE], None),
    "upper case": ([("traceparent", PARENT.upper()), STATE], None),
    "too short": ([("traceparent", PARENT[:-1]), STATE], None),
    "no flags": ([("traceparent", PARENT[:-3]), STATE], None),
    "not hexadecimal": ([("traceparent", PARENT.replace("b", "g")), STATE], None),
    "more than there is in this version": ([("traceparent", f"{PARENT}-01"), STATE], None),
    "a version to come, joined": ([("traceparent", f"cc{PARENT[2:]}.x"), STATE], None),
    "endless": ([("traceparent", "00-" * 2000), STATE], None),
}


class Told(NamedTuple):
    """What one server told of its runs: the spans, by which caller's trace each run was started, and two runs."""

    spans: list[dict[str, Any]]
    callers: dict[str, str]
    failed: str
    asked: str

    def of(self, run_id: str) -> list[dict[str, Any]]:
        """Return the spans of a run and of its steps."""
        return [span for span in self.spans if span["attributes"].get("stepwire.run_id") == run_id]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    path = tmp_path_factory.mktemp("traces")
    spans = path / "spans"
    with (
        ServerProcess(path / "data", FLOWS, args=["--grace", "0"], env={"SPANS": str(spans)}) as server,
        SyncClient(server.address) as client,
    ):
        callers = {start(server.address, "ask", *metadata): name for name, (metadata, _) in CALLERS.items()}
        failing = client.start_run("fail", secret="c4n4ry")
        with pytest.raises(RunFailedError):
            failing.result(60)
        assert client.start_run("slow").result(60) == "done"
        asked = client.start_run("ask").run_id
        for run_id in (*callers, asked):
            until_asked(client, run_id)
    return Told(spans_in(spans), callers, failing.run_id, asked)


def test_a_failed_step_is_an_error_and_tells_no_text(told: Told) -> None:
    named = {span["name"]: span for span in told.of(told.failed)}
    for name in ("step fail", "run fail"):
        assert named[name]["status"] == "ERROR"
        assert named[name]["attributes"]["error.type"] == "ValueError"
    assert "c4n4ry" not in json.dumps(told.spans)


def test_an_attempt_that_took_too_long_is_an_error_and_one_that_waits_is_parked(told: Told) -> None:
    dawdled = [span for span in told.spans if span["name"] == "step dawdle"]
    attempts = sorted(
        (span["attributes"]["stepwire.attempt"], span["status"], span["attributes"]["stepwire.outcome"])
        for span in dawdled
    )
    assert attempts == [(1, "ERROR", "failed"), (2, "UNSET", "finished")]
    (late,) = (span for span in dawdled if span["status"] == "ERROR")
    assert late["attributes"]["error.type"] == "StepTimeoutError"
    (asked,) = (span for span in told.of(told.asked) if span["name"] == "step ask")
    assert (asked["status"], asked["attributes"]["stepwire.outcome"]) == ("UNSET", "parked")
    (run,) = (span for span in told.of(told.asked) if span["name"] == "run ask")
    assert (run["attributes"]["stepwire.status"], asked["parent"]) == ("released", run["span"])


def test_a_good_trace_is_taken_and_nonsense_is_not_and_neither_is_an_error(told: Told) -> None:
    by_id = {span["span"]: span for span in told.spans}
    steps = {
        name: span for run_id, name in told.callers.items() for span in told.of(run_id) if span["name"] == "step ask"
    }
    assert steps.keys() == CALLERS.keys()
    for name, (_, state) in CALLERS.items():
        run = by_id[steps[name]["parent"]]
        call = by_id[run["parent"]]
        # One trace, whichever side began it.
        assert (run["name"], call["name"]) == ("run ask", "stepwire.v1.RunService/StartRun"), name
        assert {run["trace"], call["trace"]} == {steps[name]["trace"]}, name
        if state is None:
            assert (call["parent"], call["state"], call["trace"] == TRACE) == ("", "", False), name
        else:
            assert (call["parent"], call["trace"], call["state"]) == ("b7ad6b7169203331", TRACE, state), name
            assert steps[name]["state"] == state, name


def test_a_trace_that_is_not_sampled_makes_no_spans_and_stays_so_over_a_restart(tmp_path: Path) -> None:
    spans = tmp_path / "spans"
    with ServerProcess(tmp_path / "data", FLOWS, args=["--log-format", "json"], env={"SPANS": str(spans)}) as server:
        run_id = start(server.address, "ask", ("traceparent", f"{PARENT[:-1]}0"), STATE)
        other = start(server.address, "ask", ("traceparent", f"{PARENT[:-1]}2"), STATE)
        server.kill()
        server.start()
        with SyncClient(server.address) as client:
            for each in (run_id, other):
                run = client.run(each)
                until_asked(client, each)
                run.context.send_event(("HumanResponseEvent", {"text": "fine"}))
                assert run.result(60) == "fine"
    found = spans_in(spans)
    assert found  # of the calls after the restart, which are traces of their own
    assert [span for span in found if span["trace"] == TRACE or "stepwire.run_id" in span["attributes"]] == []
    assert {span["name"] for span in found}.isdisjoint({"own", "run ask", "step ask", "step work"})
    # The log has the trace's id all the same.
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert {(line["run"], line["trace"]) for line in lines if line["logger"] == "author"} == {
        (run_id, TRACE), (other, TRACE)
    }  # fmt: skip


def test_without_opentelemetry_runs_keep_their_callers_trace_for_the_log(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked" / "opentelemetry"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text('raise ImportError("not installed")\n', "utf-8")
    with ServerProcess(
        tmp_path / "data", FLOWS, args=["--log-format", "json"], env={"PYTHONPATH": str(blocked.parent)}
    ) as server:
        run_id = start(server.address, "ask", ("traceparent", PARENT), STATE)
        answer_after_a_kill(server, run_id)
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
