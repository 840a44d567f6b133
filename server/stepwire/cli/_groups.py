"""Groups of commands below a command."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from typer.core import TyperGroup

__all__ = ["Subcommands"]


class Subcommands(TyperGroup):
    """A group that names its commands when none of them was called, as with `stepwire state RUN`.

    Parameters are those of click, as in `stepwire.cli._app`.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name."""
        if args and args[0] not in self.commands and not get_close_matches(args[0], self.commands):
            ctx.fail(f"No such command {args[0]!r}. There are {', '.join(self.commands)}.")
        return super().resolve_command(ctx, args)
