"""What `stepwire check` has found, as lines and as JSON."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from stepwire.cli.render.text import clean

if TYPE_CHECKING:
    from stepwire.server.runs.fitness import Findings

__all__ = ["findings_document", "findings_lines"]

_SHOWN: Final = 3
"""Run ids to show for each reason: enough to look at some."""


def findings_lines(findings: Findings, named: Sequence[str]) -> Iterator[Text]:
    """Yield the findings for people: a line for each workflow and reason, then what it comes to.

    Args:
        findings: What was found.
        named: The names under which the new code would be served.
    """
    for (workflow, reason), runs in sorted(findings.misfits.items()):
        line = Text("blocked ", style="red")
        line.append(f" {clean(workflow, keep='')}: {_runs(len(runs))}: {clean(reason, keep='')}", style="default")
        ids = ", ".join(clean(tried.run_id, keep="") for tried in runs[:_SHOWN])
        line.append(f"  ({ids}{', …' if len(runs) > _SHOWN else ''})", style="dim")
        yield line
    for workflow, count in sorted(findings.unserved.items()):
        yield Text(f"skipped  {clean(workflow, keep='')}: {_runs(count)} of a workflow that is not named here")
    if findings.freed:
        yield Text(
            f"freed    {_runs(findings.freed)} that {'are' if findings.freed > 1 else 'is'} blocked now would go on"
        )
    if findings.missed:
        yield Text(f"nothing was checked: no unfinished run belongs to {', '.join(named)}", style="red")
        if meant := _meant(findings, named):
            yield Text(f"did you mean {' or '.join(meant)}? (MODULE:NAME=name, as with stepwire serve)", style="yellow")
        return
    text = f"tried {findings.tried:,} of {_runs(findings.total)} in {findings.seconds:.1f} s: "
    if findings.blocked:
        yield Text(f"{text}{findings.blocked:,} would be blocked", style="red")
        yield Text("docs/workflows.md, Change code under waiting runs: aliases, defaults, migrate()", style="dim")
    else:
        who = "all" if findings.complete else "those"
        yield Text(text + (f"{who} would go on" if findings.tried else "nothing to do"), style="green")
    if not findings.complete:
        yield Text("not all were tried: give more time with --within", style="yellow")


def findings_document(findings: Findings) -> dict[str, Any]:
    """Return the findings for scripts."""
    return {
        "unfinished": findings.total,
        "tried": findings.tried,
        "complete": findings.complete and not findings.missed,
        "seconds": round(findings.seconds, 3),
        "would_block": findings.blocked,
        "would_go_on_again": findings.freed,
        "not_named": findings.unserved,
        "blocked": [
            {
                "workflow": workflow,
                "reason": reason,
                "count": len(runs),
                "runs": [{"run_id": tried.run_id, "namespace": tried.namespace} for tried in runs],
            }
            for (workflow, reason), runs in sorted(findings.misfits.items())
        ],
    }


def _meant(findings: Findings, named: Sequence[str]) -> list[str]:
    """Return what the workflows that were named may be served as, as `Orders=orders`."""
    others = sorted(findings.unserved)
    if len(others) == len(named) == 1:
        return [clean(f"{named[0]}={others[0]}", keep="")]
    found = []
    for name in named:
        low = {other.lower(): other for other in others}
        near = difflib.get_close_matches(name.lower(), low, n=1, cutoff=0.6)
        found += [clean(f"{name}={low[each]}", keep="") for each in near]
    return found


def _runs(count: int) -> str:
    return f"{count:,} unfinished run{'' if count == 1 else 's'}"
