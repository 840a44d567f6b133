"""Make the corpus of this version: `python -m tests.integration.corpus.make`. Refuses to touch a folder that is there.

A folder holds what a server and a library of that version saved: a database with the key of its snapshots, a
ContextSnapshot, a Context.to_dict. `context_1x.json` is what the engine that ours is modelled on saved, by hand.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.integration.corpus.flows import Exact, Gather, Item, Nap, Shop

from stepwire.client import Client
from stepwire.server.app import Server, Settings
from stepwire.server.registry import Registry
from stepwire.workflow import Context, StartEvent
from stepwire.workflow.context.context import run_of

HERE = Path(__file__).parent


def registry() -> Registry:
    """Serve the workflows of the corpus."""
    served = Registry()
    for name, workflow in {"exact": Exact, "shop": Shop, "nap": Nap, "gather": Gather}.items():
        served.add(name, workflow)
    return served


async def make_database(data: Path, folder: Path) -> None:
    """Leave runs of every kind in a database, and take a snapshot of one."""
    server = Server(registry(), Settings(address="127.0.0.1:0", data=str(data)))
    await server.start()
    async with Client(server.address) as client:
        ended = await client.start_run("exact", run_id="ended", request_id="start-ended")
        await _asked(ended)
        await ended.context.send_event(("Answer", {"n": 4}))
        await ended.result(60)
        for name in ("exact", "shop", "gather", "nap"):
            await client.start_run(name, run_id=f"waiting-{name}", labels={"corpus": "yes"})
        retrying = await client.start_run("nap", {"fail": True}, run_id="retrying-nap")
        for name in ("exact", "shop"):
            await _asked(client.run(f"waiting-{name}"))
        gathering = client.run("waiting-gather")
        for n in (1, 2):
            await gathering.context.send_event(("Item", {"n": n}))
        await gathering.context.store.set("mine", [1, 2])
        await retrying.context.store.get_state()
        snapshot = await client.run("waiting-shop").snapshot()
        (folder / "context_snapshot.bin").write_bytes(snapshot.message.SerializeToString(deterministic=True))
    await server.stop()
    with closing(sqlite3.connect(data / "stepwire.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")
    for name in ("stepwire.db", "snapshot.key"):
        shutil.copy(data / name, folder / name)


async def _asked(run: Any) -> None:
    async for _ in run.events(types=["Question"]):
        return


async def make_context() -> dict[str, Any]:
    """Return a context in the middle of a run: two items collected, and a state."""
    workflow = Gather()
    context: Context[Any] = Context(workflow)
    handler = workflow.run(ctx=context, start_event=StartEvent())
    await context.store.set("mine", [1, 2])
    for n in (1, 2):
        context.send_event(Item(n=n))
    while len(list(run_of(context).broker.buffers)) < 2:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    data = context.to_dict()
    await handler.cancel_run()
    return data


def main() -> None:
    """Make the folder of this version."""
    folder = HERE / f"v{version('stepwire')}"
    try:
        folder.mkdir()
    except FileExistsError:
        sys.exit(f"{folder.name} is there: what was released stays as it is")
    with tempfile.TemporaryDirectory() as data:
        asyncio.run(make_database(Path(data), folder))
    context = asyncio.run(make_context())
    (folder / "context.json").write_text(json.dumps(context, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copy(HERE / "context_1x.json", folder)
    sys.stdout.write(f"made {folder.name}\n")


if __name__ == "__main__":
    main()
