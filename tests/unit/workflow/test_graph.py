# mypy: disable-error-code="empty-body"
# The steps here are only looked at.

from __future__ import annotations

from typing import Any

from stepwire.workflow.context.context import Context
from stepwire.workflow.decorators import catch_error, step
from stepwire.workflow.definition.asking import asked_in
from stepwire.workflow.definition.graph import Edge
from stepwire.workflow.definition.roles import role_of
from stepwire.workflow.definition.schema import json_schema
from stepwire.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)
from stepwire.workflow.workflow import Workflow


class Begin(StartEvent):
    topic: str


class Draft(Event):
    text: str
    raw: bytes = b""


class LongDraft(Draft):
    pass


class Ask(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    pass


class Opaque:
    pass


class Article(Workflow):
    """Of every kind of step one."""

    @step(num_workers=2)
    def write(self, ev: Begin) -> list[Draft] | LongDraft | None:
        """Write it.

        At length.
        """

    @step(accept_subclasses=True)
    def review(self, ev: Draft) -> Ask: ...

    @step
    def publish(self, ev: Answer) -> StopEvent: ...

    @catch_error(steps=["write"])
    def rewrite(self, ev: StepFailedEvent) -> Draft: ...

    @catch_error
    def give_up(self, ev: StepFailedEvent) -> StopEvent: ...


ARTICLE = Article()


def test_steps_are_described_in_order() -> None:
    description = ARTICLE.describe()
    assert description.name == "Article"
    names = [found.name for found in description.steps]
    assert names == ["write", "review", "publish", "rewrite", "give_up"]
    write = description.steps[0]
    assert (write.accepts, write.returns) == (("Begin",), ("Draft", "LongDraft"))
    assert (write.num_workers, write.doc) == (2, "Write it.\n\nAt length.")
    assert description.steps[1].doc == ""


def test_events_have_a_kind_and_a_schema_each_once() -> None:
    events = {event.name: event for event in ARTICLE.describe().events}
    assert len(events) == len(ARTICLE.describe().events) == 7
    assert {name: event.kind for name, event in events.items()} == {
        "Begin": "start",
        "Draft": "event",
        "LongDraft": "event",
        "Ask": "input_required",
        "Answer": "human_response",
        "StopEvent": "stop",
        "StepFailedEvent": "step_failed",
    }
    schema = events["Begin"].json_schema
    assert schema["properties"]["topic"]["type"] == "string"
    assert schema["required"] == ["topic"]
    assert schema["additionalProperties"] is True


def test_edges_lead_from_outside_to_outside() -> None:
    assert ARTICLE.describe().edges == (
        Edge("", "Begin", "write"),
        Edge("write", "Draft", "review"),
        Edge("write", "LongDraft", "review"),
        Edge("review", "Ask", ""),
        Edge("publish", "StopEvent", ""),
        Edge("", "Answer", "publish"),
        Edge("rewrite", "Draft", "review"),
        Edge("write", "StepFailedEvent", "rewrite"),
        Edge("give_up", "StopEvent", ""),
        Edge("review", "StepFailedEvent", "give_up"),
        Edge("publish", "StepFailedEvent", "give_up"),
    )


def test_a_type_without_a_json_form_allows_anything() -> None:
    class Wrapper(Event):
        thing: Opaque
        other: Opaque | None = None
        made: object = Opaque()
        n: int

    schema = json_schema(Wrapper)
    assert schema["properties"]["n"]["type"] == "integer"
    assert "type" not in schema["properties"]["thing"]
    assert schema["required"] == ["thing", "n"]


def test_kinds_follow_inheritance() -> None:
    assert role_of(StartEvent).kind == role_of(Begin).kind == "start"
    assert role_of(Event).kind == role_of(LongDraft).kind == "event"


def test_the_chart_names_steps_events_and_the_way_between() -> None:
    lines = ARTICLE.draw().splitlines()
    assert lines[0] == "flowchart TD"
    nodes = {}
    for line in lines[1:]:
        if "-->" not in line:
            node, label = line.strip().split("[", 1) if "([" not in line else line.strip().split("([")
            nodes[label.split('"')[1]] = node
    assert nodes.keys() == {
        *("write", "review", "publish", "rewrite", "give_up"),
        *("Begin", "Ask", "Answer", "StopEvent"),
    }
    assert f"    {nodes['Begin']} --> {nodes['write']}" in lines
    assert f'    {nodes["write"]} -->|"Draft"| {nodes["review"]}' in lines
    assert f"    {nodes['review']} --> {nodes['Ask']}" in lines
    assert f"    {nodes['give_up']} --> {nodes['StopEvent']}" in lines
    assert len(lines) == 1 + len(nodes) + len(ARTICLE.describe().edges)


class Approval(Event):
    yes: bool = True


class Question(Event):
    text: str = ""


class Asking(Workflow):
    """Ask by waits, which no signature tells of."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent:
        question = Question(text="?")
        await ctx.wait_for_event(Approval, waiter_event=question)
        await ctx.wait_for_event(event_type=Answer, waiter_event=Ask())
        await self._again(ctx)
        kind = Answer
        await ctx.wait_for_event(kind)
        return StopEvent()

    async def _again(self, ctx: Context) -> None:
        await ctx.wait_for_event(Draft)
        await self._again(ctx)


def test_the_graph_shows_the_questions_that_steps_ask_by_waits() -> None:
    workflow = Asking()
    assert set(workflow.describe().edges) == {
        Edge("", "StartEvent", "begin"),
        Edge("begin", "StopEvent", ""),
        Edge("begin", "Question", ""),
        Edge("", "Approval", "begin"),
        Edge("begin", "Ask", ""),
        Edge("", "Answer", "begin"),
        Edge("", "Draft", "begin"),
    }
    assert {event.name for event in workflow.describe().events} >= {"Question", "Approval", "Ask", "Answer"}
    drawn = workflow.draw()
    assert '(["Question"])' in drawn
    assert '(["Approval"])' in drawn


def test_a_step_without_source_has_no_questions() -> None:
    made: dict[str, Any] = {}
    exec("async def made(ctx, ev):\n    await ctx.wait_for_event(object)\n", made)
    assert asked_in(made["made"]) == []
