"""What the console offers by the scopes of a caller: its module, run by node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import stepwire.server.web
from stepwire.server.rpc import RULES
from stepwire.server.scopes import Action, Scopes

ACTIONS: tuple[Action, ...] = ("answer", "read", "write", "schedule", "admin")
CONSOLE = Path(stepwire.server.web.__file__).parent / "console"
NODE = shutil.which("node")

SCRIPT = """
globalThis.sessionStorage = { getItem: () => null };
const answers = JSON.parse(process.argv[1]);
globalThis.fetch = async (address) => answers
  ? { ok: true, json: async () => answers }
  : { ok: false, status: 404, json: async () => ({ code: "unimplemented" }) };
const { caller, learn, may } = await import(process.argv[2]);
await learn();
const asked = {};
for (const action of JSON.parse(process.argv[3]))
  for (const workflow of ["orders", "other", undefined])
    asked[`${action} ${workflow ?? "any"}`] = may(action, workflow);
console.log(JSON.stringify({ caller, asked }));
"""


def offered(answer: object, folder: Path) -> dict[str, bool]:
    """Return what the console would offer to a caller of whom WhoAmI says this."""
    for name in ("access.js", "api.js"):  # node takes modules by the type of their package
        shutil.copy(CONSOLE / name, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    assert NODE is not None
    command = [NODE, "--input-type=module", "-e", SCRIPT, json.dumps(answer), (folder / "access.js").as_uri()]
    command.append(json.dumps(ACTIONS))
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, bool] = json.loads(told.stdout)["asked"]
    return {name: allowed for name, allowed in found.items() if allowed}


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["read"], {"read orders", "read other", "read any"}),
        (["answer:orders"], {"answer orders", "answer any"}),
        (["read", "answer:orders"], {"read orders", "read other", "read any", "answer orders", "answer any"}),
        (
            ["write:orders"],
            {"answer orders", "answer any", "read orders", "read any", "write orders", "write any"},
        ),
        ([], set()),
    ],
)
def test_the_console_offers_what_the_scopes_allow(scopes: list[str], allowed: set[str], tmp_path: Path) -> None:
    assert offered({"principal": "ann", "namespaces": ["default"], "scopes": scopes}, tmp_path).keys() == allowed


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("scope", [*ACTIONS, *(f"{each}:orders" for each in ACTIONS)])
def test_each_scope_means_to_the_console_what_it_means_to_the_server(scope: str, tmp_path: Path) -> None:
    held = Scopes([scope])
    allowed = {
        f"{action} {workflow}" for action in ACTIONS for workflow in ("orders", "other") if held.allow(action, workflow)
    }
    found = offered({"principal": "ann", "namespaces": ["default"], "scopes": [scope]}, tmp_path)
    assert {each for each in found if not each.endswith(" any")} == allowed


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_all_is_offered_to_admins_and_while_the_caller_is_not_known(tmp_path: Path) -> None:
    assert len(offered({"scopes": ["admin"]}, tmp_path)) == 15
    assert len(offered(None, tmp_path)) == 15


def test_what_is_done_with_many_runs_is_offered_to_those_who_may() -> None:
    text = (CONSOLE / "parts" / "many.js").read_text()
    offers = re.findall(r'scope: "(\w+)".*? call\("([\w/]+)"', text)
    assert len(offers) == 5
    for scope, method in offers:
        assert RULES[f"/stepwire.v1.{method}"].action == scope, method
