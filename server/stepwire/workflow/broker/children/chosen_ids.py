"""The ids that steps have chosen for the runs that they start: each is one run's."""

from __future__ import annotations

from stepwire.workflow.broker.children.child import Child, ChildCall, child_id
from stepwire.workflow.errors import ChildRunError

__all__ = ["ChosenIds"]


class ChosenIds:
    """Know which chosen ids are taken, among the children that the snapshot of one run holds.

    Attributes:
        before: Those under which the run that this one goes on from had started children that it starts anew: here they
            get ids that are made.
    """

    __slots__ = ("_taken", "before")

    def __init__(self) -> None:
        self.before: set[str] = set()
        self._taken: dict[str, int] = {}

    def check(self, chosen: str) -> None:
        """Raise ChildRunError if another start of the run has this id."""
        if chosen in self._taken:
            raise ChildRunError(
                f"the run_id {chosen!r} is taken: this run has already started a run with it, by another call; choose"
                " another run_id"
            )

    def id_of(self, call: ChildCall, run_id: str, number: int) -> str:
        """Return the id of a new child.

        Args:
            call: What is asked for.
            run_id: The id of the run that starts it.
            number: The number of the child.
        """
        if call.run_id and call.run_id not in self.before:
            return call.run_id
        return child_id(run_id, number)

    def take(self, child: Child) -> None:
        """Note that a child has the id that was chosen for it."""
        if chosen := child.call.run_id:
            self._taken[chosen] = child.number

    def leave(self, child: Child) -> None:
        """Forget a child."""
        if self._taken.get(child.call.run_id) == child.number:
            del self._taken[child.call.run_id]
