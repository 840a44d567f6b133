"""What a run works on and waits for, as rows: which step, since when, which attempt, which error, what comes next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from stepwire.cli.render.text import duration, since
from stepwire.client import ActiveDelivery, DeliveryStatus, Failure, RunInfo, RunStatus

__all__ = ["Row", "activity_rows", "activity_text", "delivery_states", "failure_text", "may_have_stalled"]

_MOST: Final = 20
"""Deliveries that are shown one by one; the rest is counted."""
_STYLES: Final = {
    DeliveryStatus.RUNNING: "cyan",
    DeliveryStatus.BACKING_OFF: "red",
    DeliveryStatus.PARKED: "yellow",
    DeliveryStatus.QUEUED: "blue",
}


class Row(NamedTuple):
    """A row of a page."""

    name: str
    value: str
    style: str = ""


def activity_rows(info: RunInfo, now: datetime | None = None, untaken: str = "") -> Iterator[Row]:
    """Yield what a run is doing, the queued deliveries as counts; `untaken` is as for `run_page`."""
    now = now or datetime.now(UTC)
    shown = [each for each in info.active_deliveries if each.status is not DeliveryStatus.QUEUED or each.last_error]
    width = max((len(each.step) for each in shown[:_MOST]), default=0)
    for each in shown[:_MOST]:
        yield Row("step", f"{each.step:<{width}}  {_doing(each, info, now)}", _STYLES.get(each.status, ""))
        if each.last_error is not None:
            margin = " " * (width + 2)
            yield Row("", margin + failure_text(each.last_error).replace("\n", f"\n{margin}"), "red")
    rest = Counter(each.step for each in shown[_MOST:])
    if rest:
        yield Row("step", "and " + _counted(rest))
    queued = Counter(each.step for each in info.active_deliveries if each not in shown)
    if queued:
        yield Row("queued", _counted(queued), "blue")
    if info.partial and info.active_deliveries:
        yield Row("", "and more")
    if may_have_stalled(info):
        yield Row("step", "none is at work and nothing is asked: the run waits for an event, or is stalled", "yellow")
        if untaken:
            yield Row("", f"no step takes {untaken}, the last event that was sent", "yellow")


def may_have_stalled(info: RunInfo) -> bool:
    """Tell whether nothing goes on in a run and nothing is asked: it waits for an event, or for ever."""
    children = info.children is not None and info.children.unfinished
    idle = not info.active_deliveries and not info.pending_waiters and not children
    return idle and info.status is RunStatus.WAITING


def activity_text(info: RunInfo, now: datetime | None = None) -> str:
    """Return in short what an unfinished run repeats, or waits for without a question; empty if it just works."""
    now = now or datetime.now(UTC)
    failing = [each for each in info.active_deliveries if each.last_error is not None]
    for each in failing[:1]:
        assert each.last_error is not None
        more = f"; so did {len(failing) - 1} more" if len(failing) > 1 else ""
        error = ": ".join(filter(None, [each.last_error.error_type, each.last_error.message]))
        return f"step {each.step} {_attempts(each, info, now)}: {error}{more}"
    if info.pending_waiters or info.status is not RunStatus.WAITING:
        return ""
    if info.children is not None and info.children.unfinished:
        return f"waits for {info.children.unfinished} child{'ren' * (info.children.unfinished > 1)}"
    waiting = dict.fromkeys(each.step for each in info.active_deliveries)
    return f"waits in {', '.join(waiting)}" if waiting else "waits for an event, or is stalled"


def delivery_states(info: RunInfo) -> dict[int, str]:
    """Return what the unfinished deliveries of a run do, by their ids: `at work`, `waiting for Approval`."""
    words = {
        DeliveryStatus.RUNNING: "at work",
        DeliveryStatus.PARKED: "waiting",
        DeliveryStatus.QUEUED: "queued",
        DeliveryStatus.BACKING_OFF: "to be tried again",
    }
    states: dict[int, str] = {}
    for each in info.active_deliveries:
        if each.run_id:
            continue  # a child counts its deliveries from 1, too
        asked = _asked(each, info) if each.status is DeliveryStatus.PARKED else ""
        states[each.delivery_id] = words.get(each.status, str(each.status)) + (f" for {asked}" if asked else "")
    return states


def failure_text(failure: Failure) -> str:
    """Return an error and where to find it in the server's log; its message may have several lines."""
    text = ": ".join(filter(None, [failure.error_type, failure.message.strip()]))
    return f"{text} (reference {failure.reference_id})" if failure.reference_id else text


def _doing(each: ActiveDelivery, info: RunInfo, now: datetime) -> str:
    where = f" of run {each.run_id}" if each.run_id else ""
    return f"{_attempts(each, info, now)}  ({each.event_type} {each.caused_by}{where})"


def _attempts(each: ActiveDelivery, info: RunInfo, now: datetime) -> str:
    since_when = since(each.since, now)
    words = {
        DeliveryStatus.RUNNING: "runs",
        DeliveryStatus.PARKED: "waits",
        DeliveryStatus.QUEUED: "is queued",
        DeliveryStatus.BACKING_OFF: "failed",
    }
    doing = words.get(each.status, str(each.status))
    if each.status is DeliveryStatus.BACKING_OFF:
        text = f"attempt {each.attempt} {doing}{f' {since_when} ago' if since_when else ''}"
        if each.next_attempt_at is not None:
            left = (each.next_attempt_at - now).total_seconds()
            text += f", attempt {each.attempt + 1} {'in ' + duration(left) if left > 0 else 'now'}"
    else:
        text = f"{doing}{f' for {since_when}' if since_when else ''}"
    if each.status is DeliveryStatus.PARKED and (asked := _asked(each, info)):
        text += f" for {asked}"
    if each.status is not DeliveryStatus.BACKING_OFF and (each.attempt > 1 or each.last_error is not None):
        text += f", attempt {each.attempt}"
    return text


def _asked(each: ActiveDelivery, info: RunInfo) -> str:
    types = dict.fromkeys(
        waiter.event_type for waiter in info.pending_waiters if (waiter.step, waiter.run_id) == (each.step, each.run_id)
    )
    return " or ".join(types)


def _counted(steps: Counter[str]) -> str:
    return ", ".join(f"{step} ({number})" if number > 1 else step for step, number in steps.items())
