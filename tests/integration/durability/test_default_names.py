"""Waits and buffers that a step has not named are found again under other names of classes, modules and steps."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from stepwire.client import SyncClient
from stepwire.server.testing import serve

CODE = """
from stepwire.workflow import Context, Event, HumanResponseEvent, InputRequiredEvent
from stepwire.workflow import StartEvent, StopEvent, Workflow, step

class Question(InputRequiredEvent):
    n: int

class Answer(HumanResponseEvent{answer}):
    n: int

class Part(Event{part}):
    n: int

class Flow(Workflow):
    {migrate}

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Part | None:
        answers = []
        for n in range(2):
            required = {{"n": n}} if ev.strict else None
            answer = await ctx.wait_for_event(Answer, waiter_event=Question(n=n), requirements=required, timeout=None)
            answers.append(answer.n)
        return Part(n=sum(answers))

    @step{step}
    async def add(self, ctx: Context, ev: Part) -> StopEvent | None:
        parts = ctx.collect_events(ev, [Part, Part])
        return None if parts is None else StopEvent(result=[part.n for part in parts])
"""
OLD = CODE.format(answer="", part="", step="", migrate="")
ALIASED = CODE.format(answer=", aliases=['Answer']", part=", aliases=['Part']", step="(aliases=['add'])", migrate="")
MIGRATED = CODE.format(
    answer="",
    part="",
    step="",
    migrate="""
    def migrate(self, snapshot):
        snapshot.rename_type("Answer", "Reply")
        snapshot.rename_type("Part", "Piece")
        snapshot.rename_step("add", "count")
        return snapshot
""",
)


def renamed(code: str) -> str:
    """Return code with other names, but for those in quotes."""
    for old, new in (("Answer", "Reply"), ("Part", "Piece"), ("add", "count")):
        for before, after in (("class ", "("), ("(", ","), ("[", ","), (" ", "]"), (" ", "("), ("(", "("), (" ", " |")):
            code = code.replace(f"{before}{old}{after}", f"{before}{new}{after}")
        code = code.replace(f": {old})", f": {new})")
    return code


def flow(monkeypatch: pytest.MonkeyPatch, module: str, code: str) -> Any:
    """Return the workflow of a module with this code."""
    made = types.ModuleType(module)
    monkeypatch.setitem(sys.modules, module, made)
    exec(compile(code, f"{module}.py", "exec"), made.__dict__)
    return made.Flow(timeout=None)


def _send(client: SyncClient, run_id: str, event_type: str, n: int) -> None:
    assert client.run(run_id).context.send_event((event_type, {"n": n})).delivered == 1


def _until_asked(client: SyncClient, run_id: str, n: int) -> None:
    for event in client.run(run_id).events(types=["Question"]):
        if event.n == n:
            return


@pytest.mark.parametrize(
    ("module", "code", "answers"),
    [
        ("old_names", OLD, "Answer"),
        ("new_names", OLD, "Answer"),
        ("old_names", renamed(ALIASED), "Answer"),
        ("new_names", renamed(ALIASED), "Reply"),
        ("new_names", renamed(MIGRATED), "Reply"),
    ],
    ids=["same", "moved", "aliased", "aliased and moved", "migrated"],
)
def test_what_was_answered_and_collected_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, code: str, answers: str
) -> None:
    runs = {"any": False, "strict": True}
    with serve(flow=flow(monkeypatch, "old_names", OLD), data=tmp_path) as server, server.client() as client:
        for run_id, strict in runs.items():
            client.start_run("flow", run_id=run_id, strict=strict)
            _until_asked(client, run_id, 0)
            _send(client, run_id, "Part", 7)
            _send(client, run_id, "Answer", 0)
            _until_asked(client, run_id, 1)
        server.restart(flow=flow(monkeypatch, module, code))
        for run_id in runs:
            _send(client, run_id, answers, 1)
            assert client.run(run_id).result(60) == [7, 1]
            events = client.run(run_id).events(types=["Question"], follow=False)
            assert [event.n for event in events if event.type == "Question"] == [0, 1]
