"""How the console finds and steers many runs: its modules, run by node against a real server."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.integration.rpc_serving import registry_of, serving
from tests.integration.steering_flows import Approve, Dependency, Pay

import stepwire.server.web
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types

CONSOLE = Path(stepwire.server.web.__file__).parent / "console"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

PAGE = """
// As much of a page as the modules need: a tree of elements with listeners. A dialog is answered with its last button.
class Element extends EventTarget {
  constructor(name) { super(); this.name = name; this.children = []; this.attributes = {}; }
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; }
  setAttribute(name, value) { this.attributes[name] = value; }
  remove() {}
  close() { this.dispatchEvent(new Event("close")); }
  showModal() { setTimeout(() => this.all("button").at(-1).dispatchEvent(new Event("click"))); }
  get elements() { return this.children.filter((each) => each instanceof Element); }
  all(name) { return this.elements.flatMap((each) => [...(each.name === name ? [each] : []), ...each.all(name)]); }
  get text() { return this.children.map((each) => each instanceof Element ? each.text : String(each)).join(""); }
}
const toasts = new Element("div");
const createElement = (name) => new Element(name);
globalThis.document = { createElement, body: new Element("body"), getElementById: () => toasts };
globalThis.sessionStorage = { getItem: () => null };
const fetched = globalThis.fetch;
globalThis.fetch = (address, options) => fetched(process.argv[1] + address, options);
"""

MANY = """
const { learn } = await import(process.argv[2] + "/access.js");
const { matchingActions, selectedActions } = await import(process.argv[2] + "/parts/many.js");
const { filtersOf, requestOf } = await import(process.argv[2] + "/parts/run_filter.js");
const { call } = await import(process.argv[2] + "/api.js");
await learn();
const signal = new AbortController().signal;
const filter = requestOf(filtersOf(process.argv[3]));
const told = await new Promise((resolve) => {
  if (process.argv[5] === "all") {
    const menu = matchingActions(filter, () => resolve(toasts.text), signal);
    const [choose] = menu.all("select");
    choose.value = process.argv[4];
    choose.dispatchEvent(new Event("change"));
  } else {
    call("RunService/ListRuns", filter).then(({ runs }) => {
      const buttons = selectedActions(runs, () => {}, () => resolve(toasts.text)).filter(Boolean);
      buttons.find((each) => each.text.startsWith(process.argv[4])).dispatchEvent(new Event("click"));
    });
  }
});
console.log(JSON.stringify(told));
process.exit(0);
"""

FILTER = """
const { addressOf, filtersOf, isFiltered, requestOf } = await import(process.argv[2] + "/parts/run_filter.js");
const wanted = filtersOf(process.argv[3]);
console.log(JSON.stringify({ address: addressOf(wanted), filtered: isFiltered(wanted), request: requestOf(wanted) }));
"""


@pytest.fixture
def console(tmp_path: Path) -> Path:
    """The console's modules as a package: node takes modules by the type of theirs."""
    folder = tmp_path / "console"
    shutil.copytree(CONSOLE, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


async def run(script: str, *arguments: str) -> Any:
    """Run a script by node, and return what it writes."""
    assert NODE is not None
    made = await asyncio.create_subprocess_exec(
        NODE, "--input-type=module", "-e", PAGE + script, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, error = await asyncio.wait_for(made.communicate(), 60)
    assert made.returncode == 0, error.decode()
    return json.loads(out)


async def test_the_filters_are_in_the_address_and_in_the_request(console: Path) -> None:
    search = (
        "?workflow=pay&status=FAILED&label=team%3Dblue&id=order-&error=ConnectionError&step=charge&waiting=Confirmed"
        "&parent=p1&by=ada&ended-after=2026-01-02T03%3A04%3A00.000Z"
    )
    found = await run(FILTER, "", console.as_uri(), search)
    assert found["address"] == "/runs" + search
    assert found["filtered"] is True
    assert found["request"] == {
        "workflow": "pay",
        "statuses": ["RUN_STATUS_FAILED"],
        "labels": {"team": "blue"},
        "runIdPrefix": "order-",
        "errorType": "ConnectionError",
        "step": "charge",
        "waitingFor": "Confirmed",
        "parentRunId": "p1",
        "startedBy": "ada",
        "endedAfter": "2026-01-02T03:04:00.000Z",
    }
    assert (await run(FILTER, "", console.as_uri(), ""))["filtered"] is False


async def test_all_runs_that_match_are_retried_and_cancelled(console: Path) -> None:
    dependency = Dependency(up=False)
    registry = registry_of(pay=Pay(dependency, timeout=None), approve=Approve(timeout=None))
    async with serving(registry, web_address="127.0.0.1:0") as rpc:
        site = f"http://{rpc.server.web_address}"
        failed = [(await rpc.start("pay", {"name": str(n)})).run_id for n in range(40)]
        for run_id in failed:
            await rpc.ended(run_id)
        dependency.up = True
        told = await run(MANY, site, console.as_uri(), "?workflow=pay&error=ConnectionError", "retry", "all")
        assert told == "Retry: 40 done"
        for run_id in failed:
            [again] = (await rpc.get(run_id)).retried_as
            assert (await rpc.ended(again)).status == types.RUN_STATUS_COMPLETED
        for _ in range(3):
            await rpc.start("approve", {"name": "a"})
        told = await run(MANY, site, console.as_uri(), "?workflow=approve", "Pause", "selected")
        assert told == "Pause: 3 done"
        told = await run(MANY, site, console.as_uri(), "?workflow=approve&status=PAUSED", "cancel", "all")
        assert told == "Cancel: 3 done"
        listed = await rpc.runs.ListRuns(runs.ListRunsRequest(workflow="approve"))
        assert {each.status for each in listed.runs} == {types.RUN_STATUS_CANCELLED}
