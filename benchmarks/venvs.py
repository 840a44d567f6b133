"""Environments of their own for what Stepwire is compared with; made once, inside .venv."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Bench

__all__ = ["Peer", "peer", "run_json"]

ROOT = Path(__file__).resolve().parent.parent
INSTALL_SECONDS = 300.0


class Peer:
    """An installed peer: its interpreter and the version of its main package."""

    def __init__(self, python: Path, package: str, version: str) -> None:
        self.python = python
        self.name = f"{package} {version}"


async def peer(bench: Bench, folder: str, requirements: Sequence[str]) -> Peer | None:
    """Return the environment with these packages; None, with a note, when they cannot be installed."""
    home = ROOT / ".venv" / "peers" / folder
    python = home / "bin" / "python"
    stamp = home / ".installed"
    wanted = " ".join(requirements)
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        bench.say(f"installing {wanted} into an environment of its own")
        try:
            await _checked([sys.executable, "-m", "venv", "--clear", str(home)])
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            await _checked([*pip, *requirements])
        except RuntimeError as error:
            bench.notes.append(f"{wanted} could not be installed, its figures were skipped: {error}")
            return None
        stamp.write_text(wanted, encoding="utf-8")
    package = requirements[0].partition("==")[0]
    code = "import importlib.metadata as m, json, sys; print(json.dumps(m.version(sys.argv[1])))"
    return Peer(python, package, str(await run_json([str(python), "-c", code, package], 60)))


async def _checked(command: Sequence[str]) -> None:
    await _output(command, INSTALL_SECONDS)


async def run_json(command: Sequence[str], seconds: float) -> Any:
    """Run a program and return the JSON that it prints last. RuntimeError, also when it takes too long."""
    lines = (await _output(command, seconds)).strip().splitlines()
    return json.loads(lines[-1])


async def _output(command: Sequence[str], seconds: float) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        output, error = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        raise RuntimeError(f"not done after {seconds:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = error.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(last[0] if last else f"exit code {process.returncode}")
    return output.decode()
