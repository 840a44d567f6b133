"""Where the log of a run begins."""

from __future__ import annotations

from stepwire.cli.render.terminal import Output
from stepwire.client import Run

__all__ = ["log_beginning"]


async def log_beginning(run: Run, output: Output) -> int:
    """Return the sequence after which a run's log begins. Say so when earlier entries are no longer kept."""
    first = (await run.info()).first_available
    if first > 1:
        output.note(f"the log begins at {first}: the server no longer keeps earlier entries", style="dim")
    return first - 1
