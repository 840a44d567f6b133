"""The languages that types can be written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from stepwire.cli.generating.golang import golang
from stepwire.cli.generating.python import python
from stepwire.cli.generating.shapes import Shapes
from stepwire.cli.generating.typescript import typescript

__all__ = ["LANGUAGES"]

LANGUAGES: Final[Mapping[str, Callable[[Shapes, Path, Path], str]]] = {
    "go": golang,
    "python": python,
    "typescript": typescript,
}
"""What returns the text of a file, by language: of the types, in a folder for its own files, for the file to write."""
