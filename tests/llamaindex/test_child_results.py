"""Values in results and events of children that no JSON holds."""

import logging
import math
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.integration.children import family
from tests.llamaindex.child_flows import Outer, came
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent

from stepwire import workflow as own
from stepwire.server.testing import serve
from stepwire.workflow.codec import libraries


class Odd:
    def __str__(self) -> str:
        return "an odd one"


class Reading(Event):
    x: float
    n: int = 0
    xs: list[float]
    either: int | float = 0
    maybe: float | None = None


class Strict(Event):
    word: str = ""


RESULTS: dict[str, Any] = {
    "numbers": {"name": "a", "scores": [1.0, math.nan, math.inf, (-math.inf,)]},
    "complex": 1j,
    "object": [1, Odd(), {2: Odd()}],
    "lock": threading.Lock(),
    "class": Odd,
    "exception": {"error": ValueError("no")},
    "function": [{"f": len}],
    "set of objects": {Odd},
    "a key": {Odd(): 1},
}
"""What children come to, each with one value that cannot be saved."""


class Score(Workflow):
    @step
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if ev.get("what", "") == "model":

            class Hidden(BaseModel):
                y: float

            return StopEvent(result=[Hidden(y=1.5)])
        if ev.get("what", "") == "dynamic":
            return StopEvent(result=1, good=2, odd=Odd())
        return StopEvent(result=RESULTS[ev.what])


class Streams(Workflow):
    @step
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Reading(x=math.nan, n=3, xs=[1.0, math.inf], either=-math.inf, maybe=math.nan))
        ctx.write_event_to_stream(Strict.model_construct(word=None))
        return StopEvent()


score, streams = Score(), Streams()


def same(left: Any, right: Any) -> bool:
    """Tell whether two values are equal, NaN with NaN."""
    return repr(left) == repr(right)


def test_what_a_child_comes_to_reaches_its_parent_as_far_as_it_can_be_saved(caplog: pytest.LogCaptureFixture) -> None:
    found: dict[str, Any] = {}

    async def act(ctx: Context) -> Any:
        for what in RESULTS:
            found[what] = await score.run(what=what)
        return None

    with caplog.at_level(logging.WARNING, "stepwire.runs"):
        came(act, score=score)
        came(act, score=score)
    assert same(found["numbers"], RESULTS["numbers"]), "NaN and infinity are kept"
    assert found["complex"] == "1j"
    assert found["object"] == [1, "an odd one", {2: "an odd one"}]
    assert found["lock"] == str(RESULTS["lock"])
    assert found["class"] == str(Odd)
    assert found["exception"] == {"error": "no"}
    assert found["function"] == [{"f": str(len)}]
    assert found["set of objects"] == [str(Odd)]
    assert found["a key"] == {"an odd one": 1}
    assert isinstance(found["complex"], libraries.OpaqueText)
    assert found["object"][1].type_name.endswith(".Odd")
    said = [each for each in caplog.messages if "is a child, and" in each]
    assert len(said) == 6, "one for each type"
    assert "of workflow score is a child, and result of its end is a complex, which cannot be saved" in said[0]
    assert "and result.1 of its end is a" in said[1]


def test_a_client_and_a_parent_are_told_the_same() -> None:
    async def act(ctx: Context) -> Any:
        return [await score.run(what=what) for what in ("complex", "object", "exception", "model", "numbers")]

    with serve(outer=Outer(act), score=score) as server, server.client() as client:
        whats = ("complex", "object", "exception", "model", "numbers")
        alone = [client.start_run("score", what=what).result(timeout=60) for what in whats]
        assert client.start_run("outer").result(timeout=60) == alone
        assert alone[3:] == [[{"y": 1.5}], {"name": "a", "scores": [1.0, None, None, [None]]}]


def test_a_dynamic_field_that_cannot_be_saved_takes_no_other_with_it() -> None:
    async def act(ctx: Context) -> Any:
        stop = await score.run(what="dynamic").stop_event_result()
        return [stop.result, stop.good, stop.odd]

    assert came(act, score=score)[0] == [1, 2, "an odd one"]


def test_an_event_between_steps_keeps_the_rest_of_its_fields(tmp_path: Path) -> None:
    class Flow(Workflow):
        @step
        async def one(self, ctx: Context, ev: StartEvent) -> Event:
            return Event(good=1, bad=math.inf, odd=Odd())

        @step
        async def two(self, ctx: Context, ev: Event) -> StopEvent:
            await ctx.wait_for_event(HumanResponseEvent, timeout=None)
            return StopEvent(result=[ev.good, repr(ev.bad), str(ev.odd)])

    with serve(flow=Flow(timeout=None), data=tmp_path) as server, server.client() as client:
        run = client.start_run("flow")
        family.until(lambda: run.info().pending_waiters, "the wait")
        server.restart(kill=True)
        client.run(run.run_id).context.send_event(("HumanResponseEvent", {}))
        assert client.run(run.run_id).result(timeout=60) == [1, "inf", "an odd one"]


def test_a_streamed_event_with_nan_in_a_float_field_is_of_its_class() -> None:
    async def act(ctx: Context) -> Any:
        found = [event async for event in streams.run().stream_events()]
        assert isinstance(found[0], Reading)
        assert same(found[0].xs, [1.0, math.nan])
        assert (found[0].n, found[0].maybe) == (3, None)
        assert math.isnan(found[0].x)
        assert math.isnan(found[0].either)
        return [type(event).__name__ for event in found]

    assert came(act, streams=streams)[0] == ["Reading", "Event", "StopEvent"]


def test_a_child_of_our_own_fails_with_what_cannot_be_saved() -> None:
    class Native(own.Workflow):
        @own.step
        async def go(self, ev: own.StartEvent) -> own.StopEvent:
            """Return what no snapshot holds."""
            return own.StopEvent(result=[1.0, math.nan])

    class Parent(own.Workflow):
        @own.step
        async def go(self, ctx: own.Context, ev: own.StartEvent) -> own.StopEvent:
            """Await it."""
            with pytest.raises(own.errors.WorkflowError, match="NaN or infinity in result"):
                await ctx.start_run("native")
            return own.StopEvent(result="told")

    with serve(parent=Parent, native=Native) as server, server.client() as client:
        assert client.start_run("parent").result(timeout=60) == "told"
