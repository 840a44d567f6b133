"""The table with the reference driver, and the table itself. `make conformance` runs every other client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from tests.system.conformance import driver, servers, table
from tests.system.conformance.matching import Mismatch, at_path, check, substitute

from stepwire.server.rpc.errors import CODES

SCENARIOS = table.scenarios()
VERBS = {"call", "open", "send", "receive", "until", "half_close", "cut", "end"}
MODIFIERS = {"request", "raw", "deadline_ms", "headers", "expect", "error", "save", "stream"}


@dataclass
class Served:
    wires: dict[str, driver.GrpcWire]
    variables: dict[str, Any]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with servers.serving(tmp_path_factory.mktemp("conformance")) as serving:
        document = table.document(serving, "test")
        channels = {name: grpc.insecure_channel(address) for name, address in serving.addresses.items()}
        wires = {name: driver.GrpcWire(channel) for name, channel in channels.items()}
        yield Served(wires, document["vars"])
        for channel in channels.values():
            channel.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario["name"] for scenario in SCENARIOS])
def test_scenario(served: Served, scenario: dict[str, Any]) -> None:
    wire = served.wires[scenario.get("server", "main")]
    line = driver.run_scenario(scenario, wire, served.variables)
    assert line["ok"], line["detail"]


@pytest.mark.timeout(120)
def test_a_scenario_that_does_not_hold_is_red_and_says_where(served: Served) -> None:
    request = {"runId": "none"}
    call = {"call": "RunService.GetRun", "request": request}
    found = {"error": {"code": "NOT_FOUND", "reason": "RUN_NOT_FOUND"}}
    wrong = {"error": {"code": "NOT_FOUND", "reason": "WORKFLOW_NOT_FOUND"}}
    for steps, detail in (
        ([{**call, **found}, {**call, **wrong}], "step 1: the error.reason is 'RUN_NOT_FOUND'"),
        ([call], "step 0: the call failed"),
        (
            [{"open": "RunService.StreamEvents", "request": request}, {"end": True}],
            "step 1: the stream failed",
        ),
        ([{"cut": True}], "step 0: no stream main"),
    ):
        line = driver.run_scenario({"name": "x", "steps": steps}, served.wires["main"], served.variables)
        assert not line["ok"]
        assert line["detail"].startswith(detail)


def test_every_reason_of_the_error_table_has_a_scenario() -> None:
    found = {
        (error["reason"], error["code"])
        for scenario in SCENARIOS
        for error in _errors(scenario["steps"])
        if error.get("reason")
    }
    assert found == {(reason, code.name) for reason, code in CODES.items()}


def _errors(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "error" and isinstance(item, dict):
                yield item
            yield from _errors(item)
    elif isinstance(value, list):
        for item in value:
            yield from _errors(item)


def test_the_table_keeps_to_its_format() -> None:
    names = [scenario["name"] for scenario in SCENARIOS]
    assert len(names) == len(set(names))
    for scenario in SCENARIOS:
        assert scenario.keys() <= {"name", "about", "server", "steps"}
        for step in scenario["steps"]:
            assert len(step.keys() & VERBS) == 1, (scenario["name"], step)
            assert step.keys() <= VERBS | MODIFIERS, (scenario["name"], step)
    assert "$bytes" not in json.dumps(SCENARIOS)


@pytest.mark.parametrize(
    ("pattern", "actual"),
    [
        ("*", "x"), (None, None), ({"a": None}, {}), ({}, None), ([], None), (0, None), ("", None), (False, None),
        (5, "5"), (5, 5.0), (1.5, "1.5"), ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3}), ([1, {}], [1, {"x": 1}]),
    ],
)  # fmt: skip
def test_patterns_that_match(pattern: Any, actual: Any) -> None:
    check(pattern, actual)


@pytest.mark.parametrize(
    ("pattern", "actual"),
    [
        ("*", ""), ("*", None), ("*", {}), ("*", "0"), (None, ""), (None, 0), ({"a": 1}, {}), ([1], [1, 2]),
        ([1], None), (5, "5x"), (5, True), (True, None), ("x", None), ("5", 5),
        ({}, []), ([], {}), (1, 2), (True, 1), (False, 0),
    ],
)  # fmt: skip
def test_patterns_that_do_not_match(pattern: Any, actual: Any) -> None:
    with pytest.raises(Mismatch):
        check(pattern, actual)


def test_variables_and_paths() -> None:
    filled = substitute({"a": ["${x}", "n-${n}"], "n": 1}, {"x": {"y": [0]}, "n": 5})
    assert filled == {"a": [{"y": [0]}, "n-5"], "n": 1}
    assert at_path(filled, "a.0.y.0") == 0
    with pytest.raises(Mismatch):
        substitute("${nothing}", {})
    for path in ("a.2", "b", "a.x", "a.-1", "n.0"):
        with pytest.raises(Mismatch):
            at_path(filled, path)
