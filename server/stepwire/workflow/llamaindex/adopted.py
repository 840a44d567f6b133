"""An adopted workflow: a Workflow of the engine whose steps are those of a workflow of LlamaIndex 2.x."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Final

from stepwire.workflow.context.context import Context, run_of
from stepwire.workflow.definition.plan import plan_of, settings_of
from stepwire.workflow.definition.types import TypeRegistry, engine_types
from stepwire.workflow.errors import WorkflowConfigurationError, WorkflowValidationError
from stepwire.workflow.llamaindex import installed
from stepwire.workflow.llamaindex.child_runs import is_of_child, start_child
from stepwire.workflow.llamaindex.event_form import adopt_events, base_types
from stepwire.workflow.llamaindex.faces import ExternalFace
from stepwire.workflow.llamaindex.handler import AdoptedHandler
from stepwire.workflow.llamaindex.libraries import modules_of, prepare
from stepwire.workflow.llamaindex.nesting import run_nested_here
from stepwire.workflow.llamaindex.own_context import AdoptedContext
from stepwire.workflow.llamaindex.payload import from_pre_context
from stepwire.workflow.llamaindex.spans import RunSpan
from stepwire.workflow.llamaindex.steps import Resources, adopt_step, state_type_of
from stepwire.workflow.workflow import Workflow

__all__ = ["AdoptedWorkflow", "adopt_workflow"]

_KNOWN: Final = "_stepwire_adopted"
"""Where a workflow of theirs keeps its adopted one, with the version of its steps: both go together."""


class NotValidError(WorkflowValidationError, installed.WorkflowValidationError):  # type: ignore[misc]
    """The steps of a workflow do not fit together. Code that catches the error of either package gets it."""


class AdoptedWorkflow(Workflow):
    """Run the steps of a workflow of theirs. Each has a class of its own, made by `adopt_workflow`.

    Attributes:
        adopted: The workflow of theirs.
        verbose_output: Gets a line for what its steps do; None unless it is verbose.
    """

    context_type: ClassVar[type[Context[Any]]] = AdoptedContext
    __shares_input__: ClassVar[bool] = True
    base_types: ClassVar[list[type]] = []
    type_modules: ClassVar[tuple[str, ...]] = ()
    adopted: Any = None
    verbose_output: Any = None

    def run(self, ctx: Any = None, start_event: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Start a run in process, or, in a step of a run on a server that serves this one too, a run of its own.

        Returns a handler of theirs.

        Args:
            ctx: A context of theirs, or None. It is the run's afterwards, as there.
            start_event: The start event, unless keyword arguments give its fields.
            kwargs: The fields of the start event; `run_id` names the run.
        """
        workflow = self.adopted
        run_id = kwargs.pop("run_id", None)
        installed.validate(workflow)
        event = None
        if ctx is None or is_of_child(ctx):
            event = installed.start_event_of(workflow, start_event, kwargs)
            if (child := start_child(self, event, run_id, settings_of(self).timeout, ctx)) is not None:
                return child
        context, theirs = self._context_for(ctx)
        if ctx is not None and not context.is_running:
            event = installed.start_event_of(workflow, start_event, kwargs)
        span = RunSpan(workflow, event)
        with span.entered():
            inner = super().run(ctx=context, start_event=event)
        if run_id is not None:
            inner.run_id = context.run_id = run_id
        installed.set_face(theirs, ExternalFace(context, inner))
        return AdoptedHandler(workflow, inner, theirs, span)

    def __stands_for__(self, other: Workflow) -> bool:
        """Tell whether runs of another object may be runs of this one: it is of one class, with equal attributes."""
        return isinstance(other, AdoptedWorkflow) and installed.are_alike(self.adopted, other.adopted)

    @property
    def exception_modules(self) -> tuple[str, ...]:
        """The names of the modules whose exceptions its steps may raise."""
        return self.type_modules

    @cached_property
    def type_names(self) -> TypeRegistry:
        """The types of the workflow by their names."""
        plan = plan_of(self)
        return TypeRegistry.of(plan.workflow_type, plan.steps)

    def _context_for(self, ctx: Any) -> tuple[AdoptedContext, Any]:
        """Return the context of ours for a run, and the one of theirs that shows it to the caller."""
        if ctx is None:
            context = AdoptedContext(self)
            return context, installed.context_of(None)
        if isinstance(ctx, AdoptedContext):
            return ctx, installed.context_of(None)
        if not installed.is_context(ctx):
            raise WorkflowConfigurationError(f"ctx must be a Context, not {type(ctx).__name__}")
        face = installed.face_of(ctx)
        if isinstance(face, ExternalFace):
            if face.is_running:
                raise installed.ContextStateError(
                    "Cannot start a new run while context is already running. Wait for completion or use a new Context."
                )
            context = face.context
            if run_of(context).plan.workflow_type is not type(self):
                # Of another object, as of one made anew for each request: the next run has its state.
                other, context = context, AdoptedContext(self)
                context.store.take_over(other.store)
            return context, ctx
        if isinstance(face, installed.PreContext):
            context = AdoptedContext(self)
            from_pre_context(context, face)
            return context, ctx
        raise installed.ContextStateError("Cannot start workflow from a step function context")


def adopt_workflow(workflow: Any, module: str | None) -> AdoptedWorkflow:
    """Make the Workflow of the engine for one of theirs; contract of `adopt`."""
    adopt_events()
    if isinstance(workflow, type) and issubclass(workflow, installed.workflow_type):
        try:
            workflow = workflow()
        except TypeError as error:
            raise WorkflowConfigurationError(
                f"{workflow.__name__} cannot be made without arguments: name an object of it instead"
            ) from error
    if not installed.is_workflow(workflow):
        raise WorkflowConfigurationError(f"{type(workflow).__name__} is no workflow of llama-index-workflows")
    version = installed.steps_version(workflow)
    known: tuple[int, AdoptedWorkflow] | None = workflow.__dict__.get(_KNOWN)
    if known is not None and known[0] == version:
        return known[1]
    run_nested_here(adopt_workflow)
    prepare(workflow)
    try:
        installed.validate(workflow)
    except installed.WorkflowValidationError as error:
        raise NotValidError(str(error)) from error
    made = _class_for(workflow, module)(
        **installed.settings_of_theirs(workflow),
        resource_manager=Resources(workflow),
        disable_validation=True,  # theirs has been through its own
    )
    made.verbose_output = installed.verbose_output(workflow)
    workflow.__dict__[_KNOWN] = version, made
    return made


def _class_for(workflow: Any, module: str | None) -> type[AdoptedWorkflow]:
    kind = type(workflow)
    home = module or kind.__module__
    body: dict[str, Any] = {
        "__module__": home,
        "__doc__": kind.__doc__,
        "__qualname__": kind.__qualname__,
        "adopted": workflow,
        "base_types": base_types(engine_types()),
        "types": tuple(getattr(kind, "types", ())),
        "type_modules": modules_of(workflow, home),
    }
    for setting in ("version", "max_children"):
        if getattr(kind, setting, None):
            body[setting] = getattr(kind, setting)
    made: type[AdoptedWorkflow] = type(kind.__name__, (AdoptedWorkflow,), body)
    state_type = state_type_of(workflow)
    feeds = installed.feeds_of(workflow)
    made._step_functions = {
        name: adopt_step(workflow, name, function, config, state_type, feeds.get(name, ()))
        for name, (function, config) in installed.steps_of_theirs(workflow).items()
    }
    return made
