"""Runs as server-sent events."""

from __future__ import annotations

import http.client
import json
import struct
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.web.support import Web, frame, frames, web


def test_events_have_sequence_type_and_json(site: Web) -> None:
    run_id = site.start("count", n=3)
    with site.events(run_id) as sent:
        found = [event for event in sent if not event.comment]
    assert [event.event for event in found] == ["Pong", "Pong", "Pong", "StopEvent", "end"]
    assert [event.json["n"] for event in found[:3]] == [1, 2, 3]
    ids = [int(event.id) for event in found[:4]]
    assert ids == sorted(set(ids))
    outcome = found[-1].json
    assert outcome["status"] == "RUN_STATUS_COMPLETED"
    assert outcome["result"] == 3


def test_a_reader_resumes_behind_its_last_event(site: Web) -> None:
    run_id = site.start("count", n=5)
    with site.events(run_id) as sent:
        every = [event for event in sent if event.id]
    for how in ({"headers": {"last-event-id": every[1].id}}, {"query": f"?after={every[1].id}"}):
        with site.events(run_id, **how) as sent:  # type: ignore[arg-type]
            assert [event.id for event in sent if event.id] == [event.id for event in every[2:]]


def test_the_header_of_a_reconnect_goes_before_the_address(site: Web) -> None:
    run_id = site.start("count", n=5)
    with site.events(run_id, "?after=0", {"last-event-id": "4"}) as sent:
        assert all(int(event.id) > 4 for event in sent if event.id)


def test_types_and_internal_entries_are_chosen(site: Web) -> None:
    run_id = site.start("count", n=2)
    with site.events(run_id, "?type=Pong") as sent:
        assert {event.event for event in sent if event.id} == {"Pong", "StopEvent"}
    with site.events(run_id, "?internal=true") as sent:
        found = [event for event in sent if event.id]
    assert [int(event.id) for event in found] == list(range(1, len(found) + 1))
    assert "Ping" in {event.event for event in found}
    assert all(isinstance(event.json, dict) for event in found)
    attempts = [event.json for event in found if event.event == "execution"]
    assert {attempt["status"] for attempt in attempts} >= {"EXECUTION_STATUS_STARTED", "EXECUTION_STATUS_FINISHED"}
    assert all(attempt["step"] for attempt in attempts)


def test_a_question_arrives_while_the_run_waits_and_its_end_too(site: Web) -> None:
    run_id = site.start("ask", item="pen")
    with site.events(run_id) as sent:
        question = next(event for event in sent if event.id)
        assert (question.event, question.json["text"]) == ("Question", "Ship pen?")
        answer = {"type": "Answer", "payload": {"value": {"order": "7", "yes": True}}}
        assert site.call("RunService/SendEvent", {"runId": run_id, "event": answer}).json["delivered"] == 1
        assert [event.event for event in sent if not event.comment][-1] == "end"


def test_a_silent_stream_says_that_it_lives() -> None:
    with web(heartbeat=0.05) as busy:
        run_id = busy.start("ask", item="pen")
        with busy.events(run_id, "?after=2") as sent:
            assert "heartbeat" in next(event.comment for event in sent if "heartbeat" in event.comment)


def test_text_cannot_forge_an_event(site: Web) -> None:
    text = "a\n\nevent: end\ndata: {}\n\n\r\rid: 99\n\u2028<script>"
    run_id = site.start("echo", value=text)
    with site.events(run_id) as sent:
        found = [event for event in sent if not event.comment]
    assert [event.event for event in found] == ["Event", "StopEvent", "end"]
    assert found[0].json["value"] == text
    assert json.loads(found[-1].data)["result"] == text


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("?after=x", {}, 400, "invalid_argument"),
        ("?after=-1", {}, 400, "invalid_argument"),
        ("?after=99999999999999999999999", {}, 400, "invalid_argument"),
        ("", {"last-event-id": "'; drop"}, 400, "invalid_argument"),
        ("", {"last-event-id": "1000"}, 400, "out_of_range"),
        ("?after=1000", {}, 400, "out_of_range"),
        ("?internal=yes", {}, 400, "invalid_argument"),
        ("?since=1", {}, 400, "invalid_argument"),
    ],
)
def test_wrong_parameters_are_refused(site: Web, query: str, headers: dict[str, str], status: int, code: str) -> None:
    run_id = site.start("count", n=1)
    answer = site.request("GET", f"/v1/runs/{run_id}/events{query}", headers=headers)
    assert (answer.status, answer.json["code"]) == (status, code)


def test_an_unknown_run_is_not_found(site: Web) -> None:
    answer = site.request("GET", "/v1/runs/none/events")
    assert (answer.status, answer.json["code"]) == (404, "not_found")


def test_a_stream_of_a_server_that_stops_ends_with_its_reason_and_resumes_at_the_next_one(tmp_path: Path) -> None:
    with ExitStack() as serving:
        stopping = serving.enter_context(web(tmp_path))
        run_id = stopping.start("ask", item="pen")
        with stopping.events(run_id) as sent:
            question = next(event for event in sent if event.id)
            assert question.event == "Question"
            serving.close()
            told = [event for event in sent if not event.comment]
            assert [(event.event, event.json["code"], event.id) for event in told] == [("error", "unavailable", "")]
    # The reason has no id, so what the browser sends is the id of the last entry.
    with web(tmp_path) as next_, next_.events(run_id, headers={"last-event-id": question.id}) as sent:
        answer = {"type": "Answer", "payload": {"value": {"order": "7", "yes": True}}}
        assert next_.call("RunService/SendEvent", {"runId": run_id, "event": answer}).status == 200
        found = [event for event in sent if not event.comment]
    assert found[-1].event == "end"
    assert all(int(event.id) > int(question.id) for event in found[:-1])


def test_a_stream_by_connect_of_a_server_that_stops_says_so_at_its_end() -> None:
    with ExitStack() as serving:
        stopping = serving.enter_context(web())
        run_id = stopping.start("ask", item="pen")
        connection = http.client.HTTPConnection(stopping.host, timeout=60)
        headers = {"content-type": "application/connect+json"}
        body = frame(json.dumps({"runId": run_id}).encode())
        connection.request("POST", "/stepwire.v1.RunService/StreamEvents", body, headers)
        response = connection.getresponse()
        flags, length = struct.unpack(">BI", response.read(5))
        batch = json.loads(response.read(length))["events"]
        assert (flags, batch["toSequence"] >= batch["fromSequence"]) == (0, True)
        serving.close()
        *_, (flags, end) = frames(response.read())
        connection.close()
    assert flags == 2
    assert json.loads(end)["error"]["code"] == "unavailable"
