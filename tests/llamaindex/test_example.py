"""The example of two agents, served, with a client that approves."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.serving import ROOT, ServerProcess

from stepwire.client import Client


async def test_the_example_refunds_an_order_once_a_person_agrees(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", [f"{ROOT / 'examples' / 'agents.py'}:team"], timeout=60) as server:
        async with Client(server.address) as client:
            run = await client.start_run("team", user_msg="Please refund my order A-17")
            called: Counter[str] = Counter()
            said = ""
            async with asyncio.timeout(60), run.converse() as talk:
                async for event in talk:
                    if event.type == "ToolCall":
                        called[event.tool_name] += 1
                    elif event.type == "AgentStream":
                        said += event.delta
                    elif event.type == "InputRequiredEvent":
                        await talk.send(("HumanResponseEvent", {"approved": True, "order": event.order}))
            await run.result(timeout=60)
    assert called == {"handoff": 1, "look_up": 1, "refund": 1}
    assert said == "A-17 is refunded."
