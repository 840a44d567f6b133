"""What a server logs says what it is about, and nobody can forge it."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path

import grpc
import pytest
from tests.integration.operations.traced_flows import FORGED
from tests.serving import ServerProcess
from tests.system.security.support import channel_to, serving

from stepwire.client import RunFailedError, StepwireError, SyncClient
from stepwire.server.log_context import log_fields
from stepwire.server.telemetry.logs import LogHandler
from stepwire.server.telemetry.logs.filters import About
from stepwire.server.telemetry.logs.formats import JsonFormatter, LineFormatter
from stepwire.v1 import run_service_pb2, run_service_pb2_grpc

FLOWS = [f"tests/integration/operations/traced_flows.py:{name}={name.lower()}" for name in ("Ask", "Fail", "TooSlow")]


def fail(server: ServerProcess) -> str:
    """Have a step fail with a text that would forge a line, and texts of that kind come in every place."""
    with SyncClient(server.address) as client:
        run = client.start_run("fail", secret=FORGED)
        with pytest.raises(RunFailedError):
            run.result(60)
        for call in (
            lambda: client.start_run(FORGED),
            lambda: client.start_run("ask", run_id=FORGED),
            lambda: client.run(FORGED).context.send_event((FORGED, {})),
            lambda: client.start_run("ask").context.send_event(("HumanResponseEvent", {FORGED: FORGED}), step=FORGED),
        ):
            with pytest.raises(StepwireError):
                call()
        return run.run_id


def test_json_lines_say_what_they_are_about(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, FLOWS, args=["--log-format", "json", "--log-level", "debug"]) as server:
        run_id = fail(server)
    assert server.log.isascii()
    assert server.log.replace("\n", "").isprintable()
    lines = [json.loads(line) for line in server.log.splitlines()]
    (failed,) = (line for line in lines if line.get("exception") == "ValueError")
    assert (failed["run"], failed["workflow"], failed["step"], failed["attempt"]) == (run_id, "fail", "fail", 1)
    assert failed["level"] == "error"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", failed["time"])
    assert "reference" in failed["message"]
    assert "Traceback" in failed["traceback"]


def test_no_text_forges_a_line(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, FLOWS, args=["--log-level", "debug"]) as server:
        run_id = fail(server)
    assert FORGED[:3] in server.log
    assert all(char.isprintable() for char in server.log.replace("\n", ""))
    for line in server.log.split("\n"):
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+ |    |stepwire: |$", line), line
        assert not line.endswith("forged")
    (failed,) = (line for line in server.log.splitlines() if " step fail failed" in line)
    assert f" [run={run_id} workflow=fail step=fail attempt=1 error=ValueError reference=" in failed


def test_a_step_that_timed_out_is_told_with_its_run_whoever_notices(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, FLOWS, args=["--log-format", "json", "--log-level", "error"]) as server,
        SyncClient(server.address) as client,
    ):
        run = client.start_run("tooslow")
        with pytest.raises(RunFailedError) as caught:
            run.result(60)
    *announced, line, ended = [json.loads(line) for line in server.log.splitlines()]
    assert announced[-1]["message"] == f"listening on {server.address}"  # whatever the level
    assert (line["run"], line["workflow"], line["step"]) == (run.run_id, "tooslow", "dawdle")
    assert "method" not in line
    assert caught.value.reference_id in line["message"]
    assert ended["run"] == run.run_id
    assert ended["message"].startswith(f"run {run.run_id} failed: step dawdle: StepTimeoutError: ")


async def test_a_call_says_what_it_is_for(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: object) -> None:
        raise RuntimeError("hunter2")

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(About(log_fields))
    logging.getLogger("stepwire").addHandler(handler)
    try:
        async with serving() as server, channel_to(server) as channel:
            assert server.runs is not None
            monkeypatch.setattr(server.runs.pool.records, "get", broken)
            stub = run_service_pb2_grpc.RunServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError, match="Internal error"):
                await stub.GetRun(run_service_pb2.GetRunRequest(run_id=f"r] run=x {FORGED}" * 20), timeout=60)
    finally:
        logging.getLogger("stepwire").removeHandler(handler)
    line = json.loads(stream.getvalue())
    assert line["method"] == "GetRun"
    assert line["run"].startswith("r] run=x one")
    assert len(line["run"]) == 256
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    text = LineFormatter().format(record).split("\n")[0]
    assert ' [method=GetRun run="r] run=x one' in text  # quoted: what stands in it is no field
    assert text.isprintable()


def test_what_cannot_be_written_is_not_printed_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    handler = LogHandler(stream, "text")
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "hunter2 %d", ("three\n",), None)
    handler.emit(record)
    handler.flush()
    assert stream.getvalue().endswith("hunter2 %d (its arguments do not fit)\n")
    stream.close()
    handler.emit(record)
    handler.flush()
    assert capfd.readouterr() == ("", "")


AUTHOR = """
import logging
import helper
import noisy
from stepwire.workflow import StartEvent, StopEvent, Workflow, step

logging.getLogger(__name__).info("imported")

class Tell(Workflow):
    @step
    async def tell(self, ev: StartEvent) -> StopEvent:
        logging.getLogger(__name__).debug("own debug")
        logging.getLogger(__name__).info("own info")
        logging.getLogger("named.as.they.like").info("own other")
        helper.tell()
        noisy.tell()
        logging.getLogger("asyncio").warning("own warning")
        return StopEvent()
"""
LIBRARY = """
import logging

def tell():
    logging.getLogger(__name__).debug(f"{__name__} debug")
    logging.getLogger(__name__).info(f"{__name__} info")
    logging.getLogger(__name__).warning(f"{__name__} warning")
"""


@pytest.mark.parametrize("installed", [False, True], ids=["a file", "an installed package"])
@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_the_authors_own_lines_are_heard_and_those_of_libraries_from_warning_on(
    tmp_path: Path, level: str, installed: bool
) -> None:
    site, project = tmp_path / "site-packages", tmp_path / "project"
    package = site / "shop" if installed else project
    for folder in (site, project, package):
        folder.mkdir(exist_ok=True)
    (package / "flows.py").write_text(AUTHOR, "utf-8")
    (project / "helper.py").write_text(LIBRARY, "utf-8")
    (site / "noisy.py").write_text(LIBRARY, "utf-8")
    spec = "shop.flows:Tell=tell" if installed else f"{project / 'flows.py'}:Tell=tell"
    with (
        ServerProcess(
            tmp_path / "data",
            [spec],
            args=["--log-format", "json", "--log-level", level],
            env={"PYTHONPATH": f"{site}:{project}"},
        ) as server,
        SyncClient(server.address) as client,
    ):
        run = client.start_run("tell")
        run.result(60)
    lines = {line["message"]: line for line in map(json.loads, server.log.splitlines())}
    heard = {text for text in lines if text.split()[0] in ("own", "helper", "noisy", "imported")}
    expected = {"helper warning", "noisy warning", "own warning"}
    if level != "warning":
        expected |= {"own info", "own other", "helper info", "imported"}
    if level == "debug":
        expected |= {"own debug", "helper debug", "noisy debug", "noisy info"}
    assert heard == expected
    for text in expected - {"imported"}:
        assert (lines[text]["run"], lines[text]["step"]) == (run.run_id, "tell")
