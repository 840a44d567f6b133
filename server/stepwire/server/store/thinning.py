"""Choose what a run no longer needs of its snapshots and answered requests; the same rules for every store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from stepwire.server.store.limits import KEPT_OLD_REQUESTS, KEPT_REQUESTS
from stepwire.server.store.records import RequestRecord


class CommitPlace(NamedTuple):
    """Where a commit stands in the chain of its run.

    `id` grows with every commit. `first` is whether it is the first commit at its sequence.
    """

    id: int
    sequence: int
    full: bool
    first: bool


def kept_requests(requests: Sequence[RequestRecord], oldest: float) -> list[RequestRecord]:
    """Return those of `requests`, oldest first, that are kept; `oldest` is the time REQUEST_AGE ago."""
    recent = requests[-KEPT_REQUESTS:]
    always = len(recent) - KEPT_OLD_REQUESTS
    return [request for place, request in enumerate(recent) if place >= always or request.at >= oldest]


def unneeded_commits(commits: Sequence[CommitPlace], keep: Collection[int]) -> list[list[int]]:
    """Return the ids of the commits to drop, those of one sequence together, newest first.

    Kept are the commits that lead to the last one, to the first one at each sequence if it is full, at
    the last sequence, and at those in `keep`. Only ends of chains are dropped, never their middles. So
    whatever is kept loads, also while only a part of this answer has been dropped.

    Args:
        commits: All commits of a run, in order.
        keep: Further sequences whose snapshots must stay loadable.
    """
    if not commits:
        return []
    wanted = {commits[-1].sequence, *keep}
    dropped: dict[int, list[int]] = {}
    needed = True  # the last commit
    for commit in reversed(commits):
        if commit.first and (commit.full or commit.sequence in wanted):
            needed = True  # all before it in its chain stay
        if not needed:
            dropped.setdefault(commit.sequence, []).append(commit.id)
        if commit.full:
            needed = False
    return list(dropped.values())
