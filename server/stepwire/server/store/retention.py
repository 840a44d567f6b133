"""What is kept of a run's snapshots and answered requests; the same rules for every adapter."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from stepwire.server.store.port import RequestRecord

KEPT_REQUESTS = 10_000
"""The answered requests of a run that are kept at most."""

KEPT_OLD_REQUESTS = 1_000
"""Of these, how many are kept whatever their age."""

REQUEST_AGE = 24 * 3600.0
"""Seconds after which an answered request beyond `KEPT_OLD_REQUESTS` is dropped."""


class Step(NamedTuple):
    """A commit as a link in the chain from a full one: its place `id` grows with every commit."""

    id: int
    sequence: int
    full: bool


def kept_requests(requests: Sequence[RequestRecord], now: float) -> list[RequestRecord]:
    """Give those of `requests`, oldest first, that are still kept at `now`."""
    recent = requests[-KEPT_REQUESTS:]
    surely = len(recent) - KEPT_OLD_REQUESTS
    return [request for place, request in enumerate(recent) if place >= surely or now - request.at <= REQUEST_AGE]


def unneeded(steps: Sequence[Step], keep: Collection[int]) -> list[list[int]]:
    """Give the ids of the commits to drop, those of one sequence together, newest first.

    `steps` are all commits of a run in order. Kept is what leads to the last commit of each
    sequence that has a full commit, of the last sequence and of those in `keep`. So only the ends
    of chains go, never their middles: whatever is kept loads, also while batches of this answer are
    still to be dropped.
    """
    if not steps:
        return []
    wanted = {step.sequence for step in steps if step.full} | {steps[-1].sequence, *keep}
    dropped: dict[int, list[int]] = {}
    needed = False
    sequence: int | None = None  # of the commits seen last, going backwards
    for step in reversed(steps):
        if step.sequence != sequence and step.sequence in wanted:
            needed = True  # the last commit of a wanted sequence: all before it in its chain stay
        if not needed:
            dropped.setdefault(step.sequence, []).append(step.id)
        sequence = step.sequence
        if step.full:
            needed = False
    return list(dropped.values())
