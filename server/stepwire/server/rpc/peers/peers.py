"""All that a server needs of the other replicas, put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from stepwire.server.rpc.handlers import Handlers
from stepwire.server.rpc.local import LocalCalls
from stepwire.server.rpc.peers.acting import Actor, add_act
from stepwire.server.rpc.peers.family_calls import PeerCalls, family_acts
from stepwire.server.rpc.peers.following import INTERNAL, add_follow
from stepwire.server.rpc.peers.forwarding import Forwarder
from stepwire.server.rpc.peers.hop import Hop, HopSigner
from stepwire.server.rpc.peers.identity import add_who
from stepwire.server.rpc.peers.links import Links, LinkSecurity
from stepwire.server.rpc.peers.reach import Reach
from stepwire.server.rpc.peers.relaying import Relayed
from stepwire.server.rpc.peers.relays import Relays
from stepwire.server.rpc.peers.subscriptions import Subscriptions
from stepwire.server.runs.family.family import Family
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.scheduling.starting import Starter

__all__ = ["INTERNAL", "Peers"]

_LEAVE_SECONDS: Final = 0.5
"""How long a replica that stops answers what was passed on to it: its runs have been handed over or frozen before."""


class Peers:
    """Pass calls on to other replicas, follow runs there, and serve them in turn.

    Attributes:
        forwarder: Passes calls on.
        reach: Watches the addresses of replicas.
        signer: Signs and verifies what goes between replicas.
    """

    def __init__(self, pool: RunPool, family: Family, signer: HopSigner, security: LinkSecurity, lease: float) -> None:
        """Use a pool of runs.

        Args:
            pool: The runs of this replica.
            family: Its parents and children.
            signer: Signs and verifies with the key that all replicas share.
            security: How replicas reach each other.
            lease: Seconds without a beat after which a replica is taken for dead.
        """
        self.signer = signer
        self._pool = pool
        self._family = family
        self._links = Links(pool.cluster, security)
        self._relays = Relays(self._links, self.signer, pool.metrics)
        self._relayed: Relayed | None = None
        self.reach = Reach(pool.cluster, self._links, self.signer, lease)
        pool.routes.unreached = self.reach.missing
        pool.routes.own_fault = self.reach.own_fault
        self.forwarder = Forwarder(
            pool.routes, self._relays, self.signer, pool.metrics, self.reach.doubt, self.reach.why_not_take
        )
        self._actor = Actor(self._links, self.signer)
        self._calls = PeerCalls(family.local, pool.routes, self._actor)
        family.reach(self._calls)
        self._subscriptions = Subscriptions(pool, self._links, self.signer, self.forwarder)

    @property
    def internal(self) -> str:
        """What the names of methods for other replicas begin with."""
        return INTERNAL

    def verify(self, metadata: Iterable[tuple[str, str | bytes]], method: str) -> Hop | None:
        """Return what another replica says of a call that it passes on; None for a client's call."""
        return self.signer.verify(metadata, method)

    def check_addressee(self, metadata: Iterable[tuple[str, str | bytes]], *, signed: bool) -> None:
        """Raise WrongReplicaError if a call that was passed on is for another replica, or not signed."""
        self.signer.check_addressee(metadata, signed=signed)

    def around(self, handler: Any, method: str) -> Any:
        """Return a handler that passes calls on to other replicas where need be."""
        return self.forwarder.around(handler, method)

    def serve(self, server: Handlers, local: LocalCalls, starter: Starter) -> None:
        """Serve what other replicas ask for, on a server that is not started, and have schedules ask them.

        Args:
            server: The server's handlers.
            local: The services, for the calls that are passed on to this replica.
            starter: Starts the runs of schedules.
        """
        self._relayed = Relayed(local, self.signer)
        self._relayed.add_to(server)
        add_who(server, self.signer, lambda: self._pool.cluster.me)
        add_follow(server, self._pool, self.signer)
        acts = family_acts(self._family.local)
        add_act(server, lambda what: acts.get(what) or starter.does(what), self.signer, self._pool.metrics)
        starter.others = self._actor

    def open(self) -> None:
        """Follow runs at other replicas from now on."""
        self._subscriptions.open()

    def open_at(self, address: str) -> None:
        """Watch the addresses of replicas from now on; `address` is that of this one."""
        self.forwarder.own = self._calls.own = address
        self.reach.open(address)

    async def leave(self) -> None:
        """Answer what other replicas have passed on to this one, and take no more of it."""
        if self._relayed is not None:
            await self._relayed.end(_LEAVE_SECONDS)

    async def close(self) -> None:
        """Stop, and close the connections."""
        await self.reach.close()
        await self._subscriptions.close()
        await self._relays.close()
        await self._links.close()
