"""Run a workflow and get its result, from a shell."""

from __future__ import annotations

import json
import re

from tests.integration.cli.support import ANSWERS, asking, cli, document, following, records, start


def test_run_shows_events_and_writes_the_result() -> None:
    result = cli("run", "Greet", "name=Ada")
    assert result.stdout == "Hello, Ada!\n"
    lines = result.stderr.splitlines()
    assert re.fullmatch(r"run \S+ of Greet", lines[0])
    assert "Tick n=0" in lines[1]
    assert "Tick n=1" in lines[2]
    assert lines[3].startswith("completed after ")
    assert len(lines) == 4


def test_run_for_scripts() -> None:
    first, *events, last = records("run", "Greet", "name=Ada", "--label", "team=blue", "--run-id", "scripted")
    assert first["run"]["run_id"] == "scripted"
    assert first["run"]["labels"] == {"team": "blue"}
    assert [(item["event"]["type"], item["event"]["data"]) for item in events] == [
        ("Tick", {"n": 0}),
        ("Tick", {"n": 1}),
        ("StopEvent", {"result": "Hello, Ada!"}),
    ]
    assert last["outcome"]["status"] == "completed"
    assert last["outcome"]["result"] == "Hello, Ada!"


def test_input_from_standard_input() -> None:
    assert cli("run", "Greet", "--input", "@-", stdin='{"name": "Grace"}').stdout == "Hello, Grace!\n"


def test_a_failed_run_has_exit_code_3() -> None:
    result = cli("run", "Fail", code=3)
    assert result.stdout == ""
    assert re.search(r"^error: RUN_FAILED: run \S+ failed in step fail: ValueError: boom$", result.stderr, re.M)
    assert re.search(r"^  reference: \w+$", result.stderr, re.M)
    last = records("run", "Fail", code=3)[-1]
    assert last["outcome"]["status"] == "failed"
    assert last["outcome"]["failure"]["error_type"] == "ValueError"


def test_refusals_are_one_line_and_the_fields() -> None:
    result = cli("run", "Greet", "nme=Ada", code=1)
    assert result.stderr.splitlines() == [
        "error: INVALID_INPUT: The input does not fit Greeting",
        "  name: Field required",
        "  nme: did you mean name?",
    ]
    for refused, reason, told in (
        (cli("run", "Nothing", code=1), "WORKFLOW_NOT_FOUND", "stepwire workflows lists"),
        (cli("runs", "no-such-run", code=1), "RUN_NOT_FOUND", "stepwire runs lists"),
        (cli("send", asking("--label", "told=1"), "Nothing", code=1), "UNKNOWN_EVENT_TYPE", "stepwire workflows Order"),
    ):
        assert re.match(rf"error: {reason}: .*(Nothing|no-such-run)", refused.stderr)
        assert f"\n  {told} " in refused.stderr
    assert cli("run", "Greet", "name=Ada", "--timeout", "1", "--run-id", "bad id", code=1).stdout == ""


def test_a_run_in_the_background() -> None:
    run = start("Greet", "name=Ada")
    assert cli("result", run).stdout == "Hello, Ada!\n"
    assert document("result", run) == "Hello, Ada!"
    assert document("run", "Greet", "name=Ada", "--detach")["workflow"] == "Greet"
    assert cli("result", start("Order"), "--timeout", "0.1", code=1).stdout == ""


def test_answers_given_before() -> None:
    assert json.loads(cli("run", "Order", *ANSWERS).stdout) == {"approved": True, "speed": "fast", "note": None}
    named = cli("run", "Name", "--answer", "HumanResponseEvent:response=Ada")
    assert named.stdout == "Hello, Ada!\n"
    assert "\n  answered: HumanResponseEvent response=Ada\n" in named.stderr
    assert "stepwire send" not in named.stderr  # nothing is left to answer


def test_answers_that_no_question_took() -> None:
    result = cli("run", "Greet", "name=Ada", "--answer", "Approval:approved=true")
    assert "no question took the answer Approval" in result.stderr


def test_without_a_terminal_a_question_is_answered_elsewhere() -> None:
    run = "asked-elsewhere"
    with following("run", "Order", "--run-id", run) as process:
        assert process.stderr is not None
        text = ""
        while "answer: stepwire send" not in text:
            text = process.stderr.readline()
            assert text, "it ended before it asked"
        assert (
            text.strip()
            == f"answer: stepwire send {run} Approval 'order=\"7\"' approved=true/false parcels=INTEGER speed=slow/fast"
        )
        sent = document("send", run, "Approval", 'order="7"', "approved=false", "parcels=1", "speed=slow")
        assert sent["delivered"] == 1
        stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(stdout)["approved"] is False


def test_questions_for_scripts() -> None:
    found = records("run", "Order", *ANSWERS)
    [question] = [item["question"] for item in found if "question" in item]
    assert question["waiter_id"] == "ship"
    assert question["event_type"] == "Approval"
    assert question["requirements"] == {"order": "7"}
    assert question["prompt"] == {"type": "Ask", "data": {"question": "Ship it?"}}
    kinds = [next(iter(item)) for item in found]
    assert kinds == ["run", "event", "question", "event", "outcome"]


def test_a_bad_answer_is_told_and_the_question_stays_open() -> None:
    run = "badly-answered"
    with following("run", "Order", "--run-id", run, "--answer", "Approval:approved=perhaps") as process:
        assert process.stderr is not None
        text = ""
        while "speed" not in text:
            text = process.stderr.readline()
            assert text, "it ended before it told"
        assert len(document("runs", run)["pending_waiters"]) == 1
        cli("cancel", run)
        assert process.wait(60) == 3
