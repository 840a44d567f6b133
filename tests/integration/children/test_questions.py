"""What children ask and do is told of their parents, and is answered there or there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.children.family import Answer, Given, Inner, Outer, Question, children_of, runs_of, until

from stepwire.client import InvalidArgumentError, RunInfo, RunStatus, SyncClient
from stepwire.server.principal import Principal
from stepwire.server.runs.errors import InvalidError
from stepwire.server.scopes import Scopes
from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import Context, StartEvent, StopEvent, Workflow, step


class Middle(Workflow):
    """Between a parent and a grandchild."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def go(self, ctx: Context, ev: Given) -> StopEvent:
        """Have the grandchild ask."""
        return StopEvent(result=await ctx.start_run("Inner", text=f"{ev.text}/low", how="ask"))


class Self(Workflow):
    """Asks the same as its child."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Ask first, then have the child ask."""
        own = await ctx.wait_for_event(Answer, Question(text="own"), "own", {"text": "own"}, timeout=None)
        return StopEvent(result=[own.text, await ctx.start_run("Inner", text="own", how="ask")])


async def both(outer: Outer, ctx: Context, ev: Given) -> Any:
    one, low = outer.inner.run(text="one", how="ask"), ctx.start_run("Middle", text="two")
    return [await one, await low]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with serve(Outer(both, Inner(timeout=None)), Inner(timeout=None), Middle, Self, data=tmp_path / "data") as server:
        yield server


def asked(client: SyncClient, run_id: str, count: int) -> RunInfo:
    found: RunInfo = until(
        lambda: info if len((info := client.run(run_id).info()).pending_waiters) == count else None, "the questions"
    )
    return found


def test_a_parent_shows_what_its_descendants_ask_and_do(server: RunningServer) -> None:
    with server.client() as client:
        run_id = client.start_run("Outer").run_id
        info = asked(client, run_id, 2)
        children = {child.workflow: child.run_id for child in children_of(client, run_id)}
        low = children_of(client, children["Middle"])[0]
        assert {(each.run_id, each.requirements["text"]) for each in info.pending_waiters} == {
            (children["Inner"], "one"),
            (low.run_id, "two/low"),
        }
        working = {each.run_id for each in info.active_deliveries}
        assert working == {"", children["Inner"], children["Middle"], low.run_id}
        assert info.children is not None
        assert (info.children.total, info.children.unfinished) == (2, 2)
        assert (low.parent.run_id, low.parent.depth, low.parent.step) == (children["Middle"], 2, "go")
        # A parent parks, and is written as waiting, a moment after its children began.
        until(lambda: client.run(run_id).info().status is RunStatus.WAITING, "the parent to wait")


def test_an_answer_to_the_parent_reaches_the_descendant_that_asks_once(server: RunningServer) -> None:
    with server.client() as client:
        run = client.start_run("Outer")
        asked(client, run.run_id, 2)
        for text in ("two/low", "one"):
            sent = run.context.send_event(("Answer", {"text": text}))
            assert sent.delivered == 1
        assert run.result() == ["one one", "two/low two/low"]
        log = server.history(run.run_id)
        assert [entry.type for entry in log if entry.kind == "received"] == ["Given"], "the parent itself took nothing"


def test_a_repeat_of_an_answer_goes_to_the_same_descendant(server: RunningServer) -> None:
    import grpc

    from stepwire.v1 import run_service_pb2, run_service_pb2_grpc, types_pb2

    with server.client() as client, grpc.insecure_channel(server.address) as channel:
        run = client.start_run("Outer")
        asked(client, run.run_id, 2)
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        event = types_pb2.Event(type="Answer", payload=types_pb2.Payload(json=json.dumps({"text": "one"}).encode()))
        request = run_service_pb2.SendEventRequest(run_id=run.run_id, event=event, request_id="r1")
        first = stub.SendEvent(request)
        server.restart(kill=True)
        assert stub.SendEvent(request, wait_for_ready=True) == first
        run.context.send_event(("Answer", {"text": "two/low"}))
        assert run.result() == ["one one", "two/low two/low"]
        assert stub.SendEvent(request) == first, "also once the parent has ended"


def test_a_repeat_is_not_sent_on_for_a_caller_that_may_not_answer_there(server: RunningServer) -> None:
    events = runs_of(server).events
    data = json.dumps({"text": "one"}).encode()
    with server.client() as client:
        run = client.start_run("Outer")
        asked(client, run.run_id, 2)

        def send(*scopes: str) -> int:
            caller = Principal("someone", "default", Scopes(scopes))
            delivered: int = server._call(events.send(caller, run.run_id, "Answer", data, "", "r1")).delivered
            return delivered

        assert send("write") == 1
        assert send("write:Outer", "answer:Inner") == 1
        assert send("write:Outer") == 0, "the first answer is of a run that this caller may not see"
        run.context.send_event(("Answer", {"text": "two/low"}))
        assert run.result() == ["one one", "two/low two/low"]
        assert send("write", "answer:Inner") == 1
        assert send("write:Outer") == 0


def test_a_long_request_id_is_refused_before_anything_is_kept(server: RunningServer) -> None:
    events = runs_of(server).events
    data = json.dumps({"text": "one"}).encode()
    with server.client() as client:
        run = client.start_run("Outer")
        asked(client, run.run_id, 2)
        with pytest.raises(InvalidError) as raised:
            server._call(events.send(Principal("", "default"), run.run_id, "Answer", data, "", "x" * 129))
        assert [each.field for each in raised.value.violations] == ["request_id"]
        live = runs_of(server).pool.in_memory(("default", run.run_id))
        assert live is None or live.commits.answers.get("stepwire-relayed/" + "x" * 129) is None


def test_what_the_run_itself_takes_stays_there(server: RunningServer) -> None:
    with server.client() as client:
        run = client.start_run("Self")
        asked(client, run.run_id, 1)
        run.context.send_event(("Answer", {"text": "own"}))
        asked(client, run.run_id, 1)
        run.context.send_event(("Answer", {"text": "own"}))
        assert run.result() == ["own", "own own"]


def test_an_event_that_nobody_takes_is_refused_as_before(server: RunningServer) -> None:
    with server.client() as client:
        run = client.start_run("Outer")
        asked(client, run.run_id, 2)
        with pytest.raises(InvalidArgumentError):
            run.context.send_event(("Nonsense", {"text": "one"}))
        assert run.context.send_event(("Answer", {"text": "nobody"})).delivered == 0


def test_the_audit_log_names_the_descendant_that_took_the_answer(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    outer = Outer(both, Inner(timeout=None))
    with (
        serve(outer, Inner(timeout=None), Middle, settings={"audit_log": str(audit)}) as server,
        server.client() as client,
    ):
        run = client.start_run("Outer")
        asked(client, run.run_id, 2)
        run.context.send_event(("Answer", {"text": "one"}))
        child = next(each.run_id for each in children_of(client, run.run_id) if each.workflow == "Inner")
        records = [json.loads(line) for line in audit.read_text().splitlines()]
        sent = next(record for record in records if record.get("method") == "SendEvent")
        assert (sent["run"], sent["child"], sent["result"]) == (run.run_id, child, "OK")
        started = [record for record in records if record.get("parent") == run.run_id]
        assert {record["workflow"] for record in started} == {"Inner", "Middle"}
        assert all(record["action"] == "start" for record in started)
