"""Ask a person at the terminal for the fields of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from stepwire.cli.render.answer_fields import Field, fields_of, parse
from stepwire.cli.render.line_reader import LineReader
from stepwire.cli.render.text import clean, compact

__all__ = ["Asker"]


class Asker:
    """Ask on a console and read from a terminal. An answer is None when the person left the question with Ctrl-D."""

    def __init__(self, console: Console, reader: LineReader) -> None:
        self._console = console
        self._reader = reader

    def say(self, text: str, style: str = "") -> None:
        """Print text."""
        self._console.print(Text(clean(text), style=style), soft_wrap=True)

    async def answer(self, schema: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any] | None:
        """Ask for the fields that `fixed` does not have; return all fields."""
        fields = dict(fixed)
        asked = fields_of(schema, fixed)
        if not asked:
            self.say("  press Enter to confirm, Ctrl-D to leave it open")
            return None if await self._reader.readline() is None else fields
        for field in asked:
            given, value = await self._field(field)
            if not given:
                return None
            if value is not _LEFT_OUT:
                fields[field.name] = value
        return fields

    async def choose(self, what: str, choices: Sequence[str]) -> str | None:
        """Ask for one of several names."""
        given, value = await self._field(Field(what, "choice", choices=tuple(choices)))
        return value if given else None

    async def _field(self, field: Field) -> tuple[bool, Any]:
        """Return whether the person answered, and the value, or _LEFT_OUT for an optional field."""
        if field.description:
            self.say(f"  {field.description}", "dim")
        hints = [field.hint] if field.hint else []
        if not field.required:
            hints.append(f"Enter: {compact(field.default)}" if field.default is not None else "Enter: leave out")
        hint = f" ({'; '.join(hints)})" if hints else ""
        prompt = f"  {field.name}{hint}: "
        while True:
            self._console.print(Text(clean(prompt), style="bold"), end="", soft_wrap=True)
            self._console.file.flush()
            text = await self._reader.readline()
            if text is None:
                return False, None
            if not text.strip() and not field.required:
                return True, _LEFT_OUT
            try:
                return True, parse(field, text)
            except ValueError as error:
                self.say(f"  {error}", "red")


_LEFT_OUT = object()
