"""Traces go to a collector by OTLP: to what OpenTelemetry's own protocol package receives, and to its collector."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from tests.integration.operations.test_traces import FLOWS, PARENT, STATE, TRACE, start, until_asked
from tests.serving import ServerProcess

from stepwire.client import SyncClient

COLLECTOR = Path(__file__).with_name("collector")
CONFIG = """
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:%d"}}}}
exporters: {debug: {verbosity: detailed}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [debug]}}
"""


SPANS = [
    ("run ask", "stepwire.v1.RunService/StartRun"),
    ("run ask", "stepwire.v1.RunService/StartRun"),
    ("step ask", "run ask"),
    ("step ask", "run ask"),
    ("step work", "run ask"),
    ("stepwire.v1.RunService/StartRun", ""),
]
"""What there is of the sampled run, each with its parent."""


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]
    """Keep the spans that come."""

    def __init__(self) -> None:
        self.services: set[str] = set()
        self.spans: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:
        """Take spans."""
        for resource in request.resource_spans:
            named = {item.key: item.value.string_value for item in resource.resource.attributes}
            self.services.add(named["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def receiving() -> Iterator[tuple[str, Receiver]]:
    """Receive spans in this process; give the endpoint and the receiver that keeps them."""
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", receiver
    finally:
        server.stop(None).wait()


def ask_and_answer(folder: Path, endpoint: str) -> None:
    """Have a sampled run that outlives a restart of its server, and one that is not sampled."""
    with (
        ServerProcess(folder, FLOWS, args=["--otlp-endpoint", endpoint]) as server,
        SyncClient(server.address) as client,
    ):
        start(server.address, "ask", ("traceparent", f"{PARENT[:-1]}0"), STATE)
        run_id = start(server.address, "ask", ("traceparent", PARENT), STATE)
        until_asked(client, run_id)
        server.restart()
        run = client.run(run_id)
        run.context.send_event(("HumanResponseEvent", {"text": "fine"}))
        assert run.result(60) == "fine"


def test_spans_go_to_a_receiver_of_the_protocol(tmp_path: Path) -> None:
    with receiving() as (endpoint, receiver):
        ask_and_answer(tmp_path, endpoint)
    assert receiver.services == {"stepwire"}
    ours = [span for span in receiver.spans if span.trace_id.hex() == TRACE]
    named = {span.span_id: span.name for span in ours}
    assert sorted((span.name, named.get(span.parent_span_id, "")) for span in ours) == SPANS
    assert {span.trace_state for span in ours} == {"vendor=1"}


def test_a_collector_that_does_not_answer_holds_no_stop(tmp_path: Path) -> None:
    held = []

    def accept() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        args = ["--otlp-endpoint", endpoint, "--grace", "0"]
        with ServerProcess(tmp_path, FLOWS, args=args) as server:
            until_asked(SyncClient(server.address), start(server.address, "ask"))
            assert server.stop() == 0
        assert "the last traces are lost" in server.log
    for connection in held:
        connection.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("go") is None, reason="builds the collector: needs go")
def test_spans_go_to_the_collector_of_opentelemetry(tmp_path: Path) -> None:
    program, config = tmp_path / "collector", tmp_path / "config.yaml"
    subprocess.run(["go", "build", "-o", program, "."], cwd=COLLECTOR, check=True, timeout=1000)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config.write_text(CONFIG % port)
    output = tmp_path / "output"
    with (
        output.open("wb") as file,
        subprocess.Popen([program, "--config", config], stdout=file, stderr=subprocess.STDOUT) as collector,
    ):
        try:
            channel = grpc.insecure_channel(f"127.0.0.1:{port}")
            grpc.channel_ready_future(channel).result(60)
            channel.close()
            ask_and_answer(tmp_path / "data", f"http://127.0.0.1:{port}")
        finally:
            collector.terminate()
    text = output.read_text()
    assert "service.name: Str(stepwire)" in text
    spans = re.findall(r"Trace ID +: (\w+)\n +Parent ID +: (\w*)\n +ID +: (\w+)\n +Name +: (.+)\n", text)
    named = {span: name for trace, _, span, name in spans if trace == TRACE}
    assert sorted((name, named.get(parent, "")) for trace, parent, _, name in spans if trace == TRACE) == SPANS
