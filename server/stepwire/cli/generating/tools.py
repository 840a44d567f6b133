"""Run the generators of other languages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["GeneratorError", "first_of", "run"]

SECONDS = 300.0
"""The longest run of a generator, its download included."""


class GeneratorError(Exception):
    """A generator is not here, or failed; the message says what to do."""


def first_of(*commands: list[str], missing: str) -> list[str]:
    """Return the first command whose program is here.

    Programs beside the interpreter, as in a virtual environment that is not active, count.

    Raises:
        GeneratorError: None is here; the message is `missing`.
    """
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    for program, *arguments in commands:
        found = shutil.which(program, path=path)
        if found is not None:
            return [found, *arguments]
    raise GeneratorError(missing)


def run(command: list[str], folder: Path) -> str:
    """Run a generator in a folder; return its output. GeneratorError when it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GeneratorError(f"{Path(command[0]).name} did not run: {error}") from None
    if done.returncode != 0:
        told = (done.stderr or done.stdout).strip()[-2000:]
        raise GeneratorError(f"{Path(command[0]).name} failed with exit code {done.returncode}:\n{told}")
    return done.stdout
