"""Find, read and steer runs from a shell."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.support import ANSWERS, asking, cli, document, records, start
from tests.serving import COMMAND

from stepwire.client import Client


def test_runs_and_filters() -> None:
    run = asking("--label", "test=filters")
    cli("run", "Greet", "name=Ada", "--label", "test=filters")
    assert len(document("runs", "--label", "test=filters")) == 2
    [only] = document("runs", "--label", "test=filters", "--status", "waiting", "--workflow", "Order", "--since", "1h")
    assert only["run_id"] == run
    assert document("runs", "--label", "test=filters", "--before", "1h") == []
    table = cli("runs", "--label", "test=filters", "--limit", "1")
    assert table.stdout.splitlines()[0].split() == ["RUN", "WORKFLOW", "STATUS", "AGE", "ABOUT"]
    assert len(table.stdout.splitlines()) == 3
    assert "there are more" in table.stderr
    page = cli("runs", run).stdout
    assert "Ship it?" in page
    assert "waiting" in page


def test_cancel_and_delete() -> None:
    run = start("Order")
    assert cli("delete", run, code=1).stderr.startswith("error: RUN_NOT_ENDED: ")
    assert document("cancel", run, "--reason", "not wanted")["outcome"]["reason"] == "not wanted"
    assert cli("result", run, code=3).stderr.startswith("error: RUN_CANCELLED: ")
    assert "not wanted" in cli("runs", run).stdout
    cli("delete", run)
    cli("runs", run, code=1)


def test_events() -> None:
    run = start("Greet", "name=Ada")
    cli("result", run)
    found = records("events", run)
    assert [item["type"] for item in found] == ["Tick", "Tick", "StopEvent"]
    later = records("events", run, "--after", str(found[0]["sequence"]), "--type", "Tick")
    assert later[0]["data"] == {"n": 1}
    internal = records("events", run, "--internal", "--follow")
    assert [item["sequence"] for item in internal] == list(range(1, len(internal) + 1))
    assert internal[0]["kind"] == "received"
    lines = cli("events", run).stdout.splitlines()
    assert len(lines) == 3
    assert "Tick n=0  (greet)" in lines[0]
    assert cli("events", run, "--after", "1000", code=1).stderr.startswith("error: SEQUENCE_OUT_OF_RANGE: ")


def test_send_to_nobody_and_to_a_step() -> None:
    run = asking()
    assert "nothing took it" in cli("send", run, "Tick", "n=1").stderr
    assert cli("send", run, "Tick", "n=x", code=1).stderr.splitlines()[1].startswith("  n: ")
    assert cli("send", run, "Tick", "n=1", "--step", "order", code=1).stderr.startswith("error: STEP_DOES_NOT_ACCEPT: ")


def test_state() -> None:
    run = asking()
    assert document("state", "get", run) == {"order": {"paid": False}}
    cli("state", "set", run, "order.paid=true", "note=by hand")
    assert json.loads(cli("state", "get", run, "order").stdout) == {"paid": True}
    cli("state", "unset", run, "note")
    result = cli("state", "get", run, "note", code=1)
    assert result.stderr.startswith("error: PATH_NOT_FOUND: ")
    assert cli("state", "set", run, "a=1", "--etag", "old", code=1).stderr.startswith("error: ETAG_MISMATCH: ")
    assert cli("state", "set", run, "_a=1", code=1).stderr.startswith("error: INVALID_PATH: ")


def test_snapshots(tmp_path: Path) -> None:
    run = asking()
    last = document("runs", run)
    cli("state", "set", run, "note=by hand")
    file = tmp_path / "order.snapshot"
    cli("snapshot", run, "--out", file)
    assert json.loads(cli("run", "Order", "--from-snapshot", file, *ANSWERS).stdout)["note"] == "by hand"
    assert json.loads(cli("run", "Order", "--from-run", run, *ANSWERS).stdout)["note"] == "by hand"
    kept = document("snapshot", run, "--list")
    assert last["last_sequence"] in [item["sequence"] for item in kept]
    forked = start("Order", "--from-run", f"{run}@{kept[0]['sequence']}")
    assert document("runs", forked)["forked_from"] == {"run_id": run, "sequence": kept[0]["sequence"]}
    assert document("snapshot", run)["is_running"] is True
    assert cli("snapshot", run, "--out", tmp_path / "no" / "such", code=1).stderr.startswith("error: cannot write ")


def test_history_shows_everything_and_where_it_can_be_forked() -> None:
    run = asking()
    cli("send", run, "Approval", 'order="7"', "approved=true", "parcels=1", "speed=slow")
    cli("result", run)
    found = records("history", run)
    last = document("runs", run)["last_sequence"]
    assert [item["sequence"] for item in found] == list(range(1, last + 1))
    assert [item["type"] for item in found if item["type"]] == ["StartEvent", "Ask", "Approval", "StopEvent"]
    assert [item["execution"]["status"] for item in found if not item["type"]] == ["started", "finished"]
    kept = {item["sequence"] for item in document("snapshot", run, "--list")}
    assert {item["sequence"] for item in found if item["snapshot"] is not None} == kept
    lines = cli("history", run, "--flat").stdout.splitlines()
    assert len(lines) == last
    assert {number for number, line in enumerate(lines, 1) if line.startswith("* ")} == kept
    assert 'Ask question="Ship it?"' in lines[2]
    tree = [line[11:].split(maxsplit=1)[1] for line in cli("history", run).stdout.splitlines()]
    assert tree[0].startswith("→ StartEvent")
    assert re.fullmatch(r"▸ order [\d.]+m?s, waited [\d.]+m?s for Approval", tree[1])
    assert tree[2].startswith('├─   Ask question="Ship it?"')
    assert tree[3].startswith("├─ → Approval")
    assert tree[4].startswith("└─   StopEvent")
    assert cli("history", "nobody", code=1).stderr.startswith("error: RUN_NOT_FOUND: ")


def test_the_beginning_of_an_id_is_enough_where_only_one_run_has_it() -> None:
    run = start("Order", "--run-id", "prefix-one")
    start("Order", "--run-id", "prefix-two")
    assert document("runs", "prefix-o")["run_id"] == run
    assert "2 runs begin with prefix-: prefix-" in cli("runs", "prefix-", code=2).stderr
    for command in (["events"], ["history"], ["state", "get"], ["snapshot"], ["fork"], ["cancel"], ["delete"]):
        cli(*command, "prefix-o")
    assert cli("runs", "prefix-x", code=1).stderr.startswith("error: RUN_NOT_FOUND: ")


def test_a_run_shows_what_it_does_and_how_to_answer() -> None:
    run = asking()
    page = cli("runs", run[:8]).stdout
    assert re.search(r"step +order  waits for [\d.]+s for Approval  \(StartEvent 1\)", page)
    assert "approved=true/false parcels=INTEGER speed=slow/fast" in page
    (active,) = document("runs", run)["active_deliveries"]
    assert (active["step"], active["status"], active["attempt"]) == ("order", "parked", 1)


def test_a_watched_run_is_written_at_each_change_until_it_ends() -> None:
    run = asking()
    watching = subprocess.Popen(
        [str(COMMAND), "runs", run, "--watch", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())
    assert first["status"] == "waiting"
    cli("send", run, "Approval", 'order="7"', "approved=true", "parcels=1", "speed=slow")
    out, _ = watching.communicate(timeout=60)
    assert json.loads(out.splitlines()[-1])["status"] == "completed"
    assert watching.returncode == 0


def test_fork_goes_on_from_a_moment_and_leaves_the_run_as_it_is() -> None:
    run = asking()
    question = document("runs", run)["last_sequence"]
    cli("send", run, "Approval", 'order="7"', "approved=true", "parcels=1", "speed=slow")
    cli("result", run)
    before = records("history", run)
    forked = document("fork", run, "--at", str(question), "--run-id", "forked")
    assert (forked["run_id"], forked["forked_from"]) == ("forked", {"run_id": run, "sequence": question})
    cli("send", "forked", "Approval", 'order="7"', "approved=false", "parcels=1", "speed=fast")
    assert json.loads(cli("result", "forked").stdout)["approved"] is False
    assert json.loads(cli("result", run).stdout)["approved"] is True
    assert records("history", run) == before
    shown = cli("fork", run, "--at", str(question))
    assert shown.stderr.startswith(f"forked from {run} at sequence {question}; follow it: stepwire events ")
    cli("cancel", shown.stdout.strip())
    # What has ended starts anew, with an input.
    assert cli("fork", run, code=1).stderr.startswith("error: INVALID_REQUEST: ")
    assert document("fork", run, "again=true")["forked_from"]["run_id"] == run
    assert cli("fork", run, "--at", "999", code=1).stderr.startswith("error: SEQUENCE_OUT_OF_RANGE: ")


def test_a_fork_may_ask_for_fresh_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    start_run, asked = Client.start_run, []

    async def noting(self: Client, *args: Any, **fields: Any) -> Any:
        asked.append(fields.get("fresh_budgets", False))
        return await start_run(self, *args, **fields)

    run = asking()
    monkeypatch.setattr(Client, "start_run", noting)
    for more in ([], ["--fresh-budgets"]):
        assert document("fork", run, *more)["forked_from"]["run_id"] == run
    assert asked == [False, True]


def test_workflows() -> None:
    assert [item["name"] for item in document("workflows")] == [
        "Confirm", "Fail", "Greet", "Lost", "Name", "Order", "Parcels",
    ]  # fmt: skip
    assert "Greet someone." in cli("workflows").stdout
    page = cli("workflows", "Order").stdout
    assert "order: StartEvent -> StopEvent" in page
    assert "Approval(order: string, approved: boolean, parcels: integer, speed: Speed)" in page
    [others] = [line for line in page.splitlines() if line.startswith("others")]
    assert "Tick" in others
    assert "Approval" not in others
    assert "Tick(" not in page
    assert cli("workflows", "Order", "--mermaid").stdout.startswith("flowchart TD\n")
    found = document("describe", "Order")
    assert found["$defs"]["Approval"]["properties"]["speed"] == {"$ref": "#/$defs/Speed"}
    assert found["$defs"]["Speed"]["enum"] == ["slow", "fast"]
    assert found["x-stepwire"]["events"]["Approval"] == {"role": "human_response", "sendable": True}


def test_history_of_an_answered_run_and_of_a_retry() -> None:
    run = asking()
    assert "▸ order  waiting for Approval" in cli("history", run).stdout
    cli("send", run, "Approval", 'order="7"', "approved=true", "parcels=1", "speed=fast")
    cli("result", run)
    told = cli("history", run)
    assert re.search(r"▸ order .*, waited \S+ for Approval", told.stdout)
    assert "attempt" not in told.stdout
    assert told.stdout.index("→ Approval") < told.stdout.index("StopEvent")
    assert "* can be forked" in told.stderr
    failed = start("Fail")
    cli("result", failed, code=3)
    again = document("retry", failed)["run_id"]
    assert cli("history", again).stdout.startswith(f"retries {failed} at ")
    row = next(line for line in cli("runs", "--id", failed).stdout.splitlines() if line.startswith(failed))
    assert row.endswith(f"retried as {again}")


def test_the_history_of_a_retry_has_the_attempts_at_what_it_took_over() -> None:
    failed = start("Fail")
    cli("result", failed, code=3)
    again = document("retry", failed)["run_id"]
    cli("result", again, code=3)
    told = cli("history", again).stdout
    assert re.search(r"▸ fail  failed, attempt 2\n.*! attempt 2 failed after .*: ValueError: boom", told)


def test_a_question_of_a_child_is_told_with_its_fields_and_answered_from_its_parent() -> None:
    parent = start("Parcels")
    found = document("runs", parent)
    while [each["status"] for each in found["active_deliveries"]] != ["parked", "parked"]:
        found = document("runs", parent)
    child = found["pending_waiters"][0]["run_id"]
    page = cli("runs", parent).stdout
    answer = "approved=true/false parcels=INTEGER speed=slow/fast"
    assert f"stepwire send {child} Approval 'order=\"7\"' {answer}" in page
    assert re.search(rf"order +waits for \S+ for Approval  \(StartEvent 1 of run {child}\)", page)
    assert re.search(r"▸ order  waiting\n", cli("history", parent).stdout), "the child's question is not its own"
    assert json.loads(cli("run", "Parcels", *ANSWERS).stdout)["speed"] == "fast"


def test_tables_have_no_trailing_blanks_and_results_in_short() -> None:
    run = start("Greet", "name=Ada")
    cli("result", run)
    lines = cli("runs", "--id", run).stdout.splitlines()
    assert lines[-1].endswith('"Hello, Ada!"')
    assert all(line == line.rstrip() for line in [*lines, *cli("workflows").stdout.splitlines()])


def test_a_dry_run_names_the_runs_and_a_second_retry_says_why_it_does_nothing() -> None:
    label = ("--label", "batch=dry")
    runs = [start("Fail", *label) for _ in range(2)]
    for run in runs:
        cli("result", run, code=3)
    done = start("Greet", "name=Ada", *label)
    cli("result", done)
    dry = cli("retry", "--all", "--dry-run", *label)
    assert sorted(dry.stdout.splitlines()) == sorted(f"{run}  Fail  failed" for run in runs)
    assert "would retry 2 runs" in dry.stderr
    assert cli("cancel", "--all", "--dry-run", *label).stdout == ""
    assert len(cli("delete", "--all", "--dry-run", *label).stdout.splitlines()) == 3
    cli("retry", runs[0])
    dry = cli("retry", "--all", "--dry-run", *label, "--id", runs[0])
    assert dry.stdout == ""
    assert "1 was retried before" in dry.stderr
    assert "retried 0 runs, 1 was retried before" in cli("retry", "--all", *label, "--id", runs[0]).stderr


def test_a_dry_run_of_many_names_twenty() -> None:
    for _ in range(22):
        start("Order", "--label", "batch=many")
    dry = cli("cancel", "--all", "--dry-run", "--label", "batch=many")
    assert len(dry.stdout.splitlines()) == 20
    assert "and 2 more" in dry.stderr
    cli("cancel", "--all", "--label", "batch=many")


def test_pause_tells_how_to_answer_as_runs_does() -> None:
    run = asking()
    answer = "approved=true/false parcels=INTEGER speed=slow/fast"
    assert answer in cli("runs", run).stdout
    assert answer in cli("pause", run).stdout
    assert answer in cli("resume", run).stdout
    cli("cancel", run)


def test_fork_says_what_is_missing_and_where_else_there_is_a_snapshot() -> None:
    run = asking()
    cli("send", run, "Approval", 'order="7"', "approved=true", "parcels=1", "speed=fast")
    cli("result", run)
    refused = cli("fork", run, code=1).stderr
    assert refused.count("had ended") == 1
    assert "KEY=VALUE" in refused
    assert "stepwire snapshot RUN --list" in refused
    kept = [each["sequence"] for each in document("snapshot", run, "--list")]
    missing = next(each for each in range(kept[0], kept[-1], -1) if each not in kept)
    nearest = next(each for each in kept if each < missing)
    refused = cli("fork", run, "--at", str(missing), code=1).stderr
    assert f"No snapshot is kept at sequence {missing}; the nearest one before it is at {nearest}" in refused
    refused = cli("fork", run, "--at", str(nearest), "--input", "{}", code=1).stderr
    assert "must be empty" in refused
    assert "leave out KEY=VALUE" in refused


def test_misspelled_names_are_guessed() -> None:
    assert "Ordr; did you mean Order?" in cli("run", "Ordr", code=1).stderr
    run = asking()
    assert "Aproval; did you mean Approval?" in cli("send", run, "Aproval", code=1).stderr
    gone = cli("schedule", "show", "nightly", code=1).stderr.splitlines()[0]
    assert gone == "error: SCHEDULE_NOT_FOUND: There is no such schedule: nightly"
    gone = cli("runs", "0" * 32, code=1).stderr.splitlines()[0]
    assert gone == f"error: RUN_NOT_FOUND: There is no such run: {'0' * 32}"


def test_a_run_that_stalls_names_the_event_that_nothing_took() -> None:
    run = start("Lost")
    while document("runs", run)["status"] != "waiting":
        pass
    page = cli("runs", run).stdout
    assert "the run waits for an event, or is stalled" in page
    assert "no step takes Parcel, the last event that was sent" in page
    name = start("Name")
    while document("runs", name)["status"] != "waiting":
        pass
    assert "no step takes" not in cli("runs", name).stdout


def test_retry_writes_the_id_of_the_new_run() -> None:
    failed = start("Fail")
    cli("result", failed, code=3)
    first = cli("retry", failed)
    again = first.stdout.strip()
    assert document("runs", again)["retried_from"]["run_id"] == failed
    assert f"stepwire events {again} --follow" in first.stderr
    assert cli("retry", failed).stdout.strip() == again
    kept = [each["sequence"] for each in document("snapshot", failed, "--list")]
    earlier = cli("retry", failed, "--at", str(kept[-1])).stdout.strip()
    assert earlier != again
    page = cli("runs", failed).stdout
    assert page.index(f"retried as  {again}") < page.index(f"retried as  {earlier}")
