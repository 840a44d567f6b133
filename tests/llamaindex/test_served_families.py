"""Agents that are tools of agents, both served, in a process that is killed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.llamaindex.agent_runs import calls, log_of, told
from tests.serving import ServerProcess

from stepwire.client import Client, Run, RunInfo, RunStatus

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    specs = [f"{HERE / 'families.py'}:{name}" for name in ("outer", "crew", "middle", "inner", "helpers")]
    env = {"TOOL_LOG": str(folder / "tools"), "PYTHONWARNINGS": "ignore"}
    with ServerProcess(folder / "data", specs, env=env, timeout=60) as process:
        yield process


async def children(client: Client, run: Run) -> list[Any]:
    return [each async for each in client.list_runs(parent=run.run_id)]


async def until_asked(client: Client, run: Run, *, child: bool = False, times: int = 1) -> RunInfo:
    """Wait until a run asks, or a child of it, and none does anything else: a tool at work would begin again."""
    async with asyncio.timeout(60):
        while True:
            info = await run.info()
            asking = [each for each in info.pending_waiters if bool(each.run_id) is child]
            family = [info, *await children(client, run)]
            if len(asking) == times and all(each.status is RunStatus.WAITING for each in family):
                return info
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", ["outer", "crew"])
async def test_killed_while_an_agent_that_is_a_tool_asks(server, client, folder, name) -> None:
    """Its finished tool calls are not made again, and it is answered through the tool that runs it."""
    what = f"land {name}"
    wanted = calls(("count", {"what": what}), ("approve", {"what": what}))
    run = await client.start_run(name, user_msg=calls(("forward", {"wanted": wanted})))
    await until_asked(client, run)
    (child,) = await children(client, run)
    assert (child.workflow, child.parent.run_id, child.parent.step) == ("inner", run.run_id, "call_tool")
    server.kill()
    server.start()
    await run.context.send_event(("HumanResponseEvent", {"response": "yes", "what": what}))
    assert told(await run.result(timeout=60)) == f"{what} is done; {what}: yes"
    log = log_of(folder)
    assert log[f"counted {what}"] == log[f"approved {what}"] == 1
    assert log[f"asked {what}"] == 2  # the tool itself began again
    (child,) = await children(client, run)
    assert child.status is RunStatus.COMPLETED


async def test_a_child_that_nobody_forwards_for_is_answered_by_itself(server, client, folder) -> None:
    """The question is shown at the outer run, which waits without memory, and is answered there or there."""
    for number, at_child in enumerate((False, True)):
        what = f"go {number}"
        wanted = calls(("count", {"what": what}), ("approve", {"what": what}))
        run = await client.start_run("outer", user_msg=calls(("plain", {"wanted": wanted})))
        info = await until_asked(client, run, child=True)
        (question,) = info.pending_waiters
        server.kill()
        server.start()
        asked = client.run(question.run_id) if at_child else run
        await asked.context.send_event(("HumanResponseEvent", {"response": "yes", "what": what}))
        assert told(await run.result(timeout=60)) == f"{what} is done; {what}: yes"
        log = log_of(folder)
        assert log[f"counted {what}"] == log[f"approved {what}"] == 1


async def test_several_agents_at_once(server, client, folder) -> None:
    """Tool calls are deliveries of their own, so each finds its own child again."""
    wanted = [calls(("count", {"what": f"part {n}"}), ("approve", {"what": f"part {n}"})) for n in range(3)]
    run = await client.start_run("outer", user_msg=calls(*(("forward", {"wanted": each}) for each in wanted)))
    await until_asked(client, run, times=3)
    server.kill()
    server.start()
    for n in (2, 0, 1):
        await run.context.send_event(("HumanResponseEvent", {"response": "yes", "what": f"part {n}"}))
    said = told(await run.result(timeout=60))
    log = log_of(folder)
    for n in range(3):
        assert f"part {n} is done; part {n}: yes" in said
        assert log[f"counted part {n}"] == log[f"approved part {n}"] == 1
    assert len(await children(client, run)) == 3


async def test_a_question_goes_up_and_its_answer_down_through_three_levels(server, client, folder) -> None:
    wanted = calls(("count", {"what": "deep"}), ("approve", {"what": "deep"}))
    run = await client.start_run(
        "outer", user_msg=calls(("delegate", {"wanted": calls(("forward", {"wanted": wanted}))}))
    )
    await until_asked(client, run)
    (middle,) = await children(client, run)
    await until_asked(client, client.run(middle.run_id))
    server.kill()
    server.start()
    await run.context.send_event(("HumanResponseEvent", {"response": "yes", "what": "deep"}))
    assert told(await run.result(timeout=60)) == "deep is done; deep: yes"
    log = log_of(folder)
    assert log["counted deep"] == log["approved deep"] == 1


async def test_what_an_agent_is_given_and_gives(client) -> None:
    """`helpers` runs the inner agent in many ways, and says which runs were children."""
    run = await client.start_run("helpers")
    result = await run.result(timeout=60)
    found = {each.run_id: each for each in await children(client, run)}
    kinds = {name: run_id in found for name, run_id in result.items()}
    assert kinds == {
        "text": True,
        "message": True,
        "history": True,
        "iterations": True,
        "ctx of child": True,
        "memory in RAM": False,
        "memory buffer": False,
        "context": False,
    }
    assert found[result["iterations"]].status is RunStatus.FAILED


async def test_user_messages_may_be_json(client) -> None:
    message = {"role": "user", "blocks": [{"block_type": "text", "text": calls(("count", {"what": "json"}))}]}
    run = await client.start_run("inner", user_msg=message)
    assert told(await run.result(timeout=60)) == "json is done"
