"""Bring the commits of runs that other replicas have to the feeds of this one.

Each run with readers here has a task. While another replica has the run, the task follows it there; when the owner
changes, it goes to the new one. Readers are cursors into the log, so they notice nothing of that: what they have not
seen meanwhile is in the store.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextvars import Context
from typing import Final

import grpc

from stepwire.server.rpc.peers.following import FOLLOW
from stepwire.server.rpc.peers.forwarding import Forwarder
from stepwire.server.rpc.peers.frames import Frame, FrameReader
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.links import Links
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.log.feed import went_back
from stepwire.server.store import TERMINAL, Claim, Commit, News, Owner, RunKey, StoreError, level_of
from stepwire.workflow.hosting import outside, start_task

__all__ = ["Subscriptions"]

logger = logging.getLogger("stepwire.rpc")

_PAUSES: Final = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds between tries to follow a run whose owner does not have it yet, or cannot be reached."""
_LOOK_SECONDS: Final = 5.0
"""How often the store is asked for runs that are followed, in case that news of them were lost."""
_LAST_LOOK_SECONDS: Final = 0.5
"""How often it is asked while this replica stops: once it has signed off, no news of claims come any more."""
_AT_ONCE: Final = 500
"""Runs that one such look reads."""


class Subscriptions:
    """Follow runs at other replicas; what `Feeds.remote` is."""

    def __init__(self, pool: RunPool, links: Links, signer: HopSigner, forwarder: Forwarder) -> None:
        self._pool = pool
        self._links = links
        self._signer = signer
        self._forwarder = forwarder
        self._tasks: dict[RunKey, asyncio.Task[None]] = {}
        self._news: dict[RunKey, asyncio.Event] = {}
        self._looker: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Serve the pool's feeds from now on."""
        self._pool.feeds.remote = self
        self._pool.cluster.on_news(self._heard)
        self._looker = start_task(self._keep_looking(), name="stepwire-follow-look")

    async def close(self) -> None:
        """Follow nothing any more."""
        tasks = [*self._tasks.values(), *([self._looker] if self._looker is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._pool.feeds.remote = None

    # -- what feeds say -----------------------------------------------------------------------------------------------

    def opened(self, key: RunKey) -> None:
        """Begin to follow a run, if another replica has it."""
        self._news[key] = asyncio.Event()
        self._tasks[key] = start_task(self._follow(key, self._news[key]), name="stepwire-follow", context=Context())

    def left(self, key: RunKey) -> None:
        """Look who has a run now that this replica has it no more."""
        if (news := self._news.get(key)) is not None:
            news.set()

    def closed(self, key: RunKey) -> None:
        """Stop following a run."""
        self._news.pop(key, None)
        if (task := self._tasks.pop(key, None)) is not None:
            outside(task.cancel)  # the reader may be a step, which may cancel no task of the server

    def _heard(self, news: News) -> None:
        if news.kind == "claimed":
            self.left(news.key)
        elif news.kind == "missed":
            for event in self._news.values():
                event.set()

    # -- following ----------------------------------------------------------------------------------------------------

    async def _follow(self, key: RunKey, news: asyncio.Event) -> None:
        """Follow a run wherever it is."""
        tries = 0
        while True:
            news.clear()
            if self._pool.in_memory(key) is None:
                try:
                    owner = (await self._pool.cluster.owners([key])).get(key)
                    if not await self._look([key]):
                        return  # it has ended or is gone
                    if owner is not None:
                        if await self._stream(key, owner):
                            tries = 0
                            continue
                        await asyncio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
                        tries += 1
                        continue
                except StoreError:
                    await asyncio.sleep(_PAUSES[-1])
                    continue
            tries = 0
            await news.wait()

    async def _stream(self, key: RunKey, owner: Owner) -> bool:
        """Take in the commits of a run from its owner until they end; return whether there were any frames."""
        metadata = tuple(self._signer.sign_to(owner.id, FOLLOW))
        call = self._links.stream(owner.address, FOLLOW)(json.dumps(list(key)).encode(), metadata=metadata)
        reader = FrameReader()
        followed = False
        try:
            async for data in call:
                followed = True
                if not self._take(key, reader.read(data)):
                    break
        except grpc.aio.AioRpcError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("replica %s sent what this one does not understand: %s", owner.address, type(error).__name__)
            followed = False
        finally:
            call.cancel()
        return followed

    def _take(self, key: RunKey, frame: Frame) -> bool:
        """Pass a commit to the readers; return whether to go on."""
        if frame.record is None or self._pool.in_memory(key) is not None:
            return False
        for request_id, response in frame.answers.items():
            self._forwarder.answered(key, request_id, response)
        self._pool.feeds.received(Commit(frame.record, Claim(key, 0, 0), b"", False, frame.chunks))
        return not frame.left

    async def _look(self, keys: list[RunKey]) -> bool:
        """Tell the feeds what the store says of runs; return whether one of them goes on."""
        before = {key: feed.record for key in keys if (feed := self._pool.feeds.of(key)) is not None}
        found = await self._pool.store.records(keys)
        goes_on = False
        for key in keys:
            record = found.get(key)
            if self._pool.in_memory(key) is not None:
                goes_on = True
            elif record is None:
                if await self._pool.store.get(key) is None:
                    self._pool.feeds.deleted(key)
            elif (known := before.get(key)) is not None and went_back(known, record):
                self._pool.feeds.undone(key, record.last_sequence)
            else:
                self._pool.feeds.found(record)
                goes_on |= record.status not in TERMINAL
        return goes_on

    async def _keep_looking(self) -> None:
        """Ask the store for the runs that are followed, in case that news of them were lost."""
        while True:
            for _ in range(round(_LOOK_SECONDS / _LAST_LOOK_SECONDS)):
                await asyncio.sleep(_LAST_LOOK_SECONDS)
                if self._pool.draining:
                    break
            keys = [key for key in self._pool.feeds if self._pool.in_memory(key) is None]
            try:
                for start in range(0, len(keys), _AT_ONCE):
                    await self._look(keys[start : start + _AT_ONCE])
            except StoreError as error:
                logger.log(level_of(error), "cannot look for runs that are followed: %s", error)
