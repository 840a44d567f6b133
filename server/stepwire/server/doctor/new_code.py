"""Try the unfinished runs against the code that is to be served."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from stepwire.server.config import Settings
from stepwire.server.config_errors import ConfigError
from stepwire.server.doctor.check import Check, ok, warning
from stepwire.server.registry import Registry
from stepwire.server.runs.fitness import Findings, examine, tried_in
from stepwire.server.store import DATABASE, StoreError
from stepwire.server.wiring import directory_of, reading_of

_SECONDS: Final = 20.0
"""How long the runs are tried: `stepwire check` takes as long as it needs."""


def new_code(settings: Settings, registry: Registry) -> Iterator[Check]:
    """Check that the runs fit the workflows; nothing without workflows, or where no runs are kept yet."""
    directory = directory_of(settings)
    if not len(registry) or settings.data == ":memory:":
        return
    if directory is not None and not (directory / DATABASE).is_file():
        return
    findings = Findings()
    try:
        asyncio.run(_examine(settings, registry, findings))
    except (ConfigError, StoreError, OSError) as error:
        yield warning("new code", f"the runs cannot be tried: {error}", "see what is said of the data")
        return
    if findings.blocked:
        (workflow, reason), runs = max(findings.misfits.items(), key=lambda item: len(item[1]))
        message = f"{findings.blocked} of {findings.tried} unfinished runs would be blocked"
        message += f": {len(runs)} of {workflow}: {reason}"
        yield warning("new code", message, "stepwire check lists them; docs/workflows.md says what to do")
    elif not findings.complete:
        message = f"{findings.tried} of {findings.total} unfinished runs were tried, and fit"
        yield warning("new code", message, "stepwire check tries all of them")
    else:
        yield ok("new code", f"{findings.tried} unfinished run{'' if findings.tried == 1 else 's'} would go on")


async def _examine(settings: Settings, registry: Registry, findings: Findings) -> None:
    reading = reading_of(settings)
    try:
        await reading.open()
        counts = await reading.counts()
        findings.count(((workflow, status, count) for (workflow, status), count in counts.items()), registry)
        await examine(tried_in(reading, registry), findings, within=_SECONDS)
    finally:
        await reading.close()
