"""Read a Containerfile, as far as ours goes."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Stage", "read"]


@dataclass
class Stage:
    """A stage: what it is made from, and its instructions in order."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """Return the arguments of every such instruction."""
        return [text for word, text in self.steps if word == instruction]

    def last(self, instruction: str) -> str:
        """Return the arguments of the one that counts."""
        return self.all(instruction)[-1]

    def environment(self) -> dict[str, str]:
        """Return what ENV sets."""
        return dict(item.split("=", 1) for text in self.all("ENV") for item in shlex.split(text))

    def command(self, instruction: str) -> list[str]:
        """Return a command in its exec form, the only one that gets signals."""
        text = self.last(instruction)
        found: list[str] = json.loads(text[text.index("[") :])
        return found


def read(path: Path) -> list[Stage]:
    """Return the stages; ARGs before the first are filled in with their defaults."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "ARG" and not stages:
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif word == "FROM":
            base, _, name = rest.partition(" AS ")
            for argument, value in arguments.items():
                base = base.replace(f"${{{argument}}}", value)
            stages.append(Stage(base, name))
        else:
            stages[-1].steps.append((word, rest.strip()))
    return stages
