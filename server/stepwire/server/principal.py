"""Principals, the authenticated callers, and their scopes."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from stepwire.server.store import RunKey

DEFAULT_NAMESPACE = "default"

Action = Literal["read", "write", "admin"]
READ: Final = "read"
WRITE: Final = "write"
ADMIN: Final = "admin"
_RANK: Final[dict[str, int]] = {READ: 1, WRITE: 2, ADMIN: 3}


class Scopes:
    """What a principal may do: `read`, `write` or `admin`, with every workflow or with one.

    `admin` includes `write`, which includes `read`. Immutable.

    Raises:
        ValueError: A text is not a scope.
    """

    __slots__ = ("_everywhere", "_highest", "_workflows")

    def __init__(self, scopes: tuple[str, ...] | list[str] = ()) -> None:
        everywhere = 0
        workflows: dict[str, int] = {}
        for scope in scopes:
            action, colon, workflow = scope.partition(":")
            rank = _RANK.get(action)
            if rank is None or bool(colon) != bool(workflow):
                raise ValueError("a scope is read, write or admin, or one of them with a workflow, as in write:orders")
            if workflow:
                workflows[workflow] = max(rank, workflows.get(workflow, 0))
            else:
                everywhere = max(everywhere, rank)
        self._everywhere = everywhere
        self._workflows = workflows
        self._highest = max([everywhere, *workflows.values()])

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
        return self._highest >= _RANK[action]

    def allow(self, action: Action, workflow: str) -> bool:
        """Tell whether the action is allowed with a workflow."""
        rank = _RANK[action]
        return self._everywhere >= rank or self._workflows.get(workflow, 0) >= rank

    def everywhere(self, action: Action) -> bool:
        """Tell whether the action is allowed with every workflow."""
        return self._everywhere >= _RANK[action]

    def sees(self, workflow: str) -> bool:
        """Tell whether the holder may know of a workflow and its runs."""
        return self._everywhere > 0 or workflow in self._workflows

    def __repr__(self) -> str:
        names = {rank: name for name, rank in _RANK.items()}
        shown = [names[self._everywhere]] if self._everywhere else []
        shown += [f"{names[rank]}:{workflow}" for workflow, rank in sorted(self._workflows.items())]
        return f"Scopes({shown})"


ALL = Scopes((ADMIN,))
"""Every scope for every workflow."""


class Principal(NamedTuple):
    """An authenticated caller.

    Attributes:
        name: Identifies the caller in the log, in quotas and in the records of its runs.
        namespace: The namespace that all of its runs live in.
        scopes: What it may do in that namespace.
        expires: When its credential expires, in seconds since the epoch; None for never.
    """

    name: str
    namespace: str
    scopes: Scopes = ALL
    expires: float | None = None

    def key(self, run_id: str) -> RunKey:
        """Return the key of a run in this caller's namespace."""
        return RunKey(self.namespace, run_id)


ANONYMOUS = Principal("anonymous", DEFAULT_NAMESPACE)
"""Every caller of a server without authentication."""
