"""A secret in the environment, in a run's state and in its step's error appears in no reply and in no log."""

from __future__ import annotations

import asyncio
import io
import logging
import random
import secrets
from pathlib import Path

import grpc
import pytest
from tests.system.security.flows import CANARY_VARIABLE
from tests.system.security.support import METHODS, call, channel_to, frames, mutate, requests_for, serving, start_run

from stepwire.server.telemetry.logs.formats import LineFormatter
from stepwire.v1 import run_service_pb2 as runs


async def test_a_canary_appears_in_no_reply_and_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    canary = f"canary{secrets.token_hex(8)}"
    monkeypatch.setenv(CANARY_VARIABLE, canary)
    caplog.set_level(logging.DEBUG)
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(LineFormatter())
    logging.getLogger().addHandler(handler)
    replies: list[bytes] = []
    random_ = random.Random(1)
    reads = {"GetState", "GetSnapshot"}  # what they are for
    try:
        async with serving(failure_detail="type", data=str(tmp_path / "data")) as server, channel_to(server) as channel:
            failed = await start_run(channel, "leaking")
            waits = runs.WaitRunRequest(run_id=failed)
            waits.timeout.seconds = 10
            answer = await call(channel, METHODS["WaitRun"], frames(waits), timeout=60)
            ended = runs.WaitRunResponse.FromString(answer.messages[0]).run
            assert ended.outcome.failure.error_type == "SecretError"
            assert ended.outcome.failure.reference_id
            assert ended.outcome.failure.message == ""
            replies += answer.messages

            start = runs.StartRunRequest(workflow="leaking")
            start.input.json = b'{"text": "wait"}'
            answer = await call(channel, METHODS["StartRun"], frames(start))
            waiting = runs.StartRunResponse.FromString(answer.messages[0]).run.run_id
            for run_id in (failed, waiting):
                good = requests_for(run_id, "leaking")
                good["StreamEvents"].options.include_internal = True
                for name, request in good.items():
                    for number in range(12):
                        sent = frames(request)
                        if number:
                            sent[-1] = mutate(sent[-1], random_, sent)
                        answer = await call(channel, METHODS[name], sent, timeout=2, most=8)
                        replies += [answer.status, answer.details.encode()]
                        if name not in reads:
                            replies += answer.messages
            assert replies
            # Only a caller that may read the state can read a secret.
            shown = await call(channel, METHODS["GetState"], frames(requests_for(failed, "leaking")["GetState"]))
            assert shown.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OK)
        await asyncio.sleep(0)
    finally:
        logging.getLogger().removeHandler(handler)
    assert not [reply for reply in replies if canary.encode() in reply]
    assert ended.outcome.failure.reference_id in written.getvalue()
    assert "SecretError" in written.getvalue()
    assert "flows.py" in written.getvalue()  # the traceback is there, its texts are not
    assert canary not in written.getvalue()
    assert canary not in caplog.text
    output = capfd.readouterr()
    assert canary not in output.out + output.err


@pytest.mark.parametrize("name", ["GetRun", "StreamEvents", "Converse"])
async def test_an_unexpected_error_is_a_reference_to_its_traceback_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
):
    async with serving() as server, channel_to(server) as channel:
        run_id = await start_run(channel)
        assert server.runs is not None

        async def broken(*args: object) -> None:
            raise RuntimeError("hunter2")

        for method in ("find", "check_seen", "get"):
            monkeypatch.setattr(server.runs.pool.records, method, broken)
        request = frames(requests_for(run_id)[name])
        answer = await call(channel, METHODS[name], request)
        assert (answer.code, answer.reason, answer.details) == (grpc.StatusCode.INTERNAL, "INTERNAL", "Internal error")
        assert b"hunter2" not in answer.status
        reference = answer.info().metadata["reference_id"]
        [line] = [record for record in caplog.records if reference in record.getMessage()]
        assert line.exc_info is not None
        assert isinstance(line.exc_info[1], RuntimeError)
        assert "in broken" in LineFormatter().format(line)
        # Another one has another.
        other = await call(channel, METHODS[name], request)
        assert other.info().metadata["reference_id"] != reference


async def test_with_failure_detail_message_the_error_is_told(monkeypatch: pytest.MonkeyPatch):
    # That the canary test can fail.
    monkeypatch.setenv(CANARY_VARIABLE, "canary")
    async with serving() as server, channel_to(server) as channel:
        waits = runs.WaitRunRequest(run_id=await start_run(channel, "leaking"))
        answer = await call(channel, METHODS["WaitRun"], frames(waits))
        run = runs.WaitRunResponse.FromString(answer.messages[0]).run
        assert run.outcome.failure.message == "cannot log in with canary"
