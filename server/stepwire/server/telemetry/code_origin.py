"""Tell the author's code from that of libraries, by where its files lie."""

from __future__ import annotations

import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Final

__all__ = ["package_of_file"]

_STDLIB: Final = frozenset(
    folder
    for name in ("stdlib", "platstdlib")
    if (path := sysconfig.get_path(name))
    for folder in (Path(path), Path(path).resolve())
)
_STEPWIRE: Final = str(Path(__file__).resolve().parents[2])
"""Also where Stepwire runs from a checkout, which is not installed."""


@lru_cache(maxsize=4096)
def package_of_file(path: str) -> str:
    """Return the top-level package of an installed file; empty for a file that is not installed.

    Code that is not installed is the author's.
    """
    if path.startswith(_STEPWIRE):
        return "stepwire"
    parts = Path(path).parts
    for name in ("site-packages", "dist-packages"):
        if name in parts[:-1]:
            return parts[parts.index(name) + 1].removesuffix(".py")
    for folder in _STDLIB:
        if parts[: len(folder.parts)] == folder.parts:
            return parts[len(folder.parts)].removesuffix(".py")
    return ""
