"""The commands: help, usage errors and exit codes, without a server."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.cli._app import app_of

COMMANDS = [
    "serve",
    "workflows",
    "describe",
    "run",
    "result",
    "runs",
    "cancel",
    "delete",
    "events",
    "send",
    "history",
    "fork",
    "state get",
    "state set",
    "state unset",
    "snapshot",
    "backup",
    "doctor",
    "keys new",
    "health",
    "version",
]

runner = CliRunner()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    result = runner.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
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
    code = (
        "import sys\n"
        "from stepwire.cli._app import app_of\n"
        "app_of('serve')\n"
        "import stepwire.server.app\n"
        "print(sorted(sys.modules))"
    )
    loaded = set(ast.literal_eval(subprocess.check_output([sys.executable, "-c", code], text=True)))
    assert "stepwire.cli.serve" in loaded
    unwanted = ("stepwire.client", "rich", "prometheus_client", "jwt", "cryptography", "opentelemetry.sdk")
    assert not [name for name in unwanted if name in loaded]


@pytest.mark.parametrize("arguments", [["serve"], ["health"], []])
def test_what_is_not_imported_changes_no_help(arguments: list[str]) -> None:
    """The fast path shows what the whole command line shows."""
    alone = runner.invoke(app_of(*arguments), [*arguments, "--help"])
    assert (alone.exit_code, alone.output) == (0, runner.invoke(app, [*arguments, "--help"]).output)
