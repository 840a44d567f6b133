"""What runs do to other runs is in the audit log, on the account of the caller that started the first."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from tests.integration.children.family import Given, Inner, Outer, children_of, until

from stepwire.server.testing import serve
from stepwire.workflow import Context
from stepwire.workflow.errors import ChildRunError


def test_starts_refused_starts_and_cancels_of_children_name_their_parent(tmp_path: Path) -> None:
    audit = tmp_path / "audit"

    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        ctx.start_run("Inner", text="kept", how="ask", parent_close="abandon")
        with contextlib.suppress(ChildRunError):
            await ctx.start_run("Inner", run_id="taken")
        ctx.start_run("Inner", text="one", how="ask", labels={"close": "cancel"})
        return await ctx.start_run("Inner", text="two", how="ask", labels={"close": "cancel"})

    def records(action: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in audit.read_text().splitlines()]
        return [each for each in found if each["action"] == action and each.get("parent") == run_id]

    with serve(Outer(act), Inner, settings={"audit_log": str(audit)}) as server, server.client() as client:
        client.start_run("Inner", run_id="taken")
        run_id = client.start_run("Outer").run_id
        until(lambda: len([each for each in children_of(client, run_id) if each.pending_waiters]) == 3)
        refused = until(lambda: [each for each in records("start") if each["result"] != "OK"])
        assert [(each["run"], each["workflow"], each["result"], each["reason"]) for each in refused] == [
            ("taken", "Inner", "ALREADY_EXISTS", "RUN_EXISTS")
        ]
        started = [each for each in records("start") if each["result"] == "OK"]
        assert {each["run"] for each in started} == {each.run_id for each in children_of(client, run_id)}
        assert records("cancel") == []
        client.run(run_id).cancel()
        until(lambda: len(records("cancel")) == 2)
        assert {each["run"] for each in records("cancel")} == {
            each.run_id for each in children_of(client, run_id) if each.labels
        }
        assert {(each["workflow"], each["result"], each["namespace"]) for each in records("cancel")} == {
            ("Inner", "OK", "default")
        }
