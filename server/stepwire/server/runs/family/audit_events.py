"""Audit events of families: what runs do to other runs without a call.

They start children, and children are cancelled because of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stepwire.server.principal import Principal

__all__ = ["ChildAudit", "ChildAuditEvent"]


class ChildAuditEvent(NamedTuple):
    """One thing that was done to a child, or was refused for good.

    Attributes:
        action: `start` or `cancel`.
        caller: The caller on whose account it was done: the one that has started the parent.
        parent: The id of the parent.
        run_id: The id of the child.
        workflow: The workflow of the child.
        error: Why it was refused; None if it was done.
    """

    action: str
    caller: Principal
    parent: str
    run_id: str
    workflow: str
    error: Exception | None = None


class ChildAudit:
    """Pass what is done on to a listener, which writes the audit log.

    Attributes:
        listener: Called with each; None if nobody listens.
    """

    def __init__(self) -> None:
        self.listener: Callable[[ChildAuditEvent], None] | None = None

    def tell(self, event: ChildAuditEvent) -> None:
        """Tell of what is done, once it is durable.

        A crash, or a change of the replica that has the parent, may repeat it.
        """
        if self.listener is not None:
            self.listener(event)
