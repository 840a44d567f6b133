"""What groups of commands say of a command that they do not have, and how commands show their arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from difflib import get_close_matches
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["Commands", "Subcommands", "refuse_unknown"]

_BRACES: Final = re.compile(r"\{(.*)\}")
"""What newer versions of typer write around the name of an argument that must be given."""
_TYPE: Final = re.compile(r" <.*>$")
"""What they write behind the name of an argument."""


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


class Commands(typer.Typer):
    """A typer app whose commands show their arguments as other programs do: `RUN`, not `RUN <str>` or `{RUN}`."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Register a command, as `typer.Typer.command` does."""
        return super().command(name, **{"cls": Command, **options})


class Command(TyperCommand):
    """A command whose arguments are shown by their names alone, whatever the version of typer."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line."""
        return [_BRACES.sub(r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options."""
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            records = [each.get_help_record(ctx) for each in self.get_params(ctx) if each.param_type_name == kind]
            rows = [(_TYPE.sub("", name) if kind == "argument" else name, text) for name, text in filter(None, records)]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
