"""Nothing grows with history: a snapshot is the size of what lives (S17)."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from stepwire.client import Client, RunStatus


@pytest.mark.timeout(120)
async def test_ten_thousand_events_leave_the_snapshot_the_size_of_the_live_state(address: str) -> None:
    sizes: dict[int, int] = {}
    async with Client(address) as client:
        for rounds in (100, 10_000):
            run = await client.start_run("chatter", rounds=rounds)
            async with aclosing(run.events()) as events:
                quiet = await anext(events)
            assert (quiet.type, quiet.said) == ("Quiet", rounds)
            snapshot = await run.snapshot()
            assert snapshot.sequence > rounds
            assert snapshot.status is RunStatus.WAITING
            assert await run.context.store.get_state() == {"said": rounds, "rounds": rounds}
            sizes[rounds] = len(bytes(snapshot))
            await run.context.send_event(("Hush", {}))
            assert await run.result(timeout=60) == "quiet"
    # The counters have more digits, and that is all.
    assert 0 < sizes[100] <= sizes[10_000] <= sizes[100] + 256


@pytest.mark.timeout(120)
async def test_the_whole_history_is_in_the_log_without_a_gap(address: str) -> None:
    async with Client(address) as client:
        run = await client.start_run("chatter", rounds=2000)
        sequences = []
        words = 0
        async for event in run.events(internal=True):
            sequences.append(event.sequence)
            words += event.type == "Word"
            if event.type == "Quiet":
                await run.context.send_event(("Hush", {}))
        assert sequences == list(range(1, len(sequences) + 1))
        assert words == 2000
