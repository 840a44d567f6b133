"""The tree of a run, and how children are told."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.cli.render.things import NOW, WAITER, info

from stepwire.cli.render.family import family_tree
from stepwire.cli.render.pages import run_page
from stepwire.cli.render.progress import child_text
from stepwire.client import ChildSummary, RunParent, RunStatus
from stepwire.client.events import ChildEvent

SUMMARY = ChildSummary(total=3, unfinished=1, queued=0, completed=1, failed=1, cancelled=0, timed_out=0)


def test_the_tree_of_a_run() -> None:
    root = info(run_id="top", children=SUMMARY, pending_waiters=(replace(WAITER, run_id="low"),))
    middle = info(run_id="mid", children=replace(SUMMARY, total=1, completed=0, failed=0))
    low = info(run_id="low", pending_waiters=(WAITER,))
    done = info(run_id="end", status=RunStatus.COMPLETED)
    lines = [line.plain for line in family_tree(root, {"top": [middle, done], "mid": [low]}, NOW)]
    assert [line.split()[:2] for line in lines] == [
        ["top", root.workflow],
        ["…", "and"],
        ["├─", "mid"],
        ["│", "└─"],
        ["└─", "end"],
    ]
    assert "(3: 1 unfinished, 1 completed, 1 failed)" in lines[0]
    assert "waits for" not in lines[0], "its child does"
    assert f"waits for {WAITER.event_type}" in lines[3]


def test_a_run_tells_its_parent_its_children_and_who_asks() -> None:
    parent = RunParent(run_id="top", step="go", delivery_id=1, depth=1, abandoned=False)
    shown = run_page(info(parent=parent, children=SUMMARY, pending_waiters=(replace(WAITER, run_id="low"),)), NOW).plain
    for text in ("top, step go", "3: 1 unfinished, 1 completed, 1 failed", "asked by run low", "stepwire send low "):
        assert text in shown


def test_a_child_in_the_log() -> None:
    assert child_text(ChildEvent("c1", "inner", RunStatus.RUNNING)).plain == "⇢ run c1 of inner started"
    assert child_text(ChildEvent("c1", "inner", RunStatus.TIMED_OUT)).plain == "⇢ run c1 of inner timed out"
