"""Agents of LlamaIndex served as they are: `stepwire serve agents.py:agent`."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.llamaindex.agent_runs import calls, log_of, told
from tests.serving import ServerProcess

from stepwire.client import RunStatus

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agents")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    specs = [f"{HERE / 'agents.py'}:{name}" for name in ("agent", "team")]
    env = {"TOOL_LOG": str(folder / "tools"), "PYTHONWARNINGS": "ignore"}
    with ServerProcess(folder / "data", specs, env=env, timeout=60) as process:
        yield process


async def until_asked(run) -> None:
    """Wait until a person is asked and the run does nothing else: a tool that a kill cuts short is called again."""
    async with asyncio.timeout(60):
        async with run.converse() as talk:
            async for event in talk:
                if event.type == "InputRequiredEvent":
                    break
        while (await run.info()).status is not RunStatus.WAITING:  # noqa: ASYNC110 - the server is another process
            await asyncio.sleep(0.02)


async def yes(run, what: str) -> None:
    await run.context.send_event(("HumanResponseEvent", {"response": "yes", "what": what}))


async def test_an_agent_calls_tools_and_streams(client) -> None:
    run = await client.start_run("agent", user_msg=calls(("multiply", {"a": 6, "b": 7})))
    seen: Counter[str] = Counter()
    async with asyncio.timeout(60), run.converse() as talk:
        async for event in talk:
            seen[event.type] += 1
    assert told(await run.result(timeout=60)) == "42"
    assert seen["ToolCall"] == seen["ToolCallResult"] == 1
    assert seen["AgentStream"] >= 2
    assert seen["AgentOutput"] == 2


async def test_what_a_tool_returned_may_be_anything(client) -> None:
    run = await client.start_run("agent", user_msg=calls(("make", {})))
    assert told(await run.result(timeout=60)) == "a machine"


async def test_killed_while_a_person_is_asked(server, client, folder) -> None:
    wanted = calls(("multiply", {"a": 2, "b": 3}), ("approve", {"what": "go"}))
    run = await client.start_run("agent", user_msg=wanted)
    await until_asked(run)
    server.kill()
    server.start()
    await yes(run, "go")
    assert set(told(await run.result(timeout=60)).split("; ")) == {"6", "go: yes"}
    log = log_of(folder)
    assert (log["multiply 2 3"], log["approved go"]) == (1, 1)


async def test_killed_while_an_agent_that_is_a_tool_asks(server, client, folder) -> None:
    run = await client.start_run("agent", user_msg=calls(("ask_helper", {"what": "land"})))
    await until_asked(run)
    server.kill()
    server.start()
    await yes(run, "land")
    assert told(await run.result(timeout=60)) == "land: yes"
    assert log_of(folder)["approved land"] == 1


async def test_the_next_turn_remembers(client) -> None:
    first = await client.start_run("agent", user_msg=calls(("multiply", {"a": 1, "b": 1})))
    await first.result(timeout=60)
    second = await client.start_run("agent", user_msg="[]", snapshot=await first.snapshot())
    await second.result(timeout=60)
    said = await second.context.store.get("memory.chat_store.store.chat_history")
    assert [each["role"] for each in said] == ["user", "assistant", "tool", "assistant", "user", "assistant"]


async def test_library_types_stay_out_of_the_description(client) -> None:
    info = await client.workflow("agent")
    names = {event.name for event in info.types}
    assert "AgentWorkflowStartEvent" in names
    assert "ToolCallResult" in names
    assert not any("." in name for name in names)


async def test_a_handoff_is_durable(server, client) -> None:
    hand = calls(("handoff", {"to_agent": "back", "reason": "work"}))
    run = await client.start_run("team", user_msg=hand)
    await run.result(timeout=60)
    assert await run.context.store.get("current_agent_name") == "back"
    server.kill()
    server.start()
    assert await run.context.store.get("current_agent_name") == "back"
