"""A workflow's graph as a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from stepwire.cli.render.drawing import graph_page
from stepwire.client import WorkflowEdge, WorkflowInfo


def page_of(*edges: tuple[str, str, str], steps: tuple[str, ...] = ()) -> str:
    from stepwire.client import EventRole, WorkflowStep, WorkflowType

    return graph_page(
        WorkflowInfo(
            name="orders <b>",
            version="1",
            description="A & B",
            start_event="StartEvent",
            stop_event="StopEvent",
            state_type="",
            steps=tuple(WorkflowStep(name, (), (), 1, "") for name in steps),
            types=(WorkflowType("Question", EventRole.INPUT_REQUIRED, True, False, {}),),
            edges=tuple(WorkflowEdge(*edge) for edge in edges),
            mermaid="",
            timeout=None,
        )
    )


def test_steps_and_events_stand_in_the_order_of_the_arrows() -> None:
    page = page_of(
        ("", "StartEvent", "ask"),
        ("ask", "Question", ""),
        ("", "Answer", "ask"),
        ("ask", "Paid", "ship"),
        ("ship", "Again", "ask"),
        ("ship", "StopEvent", ""),
        steps=("ask", "ship"),
    )
    assert "<script" not in page
    assert "orders &lt;b&gt;" in page
    assert "A &amp; B" in page
    picture = re.search(r"<svg.*</svg>", page)
    assert picture is not None
    root = ElementTree.fromstring(picture[0])
    name = "{http://www.w3.org/2000/svg}"
    places = {group[0].text: int(group[1].attrib["x"]) for group in root.findall(f"{name}g")}
    assert places["StartEvent"] < places["ask"] < places["ship"] < places["StopEvent"]
    assert places["Answer"] < places["ask"] < places["Question"]
    assert {group.attrib["class"] for group in root.findall(f"{name}g")} == {"step", "question", "outside"}
    labels = [text.text for text in root.findall(f"{name}text")]
    assert labels == ["Paid", "Again"]


def test_a_workflow_without_edges_and_a_circle_are_drawn() -> None:
    assert "alone" in page_of(steps=("alone",))
    assert page_of(("a", "X", "b"), ("b", "Y", "a"), ("a", "Z", "a"), steps=("a", "b")).count("marker-end") == 3
