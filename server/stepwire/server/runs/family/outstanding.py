"""What parents and children have yet to be told: noted in terms of their records, found in the store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from stepwire.server.runs.errors import StoreDownError
from stepwire.server.runs.family.backoff import HURRY, Hurry
from stepwire.server.runs.hosting.commits.delta import encode_delta
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.record_changes import amend
from stepwire.server.store import TERMINAL, Claim, Commit, RunKey, RunQuery, RunRecord, StoreError, level_of
from stepwire.server.store.terms import CLOSE

__all__ = ["Outstanding"]

logger = logging.getLogger("stepwire.runs")

_PAGE: Final = 200
_SWEEP_SECONDS: Final = 60.0
"""How often replicas look for ends that nobody was told of: the replica that had to tell may be gone. After a failure
every server looks again after so long."""
_SET_ASIDE_SECONDS: Final = 3600.0
"""For how long a record that fails again and again is passed over at most."""
BEGUN: Final = "begun"
"""In the record of a run that has ended: how many of its children that are `to_start` were started."""
_TO_DO: Final = ("to_close", "to_start", "starting", BEGUN)
"""What the record of a run that has ended says of children until its term CLOSE is taken off."""

Act = Callable[[RunRecord], Awaitable[int | None]]
"""Do what is to be done about a record; return how many of its children go on, or None if it could not be done."""


class LaterError(Exception):
    """What is to be done waits for something; the one that brings that about has it attempted again."""


def closed(children: Mapping[str, int], kept: int) -> dict[str, int]:
    """Return what the record of an ended run says of its children once those that end with it are cancelled.

    Args:
        children: What it said before.
        kept: How many go on.
    """
    told = {name: told for name, told in children.items() if name not in _TO_DO}
    if BEGUN not in children:
        told["cancelled"] += told["living"] - kept
        told["living"] = kept
    return {**told, "queued": 0}


class Outstanding:
    """Find the records of ended runs of which something is to be done still, do it, and note that it is done.

    A record of which it cannot be done is passed over for a time that doubles with each failure.

    Args:
        pool: The runs.
        acts: What to do with a record, by the term that says so.
    """

    def __init__(self, pool: RunPool, acts: Mapping[str, Act]) -> None:
        self._pool = pool
        self._acts = acts
        self._look = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None
        self._aside: dict[tuple[RunKey, str], tuple[float, float]] = {}
        """Records that failed: when to look at each again, and how long it was passed over the last time."""
        self._under_way: dict[tuple[RunKey, str], tuple[asyncio.Future[None], Hurry]] = {}
        """Attempts under way: one at a time at each record and term."""

    async def keep(self) -> None:
        """Make up for what a crash prevented: at the start, when a replica has gone, and some time after a failure."""
        cluster = self._pool.cluster
        cluster.on_change(self._changed)
        while True:
            self._look.clear()
            try:
                if cluster.rank == 0:
                    await self._sweep()
            except StoreError as error:
                logger.log(level_of(error), "cannot look for ends that nobody was told of: %s", error)
                self.again()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), _SWEEP_SECONDS if cluster.shared else None)

    def _changed(self) -> None:
        """Look at everything: a replica that has come may do what could not be done, one that has gone did not."""
        self._aside.clear()
        self._look.set()

    def again(self) -> None:
        """Look again after some time: something failed."""
        if self._again is None:
            self._again = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        self._look.set()

    def stop(self) -> None:
        """Look no more."""
        if self._again is not None:
            self._again.cancel()

    async def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        seen: set[tuple[RunKey, str]] = set()
        for namespace in await self._pool.store.namespaces():
            for what in self._acts:
                try:
                    await self._for_each(namespace, what, seen)
                except StoreError as error:
                    logger.log(level_of(error), "cannot look for ends in namespace %s: %s", namespace, error)
                    self.again()
                    seen.update(self._aside)
        # What others have done meanwhile, or deleted, is no trouble any more.
        self._aside = {each: aside for each, aside in self._aside.items() if each in seen or aside[0] > now}

    async def _for_each(self, namespace: str, what: str, seen: set[tuple[RunKey, str]]) -> None:
        query = RunQuery(namespace=namespace, terms=(what,), limit=_PAGE)
        now = asyncio.get_running_loop().time()
        while records := await self._pool.store.list(query):
            query.before = (records[-1].created_at, records[-1].key.run_id)
            seen.update((each.key, what) for each in records)
            due = [each for each in records if self._aside.get((each.key, what), (now, 0.0))[0] <= now]
            await asyncio.gather(*(self.attempt(record, what) for record in due if record.status in TERMINAL))
            if len(due) < len(records):
                self.again()

    async def attempt(self, record: RunRecord, what: str, act: Act | None = None, *, in_a_hurry: bool = False) -> None:
        """Do what is to be done about one record; a failure keeps no other record from it, and comes again later.

        An attempt at the same waits for the end of the one that is under way.

        Args:
            record: The record.
            what: The term that says what is to be done.
            act: Does it; None for what is done about every record.
            in_a_hurry: Whether a caller waits for it: the one that is under way pauses no longer.
        """
        at, known = (record.key, what), True
        while (under_way := self._under_way.get(at)) is not None:
            if in_a_hurry:
                under_way[1].now()
            await asyncio.wait([under_way[0]])
            known = False
        done, hurry = self._under_way[at] = asyncio.get_running_loop().create_future(), Hurry()
        token = HURRY.set(hurry)
        try:
            await self._attempt(record, what, act, known=known)
        finally:
            HURRY.reset(token)
            del self._under_way[at]
            done.set_result(None)

    async def _attempt(self, record: RunRecord, what: str, act: Act | None, *, known: bool) -> None:
        """Attempt it; unless the record is `known` to be as it is, look at what another attempt has left of it."""
        try:
            now = record if known else await self._pool.records.find(record.key)
            if now is None or what not in now.terms:
                return
            kept = await (act or self._acts[what])(now)
        except LaterError:
            self.again()  # for the case that the other one is lost
            return
        except (StoreError, StoreDownError) as error:
            logger.log(level_of(error), "run %s: what its end entails cannot be done yet: %s", record.key.run_id, error)
            self.again()
            return
        except Exception:  # damaged records and types of authors may raise anything; the look goes on, and comes again
            if (record.key, what) not in self._aside:
                logger.exception("run %s: its parent or its children cannot be told of its end yet", record.key.run_id)
            kept = None
        if kept is None:
            self._set_aside(record.key, what)
        else:
            self._aside.pop((record.key, what), None)
            await self.done(record.key, what, kept)

    def _set_aside(self, key: RunKey, what: str) -> None:
        _, last = self._aside.get((key, what), (0.0, _SWEEP_SECONDS / 2))
        pause = min(2 * last, _SET_ASIDE_SECONDS)
        self._aside[key, what] = asyncio.get_running_loop().time() + pause * 0.99, pause
        self.again()

    async def done(self, key: RunKey, what: str, kept: int = 0) -> None:
        """Take a term off the record of a run that has ended.

        Args:
            key: The run.
            what: The term.
            kept: How many of its children go on.
        """
        try:
            await self._take_off(key, what, kept)
        except (StoreError, StoreDownError):  # it is found, and done again: that changes nothing
            self.again()

    async def _take_off(self, key: RunKey, what: str, kept: int) -> None:
        async def change(record: RunRecord, claim: Claim) -> Commit | None:
            if what not in record.terms:
                return None
            info = record.info
            if what == CLOSE:
                info = {**info, "children": closed(info["children"], kept)}
            terms = tuple(each for each in record.terms if each != what)
            return Commit(replace(record, terms=terms, info=info), claim, encode_delta({}), False)

        _, commit = await amend(self._pool.store, key, change)
        if commit is not None:
            self._pool.records.amended(commit)
