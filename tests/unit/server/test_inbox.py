"""The frames of a conversation keep their order, however long it takes to find out where their run is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from stepwire.server.principal import ANONYMOUS
from stepwire.server.rpc.converse.inbox import Inbox
from stepwire.server.runs.errors import RunElsewhereError
from stepwire.v1 import run_service_pb2 as pb

SENDS = 20


class Call:
    """What an inbox asks of a call."""

    caller = ANONYMOUS
    run_id = "run"


class World:
    """A gate, actions and a forwarder: what comes later looks its run up faster."""

    def __init__(self, *, here: bool) -> None:
        self.here = here
        self.looking: list[asyncio.Future[None]] = []
        self.done: list[str] = []
        self.answers: asyncio.Semaphore | None = None
        """One for each answer that may come; None for all."""

    def has(self, call: Call) -> bool:
        return self.here

    def recorded(self, *_: Any) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext(self)

    async def complete(self) -> None:
        await self._look_up()

    async def admit_frame(self, call: Call, method: str, request: Any) -> None:
        if not self.here:
            await self._look_up()

    async def _look_up(self) -> None:
        found = asyncio.get_running_loop().create_future()
        self.looking.append(found)
        await found

    async def send(self, caller: Any, request: pb.SendEventRequest) -> Any:
        await self._look_up()
        self.here = False
        raise RunElsewhereError("127.0.0.1:1")

    async def carry(self, call: Call, method: str, request: Any, act: Any, key: Any = None) -> Any:
        await asyncio.sleep(0) if self.answers is None else await self.answers.acquire()
        self.done.append(getattr(request, "request_id", "cancel"))
        return (len(self.done), 1), ""

    async def run(self) -> None:
        """Let the last look-up of those under way be the first one to end, until all frames are done."""
        while len(self.done) <= SENDS:
            await asyncio.sleep(0)
            if self.looking:
                self.looking.pop().set_result(None)


async def frames() -> AsyncIterator[pb.ConverseRequest]:
    """Give sends, then a cancel."""
    for number in range(SENDS):
        yield pb.ConverseRequest(send=pb.ConverseSend(request_id=str(number)))
    yield pb.ConverseRequest(cancel=pb.ConverseCancel())


@pytest.mark.parametrize("here", [True, False], ids=["the run leaves", "the run is elsewhere"])
async def test_frames_that_are_passed_on_keep_their_order(here: bool) -> None:
    world = cast(Any, World(here=here))
    inbox = Inbox(cast(Any, Call()), world, world, lambda _: None, world)
    inbox.open(frames())
    async with asyncio.timeout(60):
        await world.run()
        await inbox.finished()
    assert world.done == [*map(str, range(SENDS)), "cancel"]
    assert [result.send_result.sequence for result in inbox.results()] == list(range(1, SENDS + 1))


async def test_the_result_of_a_frame_that_is_passed_on_can_be_waited_for() -> None:
    world = cast(Any, World(here=False))
    world.answers = asyncio.Semaphore(0)
    inbox = Inbox(cast(Any, Call()), world, world, lambda _: None, world)
    inbox.open(frames())
    async with asyncio.timeout(60):
        running = asyncio.create_task(world.run())
        for sequence in range(1, SENDS + 1):
            while (passed_on := inbox.passed_on()) is None:  # noqa: ASYNC110 - the inbox tells nobody
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
            assert not passed_on.done()
            assert not inbox.has_news
            world.answers.release()
            await passed_on
            # The next frame may wait for its answer by now, but nothing else has been answered.
            assert [result.send_result.sequence for result in inbox.results()] == [sequence]
        passed_on = inbox.passed_on()
        assert passed_on is not None
        passed_on.cancel()  # the frame goes on
        world.answers.release()
        await running
    assert world.done[-1] == "cancel"
