"""What a step has sent and written counts when it begins again under other names of events and steps."""

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

class Answer(HumanResponseEvent):
    n: int

class Inner(Event):
    n: int

class {note}(Event{note_aliases}):
    n: int
    inner: Inner

class {told}(Event{told_aliases}):
    text: str

class Flow(Workflow):
    {more}

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> {note} | StopEvent:
        for n in range(2):
            ctx.send_event({note}(n=n, inner=Inner(n=n)))
            ctx.send_event({note}(n=n, inner=Inner(n=n)))
            ctx.send_event({note}(n=n, inner=Inner(n=n)), step="{count}")
            ctx.write_event_to_stream({told}(text=f"asked {{n}}"))
            await ctx.wait_for_event(Answer, waiter_event=Question(n=n), requirements={{"n": n}}, timeout=None)
        return StopEvent(result="done")

    @step{count_aliases}
    async def {count}(self, ev: {note}) -> None: ...
"""


def code(
    note: str,
    told: str,
    count: str,
    *,
    aliases: tuple[str, str, str] | None = None,
    more: str = "version = '1'",
) -> str:
    """Return a flow with these names of two events and a step, and the names that these had before."""
    was = ("", "", "") if aliases is None else aliases
    return CODE.format(
        note=note,
        told=told,
        count=count,
        note_aliases=(aliases and f", aliases=['{was[0]}']") or "",
        told_aliases=(aliases and f", aliases=['{was[1]}']") or "",
        count_aliases=(aliases and f"(aliases=['{was[2]}'])") or "",
        more=more,
    )


def migrating(version: str, **names: str) -> str:
    """Return the part of a flow that renames what another version has saved; steps are in small letters."""
    kinds = {old: "step" if old.islower() else "type" for old in names}
    calls = [f"snapshot.rename_{kinds[old]}('{old}', '{new}')" for old, new in names.items()]
    lines = [f"version = '{version}'", "", "    def migrate(self, snapshot):", *(f"        {call}" for call in calls)]
    return "\n".join([*lines, "        return snapshot"])


OLD = code("Note", "Told", "count")
ALIASED = code("Memo", "Said", "tally", aliases=("Note", "Told", "count"), more="version = '2'")
MAPPED = code("Memo", "Told", "count", more="version = '2'; type_aliases = {'Note': Memo}")
MIGRATED = code("Memo", "Said", "tally", more=migrating("2", Note="Memo", Told="Said", count="tally"))
BARE = code("Memo", "Said", "tally", more="version = '3'")
AGAIN = code("Card", "Word", "sum", aliases=("Memo", "Said", "tally"), more="version = '3'")
MIGRATED_AGAIN = code("Card", "Word", "sum", more=migrating("3", Memo="Card", Said="Word", tally="sum"))
BACK = code("Note", "Told", "count", more=migrating("3", Memo="Note", Said="Told", tally="count"))


def flow(monkeypatch: pytest.MonkeyPatch, module: str, text: str) -> Any:
    """Return the workflow of a module with this code."""
    made = types.ModuleType(module)
    monkeypatch.setitem(sys.modules, module, made)
    exec(compile(text, f"{module}.py", "exec"), made.__dict__)
    return made.Flow(timeout=None)


def _until_asked(client: SyncClient, n: int) -> None:
    for event in client.run("r").events(types=["Question"]):
        if event.n == n:
            return


def _answer(client: SyncClient, n: int) -> None:
    _until_asked(client, n)
    assert client.run("r").context.send_event(("Answer", {"n": n})).delivered == 1


@pytest.mark.parametrize(
    ("second", "third"),
    [
        (OLD, OLD),
        (ALIASED, ALIASED),
        (ALIASED, BARE),
        (MAPPED, MAPPED),
        (ALIASED, AGAIN),
        (ALIASED, MIGRATED_AGAIN),
        (MIGRATED, AGAIN),
        (MIGRATED, MIGRATED_AGAIN),
        (MIGRATED, BACK),
    ],
    ids=[
        "same",
        "aliased",
        "the aliases are gone again",
        "type_aliases",
        "aliased twice",
        "aliased and migrated",
        "migrated and aliased",
        "migrated twice",
        "migrated and back",
    ],
)
def test_nothing_is_sent_or_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str, third: str
) -> None:
    with serve(flow=flow(monkeypatch, "first", OLD), data=tmp_path) as server, server.client() as client:
        run = client.start_run("flow", run_id="r")
        _until_asked(client, 0)
        server.restart(flow=flow(monkeypatch, "second", second))
        _answer(client, 0)
        _until_asked(client, 1)
        server.restart(flow=flow(monkeypatch, "third", third))
        _answer(client, 1)
        assert run.result(60) == "done"
        made = [entry for entry in server.history("r") if entry.step == "ask" and entry.kind in ("sent", "stream")]
        assert [entry.fields["n"] for entry in made if entry.kind == "sent"] == [0, 0, 0, 1, 1, 1]
        assert [entry.fields["text"] for entry in made if "text" in entry.fields] == ["asked 0", "asked 1"]
