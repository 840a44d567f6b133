"""Converse, the bidirectional stream: `session` sends, `inbox` acts on what the client sends."""

from stepwire.server.rpc.converse.session import Session

__all__ = ["Session"]
