"""The command line against a real server, piped and at a terminal."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from tests.serving import COMMAND, ServerProcess
from typer.testing import CliRunner, Result

from stepwire.cli import _calling, app, health
from stepwire.client._core.reachability import PROBE_TIMEOUT

if sys.platform == "win32":
    pytest.skip("no pseudo terminals", allow_module_level=True)

import pty

FLOWS = str(Path(__file__).with_name("cli_flows.py"))


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(":memory:", [FLOWS]) as process:
        yield process


@pytest.fixture(autouse=True)
def environment(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWIRE_SERVER", server.address)


def cli(*arguments: str | Path, code: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, [str(item) for item in arguments], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def document(*arguments: str | Path) -> Any:
    [line] = cli(*arguments, "--json").stdout.splitlines()
    return json.loads(line)


def records(*arguments: str | Path, code: int = 0) -> list[Any]:
    return [json.loads(line) for line in cli(*arguments, "--json", code=code).stdout.splitlines()]


def start(*arguments: str) -> str:
    return cli("run", *arguments, "--detach").stdout.strip()


def asking(*arguments: str) -> str:
    """Start a run of Order and wait for its question."""
    run = start("Order", *arguments)
    while not document("runs", run)["pending_waiters"]:
        pass
    return run


# -- run and result -----------------------------------------------------------------------------------------------


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
    ]
    for refused, reason, told in (
        (cli("run", "Nothing", code=1), "WORKFLOW_NOT_FOUND", "stepwire workflows lists"),
        (cli("runs", "no-such-run", code=1), "RUN_NOT_FOUND", "stepwire runs lists"),
        (cli("send", asking("--label", "told=1"), "Nothing", code=1), "UNKNOWN_EVENT_TYPE", "stepwire workflows NAME"),
    ):
        assert refused.stderr.startswith(f"error: {reason}: ")
        assert f"\n  {told} " in refused.stderr
    assert cli("run", "Greet", "name=Ada", "--timeout", "1", "--run-id", "bad id", code=1).stdout == ""


def test_a_run_in_the_background() -> None:
    run = start("Greet", "name=Ada")
    assert cli("result", run).stdout == "Hello, Ada!\n"
    assert document("result", run) == "Hello, Ada!"
    assert document("run", "Greet", "name=Ada", "--detach")["workflow"] == "Greet"
    assert cli("result", start("Order"), "--timeout", "0.1", code=1).stdout == ""


CALLING = [
    ["workflows"],
    ["describe", "Greet"],
    ["run", "Greet"],
    ["run", "Greet", "--detach"],
    ["result", "r"],
    ["runs"],
    ["runs", "r"],
    ["cancel", "r"],
    ["delete", "r"],
    ["events", "r"],
    ["events", "r", "--follow", "--after", "3"],
    ["send", "r", "Approval"],
    ["history", "r"],
    ["fork", "r"],
    ["state", "get", "r"],
    ["state", "set", "r", "a=1"],
    ["state", "unset", "r", "a"],
    ["snapshot", "r"],
    ["snapshot", "r", "--list"],
]


@pytest.mark.parametrize("command", CALLING, ids=" ".join)
def test_no_server(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command that calls a server gives up when it cannot connect, whatever its own patience is."""
    monkeypatch.setattr(_calling, "CONNECT_TIMEOUT", 0.05)
    monkeypatch.setattr(_calling, "CALL_TIMEOUT", 600.0)
    result = cli(*command, "--server", "127.0.0.1:1", code=1)
    assert result.stderr.startswith("error: UNAVAILABLE: ")
    assert "\n  no server answers at 127.0.0.1:1: start one with stepwire serve" in result.stderr


def test_a_server_that_takes_connections_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calling, "CONNECT_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        result = cli("result", "r", "--server", address, code=1)
    assert f"UNAVAILABLE: {address} does not answer within 0.05 s" in result.stderr


def test_a_person_learns_soon_that_there_is_no_server() -> None:
    """The sum of what the command waits for, whatever the machine's speed is."""
    assert _calling.CONNECT_TIMEOUT + PROBE_TIMEOUT <= 1.5
    assert health.CONNECT_TIMEOUT <= 1.5


def test_files_of_credentials_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWIRE_CA", str(tmp_path / "absent.pem"))
    result = cli("runs", code=2)
    assert result.stderr == f"error: cannot read {tmp_path / 'absent.pem'}: No such file or directory\n"


def test_the_help_names_the_environment() -> None:
    shown = cli("--help").stdout
    for name in ("SERVER", "TOKEN", "TLS", "CA", "CERT", "SERVER_NAME"):
        assert f"STEPWIRE_{name}" in shown


# -- streams and signals ------------------------------------------------------------------------------------------


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the shell's redirections; `$0` is the command."""
    done = subprocess.run(["sh", "-c", command, str(COMMAND)], capture_output=True, text=True, check=False, timeout=50)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed(closed: str) -> None:
    assert shell(f"$0 runs --json {closed}").returncode == 0
    assert shell(f"$0 run Nothing {closed}").returncode == 1


@pytest.mark.parametrize("command", ["runs", "runs --json", "events RUN", "version", "--help"])
def test_output_that_cannot_be_written(command: str) -> None:
    done = shell(f"$0 {command.replace('RUN', start('Greet', 'name=Ada'))} > /dev/full")
    assert (done.returncode, done.stderr) == (1, "error: cannot write the output: No space left on device\n")


def test_a_reader_that_leaves() -> None:
    run = start("Greet", "name=Ada")
    cli("result", run)
    assert len(shell(f"$0 events {run} | head -1").stdout.splitlines()) == 1


def test_an_argument_that_is_no_text() -> None:
    done = shell("$0 runs \"$(printf 'a\\377')\"")
    assert (done.returncode, done.stderr) == (2, "error: 'a\\udcff' is not UTF-8 text\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_and_says_how_to_come_back(number: signal.Signals, code: int) -> None:
    run = asking()
    with following("events", run, "--follow") as process:
        assert process.stdout is not None
        while "Ask" not in process.stdout.readline():
            pass
        process.send_signal(number)
        _, said = process.communicate(timeout=50)
    assert process.returncode == code
    assert f"left; come back: stepwire events {run} --follow --after" in said


# -- questions ----------------------------------------------------------------------------------------------------

ANSWERS = [f"--answer=Approval:{field}" for field in ("approved=true", "parcels=2", "speed=fast")]


def test_answers_given_before() -> None:
    assert json.loads(cli("run", "Order", *ANSWERS).stdout) == {"approved": True, "speed": "fast", "note": None}
    assert cli("run", "Name", "--answer", "HumanResponseEvent:response=Ada").stdout == "Hello, Ada!\n"


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
        assert text.strip() == f"answer: stepwire send {run} Approval 'order=\"7\"' key=value"
        sent = document("send", run, "Approval", 'order="7"', "approved=false", "parcels=1", "speed=slow")
        assert sent["delivered"] == 1
        stdout, _ = process.communicate(timeout=30)
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
        assert process.wait(30) == 3


# -- runs, events, state, snapshots -------------------------------------------------------------------------------


def test_runs_and_filters() -> None:
    run = asking("--label", "test=filters")
    cli("run", "Greet", "name=Ada", "--label", "test=filters")
    assert len(document("runs", "--label", "test=filters")) == 2
    [only] = document("runs", "--label", "test=filters", "--status", "waiting", "--workflow", "Order", "--since", "1h")
    assert only["run_id"] == run
    assert document("runs", "--label", "test=filters", "--before", "1h") == []
    table = cli("runs", "--label", "test=filters", "--limit", "1")
    assert table.stdout.splitlines()[0].split() == ["RUN", "WORKFLOW", "STATUS", "AGE", "QUESTIONS"]
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
    assert [item["type"] for item in found] == ["StartEvent", "Ask", "Approval", "StopEvent"]
    kept = {item["sequence"] for item in document("snapshot", run, "--list")}
    assert {item["sequence"] for item in found if item["snapshot"] is not None} == kept
    lines = cli("history", run).stdout.splitlines()
    assert len(lines) == last
    assert {number for number, line in enumerate(lines, 1) if line.startswith("* ")} == kept
    assert 'Ask question="Ship it?"' in lines[1]
    assert cli("history", "nobody", code=1).stderr.startswith("error: RUN_NOT_FOUND: ")


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


def test_a_second_server_on_one_data_directory_says_which_process_has_it(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, [FLOWS]) as first:
        words = [str(COMMAND), "serve", FLOWS, "--address", "127.0.0.1:0", "--data", str(tmp_path)]
        second = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == 1
        assert second.stderr.startswith("error: ")
        assert f"in use by process {first.pid} on " in second.stderr


def test_workflows() -> None:
    assert [item["name"] for item in document("workflows")] == ["Fail", "Greet", "Name", "Order"]
    assert "Greet someone." in cli("workflows").stdout
    page = cli("workflows", "Order").stdout
    assert "order: StartEvent -> StopEvent" in page
    assert "Approval(order: string, approved: boolean, parcels: integer, speed: Speed)" in page
    assert cli("workflows", "Order", "--mermaid").stdout.startswith("flowchart TD\n")
    found = document("describe", "Order")
    assert found["$defs"]["Approval"]["properties"]["speed"] == {"$ref": "#/$defs/Speed"}
    assert found["$defs"]["Speed"]["enum"] == ["slow", "fast"]
    assert found["x-stepwire"]["events"]["Approval"] == {"role": "human_response", "sendable": True}


# -- serve --------------------------------------------------------------------------------------------------------


def test_serve_where_another_serves(tmp_path: Path, server: ServerProcess) -> None:
    def serve(address: str, data: Path | str) -> subprocess.CompletedProcess[str]:
        command = [str(COMMAND), "serve", FLOWS, "--address", address, "--data", str(data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    taken = serve(server.address, ":memory:")
    assert taken.returncode == 1
    assert taken.stderr.startswith(f"error: cannot listen on {server.address}")
    assert len(taken.stderr.splitlines()) == 1
    with ServerProcess(tmp_path / "data", [FLOWS]) as other:
        locked = serve("127.0.0.1:0", tmp_path / "data")
        assert locked.returncode == 1
        assert re.fullmatch(r"error: the data directory \S+ is in use by process \d+ .*\n", locked.stderr)
        assert other.stop() == 0
    assert re.search(r"^\d{4}-\d\d-\d\d \S+ INFO     stopped$", other.log, re.M)
    assert "stepwire: serving Greet\n" in other.log


def test_following_survives_a_crash_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServerProcess(tmp_path / "data", [FLOWS]) as process:
        monkeypatch.setenv("STEPWIRE_SERVER", process.address)
        with following("run", "Order", "--run-id", "crossed", "--json") as run:
            assert run.stdout is not None
            while "question" not in json.loads(run.stdout.readline()):
                pass
            process.restart(kill=True)
            cli("send", "crossed", "Approval", 'order="7"', "approved=true", "parcels=1", "speed=slow")
            stdout, _ = run.communicate(timeout=30)
        assert run.returncode == 0
        kinds = [next(iter(json.loads(line))) for line in stdout.splitlines()]
        assert kinds[-2:] == ["event", "outcome"]
        assert "question" not in kinds


def test_a_reader_that_goes_away() -> None:
    run = start("Greet", "name=Ada")
    cli("result", run)
    command = f"{shlex.quote(str(COMMAND))} events {run} --json | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["type"] == "Tick"
    assert done.stderr == ""


def test_output_is_utf_8_whatever_the_locale() -> None:
    command = [str(COMMAND), "run", "Greet", "--input", '{"name": "Zo\\u00eb"}']
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, env=plain, timeout=30, check=True)
    assert done.stdout.decode() == "Hello, Zoë!\n"


# -- at a terminal ------------------------------------------------------------------------------------------------


def following(*arguments: str) -> subprocess.Popen[str]:
    """Start a command that follows a run, without a terminal."""
    return subprocess.Popen(
        [str(COMMAND), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


class Terminal:
    """A command at a pseudo terminal: `expect` what it shows, `type` an answer."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [str(COMMAND), *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"},
        )
        os.close(slave)
        self.shown = ""
        self._at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        os.close(self._master)
        if error is not None:
            error.add_note(self.shown)

    def expect(self, text: str, timeout: float = 30.0) -> None:
        """Read until `text` is shown, after what was expected before."""
        end = time.monotonic() + timeout
        while (found := self.shown.find(text, self._at)) < 0:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} was not shown"
            assert self._read(), f"it ended without {text!r}"
        self._at = found + len(text)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._read():
            pass
        return self.process.wait(30)

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            return False
        self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace"))
        return bool(data)


def test_a_question_at_the_terminal() -> None:
    with Terminal("run", "Order") as terminal:
        terminal.expect("Ask question=")
        terminal.expect("? Ship it?")
        terminal.expect("approved (yes/no): ")
        terminal.type("perhaps\n")
        terminal.expect("type yes or no")
        terminal.expect("approved (yes/no): ")
        terminal.type("y\n")
        terminal.expect("parcels (integer): ")
        terminal.type("2\n")
        terminal.expect("speed (slow/fast): ")
        terminal.type("fast\n")
        terminal.expect("completed after")
        assert terminal.end() == 0
    assert "order" not in re.findall(r"^ {2}(\w+)[ :(]", terminal.shown, re.M)
    assert json.loads(terminal.shown[terminal.shown.rindex("{") :]) == {
        "approved": True,
        "speed": "fast",
        "note": None,
    }


def test_a_returned_question_at_the_terminal() -> None:
    with Terminal("run", "Name") as terminal:
        terminal.expect("? Your name?")
        terminal.expect("response: ")
        terminal.type("Ada\n")
        terminal.expect("Hello, Ada!")
        assert terminal.end() == 0


def test_a_question_is_answered_elsewhere_meanwhile() -> None:
    with Terminal("run", "Order", "--run-id", "race") as terminal:
        terminal.expect("approved (yes/no): ")
        terminal.type("ye")
        cli("send", "race", "Approval", 'order="7"', "approved=true", "parcels=1", "speed=slow")
        terminal.expect("completed after")
        assert terminal.end() == 0


def test_leaving_a_question_and_coming_back() -> None:
    with Terminal("run", "Name", "--run-id", "left") as terminal:
        terminal.expect("response: ")
        terminal.type("\x04")
        terminal.expect("left open; answer: stepwire send left HumanResponseEvent")
        terminal.process.send_signal(signal.SIGINT)
        terminal.expect("run left goes on")
        terminal.expect("stepwire events left --follow --ask")
        assert terminal.end() == 130
        back = terminal.shown[terminal.shown.index("stepwire events left") :].split()
    assert document("runs", "left")["status"] == "waiting"
    with Terminal(*back[1:]) as terminal:
        terminal.expect("response: ")
        terminal.type("Ada\n")
        terminal.expect("StopEvent")
        assert terminal.end() == 0
    assert cli("result", "left").stdout == "Hello, Ada!\n"


def test_an_interrupt_leaves_the_run() -> None:
    with Terminal("run", "Order", "--run-id", "interrupted") as terminal:
        terminal.expect("approved (yes/no): ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.expect("run interrupted goes on")
        assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert document("runs", "interrupted")["status"] == "waiting"
