"""Watch whether the other replicas, and this one, are reached at the addresses that they gave, and log it if not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.identity import WHO, Answer, ask_over
from stepwire.server.rpc.peers.links import Links
from stepwire.server.store import Cluster, Owner
from stepwire.workflow.hosting import start_task

__all__ = ["Reach"]

log = logging.getLogger("stepwire.rpc")

_LOOK_SECONDS: Final = 10.0
"""Seconds between two looks while all are reached: a call that finds out sooner has this look at once."""
_AGAIN_SECONDS: Final = 2.0
"""Seconds between two looks while one is not reached."""
_PAUSE: Final = 0.5
"""Seconds that pass between two looks in any case."""
_PATIENCE: Final = 1.5
"""Leases for which a replica is not reached before the log tells: one that is dead is known to be until then."""
_TELL_SECONDS: Final = 60.0
"""Seconds between two lines about the same replica."""


@dataclass(slots=True)
class _Trouble:
    since: float
    unverified: bool = False
    told: float | None = None


class Reach:
    """Ask each living replica's address who answers there, from `open` to `close`."""

    def __init__(self, cluster: Cluster, links: Links, signer: HopSigner, lease: float) -> None:
        """Make a watch that has not begun.

        Args:
            cluster: The replicas.
            links: Connections to them.
            signer: Signs the questions.
            lease: Seconds without a beat after which a replica is taken for dead.
        """
        self._cluster = cluster
        self._links = links
        self._signer = signer
        self._patience = _PATIENCE * lease
        self._troubles: dict[Owner, _Trouble] = {}
        self._own: str | None = None
        """The address of this replica until it was asked with success, or the log has told that it cannot be."""
        self._doubts = asyncio.Event()
        self._turn = asyncio.Lock()
        self._looked_at = -math.inf
        self._task: asyncio.Task[None] | None = None

    def unreached(self) -> int:
        """Return how many of the living replicas are not reached for a while. From any thread."""
        return sum(trouble.told is not None for trouble in tuple(self._troubles.values()))

    def missing(self) -> Collection[int]:
        """Return the ids of the replicas that the last look did not reach."""
        return {replica.id for replica in self._troubles}

    async def why_not_take(self, replica: int) -> str | None:
        """Look again, and say why no run is to be taken from a replica that lives; None if that is right.

        It is empty if it is too early to tell: the replica is reached now, or may be dead, which is known soon.
        """
        async with self._turn:
            if asyncio.get_running_loop().time() - self._looked_at > _PAUSE:
                await self._look()
        if not any(peer.id == replica for peer in self._cluster.peers):
            return None
        trouble = next((trouble for each, trouble in self._troubles.items() if each.id == replica), None)
        if trouble is None:
            return ""
        reason = self.own_fault(replica)
        early = asyncio.get_running_loop().time() - trouble.since < self._patience
        return "" if reason and early else reason

    def own_fault(self, replica: int) -> str | None:
        """Say why it may be this replica's fault that it does not reach another one; None if that is not likely.

        A replica that reaches nobody is cut off itself, and the others, which reach each other, go on with their runs.
        Two replicas cannot tell which of them is cut off: then each takes what it has calls for, unless it is the
        certificates or keys that are wrong, which no waiting mends.
        """
        missing = self.missing()
        others = [peer.id for peer in self._cluster.peers]
        if len(others) > 1:
            return None if any(each not in missing for each in others) else "this replica reaches none of the others"
        unverified = any(each.id == replica and trouble.unverified for each, trouble in self._troubles.items())
        return "either of the two may have the wrong certificate, --peer-ca or --cluster-key" if unverified else None

    def open(self, address: str) -> None:
        """Watch from now on; `address` is that of this replica."""
        self._own = address
        self._cluster.on_change(self.doubt)
        self._task = start_task(self._keep(), name="stepwire-reach")

    async def close(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def doubt(self) -> None:
        """Look soon: a call was not answered, or replicas came or went."""
        self._doubts.set()

    async def _keep(self) -> None:
        while True:
            self._doubts.clear()
            await self._look()
            await asyncio.sleep(_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_SECONDS if self._troubles else _LOOK_SECONDS):
                    await self._doubts.wait()

    async def _look(self) -> None:
        self._looked_at = asyncio.get_running_loop().time()
        asked = [Owner(peer.id, peer.address) for peer in self._cluster.peers]
        if self._own is not None and self._cluster.me:
            asked.append(Owner(self._cluster.me, self._own))
        answers = await asyncio.gather(*map(self._ask, asked))
        now = asyncio.get_running_loop().time()
        self._take(list(zip(asked, answers, strict=True)), now)

    async def _ask(self, replica: Owner) -> Answer:
        return await ask_over(
            self._links.unary(replica.address, WHO), self._signer, replica.address, self._links.security
        )

    def _take(self, found: Sequence[tuple[Owner, Answer]], now: float) -> None:
        """Note what came of a look. A replica that is gone meanwhile is forgotten."""
        alive = {peer.id for peer in self._cluster.peers} | {self._cluster.me}
        for gone in [each for each in self._troubles if each.id not in alive]:
            del self._troubles[gone]
        for replica, answer in found:
            fault = answer.fault_for(replica.id)
            own = replica.id == self._cluster.me
            if not fault:
                before = self._troubles.pop(replica, None)
                if before is not None and before.told is not None:
                    log.info("replica %d is reached at %s again", replica.id, replica.address)
                if own:
                    self._own = None
            elif replica.id in alive:
                trouble = self._troubles.setdefault(replica, _Trouble(now))
                trouble.unverified = answer.unverified
                if now - trouble.since < self._patience:
                    continue
                if trouble.told is None or now - trouble.told >= _TELL_SECONDS:
                    trouble.told = now
                    _tell(replica, fault, own=own, own_fault=self.own_fault(replica.id))
                if own:  # it may not be reached from itself alone, behind NAT: told once
                    self._own = None
                    del self._troubles[replica]


def _tell(replica: Owner, fault: str, *, own: bool, own_fault: str | None) -> None:
    if own:
        text = "this replica, %d, does not reach itself at %s: %s. If the others do not either, see its --advertise"
        log.warning(text, replica.id, replica.address, fault)
        return
    if own_fault is None:
        then = "Its runs are taken from it when they are called for"
    else:
        then = f"Its runs are not taken from it, and calls for them fail here, because {own_fault}"
    text = "replica %d beats, but is not reached at %s: %s. %s; see its --advertise, the certificates and the network"
    log.warning(text, replica.id, replica.address, fault, then)
