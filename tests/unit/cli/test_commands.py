"""The commands: help, usage errors and exit codes, without a server."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.cli._app import COMMANDS as LISTED
from stepwire.cli._hints import hint
from stepwire.client import FieldViolation, InvalidArgumentError, UnauthenticatedError

COMMANDS = [
    "serve",
    "workflows",
    "describe",
    "generate",
    "protos",
    "run",
    "result",
    "runs",
    "cancel",
    "reload",
    "delete",
    "retry",
    "pause",
    "resume",
    "events",
    "send",
    "history",
    "fork",
    "state get",
    "state set",
    "state unset",
    *(
        f"schedule {each}"
        for each in ("create", "list", "show", "update", "pause", "resume", "trigger", "delete", "backfill")
    ),
    "snapshot",
    "backup",
    "check",
    "move",
    "doctor",
    "replicas",
    "keys new",
    "server",
    "health",
    "version",
]

runner = CliRunner()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_and_arguments_by_their_names_alone(command: str) -> None:
    result = runner.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    usage, _, arguments = result.stdout.partition("Options:")[0].partition("Arguments:")
    assert "{" not in usage
    assert "<" not in arguments
    examples = result.stdout.partition("Example")[2]
    assert f"    stepwire {command}" in examples


def test_help_lists_the_commands() -> None:
    result = runner.invoke(app, ["--help"])
    commands = result.stdout.partition("Commands:")[2].partition("Environment")[0]
    listed = {line.split()[0] for line in commands.splitlines() if line.strip()}
    assert listed == {command.split()[0] for command in COMMANDS}


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["run"],
        ["run", "flow", "name"],
        ["run", "flow", "--input", "{"],
        ["run", "flow", "--label", "x"],
        ["run", "flow", "--timeout", "soon"],
        ["run", "flow", "--answer", "x y"],
        ["run", "flow", "--from-run", "r@x"],
        ["run", "flow", "--from-snapshot", "no-such-file"],
        ["run", "flow", "--from-snapshot", __file__],
        ["run", "flow", "--from-snapshot", __file__, "--from-run", "r"],
        ["runs", "--status", "fine"],
        ["runs", "--limit", "0"],
        ["runs", "--since", "yesterday"],
        ["events", "r", "--after", "-1"],
        ["events", "r", "--ask"],
        ["state", "set", "r"],
        ["state", "set", "r", "a"],
        ["workflows", "--mermaid"],
        ["serve"],
        ["serve", "nowhere_to_be_found:Flow"],
        ["serve", "json:Flow", "--failure-detail", "all"],
        ["serve", "json:Flow", "--log-level", "loud"],
        ["serve", "json:Flow", "--grace", "x"],
    ],
)
def test_wrong_use_has_exit_code_2(arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "rror" in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    file = tmp_path / "flows_debugged.py"
    file.write_text("raise RuntimeError('boom')\n", encoding="utf-8")
    plain = runner.invoke(app, ["serve", f"{file}:Flow"])
    assert plain.exit_code == 2
    assert plain.stderr.startswith("error: cannot import")
    assert len(plain.stderr.splitlines()) == 1
    debugged = runner.invoke(app, ["serve", f"{file}:Flow", "--debug"])
    assert debugged.exit_code == 2
    assert "Traceback" in debugged.stderr
    assert debugged.stderr.splitlines()[-1] == plain.stderr.strip()


def test_version() -> None:
    result = runner.invoke(app, ["version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("stepwire ")
    assert runner.invoke(app, ["version", "--json"]).stdout.startswith('{"stepwire":')


def test_serve_imports_no_other_command_and_nothing_that_was_not_asked_for() -> None:
    loaded = loaded_by("serve", "--help") | loaded_by(code="import stepwire.server.app")
    assert "stepwire.cli.serve" in loaded
    unwanted = ("stepwire.client", "rich", "prometheus_client", "jwt", "cryptography", "opentelemetry.sdk")
    assert not [name for name in unwanted if name in loaded]


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_list_of_commands_imports_none_of_them(arguments: list[str]) -> None:
    heavy = ("grpc", "pydantic", "rich.console", "stepwire.client", "stepwire.workflow", "stepwire.server")
    assert not [name for name in heavy if name in loaded_by(*arguments)]


def loaded_by(*arguments: str, code: str = "") -> set[str]:
    """Return the modules that a call of the command line imports, or that `code` does."""
    called = f"sys.argv[1:] = {list(arguments)!r}\nimport stepwire.cli\nstepwire.cli.main()"
    program = f"import atexit, sys\natexit.register(lambda: print('\\n', sorted(sys.modules)))\n{code or called}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return set(ast.literal_eval(done.stdout.splitlines()[-1].strip()))


@pytest.mark.parametrize("command", LISTED)
def test_the_line_in_the_list_is_how_the_commands_help_begins(command: str) -> None:
    text = runner.invoke(app, [command, "--help"]).stdout
    about = " ".join(text.partition("Usage:")[2].split("\n", 1)[1].split())
    assert about.startswith(LISTED[command][1])


@pytest.mark.parametrize(
    ("command", "shape"),
    [
        ("runs", "one JSON document"),
        ("send", "one JSON document"),
        ("fork", "one JSON document"),
        ("events", "a line of JSON for each item"),
        ("history", "a line of JSON for each item"),
        ("run", "a line of JSON for each item"),
        ("reload", "a line of JSON for each item"),
        ("retry", "with --all, a line for each"),
        ("pause", "with --all, a line for each"),
    ],
)
def test_the_help_of_json_says_which_shape_it_has(command: str, shape: str) -> None:
    text = " ".join(runner.invoke(app, [command, "--help"]).stdout.split())
    assert shape in text.partition("--json")[2]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("worfklows", "'worfklows'. Did you mean workflows?"),
        ("pase", "'pase'. Did you mean pause"),
        ("xyzzy", "'xyzzy'"),
    ],
)
def test_a_misspelled_command_is_told_what_may_be_meant(typed: str, told: str) -> None:
    result = runner.invoke(app, [typed])
    assert result.exit_code == 2
    assert f"No such command {told}" in result.stderr


def test_a_group_names_its_commands_when_it_is_given_a_run() -> None:
    assert "No such command '3f2a9c'. There are get, set, unset." in runner.invoke(app, ["state", "3f2a9c"]).stderr
    assert "'unsett'. Did you mean unset" in runner.invoke(app, ["state", "unsett"]).stderr


def test_no_line_of_a_list_of_commands_is_cut() -> None:
    for group in ("schedule", "state", "keys"):
        assert "..." not in runner.invoke(app, [group, "--help"]).stdout.partition("Commands:")[2]


def test_a_misspelled_field_is_named_and_the_workflow_is() -> None:
    missing = InvalidArgumentError("No", field_violations=[FieldViolation("approved", "Field required")])
    assert hint(missing, "h:1", tls=False, token=False, given=["approvd"]) == "approvd: did you mean approved?"
    assert hint(missing, "h:1", tls=False, token=False, given=["speed"]) is None
    assert hint(missing, "h:1", tls=False, token=False, given=["approved"]) is None  # it is there, and wrong
    unknown = InvalidArgumentError("No", reason="UNKNOWN_EVENT_TYPE", metadata={"workflow": "orders"})
    assert "stepwire workflows orders shows" in str(hint(unknown, "h:1", tls=False, token=False))


def test_a_token_that_is_refused_is_named() -> None:
    refused = UnauthenticatedError("The token is not valid")
    assert "STEPWIRE_TOKEN was refused" in str(hint(refused, "h:1", tls=False, token=True))
    assert "set STEPWIRE_TOKEN" in str(hint(refused, "h:1", tls=False, token=False))


def test_version_is_an_option_too() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, CliRunner().invoke(app, ["version"]).output)
    assert result.output.startswith("stepwire ")


def test_a_language_that_no_types_are_written_in_is_refused_in_plain_words() -> None:
    result = CliRunner().invoke(app, ["generate", "Order", "out", "--language", "java"])
    assert result.exit_code == 2
    assert "'java' is not one of go, python, typescript" in result.output
    assert "Value error" not in result.output
