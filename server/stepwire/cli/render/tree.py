"""The log of a run as a tree: each event, the steps that took it with their attempts and durations, what they made.

What follows alone stays on its level, so a chain of steps is a list; only where a run branches the tree does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from rich.text import Text

from stepwire.cli.render.activity import failure_text
from stepwire.cli.render.progress import event_text
from stepwire.cli.render.text import clean, span
from stepwire.client import EntryKind, EventMeta, EventRole, Execution, ExecutionStatus, GenericEvent, event_meta

__all__ = ["LEGEND", "history_tree"]

LEGEND: Final = (
    "* can be forked   → from outside   ▸ step   · sent by a step   ! went wrong\n"
    "⇢ a run that the step started   no mark: written for those who follow the run"
)
"""What the marks of a history mean."""

_STYLES = {
    ExecutionStatus.FINISHED: "green",
    ExecutionStatus.STARTED: "cyan",
    ExecutionStatus.CANCELLED: "yellow",
}


@dataclass(slots=True)
class _Delivery:
    """One event that one step took: what its attempts came to, and the events that the step made."""

    step: str
    attempts: list[tuple[EventMeta, Execution]] = field(default_factory=list)
    made: list[_Event] = field(default_factory=list)
    answers: list[_Event] = field(default_factory=list)
    """What came from outside and ended a wait of the step; `made` has it too, for its place in the tree."""

    @property
    def place(self) -> int:
        """The sequence of the beginning of its first attempt."""
        return self.attempts[0][0].sequence

    @property
    def ended_at(self) -> int | None:
        """The sequence of the end of its last attempt; None while it is unfinished."""
        meta, last = self.attempts[-1]
        return None if last.status is ExecutionStatus.STARTED else meta.sequence

    def next_after(self, sequence: int) -> int | None:
        """Return the sequence of what the delivery did first after a moment of the log; None for nothing."""
        later = [meta.sequence for meta, _ in self.attempts] + [each.meta.sequence for each in self.made]
        return min((each for each in later if each > sequence), default=None)

    def waited(self) -> str:
        """Return how long the step waited for answers: `, waited 3m30s for Approval`."""
        told = ""
        for answer in self.answers:
            before = [meta for meta, _ in self.attempts] + [each.meta for each in self.made]
            asked = max((meta for meta in before if meta.sequence < answer.meta.sequence), key=lambda one: one.sequence)
            seconds = (answer.meta.time - asked.time).total_seconds()
            told += f", waited {span(seconds)} for {clean(answer.meta.type, keep='')}"
        return told


@dataclass(slots=True)
class _Event:
    """One event, and who took it."""

    event: GenericEvent
    meta: EventMeta
    taken: dict[int, _Delivery] = field(default_factory=dict)

    @property
    def place(self) -> int:
        """The sequence of the event."""
        return self.meta.sequence


_Node = _Event | _Delivery


def history_tree(
    events: Iterable[GenericEvent], kept: Collection[int], states: Mapping[int, str] | None = None
) -> Iterator[Text]:
    """Yield the lines of the tree of a log; those at a sequence in `kept` have a `*`.

    Args:
        events: The log.
        kept: The sequences at which the run can be forked.
        states: What the unfinished deliveries do now, by id; empty when the run has ended, None when it is not known.
    """
    stack: list[tuple[_Node, str, str]] = [(root, "", "") for root in reversed(_roots(events))]
    while stack:
        node, lead, indent = stack.pop()
        if isinstance(node, _Event):
            yield _line(node.meta, node.meta.sequence in kept, lead, _event_text(node))
            children: list[_Node] = list(node.taken.values())
        else:
            yield from _delivery_lines(node, kept, lead, indent, states)
            children = list(node.made)
        further = [child for child in children if _goes_on(child)]
        ordered, branches = list(reversed(children)), [("└─ ", "   "), *[("├─ ", "│  ")] * (len(children) - 1)]
        if len(further) == 1:  # one thing comes of it: that stays on this level, below what comes of nothing
            ordered = [*further, *(child for child in ordered if child is not further[0])]
            branches[0] = ("", "")
        elif len(children) == 1:
            branches = [("", "")]
        for child, (branch, rest) in zip(ordered, branches, strict=False):
            stack.append((child, indent + branch, indent + rest))


def _goes_on(node: _Node) -> bool:
    """Tell whether anything comes of an event or a delivery."""
    return bool(node.taken) if isinstance(node, _Event) else True


def _roots(events: Iterable[GenericEvent]) -> list[_Node]:
    """Link events and deliveries; return the events that nothing in the log has made.

    A delivery whose event is not in the log is one of them: the log of the run that this one retries or forks has the
    event, or the server keeps it no longer.
    """
    roots: list[_Event] = []
    by_sequence: dict[int, _Event] = {}
    deliveries: dict[int, _Delivery] = {}
    begun: list[_Node] = []
    for event in events:
        meta = event_meta(event)
        if (execution := meta.execution) is not None:
            delivery = deliveries.setdefault(execution.delivery_id, _Delivery(meta.step))
            delivery.attempts.append((meta, execution))
            if (cause := by_sequence.get(execution.caused_by)) is not None:
                cause.taken[execution.delivery_id] = delivery
            elif len(delivery.attempts) == 1:
                begun.append(delivery)
            continue
        node = by_sequence[meta.sequence] = _Event(event, meta)
        maker = deliveries.get(meta.delivery_id)
        if maker is None:  # from outside; or executions are not logged, or trimmed
            roots.append(node)
        else:
            maker.made.append(node)
    begun += [root for root in roots if not _answers(root, deliveries.values())]
    return sorted(begun, key=lambda root: root.place)


def _answers(event: _Event, deliveries: Collection[_Delivery]) -> bool:
    """Put an event that ended a wait below the step that waited; tell whether there is one.

    The log does not name the step. It is the unfinished one that goes on first after the event: of those that have
    asked, if any has.
    """
    meta = event.meta
    if meta.kind is not EntryKind.RECEIVED or meta.delivered <= len(event.taken):
        return False
    able = [
        (following, each)
        for each in deliveries
        if each.attempts[0][0].sequence < meta.sequence
        and (each.ended_at is None or each.ended_at > meta.sequence)
        and (following := each.next_after(meta.sequence)) is not None
    ]
    asking = [pair for pair in able if any(made.meta.role is EventRole.INPUT_REQUIRED for made in pair[1].made)]
    if not able or (len(able) > 1 and not asking):
        return False
    waiting = min(asking or able, key=lambda pair: pair[0])[1]
    waiting.made = sorted([*waiting.made, event], key=lambda each: each.meta.sequence)
    waiting.answers.append(event)
    return True


def _event_text(node: _Event) -> Text:
    """Return the text of an event, and whether it was lost on the run: then the run may be stalled."""
    text, meta = event_text(node.event), node.meta
    if meta.kind in (EntryKind.RECEIVED, EntryKind.SENT) and not meta.delivered:
        text.append("  (no step took it)", style="yellow")
    return text


def _delivery_lines(
    delivery: _Delivery, kept: Collection[int], lead: str, indent: str, states: Mapping[int, str] | None
) -> Iterator[Text]:
    last = delivery.attempts[-1][1]
    # The line stands where the delivery began, or where it can be forked.
    meta = next((meta for meta, _ in delivery.attempts if meta.sequence in kept), delivery.attempts[0][0])
    text = Text()
    text.append(f"▸ {clean(delivery.step, keep='')}", style=_STYLES.get(last.status, "red"))
    # A wait that was resumed counts as an attempt too: without a failure its number says nothing.
    first = delivery.attempts[0][1].attempt
    failed = first > 1 or any(_went_wrong(each) for _, each in delivery.attempts)
    backs_off = last.status is ExecutionStatus.FAILED and last.next_attempt_at is not None
    count = " after attempt" if backs_off and states and last.delivery_id in states else ", attempt"
    number = f"{count} {last.attempt}" if last.attempt > 1 and failed else ""
    number += delivery.waited()
    took = f" {span(last.duration.total_seconds())}" if last.duration is not None else ""
    if last.status is ExecutionStatus.FINISHED:
        text.append(f"{took}{number}", style="dim")
    else:
        word = str(last.status).replace("_", " ")
        if states is not None and last.delivery_id in states:
            word = states[last.delivery_id]
        elif states == {} and last.status is ExecutionStatus.STARTED:
            word = "unfinished"
        text.append(f"  {word}{number}", style=_STYLES.get(last.status, "red"))
    yield _line(meta, meta.sequence in kept, lead, text)
    for meta, attempt in delivery.attempts:
        if not _went_wrong(attempt):
            continue
        words = f"! attempt {attempt.attempt} {str(attempt.status).replace('_', ' ')}"
        if attempt.duration is not None:
            words += f" after {span(attempt.duration.total_seconds())}"
        if attempt.next_attempt_at is not None:
            words += f", the next at {attempt.next_attempt_at.astimezone():%H:%M:%S}"
        if attempt.error is not None:
            margin = "\n" + " " * 16 + indent + "    "
            words += f": {margin.join(clean(failure_text(attempt.error)).splitlines())}"
        yield _line(meta, meta.sequence in kept, f"{indent}  ", Text(words, style="red"))


def _went_wrong(attempt: Execution) -> bool:
    return attempt.error is not None or attempt.status in (ExecutionStatus.LOST, ExecutionStatus.CANCELLED)


def _line(meta: EventMeta, kept: bool, lead: str, text: Text) -> Text:
    line = Text("* " if kept else "  ")
    line.append(f"{meta.time.astimezone():%H:%M:%S} {meta.sequence:>4} ", style="dim")
    line.append(lead, style="dim")
    return line.append_text(text)
