"""A child that cannot go on is told of at its parent, with what to do about it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.integration.children.family import Given, Inner, Outer, children_of, runs_of, until
from tests.serving import COMMAND

from stepwire.client import RunStatus, SyncClient
from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import Context, StopEvent, Workflow, step

WHY = "no server serves the workflow Inner: serve it, or cancel the run"


async def ask(outer: Outer, ctx: Context, ev: Given) -> Any:
    return await ctx.start_run("Inner", text="a", how="ask")


class Other(Workflow):
    """What is served in the place of Inner: its runs do not fit."""

    @step
    async def other(self, ev: Given) -> StopEvent:
        return StopEvent()


def shown(server: RunningServer, *arguments: str) -> str:
    command = [str(COMMAND), "runs", *arguments, "--server", server.address]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def asking(client: SyncClient) -> tuple[str, str]:
    """Start a run whose child asks; return the ids of both."""
    run_id: str = client.start_run("Outer").run_id
    child = until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")[0]
    return run_id, child.run_id


def test_a_child_whose_workflow_is_not_served_any_more_is_told_of_at_its_parent(tmp_path: Path) -> None:
    with serve(Outer(ask), Inner, data=tmp_path) as server, server.client() as client:
        run_id, child = asking(client)
        assert client.run(run_id).info().blocked_children == ()
        server.restart(Outer(ask))
        (told,) = client.run(run_id).info().blocked_children
        assert (told.run_id, told.workflow, told.reason) == (child, "Inner", WHY)
        assert client.run(child).info().blocked_reason == WHY
        assert children_of(client, run_id)[0].blocked_reason == WHY
        tree = " ".join(shown(server, run_id, "--tree").split())
        assert tree.count(WHY) == 1
        page = " ".join(shown(server, run_id).split())
        assert f"blocked child {child} of Inner: {WHY}" in page
        assert "answer:" not in page
        (listed,) = [json.loads(shown(server, run_id, "--json"))["blocked_children"]]
        assert [each["run_id"] for each in listed] == [child]
        client.run(child).cancel()
        until(lambda: client.run(run_id).info().ended, "the end of the parent")
        assert client.run(run_id).info().blocked_children == ()
        assert client.run(child).info().blocked_reason == ""


def test_a_child_that_is_blocked_is_told_of_at_its_parent(tmp_path: Path) -> None:
    with serve(Outer(ask), Inner, data=tmp_path) as server, server.client() as client:
        run_id, child = asking(client)
        server.restart(Outer(ask), Inner=Other)
        until(lambda: client.run(child).info().status is RunStatus.BLOCKED, "the block")
        (told,) = client.run(run_id).info().blocked_children
        assert (told.run_id, told.reason) == (child, client.run(child).info().blocked_reason)


def test_a_child_that_no_replica_can_start_is_told_of_at_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Outer(ask), Inner) as server, server.client() as client:
        runs = runs_of(server)
        monkeypatch.setattr(type(runs.family), "carry_out", lambda *_: None)
        run_id = client.start_run("Outer").run_id
        monkeypatch.setattr("stepwire.server.runs.active.unserved", lambda pool, workflow: WHY)
        (told,) = until(lambda: client.run(run_id).info().blocked_children, "the child")
        assert (told.workflow, told.reason) == ("Inner", WHY)
        assert children_of(client, run_id) == []
        assert WHY in " ".join(shown(server, run_id, "--tree").split())
