"""What calls cost, by counted calls of functions: it must not depend on what they do not touch."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.budget import Client, Operation, measured
from benchmarks.meters import Costs, Counts

from stepwire.server.app import Server

_ABOUT = 1.1
"""Timers of the event loop and the watchdog come at their own times."""
_OTHERS = {"event loop", "standard library"}
"""Layers whose calls depend on which bytes come together."""
_NEARLY = 1.02
"""A counted call may have met a timer of ours."""


async def count_calls(data: Path, questions: tuple[int, ...] = (), *, web: bool = False) -> dict[str, Costs]:
    return await measured(data, Counts(), lambda server: Client(server.address).operations(questions), web=web)


@pytest.mark.slow
async def test_an_answer_costs_the_same_beside_many_open_questions(tmp_path: Path) -> None:
    found = await count_calls(tmp_path, (10, 300))
    few, many = (sum(found[f"an answer beside {count}"].layers.values()) for count in (10, 300))
    assert many < _ABOUT * few


@pytest.mark.slow
async def test_calls_cost_nothing_more_while_nobody_uses_the_web(tmp_path: Path) -> None:
    without, beside = [
        await count_calls(tmp_path / name, web=web) for name, web in (("without", False), ("with", True))
    ]
    assert all(found.layers["web"] == 0 for found in beside.values())
    for operation in ("StartRun(wait)", "SendEvent", "GetState"):
        ours = [
            sum(calls for layer, calls in found[operation].layers.items() if layer not in _OTHERS)
            for found in (without, beside)
        ]
        assert ours[1] < _NEARLY * ours[0], operation
        assert beside[operation].loop["tasks"] == without[operation].loop["tasks"], operation


async def test_a_live_event_costs_no_more_calls_as_a_server_sent_event(tmp_path: Path) -> None:
    def both(server: Server) -> dict[str, Operation]:
        assert server.web_address is not None
        client = Client(server.address)
        return {"StreamEvents": client.talk(), "server-sent events": client.talk(server.web_address)}

    found = await measured(tmp_path, Counts(), both, web=True)
    streamed, sent = (
        sum(calls for layer, calls in found[way].layers.items() if layer not in _OTHERS)
        for way in ("StreamEvents", "server-sent events")
    )
    # A frame has many events, and what it costs is shared by them: a call for each event would be seen.
    assert sent < streamed + 1
