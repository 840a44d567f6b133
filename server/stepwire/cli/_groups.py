"""What a group of commands says of a command that it does not have."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from typer.core import TyperGroup

__all__ = ["Subcommands", "refuse_unknown"]


def refuse_unknown(ctx: Any, typed: str, names: Collection[str]) -> None:
    """Fail with a usage error that says which command may be meant by a name that none has; else return."""
    if typed not in names and (near := get_close_matches(typed, names)):
        ctx.fail(f"No such command {typed!r}. Did you mean {' or '.join(near)}?")


class Subcommands(TyperGroup):
    """A group that names its commands when none of them was called, as with `stepwire state RUN`.

    Parameters are those of click, as in `stepwire.cli._app`.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            refuse_unknown(ctx, args[0], self.commands)
            ctx.fail(f"No such command {args[0]!r}. There are {', '.join(self.commands)}.")
        return super().resolve_command(ctx, args)
