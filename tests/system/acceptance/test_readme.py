"""What the README shows is what happens: its code blocks are run as they stand."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.report import figures_in, figures_of
from tests.serving import COMMAND, ROOT, ServerProcess

from stepwire.server.rpc.errors import CODES
from stepwire.server.testing import serve

README = (ROOT / "README.md").read_text(encoding="utf-8")
DEFAULT_ADDRESS = "127.0.0.1:50051"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(start: str) -> list[list[str]]:
    """Return the commands of the shell blocks that begin so, as lists of arguments."""
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(start)]


def snippet(name: str) -> str:
    (found,) = (block for block in blocks("python") if block.startswith(f"# {name}\n"))
    return found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve what the README serves; its own file comes from the README."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "trip.py").write_text(snippet("trip.py"))
    (serve,) = commands("stepwire serve trip.py")
    specs = [spec.replace("trip.py", str(folder / "trip.py"), 1) for spec in serve[2:]]
    with ServerProcess(folder / "data", specs) as server:
        yield server.address


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_client_prints_what_its_comments_say(address: str, tmp_path: Path) -> None:
    code = snippet("client.py")
    expected = re.findall(r"print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert len(expected) == 2
    assert code.count(DEFAULT_ADDRESS) == 1
    script = tmp_path / "client.py"
    script.write_text(code.replace(DEFAULT_ADDRESS, address))
    assert run([sys.executable, str(script)]).splitlines() == expected


@pytest.mark.parametrize("restarts", [False, True])
def test_the_workflow_gives_the_same_whether_a_restart_comes_between(
    restarts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trip.py").write_text(snippet("trip.py"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trip", raising=False)
    with serve(trip=importlib.import_module("trip").Trip, data=tmp_path / "data") as server, server.client() as client:
        run = client.start_run("trip", city="Oslo")
        run.context.wait_for_event("InputRequiredEvent")
        run.context.store.set("city", "Bergen")  # a client changes its mind while the run waits
        if restarts:
            server.restart()
        run.context.send_event(("Confirm", {"yes": True}))
        assert run.result(timeout=60) == "booked Bergen"


def test_the_two_snippets_are_thirty_lines(address: str) -> None:
    lines = [line for block in blocks("python") for line in block.splitlines() if line and not line.startswith("# ")]
    assert len(lines) <= 30


def test_buf_curl_starts_a_run(address: str) -> None:
    (command,) = commands("buf curl")
    assert command[-1].startswith(f"http://{DEFAULT_ADDRESS}/")
    command[0] = str(COMMAND.with_name("buf"))
    command[-1] = command[-1].replace(DEFAULT_ADDRESS, address)
    assert '"workflow": "hello"' in run(command)


def test_the_figures_are_those_of_the_performance_page() -> None:
    """`make bench ARGS=--write-docs` writes them."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert figures_in(README) == figures_of(page)


def test_the_shell_commands_work(address: str) -> None:
    shown = [*commands("stepwire run "), *commands("stepwire runs")]
    assert len(shown) == 2
    for command in shown:
        output = run([str(COMMAND), *command[1:], "--server", address])
        assert "Hello, Ada!" in output or "hello" in output


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE)
    assert {"demo", "test", "check"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not re.match(r"https?:|mailto:|#", target):
            assert (path.parent / target.partition("#")[0]).exists(), f"{page} links to {target}"


def test_the_architecture_page_has_every_row_of_the_error_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([A-Z_]+) +\| ([^|]*)\|$", page, re.MULTILINE))
    shown = {
        reason: code for code, reasons in rows.items() for reason in re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", reasons)
    }
    assert shown == {reason: code.name for reason, code in CODES.items()}


def test_every_page_of_the_documentation_is_listed() -> None:
    table = README.partition("## Documentation")[2]
    linked = {page.name for page in (ROOT / "docs").glob("*.md") if f"(docs/{page.name})" in table}
    # Generated, and linked from the page about semantics.
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - linked == {"semantics-tests.md"}


def test_installs_work_from_a_checkout() -> None:
    assert "pip install 'stepwire[" not in README
    assert "pip install 'stepwire[" not in (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")


def test_the_list_of_make_targets_has_two_columns() -> None:
    lines = run(["make", "--no-print-directory", "help"]).splitlines()
    assert len(lines) > 10
    assert {re.match(r"[a-z-]+ +", line).end() for line in lines} == {18}  # type: ignore[union-attr]
