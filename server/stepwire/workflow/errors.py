"""Errors of the engine, as one tree.

::

    WorkflowError                         `public` is text that clients may see
    ├── WorkflowValidationError           the class, a step's signature or the graph is wrong
    │   └── SignatureError                one step's signature is wrong
    ├── WorkflowConfigurationError        no workflow can be built from these steps
    ├── WorkflowRuntimeError              a run went wrong
    │   ├── StepError                     a step failed for good
    │   │   ├── StepTimeoutError          its attempt took longer than the step's timeout
    │   │   └── CrashLoopError            its executions were lost to crashes too often
    │   ├── StepReturnError               it returned something other than an event or None
    │   ├── UnknownStepError              an event was sent to a step that does not exist
    │   ├── StepDoesNotAcceptError        an event was sent to a step that does not take its type
    │   ├── RunEndedError                 the run is over and takes nothing more
    │   └── RunLimitError                 its steps made it reach a limit of the host
    ├── WorkflowTimeoutError              the run took longer than its timeout
    ├── WorkflowCancelledByUser           the run was cancelled
    ├── WorkflowDone                      the run is over (1.x control flow, kept for its name)
    ├── WorkflowStepDoesNotExistError     a step named to the checkpointer does not exist
    ├── StatePathError                    also ValueError and AttributeError: a state path is bad
    │   └── StateNotFoundError            nothing is at that path
    └── ContextSerdeError                 a context cannot be saved or restored
        ├── SerializationError            also ValueError: `keys` cannot be saved
        │   ├── EventTooLargeError        an event has more bytes than the host takes
        │   └── StateTooLargeError        the state has more bytes than the host keeps
        └── SnapshotError                 what was given is not a snapshot that fits
            ├── SnapshotVersionError      its format version is unknown
            ├── SnapshotWorkflowError     it was taken of another workflow
            └── UnknownTypeError          it names a type that this workflow does not have

    DeadAttemptError                      no Exception: unwinds an abandoned attempt that uses its context

`ServiceNotFoundError` lives in `stepwire.workflow.service`. Every constructor takes the message
first and its facts as keywords that have defaults, so that errors can be copied and pickled.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
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
    """Root of the tree; raise it in a step with `public` to tell clients why the run failed.

    `public` is shown to clients whatever the service's failure detail is; the message is not.
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
    """Report steps that no workflow can be built from: start, stop or state types conflict."""


class WorkflowRuntimeError(WorkflowError):
    """Report that a run went wrong, or that it was used wrongly."""


class StepError(WorkflowRuntimeError):
    """Report a step that failed for good; the step's own exception is the cause.

    `attempts` counts the executions that were made, this one included.
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
    """Report a delivery whose executions were lost to crashes too often."""


class StepReturnError(WorkflowRuntimeError):
    """Report a step that returned something other than an event or None (S6)."""

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
    """Report an event sent to a step that does not take its type."""

    def __init__(self, message: str = "", *, step: str = "", type_name: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.type_name = type_name


class RunEndedError(WorkflowRuntimeError):
    """Report an event sent to a run that is over."""


class DeadAttemptError(BaseException):
    """Unwind the body of an attempt that was abandoned: its call of the context changed nothing.

    Like CancelledError it is no Exception, so that no `except Exception` in a step takes it for a failure and acts on
    it: the same work goes on in another attempt, or the run is over.
    """


class WorkflowTimeoutError(WorkflowError):
    """Report a run that took longer than its timeout."""


class WorkflowCancelledByUser(WorkflowError):
    """Report a run that was cancelled."""


class WorkflowDone(WorkflowError):
    """Report that a run is over."""


class WorkflowStepDoesNotExistError(WorkflowError):
    """Report a step name that the workflow does not have, given to the checkpointer."""


class StatePathError(WorkflowError, ValueError, AttributeError):
    """Report a state path that is malformed, refused or leads nowhere (S19).

    `path` is the whole path as it was given.
    """

    def __init__(self, message: str = "", *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class StateNotFoundError(StatePathError):
    """Report a well-formed state path that nothing is at."""


class ContextSerdeError(WorkflowError):
    """Report a context that cannot be saved or restored."""


class SerializationError(ContextSerdeError, ValueError):
    """Report what cannot be saved; `keys` names every part of it, never the values."""

    def __init__(self, message: str = "", *, keys: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.keys: tuple[str, ...] = tuple(keys)


class EventTooLargeError(SerializationError):
    """Report an event of `size` bytes, of which a log entry of the host has at most `largest`. Nothing was done."""

    def __init__(self, message: str = "", *, keys: Iterable[str] = (), size: int = 0, largest: int = 0) -> None:
        super().__init__(message, keys=keys)
        self.size = size
        self.largest = largest


class StateTooLargeError(SerializationError):
    """Report a state of `size` bytes, of which the host keeps at most `largest`. Nothing was changed."""

    def __init__(self, message: str = "", *, keys: Iterable[str] = (), size: int = 0, largest: int = 0) -> None:
        super().__init__(message, keys=keys)
        self.size = size
        self.largest = largest


class RunLimitError(WorkflowRuntimeError):
    """Report a run whose steps made it reach a limit of its host; the run has failed."""


class SnapshotError(ContextSerdeError):
    """Report data that is not a snapshot of this workflow in a known format."""


class SnapshotVersionError(SnapshotError):
    """Report a snapshot whose format version is unknown (S23)."""


class SnapshotWorkflowError(SnapshotError):
    """Report a snapshot that was taken of another workflow (S23)."""


class UnknownTypeError(SnapshotError):
    """Report a type name that the workflow's registry does not have."""

    def __init__(self, message: str = "", *, type_name: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
