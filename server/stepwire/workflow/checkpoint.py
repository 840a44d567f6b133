"""A checkpoint: the context after a step, to run on from."""

from __future__ import annotations

import uuid
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from stepwire.workflow.context.context import Context
from stepwire.workflow.events import Event

__all__ = ["Checkpoint", "CheckpointCallback"]


class Checkpoint(BaseModel):
    """The context as it was when a step had completed; `output_event` goes on from there."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    id_: str = Field(default_factory=lambda: str(uuid.uuid4()))
    last_completed_step: str | None
    input_event: SerializeAsAny[Event] | None
    output_event: SerializeAsAny[Event] | None
    ctx_state: dict[str, Any]


class CheckpointCallback(Protocol):
    """What is awaited after each step, before its event goes on."""

    async def __call__(
        self,
        run_id: str,
        last_completed_step: str | None,
        input_ev: Event | None,
        output_ev: Event | None,
        ctx: Context[Any],
    ) -> None:
        """Take note of a completed step."""
