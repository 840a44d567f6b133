"""What flat means.

A series is flat when it does not certainly rise by more than is allowed in an hour. How it rises is Sen's slope, the
median of the slopes between all pairs of points: no few outliers move it. How sure that is comes from the same slopes:
the lower end of the one-sided 95 % interval by Kendall's rank statistic, so that noise, which has no rank order in
time, is not taken for a leak. The points are the medians of twelve equal windows (all samples when there are fewer):
neighbouring samples are not independent of each other, windows of minutes nearly are. A leak is what has even that
lower end above the allowance, and the allowance is 10 % of the level in an hour, or a few pieces where 10 % would be
less than one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from statistics import median
from typing import NamedTuple

__all__ = ["ALLOWED", "Trend", "trend"]

WINDOWS = 12
ALLOWED = 0.10
"""The part of its level by which a series may rise in an hour."""

_Z = 1.645


class Trend(NamedTuple):
    """How a series goes: its first and last windows, its rise in an hour, the least that this is, what is allowed."""

    first: float
    last: float
    rise: float
    least: float
    allowed: float

    @property
    def flat(self) -> bool:
        """Say whether the series does not certainly rise by more than is allowed."""
        return self.least <= self.allowed


def trend(times: Sequence[float], values: Sequence[float], pieces: float = 0.0) -> Trend:
    """Return the trend of a series sampled at `times` in seconds; `pieces` may always come in an hour."""
    points = _windows(times, values)
    if len(points) < 4:
        raise ValueError("too few samples to tell a trend from noise")
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2))
    n = len(points)
    spread = _Z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    level = median(value for _, value in points)
    return Trend(points[0][1], points[-1][1], median(slopes) * 3600, slopes[low] * 3600, max(ALLOWED * level, pieces))


def _windows(times: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    count = min(WINDOWS, len(times))
    edges = [round(number * len(times) / count) for number in range(count + 1)] if count else []
    return [(median(times[a:b]), median(values[a:b])) for a, b in pairwise(edges)]
