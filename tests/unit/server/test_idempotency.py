"""Fingerprints, remembered answers and the detection of repeats."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from pydantic import Field

from stepwire.server.rpc.entry_codec import CODEC
from stepwire.server.runs import idempotency
from stepwire.server.runs.errors import InvalidError, RequestIdReusedError
from stepwire.server.runs.idempotency import Answers, Fingerprint, MakeEvent, Repeats
from stepwire.server.runs.log.chunks import chunks_of
from stepwire.server.runs.payloads import digest
from stepwire.server.runs.requests import StartRequest
from stepwire.server.store import KEPT_REQUESTS, Commit, MemoryStore, RequestRecord, RunKey, RunRecord, Status
from stepwire.workflow.events import Event, event_from_json, event_to_json
from stepwire.workflow.hosting import RECEIVED, LogEntry, Received

KEY = RunKey("default", "run")
PAYLOAD = b'{"item":"tea","n":2}'
RESPELLED = b' { "n": 2, "item": "t\\u0065a" } '

_counter = itertools.count()


class Order(Event):
    """An event with a default that is made anew each time."""

    item: str
    n: int = 1
    number: int = Field(default_factory=lambda: next(_counter))


def sending(payload: bytes, step: str = "") -> Fingerprint:
    return Fingerprint(("send", "Order"), payload, (step,))


async def repeats(*events: bytes, trimmed: bool = False) -> Repeats:
    """Return repeats over a store that holds one run, whose log holds these events."""
    store = MemoryStore()
    await store.open()
    entries = [LogEntry(number, 1.0, RECEIVED, "Order", data, "", 1, 0) for number, data in enumerate(events, start=1)]
    record = RunRecord(
        key=KEY, workflow="w", status=Status.RUNNING, created_at=1.0, updated_at=1.0, last_sequence=len(entries)
    )
    record.start_request_id, record.start_digest = "start", sending(PAYLOAD).text
    chunks = [chunk for entry in entries for chunk in chunks_of([entry], CODEC)]
    await store.commit(Commit(record, None, b'{"set":{}}', True, chunks))
    if trimmed:
        await store.trim(KEY, len(entries))
    return Repeats(store, CODEC)


def first(fingerprint: Fingerprint, sequence: int = 1) -> RequestRecord:
    return RequestRecord("r", fingerprint.text, {"sequence": sequence, "delivered": 1}, 1.0)


def order(payload: bytes) -> Order:
    return event_from_json(Order, payload)


def made(payload: bytes) -> MakeEvent:
    async def make() -> Received:
        return Received(order(payload))

    return make


async def never() -> Received:
    raise AssertionError("the payload was parsed")


def _never_parsed(payload: bytes) -> Any:
    raise AssertionError("the payload was parsed")


async def test_a_repeat_of_the_same_bytes_is_never_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "_parsed", _never_parsed)
    found = await repeats(event_to_json(order(PAYLOAD)))
    response = await found.response(KEY, first(sending(PAYLOAD)), sending(PAYLOAD), never)
    assert response == {"sequence": 1, "delivered": 1}


async def test_a_repeat_in_another_spelling_gets_the_first_answer() -> None:
    logged = event_to_json(order(PAYLOAD))
    assert json.loads(logged)["number"] != order(RESPELLED).number
    found = await repeats(event_to_json(order(b'{"item":"x"}')), logged)
    response = await found.response(KEY, first(sending(PAYLOAD), 2), sending(RESPELLED), made(RESPELLED))
    assert response["sequence"] == 2


@pytest.mark.parametrize(
    ("payload", "step"),
    [(b'{"item":"tea","n":3}', ""), (b'{"item":"tea"}', ""), (b'{"item":"tea","n":2,"more":1}', ""), (PAYLOAD, "s")],
)
async def test_another_request_under_the_id_is_refused(payload: bytes, step: str) -> None:
    found = await repeats(event_to_json(order(PAYLOAD)))
    with pytest.raises(RequestIdReusedError):
        await found.response(KEY, first(sending(PAYLOAD)), sending(payload, step), made(payload))


async def test_another_spelling_is_refused_when_the_log_does_not_hold_the_event() -> None:
    logged = event_to_json(order(PAYLOAD))
    found = await repeats(logged, logged, trimmed=True)
    with pytest.raises(RequestIdReusedError):
        await found.response(KEY, first(sending(PAYLOAD)), sending(RESPELLED), made(RESPELLED))


async def test_a_repeat_that_is_not_valid_is_refused_as_another_request() -> None:
    async def invalid() -> Received:
        raise InvalidError("INVALID_EVENT", "no")

    found = await repeats(event_to_json(order(PAYLOAD)))
    with pytest.raises(RequestIdReusedError):
        await found.response(KEY, first(sending(PAYLOAD)), sending(b"{"), invalid)


async def test_what_earlier_versions_kept_is_still_compared_by_what_it_says() -> None:
    found = await repeats()
    kept = RequestRecord("r", digest("send", "Order", {"item": "tea", "n": 2}, ""), {"sequence": 1}, 1.0)
    for payload in (PAYLOAD, RESPELLED):
        assert (await found.response(KEY, kept, sending(payload), never))["sequence"] == 1
    with pytest.raises(RequestIdReusedError):
        await found.response(KEY, kept, sending(b'{"item":"tea","n":3}'), never)


async def test_a_start_finds_its_run() -> None:
    found = await repeats(event_to_json(order(PAYLOAD)))
    assert await found.of_start("default", "other", sending(PAYLOAD), never) is None
    for payload in (PAYLOAD, RESPELLED):
        run = await found.of_start("default", "start", sending(payload), made(payload))
        assert run is not None
        assert run.key == KEY
    with pytest.raises(RequestIdReusedError):
        await found.of_start("default", "start", sending(b"{}"), made(b'{"item":"x"}'))


def test_the_fingerprint_of_a_start_holds_all_that_it_says() -> None:
    base: dict[str, Any] = {"workflow": "w", "input": b"{}", "request_id": "r"}
    others = (
        {"workflow": "v"}, {"input": b'{"a":1}'}, {"run_id": "x"}, {"labels": {"a": "b"}}, {"from_run": ("x", 1)},
        {"timeout": 2.0},
    )  # fmt: skip
    texts = {Fingerprint.of_start(StartRequest(**{**base, **other})).text for other in ({}, *others)}
    assert len(texts) == 1 + len(others)


async def test_a_write_to_the_state_is_compared_by_its_values() -> None:
    found = await repeats()
    known = RequestRecord("r", Fingerprint(("set", [["a", {"x": 1, "y": 2}]], "")).text, {"etag": "v1"}, 1.0)
    response = await found.response(KEY, known, Fingerprint(("set", [["a", {"y": 2, "x": 1}]], "")))
    assert response == {"etag": "v1"}
    with pytest.raises(RequestIdReusedError):
        await found.response(KEY, known, Fingerprint(("set", [["a", {"x": 1, "y": 3}]], "")))


def test_answers_are_taken_by_one_commit_and_stay_known() -> None:
    answers = Answers()
    assert answers.get("r") is None
    assert answers.take() == []
    assert not answers.uncommitted
    record = first(sending(PAYLOAD))
    answers.remember(record)
    assert [answers.uncommitted, answers.take(), answers.uncommitted] == [[record], [record], None]
    assert answers.get("r") is record


def test_the_oldest_answer_is_forgotten() -> None:
    answers = Answers()
    answers.load(RequestRecord(str(number), "", {}, 1.0) for number in range(KEPT_REQUESTS))
    answers.remember(RequestRecord("new", "", {}, 2.0))
    assert answers.get("0") is None
    assert answers.get("1") is not None
    assert answers.get("new") is not None
