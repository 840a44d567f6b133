"""What the answers to the open questions of a run take: the JSON Schemas of their events."""

from __future__ import annotations

from typing import Final

from stepwire.cli.render.pages import Schemas, schema_of
from stepwire.client import Client, NotFoundError, PermissionDeniedError, RunInfo, WorkflowInfo

__all__ = ["AnswerSchemas"]

_MOST_CHILDREN: Final = 20
"""Children whose workflows are looked up: a page about more of them is not read line by line."""


class AnswerSchemas:
    """Look up the answers to the questions of runs and of their children. Each workflow is asked for once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._workflows: dict[str, WorkflowInfo | None] = {}
        self._children: dict[str, str] = {}
        """The workflow of each child that was looked up; empty when it is not known."""

    async def workflow(self, name: str) -> WorkflowInfo | None:
        """Return a workflow; None when it is not served, or not for this caller."""
        if name not in self._workflows:
            try:
                self._workflows[name] = await self._client.workflow(name)
            except (NotFoundError, PermissionDeniedError):
                self._workflows[name] = None
        return self._workflows[name]

    async def of(self, info: RunInfo) -> Schemas:
        """Return the schema of each answer by the child that asks (empty for the run itself) and the event type."""
        found: Schemas = {}
        for waiter in info.pending_waiters:
            name = await self._workflow_of(waiter.run_id) if waiter.run_id else info.workflow
            schema = schema_of(await self.workflow(name), waiter.event_type) if name else None
            if schema is not None:
                found[waiter.run_id, waiter.event_type] = schema
        return found

    async def _workflow_of(self, child: str) -> str:
        if child not in self._children:
            if len(self._children) >= _MOST_CHILDREN:
                return ""
            try:
                self._children[child] = (await self._client.get_run(child)).workflow
            except (NotFoundError, PermissionDeniedError):
                self._children[child] = ""
        return self._children[child]
