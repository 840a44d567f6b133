"""The tree of a run and its descendants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.text import Text

from stepwire.cli.render.pages import children_text, outcome_lines
from stepwire.cli.render.styles import STATUS_STYLES
from stepwire.cli.render.text import clean, compact, since
from stepwire.client import RunInfo

__all__ = ["family_tree"]


def family_tree(
    root: RunInfo, children: Mapping[str, Sequence[RunInfo]], now: datetime | None = None
) -> Iterator[Text]:
    """Yield the lines of the tree of a run.

    Args:
        root: The run.
        children: The children of each run that is told of, oldest first, by its id.
        now: What time it is; None for the time of the machine.
    """
    stack: list[tuple[RunInfo, str, str]] = [(root, "", "")]
    while stack:
        info, lead, indent = stack.pop()
        yield _line(info, lead, now)
        told = children.get(info.run_id, ())
        left = (info.children.total if info.children is not None else 0) - len(told)
        if left > 0 and told:
            yield Text(f"{indent}   … and {left} more", style="dim")
        for number, child in enumerate(reversed(told)):
            branch, rest = ("└─ ", "   ") if number == 0 else ("├─ ", "│  ")
            stack.append((child, indent + branch, indent + rest))
    shown = {each.run_id for told in children.values() for each in told}
    for each in root.blocked_children:
        if each.run_id not in shown:  # it is not started, or beyond the limit
            yield Text(f"   {each.run_id} {clean(each.workflow, keep='')}: {clean(each.reason)}", style="red")


def _line(info: RunInfo, lead: str, now: datetime | None) -> Text:
    line = Text(lead, style="dim")
    line.append(f"{info.run_id} ", style="default")
    line.append(clean(info.workflow, keep=""), style="bold")
    line.append(f" {str(info.status).replace('_', ' ')}", style=STATUS_STYLES.get(info.status, ""))
    if info.outcome is not None and info.outcome.failure is not None:
        line.append(f": {compact(outcome_lines(info.outcome)[0], 80)}", style="red")
    if info.blocked_reason:
        line.append(f": {compact(info.blocked_reason, 160)}", style="red")
    for waiter in info.pending_waiters:
        if not waiter.run_id:
            line.append(f", waits for {clean(waiter.event_type, keep='')}", style="yellow")
    if info.children is not None:
        line.append(f" ({children_text(info.children)})", style="dim")
    if info.created_at is not None:
        line.append(f"  {since(info.created_at, now)}", style="dim")
    return line
