"""Check the unfinished runs: are their workflows named, and can they go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from stepwire.server.doctor.check import Check, ok, warning
from stepwire.server.registry import OWN, Registry
from stepwire.server.store import TERMINAL


def unfinished_runs(runs: Mapping[tuple[str, str], int], registry: Registry) -> Check:
    """Check the unfinished runs, given how many there are by (workflow, status)."""
    unfinished: Counter[str] = Counter()
    workflows: Counter[str] = Counter()
    for (workflow, status), count in runs.items():
        if status not in TERMINAL and not workflow.startswith(OWN):
            unfinished[status.lower()] += count
            workflows[workflow] += count
    message = ", ".join(f"{count} {status}" for status, count in sorted(unfinished.items())) or "no unfinished runs"
    unserved = [name for name in sorted(workflows) if registry.get(name) is None] if len(registry) else []
    if unserved:
        message += f"; {sum(workflows[name] for name in unserved)} of {', '.join(unserved)}, which are not named here"
        return warning("runs", message, "serve these workflows too: their runs sleep until then")
    if unfinished["blocked"]:
        advice = "serve code that fits them, or cancel them: stepwire runs --status blocked"
        return warning("runs", message, advice)
    return ok("runs", message)
