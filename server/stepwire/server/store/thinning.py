"""Choose what a run no longer needs of its snapshots and answered requests; the same rules for every store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from stepwire.server.store.limits import KEPT_OLD_REQUESTS, KEPT_REQUESTS, REQUEST_AGE
from stepwire.server.store.records import RequestRecord


class CommitPlace(NamedTuple):
    """Where a commit stands in the chain of its run; `id` grows with every commit."""

    id: int
    sequence: int
    full: bool


def kept_requests(requests: Sequence[RequestRecord], now: float) -> list[RequestRecord]:
    """Return those of `requests`, oldest first, that are still kept at `now`."""
    recent = requests[-KEPT_REQUESTS:]
    always = len(recent) - KEPT_OLD_REQUESTS
    return [request for place, request in enumerate(recent) if place >= always or now - request.at <= REQUEST_AGE]


def unneeded_commits(commits: Sequence[CommitPlace], keep: Collection[int]) -> list[list[int]]:
    """Return the ids of the commits to drop, those of one sequence together, newest first.

    Kept are the commits that lead to the last commit of each sequence that has a full commit, of
    the last sequence, and of those in `keep`. Only ends of chains are dropped, never their middles.
    So whatever is kept loads, also while only a part of this answer has been dropped.

    Args:
        commits: All commits of a run, in order.
        keep: Further sequences whose snapshots must stay loadable.
    """
    if not commits:
        return []
    wanted = {commit.sequence for commit in commits if commit.full} | {commits[-1].sequence, *keep}
    dropped: dict[int, list[int]] = {}
    needed = False
    sequence: int | None = None  # of the commit seen before, going backwards
    for commit in reversed(commits):
        if commit.sequence != sequence and commit.sequence in wanted:
            needed = True  # the last commit of a wanted sequence: all before it in its chain stay
        if not needed:
            dropped.setdefault(commit.sequence, []).append(commit.id)
        sequence = commit.sequence
        if commit.full:
            needed = False
    return list(dropped.values())
