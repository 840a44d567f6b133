"""The workflows, in a replica of the version before calls went over a shared stream."""

from __future__ import annotations

from tests.integration.cluster.flows import Ask, Chat

from stepwire.server.rpc.peers.relaying import Relayed

Relayed.add_to = lambda self, server: None  # type: ignore[method-assign]  # it does not know the method

__all__ = ["Ask", "Chat"]
