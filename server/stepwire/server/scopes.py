"""Scopes: what a caller may do. `rpc/gate/method_scopes` says which one each method needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

Action = Literal["see", "answer", "read", "write", "schedule", "admin"]
SEE: Final = "see"
"""Know of runs, their questions and public streams: what `answer` and `read` have in common. No scope of its own."""
ANSWER: Final = "answer"
READ: Final = "read"
WRITE: Final = "write"
SCHEDULE: Final = "schedule"
ADMIN: Final = "admin"

_BIT: Final[dict[str, int]] = {SEE: 1, READ: 2, ANSWER: 4, WRITE: 8, SCHEDULE: 32, ADMIN: 16}
_GRANTS: Final[dict[str, int]] = {
    READ: 0b000011,
    ANSWER: 0b000101,
    WRITE: 0b001111,
    SCHEDULE: 0b101111,
    ADMIN: 0b111111,
}
"""The actions that each scope allows."""


class Scopes:
    """What a principal may do: `answer`, `read`, `write`, `schedule` or `admin`, with every workflow or with one.

    `admin` includes `schedule`, which includes `write`, which includes `read` and `answer`. Neither of these two
    includes the other. Immutable.

    Raises:
        ValueError: A text is not a scope.
    """

    __slots__ = ("_anywhere", "_everywhere", "_workflows", "uneven")

    def __init__(self, scopes: tuple[str, ...] | list[str] = ()) -> None:
        everywhere = anywhere = 0
        workflows: dict[str, int] = {}
        for scope in scopes:
            action, colon, workflow = scope.partition(":")
            grants = _GRANTS.get(action)
            if grants is None or bool(colon) != bool(workflow):
                raise ValueError(
                    "a scope is answer, read, write, schedule or admin,"
                    " or one of them with a workflow, as in write:orders"
                )
            if workflow:
                workflows[workflow] = grants | workflows.get(workflow, 0)
            else:
                everywhere |= grants
            anywhere |= grants
        self._everywhere = everywhere
        self._workflows = workflows
        self._anywhere = anywhere
        readable = [bool((everywhere | grants) & _BIT[READ]) for grants in (everywhere, *workflows.values()) if grants]
        self.uneven = True in readable and False in readable
        """Whether the holder may read some of the workflows that it sees, and only answer questions of others."""

    @property
    def restricted(self) -> bool:
        """Whether the holder may see only the workflows that its scopes name."""
        return self._everywhere == 0

    @property
    def workflows(self) -> list[str]:
        """The workflows that the scopes name, sorted."""
        return sorted(self._workflows)

    def anywhere(self, action: Action) -> bool:
        """Tell whether the action is allowed with at least one workflow."""
        return bool(self._anywhere & _BIT[action])

    def allow(self, action: Action, workflow: str) -> bool:
        """Tell whether the action is allowed with a workflow."""
        return bool((self._everywhere | self._workflows.get(workflow, 0)) & _BIT[action])

    def everywhere(self, action: Action) -> bool:
        """Tell whether the action is allowed with every workflow."""
        return bool(self._everywhere & _BIT[action])

    def sees(self, workflow: str) -> bool:
        """Tell whether the holder may know of a workflow and its runs."""
        return self._everywhere > 0 or workflow in self._workflows

    def __iter__(self) -> Iterator[str]:
        """Give the scopes as texts: those for every workflow first. A scope that another one includes is left out."""
        for workflow, grants in (("", self._everywhere), *sorted(self._workflows.items())):
            for names in ((ADMIN,), (SCHEDULE,), (WRITE,), (READ, ANSWER)):
                if found := [name for name in names if grants & _BIT[name]]:
                    yield from (f"{name}:{workflow}" if workflow else name for name in found)
                    break

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scopes) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Scopes({list(self)})"


ALL = Scopes((ADMIN,))
"""Every scope for every workflow."""
