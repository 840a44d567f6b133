"""What the clients of the soak do: scenarios that each begin with nothing under way and end so."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from stepwire.client import (
    AbortedError,
    Client,
    GenericEvent,
    InvalidArgumentError,
    NotFoundError,
    Run,
    RunCancelledError,
    RunFailedError,
    RunTimedOutError,
    event_meta,
)

__all__ = ["SCENARIOS", "Load"]

ANSWER = GenericEvent("Answer", text="yes")
PAUSE = 0.1
"""Seconds that a client pauses after each scenario, on average: the load is steady, not all that the machine can do."""


async def asking(client: Client) -> Run:
    """Start a run and wait until it asks."""
    run = await client.start_run("Ask")
    async with aclosing(run.events(types=["Question"])) as events:
        async for _ in events:
            return run
    raise AssertionError("the run ended without a question")


async def expect(error: type[Exception], call: Awaitable[object]) -> None:
    """Make a call that must fail so."""
    try:
        await call
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


async def work(client: Client) -> None:
    """Run steps and threads to the end, read the stream twice."""
    run = await client.start_run("Work", count=6)
    seen = [event.type async for event in run.events()]
    assert seen.count("Done") == 6, seen
    assert await run.result(30) == 6
    assert [event.type async for event in run.events(follow=False)] == seen


async def converse(client: Client) -> None:
    """Answer a run's question on the same stream, with notes before it."""
    run = await client.start_run("Ask")
    async with run.converse() as talk:
        async for event in talk:
            if event.type == "Question":
                for number in range(3):
                    talk.send(GenericEvent("Note", text=str(number)))
                await talk.send(ANSWER)
        assert talk.outcome is not None
        assert talk.outcome.result == "yes"


async def leave(client: Client) -> None:
    """Leave a conversation and a stream in the middle, cancel the run, delete it."""
    run = await asking(client)
    async with run.converse() as talk:
        await talk.send(GenericEvent("Note", text="n"))
    async with aclosing(run.events()) as events:
        async for _ in events:
            break
    await run.cancel("enough")
    await expect(RunCancelledError, run.result(30))
    await run.delete()
    await expect(NotFoundError, run.info())


async def state(client: Client) -> None:
    """Read and write the state in every way."""
    run = await asking(client)
    store = run.context.store
    old = await store.set("data.count", 1)
    new = await store.set_many({"a": [1, 2, 3], "b.c": "d"}, etag=old)
    assert await store.get("a.1") == 2
    await store.unset("b.c", etag=new)
    await expect(AbortedError, store.set("a", 1, etag=old))
    await expect(NotFoundError, store.get("b.c"))
    await store.set_state({"data": {"blob": "y" * 100}})
    await run.context.send_event(ANSWER)
    assert await run.result(30) == "yes"


async def snapshots(client: Client) -> None:
    """Fork a run from its snapshot and from its log, end all three."""
    run = await asking(client)
    snapshot = await run.snapshot(context_dict=True)
    forks = [
        await client.start_run("Ask", snapshot=snapshot),
        await client.start_run("Ask", from_run=(run.run_id, snapshot.sequence)),
    ]
    assert [item async for item in run.snapshots()]
    for one in (run, *forks):
        await one.context.send_event(ANSWER)
        assert await one.result(30) == "yes"


async def idle(client: Client) -> None:
    """Let a run go idle for so long that it leaves memory, then answer it."""
    run = await asking(client)
    await asyncio.sleep(1.2)
    await run.context.send_event(ANSWER)
    assert await run.result(30) == "yes"


async def bad(client: Client) -> None:
    """Have runs fail and time out, and calls refused."""
    failed = await client.start_run("Fail", count=1)
    await expect(RunFailedError, failed.result(30))
    await expect(InvalidArgumentError, client.start_run("Ask", count="many"))
    await expect(NotFoundError, client.start_run("Nothing"))
    slow = await client.start_run("Fail", count=0, timeout=0.1)
    await expect(RunTimedOutError, slow.result(30))
    run = await asking(client)
    await expect(InvalidArgumentError, run.context.send_event(GenericEvent("Nothing")))
    await run.cancel()


async def waits(client: Client) -> None:
    """Wait for an event that another call brings, and look around."""
    run = await asking(client)
    waiting = asyncio.create_task(run.context.wait_for_event("Note", requirements={"text": "now"}, timeout=60))
    await run.context.send_event(GenericEvent("Note", text="then"))
    sent = await run.context.send_event(GenericEvent("Note", text="now"))
    assert event_meta(await waiting).sequence <= sent.sequence
    async with aclosing(client.list_runs(page_size=20)) as runs:  # type: ignore[type-var]
        async for _ in runs:
            break
    await client.workflow("Ask")
    await run.context.send_event(ANSWER)
    assert await run.result(30) == "yes"


Scenario = Callable[[Client], Awaitable[None]]
SCENARIOS: tuple[Scenario, ...] = (work, converse, leave, state, snapshots, idle, bad, waits)


class Load:
    """Several clients, each with a connection of its own, that play scenarios one after the other."""

    def __init__(self, address: str, clients: int, seed: int = 7) -> None:
        self._address = address
        self._clients = [Client(address) for _ in range(clients)]
        self._standing: list[Run] = []
        self._awake: set[int] = set()
        self._random = random.Random(seed)
        self.done: Counter[str] = Counter()

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.close()

    async def stand(self, count: int) -> None:
        """Start the runs that wait all the time, mostly out of memory."""
        self._standing = [await asking(self._clients[0]) for _ in range(count)]

    async def all_once(self) -> None:
        """Play every scenario once, all at the same time."""
        async with asyncio.TaskGroup() as group:
            for number, scenario in enumerate(SCENARIOS):
                group.create_task(self._play(self._clients[number % len(self._clients)], scenario))

    async def burst(self, count: int) -> None:
        """Play the one with threads so often at the same time: threads are made at need and stay for the next need."""
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self._play(self._clients[number % len(self._clients)], work))

    async def play(self, seconds: float) -> None:
        """Play for so long; what was begun is ended. An error of any client ends all."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(len(self._clients)):
                group.create_task(self._one(number, until))

    async def _one(self, number: int, until: float) -> None:
        while time.monotonic() < until:
            if self._random.random() < 0.02:
                # A new connection now and then.
                await self._clients[number].close()
                self._clients[number] = Client(self._address)
            client = self._clients[number]
            await self._play(client, self._random.choice(SCENARIOS))
            if self._standing and self._random.random() < 0.3:
                await self._wake(client, self._random.randrange(len(self._standing)))
            await asyncio.sleep(self._random.uniform(0, 2 * PAUSE))

    async def _wake(self, client: Client, place: int) -> None:
        """Bring a run that waits back to memory; a tenth of the times end it, and have another one in its place."""
        if place in self._awake:
            return
        self._awake.add(place)
        run = client.run(self._standing[place].run_id)
        if self._random.random() < 0.9:
            await run.context.send_event(GenericEvent("Note", text="wake"))
        else:
            # What waits for ever has a log and snapshots that grow for ever, and so does the database's cache.
            await run.context.send_event(ANSWER)
            self._standing[place] = await asking(client)
        self._awake.discard(place)
        self.done["wake"] += 1

    async def _play(self, client: Client, scenario: Scenario) -> None:
        await scenario(client)
        self.done[scenario.__name__] += 1
