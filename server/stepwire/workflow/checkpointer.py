"""Checkpoints: the context after each step, to run on from."""

from __future__ import annotations

from typing import Any

from stepwire.workflow.checkpoint import Checkpoint, CheckpointCallback
from stepwire.workflow.context.context import Context
from stepwire.workflow.definition.plan import plan_of
from stepwire.workflow.errors import WorkflowStepDoesNotExistError
from stepwire.workflow.events import Event
from stepwire.workflow.handler import WorkflowHandler
from stepwire.workflow.state.serializers import BaseSerializer, JsonSerializer
from stepwire.workflow.workflow import Workflow

__all__ = ["Checkpoint", "CheckpointCallback", "WorkflowCheckpointer"]


class WorkflowCheckpointer:
    """Run a workflow and keep a checkpoint after each step, by run id.

    Steps in `disabled_steps` leave none. The context is saved with `checkpoint_serializer`.
    """

    def __init__(
        self,
        workflow: Workflow,
        checkpoint_serializer: BaseSerializer | None = None,
        disabled_steps: list[str] | None = None,
    ) -> None:
        self.workflow = workflow
        self._serializer = checkpoint_serializer or JsonSerializer()
        self._checkpoints: dict[str, list[Checkpoint]] = {}
        self._enabled = set(plan_of(workflow).steps)
        for name in disabled_steps or []:
            self.disable_checkpoint(name)

    def run(self, **kwargs: Any) -> WorkflowHandler:
        """Run the workflow with checkpoints; parameters as `Workflow.run`."""
        return self.workflow.run(checkpoint_callback=self._note, **kwargs)

    def run_from(self, checkpoint: Checkpoint, **kwargs: Any) -> WorkflowHandler:
        """Run on from a checkpoint, with checkpoints."""
        return self.workflow.run_from(checkpoint, self._serializer, checkpoint_callback=self._note, **kwargs)

    @property
    def checkpoints(self) -> dict[str, list[Checkpoint]]:
        """Return the checkpoints of each run, in order."""
        return self._checkpoints

    @property
    def enabled_checkpoints(self) -> set[str]:
        """Return the names of the steps that leave a checkpoint."""
        return set(self._enabled)

    def enable_checkpoint(self, step: str) -> None:
        """Let a step leave checkpoints. WorkflowStepDoesNotExistError for an unknown one."""
        self._check(step)
        self._enabled.add(step)

    def disable_checkpoint(self, step: str) -> None:
        """Let a step leave no checkpoints. WorkflowStepDoesNotExistError for an unknown one."""
        self._check(step)
        self._enabled.discard(step)

    def filter_checkpoints(
        self,
        run_id: str | None = None,
        last_completed_step: str | None = None,
        input_event_type: type[Event] | None = None,
        output_event_type: type[Event] | None = None,
    ) -> list[Checkpoint]:
        """Return the checkpoints that match every filter given. ValueError without a filter."""
        if not (run_id or last_completed_step or input_event_type or output_event_type):
            raise ValueError("Please specify a filter")
        if run_id is not None:
            candidates = self._checkpoints.get(run_id, [])
        else:
            candidates = [found for each in self._checkpoints.values() for found in each]
        return [
            found
            for found in candidates
            if (not last_completed_step or found.last_completed_step == last_completed_step)
            and (not input_event_type or type(found.input_event) is input_event_type)
            and (not output_event_type or type(found.output_event) is output_event_type)
        ]

    def _check(self, step: str) -> None:
        if step not in plan_of(self.workflow).steps:
            raise WorkflowStepDoesNotExistError(f"This workflow has no step {step!r}")

    async def _note(
        self,
        run_id: str,
        last_completed_step: str | None,
        input_ev: Event | None,
        output_ev: Event | None,
        ctx: Context[Any],
    ) -> None:
        if last_completed_step in self._enabled:
            checkpoint = Checkpoint(
                last_completed_step=last_completed_step,
                input_event=input_ev,
                output_event=output_ev,
                ctx_state=ctx.to_dict(self._serializer),
            )
            self._checkpoints.setdefault(run_id, []).append(checkpoint)
