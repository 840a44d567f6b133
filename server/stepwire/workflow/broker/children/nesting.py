"""What a run and a run that a step of it has started are to each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from stepwire.workflow.events import InputRequiredEvent

__all__ = ["Nested", "OuterStep"]


class OuterStep(Protocol):
    """The step of another run that has started a run, as that run sees it."""

    @property
    def pauses(self) -> bool:
        """Whether its time limit stands still while it only waits for outside input."""

    @property
    def asks(self) -> bool:
        """Whether it asks a question of the run."""

    def asked(self, question: InputRequiredEvent) -> None:
        """Ask a question that a step sent or returned, and that no wait of it asks."""

    def moved(self) -> None:
        """Note a change of the run."""


class Nested(Protocol):
    """A run that the body of a step has started."""

    @property
    def works(self) -> bool:
        """Whether it can go on before one of its questions is answered."""

    @property
    def finished_steps(self) -> bool:
        """Whether a step of it has finished, which it does again when the step that started it begins again."""

    @property
    def stream(self) -> object:
        """Its stream: what waits for the run's progress names it."""

    @property
    def tasks(self) -> Iterable[object]:
        """The tasks of its steps."""

    def abandon(self) -> None:
        """Cancel it: the attempt that has started it was abandoned."""

    def let_go(self) -> None:
        """Let it go on alone: the step that has started it has returned."""
