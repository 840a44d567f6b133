"""Errors of the engine, as one tree.

::

    WorkflowError                         the root; clients may see its `public` text
    ├── WorkflowValidationError           a class, a step's signature or the graph is wrong
    │   └── SignatureError                a step's signature is wrong
    ├── WorkflowConfigurationError        the steps cannot form a workflow
    ├── WorkflowRuntimeError              a run failed, or was used wrongly
    │   ├── StepError                     a step failed for good
    │   │   ├── StepTimeoutError          an attempt took longer than the step's timeout
    │   │   └── CrashLoopError            crashes ended too many attempts at a step
    │   ├── StepReturnError               a step returned neither an event nor None
    │   ├── UnknownStepError              an event was sent to a step that does not exist
    │   ├── StepDoesNotAcceptError        an event was sent to a step that does not accept its type
    │   ├── RunEndedError                 a call came after the end of the run
    │   ├── ChildRunError                 a step cannot start a run, or its run is gone
    │   └── RunLimitError                 the run reached a limit of its host
    ├── WorkflowTimeoutError              the run took longer than its timeout
    ├── WorkflowCancelledByUser           the run was cancelled
    ├── WorkflowDone                      the run has ended (a name of 1.x)
    ├── WorkflowStepDoesNotExistError     the checkpointer was given a step that does not exist
    ├── StatePathError                    a state path is invalid (also ValueError and AttributeError)
    │   └── StateNotFoundError            the state has no value at a path
    └── ContextSerdeError                 a context cannot be saved or restored
        ├── SerializationError            values cannot be saved; `keys` names them (also ValueError)
        │   ├── EventTooLargeError        an event is larger than the host accepts
        │   └── StateTooLargeError        the state is larger than the host accepts
        └── SnapshotError                 the data is not a snapshot of this workflow
            ├── SnapshotVersionError      the snapshot has an unknown format version
            ├── SnapshotWorkflowError     the snapshot belongs to another workflow
            └── UnknownTypeError          the snapshot names a type that the workflow does not have

    DeadAttemptError                      a BaseException that unwinds an abandoned attempt

`stepwire.workflow.service` has `ServiceNotFoundError`. Every constructor takes the message first. All other arguments
are keywords with defaults, so that errors can be copied and pickled.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ChildRunError",
    "ContextSerdeError",
    "CrashLoopError",
    "DeadAttemptError",
    "EventTooLargeError",
    "RunEndedError",
    "RunLimitError",
    "SerializationError",
    "SignatureError",
    "SnapshotError",
    "SnapshotVersionError",
    "SnapshotWorkflowError",
    "StateNotFoundError",
    "StatePathError",
    "StateTooLargeError",
    "StepDoesNotAcceptError",
    "StepError",
    "StepReturnError",
    "StepTimeoutError",
    "UnknownStepError",
    "UnknownTypeError",
    "WorkflowCancelledByUser",
    "WorkflowConfigurationError",
    "WorkflowDone",
    "WorkflowError",
    "WorkflowRuntimeError",
    "WorkflowStepDoesNotExistError",
    "WorkflowTimeoutError",
    "WorkflowValidationError",
]


class WorkflowError(Exception):
    """Report any error of the engine. A step may raise it to tell clients why its run failed.

    Args:
        message: For the log. Clients see it only if the server's failure detail allows that.
        public: Clients always see this text.
    """

    def __init__(self, message: str = "", *, public: str | None = None) -> None:
        super().__init__(message)
        self.public = public


class WorkflowValidationError(WorkflowError):
    """Report a workflow class, step or graph that breaks a rule."""


class SignatureError(WorkflowValidationError):
    """Report a step whose signature breaks a rule."""

    def __init__(self, message: str = "", *, step: str = "") -> None:
        super().__init__(message)
        self.step = step


class WorkflowConfigurationError(WorkflowError):
    """Report steps that cannot form a workflow because their start, stop or state types conflict."""


class WorkflowRuntimeError(WorkflowError):
    """Report that a run failed, or that a call used it wrongly."""


class StepError(WorkflowRuntimeError):
    """Report a step that failed for good. `__cause__` is the exception that the step raised.

    Args:
        message: What happened.
        step: The name of the step.
        attempts: How often the step was executed, the failed attempt included.
        public: Clients always see this text.
    """

    def __init__(
        self,
        message: str = "",
        *,
        step: str = "",
        attempts: int = 0,
        public: str | None = None,
    ) -> None:
        super().__init__(message, public=public)
        self.step = step
        self.attempts = attempts


class StepTimeoutError(StepError):
    """Report an attempt that took longer than its step's timeout."""


class CrashLoopError(StepError):
    """Report a delivery that failed because crashes of the process ended too many attempts at it."""


class StepReturnError(WorkflowRuntimeError):
    """Report a step that returned neither an event nor None (S6)."""

    def __init__(self, message: str = "", *, step: str = "", type_name: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.type_name = type_name


class UnknownStepError(WorkflowRuntimeError):
    """Report an event sent to a step that the workflow does not have."""

    def __init__(self, message: str = "", *, step: str = "") -> None:
        super().__init__(message)
        self.step = step


class StepDoesNotAcceptError(WorkflowRuntimeError):
    """Report an event sent to a step that does not accept its type."""

    def __init__(self, message: str = "", *, step: str = "", type_name: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.type_name = type_name


class RunEndedError(WorkflowRuntimeError):
    """Report a call that came after the end of the run."""


class ChildRunError(WorkflowRuntimeError):
    """Report a run that a step cannot start.

    Its workflow is not served, runs are nested too deep, or a limit is reached. Awaiting a
    child raises it too if the server refused the start, or if the run of the child was deleted.
    """


class DeadAttemptError(BaseException):
    """Unwind an attempt that was abandoned by a timeout, a cancellation or an eviction. Its call changed nothing.

    Another attempt does the same work, or the run has ended. Like CancelledError this is a BaseException, so that a
    step's `except Exception` does not treat it as a failure.
    """


class WorkflowTimeoutError(WorkflowError):
    """Report a run that took longer than its timeout."""


class WorkflowCancelledByUser(WorkflowError):
    """Report a run that was cancelled."""


class WorkflowDone(WorkflowError):
    """Report that a run has ended."""


class WorkflowStepDoesNotExistError(WorkflowError):
    """Report that the checkpointer was given the name of a step that the workflow does not have."""


class StatePathError(WorkflowError, ValueError, AttributeError):
    """Report a state path that is malformed, not allowed, or has no value (S19). `path` is the whole path."""

    def __init__(self, message: str = "", *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class StateNotFoundError(StatePathError):
    """Report a valid state path at which the state has no value."""


class ContextSerdeError(WorkflowError):
    """Report a context that cannot be saved or restored."""


class SerializationError(ContextSerdeError, ValueError):
    """Report values that cannot be saved. `keys` names each of them; the message never shows a value."""

    def __init__(self, message: str = "", *, keys: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.keys: tuple[str, ...] = tuple(keys)


class EventTooLargeError(SerializationError):
    """Report an event of `size` bytes of JSON that exceeds the host's limit `largest`. Nothing was changed."""

    def __init__(self, message: str = "", *, keys: Iterable[str] = (), size: int = 0, largest: int = 0) -> None:
        super().__init__(message, keys=keys)
        self.size = size
        self.largest = largest


class StateTooLargeError(SerializationError):
    """Report a state of `size` bytes of JSON that exceeds the host's limit `largest`. Nothing was changed."""

    def __init__(self, message: str = "", *, keys: Iterable[str] = (), size: int = 0, largest: int = 0) -> None:
        super().__init__(message, keys=keys)
        self.size = size
        self.largest = largest


class RunLimitError(WorkflowRuntimeError):
    """Report a run that failed because its steps reached a limit of the host."""


class SnapshotError(ContextSerdeError):
    """Report data that is not a snapshot of this workflow, or not in a known format."""


class SnapshotVersionError(SnapshotError):
    """Report a snapshot with an unknown format version (S23)."""


class SnapshotWorkflowError(SnapshotError):
    """Report a snapshot of another workflow (S23)."""


class UnknownTypeError(SnapshotError):
    """Report a type name that the workflow's registry does not have."""

    def __init__(self, message: str = "", *, type_name: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
