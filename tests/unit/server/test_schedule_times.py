"""When schedules are due, against an oracle that looks at every minute, and against another library."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwire.server.runs.scheduling.cron import Timing

MINUTE = timedelta(minutes=1)


class Oracle:
    """Cron by brute force: every minute of real time is looked at.

    Written from the manual of Debian's cron, without the library: an expression whose minute or hour begins with a star
    follows real time. Any other one is due once for each local time that it names, also where clocks are set: at the
    first moment after a gap for a time in the gap, and at the first of two for a time that comes twice.
    """

    def __init__(self, expression: str, zone: str) -> None:
        parts = expression.split()
        ranges = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
        self.minutes, self.hours, self.days, self.months, days_of_week = (
            _numbers(part, *bounds) for part, bounds in zip(parts, ranges, strict=True)
        )
        self.week = {day % 7 for day in days_of_week}
        self.both = parts[2].startswith("*") or parts[4].startswith("*")
        self.by_wall = not (parts[0].startswith("*") or parts[1].startswith("*"))
        self.zone = ZoneInfo(zone)

    def names(self, local: datetime) -> bool:
        """Tell whether the expression names a local time."""
        day, week = local.day in self.days, (local.isoweekday() % 7) in self.week
        fits = (day and week) if self.both else (day or week)
        return local.minute in self.minutes and local.hour in self.hours and local.month in self.months and fits

    def between(self, start: datetime, end: datetime) -> list[datetime]:
        """Return the due times after `start`, up to `end`, in UTC."""
        found: list[datetime] = []
        seen: set[datetime] = set()
        before = _minutes(self.zone, start, end)[0][1] - MINUTE
        for moment, local in _minutes(self.zone, start, end):
            due = False
            if not self.by_wall:
                due = self.names(local)
            else:
                skipped = before + MINUTE  # local times that a gap leaves out are made up for at its end
                while skipped <= local:
                    if self.names(skipped) and skipped not in seen:
                        seen.add(skipped)
                        due = True
                    skipped += MINUTE
            before = max(before, local) if self.by_wall else local
            if due and moment > start:
                found.append(moment)
        return found


@cache
def _minutes(zone: ZoneInfo, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Return the minutes of a span with their local times."""
    moments = (start + MINUTE * number for number in range(int((end - start) / MINUTE) + 1))
    return [(moment, moment.astimezone(zone).replace(tzinfo=None)) for moment in moments]


def _numbers(part: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for item in part.split(","):
        span, _, by = item.partition("/")
        if span == "*":
            first, last = low, min(high, 6) if high == 7 else high
        elif "-" in span:
            first, last = map(int, span.split("-"))
        else:
            first = int(span)
            last = high if by else first
        found.update(range(first, last + 1, int(by or 1)))
    return found


def due_times(expression: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    timing = Timing(cron=expression, zone=zone)
    assert timing.violations() == []
    return list(_until(timing, start, end))


def _until(timing: Timing, start: datetime, end: datetime) -> Iterator[datetime]:
    for due in timing.after(start.timestamp()):
        if due > end.timestamp():
            return
        yield datetime.fromtimestamp(due, UTC)


CHANGES = [
    ("Europe/Oslo", datetime(2026, 3, 29, tzinfo=UTC)),  # 02:00 to 03:00
    ("Europe/Oslo", datetime(2026, 10, 25, tzinfo=UTC)),  # 03:00 to 02:00
    ("America/New_York", datetime(2026, 3, 8, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 4, 5, tzinfo=UTC)),  # midnight to 23:00
    ("America/Santiago", datetime(2026, 9, 6, tzinfo=UTC)),  # midnight to 01:00
    ("Pacific/Auckland", datetime(2026, 4, 4, 12, tzinfo=UTC)),
    ("Pacific/Auckland", datetime(2026, 9, 26, 12, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),  # half an hour
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(2026, 6, 1, tzinfo=UTC)),  # 5:45, no summer time
    ("Africa/Casablanca", datetime(2026, 2, 15, tzinfo=UTC)),  # Ramadan
    ("Asia/Beirut", datetime(2026, 3, 28, 22, tzinfo=UTC)),  # midnight to 01:00
    ("UTC", datetime(2026, 12, 31, 12, tzinfo=UTC)),
]
EXPRESSIONS = [
    "* * * * *",
    "*/5 * * * *",
    "*/30 * * * *",
    "0 * * * *",
    "15 * * * *",
    "45 */2 * * *",
    "*/20 2 * * *",
    "30 2 * * *",
    "0 0 * * *",
    "30 0 * * *",
    "15 1,2,3 * * *",
    "0,30 1-3 * * *",
    "0 3 * * *",
    "59 23 * * *",
    "5 0-23/3 * * *",
    "30 2 * * 0",
    "0 7 * * 1-5",
]


@pytest.mark.parametrize(("zone", "around"), CHANGES, ids=lambda each: str(each)[:10])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_where_clocks_are_set(expression: str, zone: str, around: datetime) -> None:
    start, end = around - timedelta(hours=26), around + timedelta(hours=30)
    assert due_times(expression, zone, start, end) == Oracle(expression, zone).between(start, end)


@pytest.mark.parametrize(("zone", "around"), CHANGES[:12], ids=lambda each: str(each)[:10])
@pytest.mark.parametrize("expression", ["*/15 * * * *", "0 * * * *", "30 2 * * *", "30 1,2 * * *", "0,30 0-3 * * *"])
def test_from_each_moment_of_the_change(expression: str, zone: str, around: datetime) -> None:
    """The next due time is the same whenever it is asked for: what fires is not late, not early and not twice."""
    end = around + timedelta(days=2)
    every = Oracle(expression, zone).between(around - timedelta(days=1), end)
    timing = Timing(cron=expression, zone=zone)
    for minutes in range(0, 20 * 60, 7):
        moment = around - timedelta(hours=6) + timedelta(minutes=minutes, seconds=31)
        expected = next(due for due in every if due > moment)
        assert timing.next(moment.timestamp()) == expected.timestamp()


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


DAYS = [
    ("0 0 29 2 *", "2026-01-01", ["2028-02-29", "2032-02-29", "2036-02-29"]),
    ("0 0 29 2 *", "2096-03-01", ["2104-02-29", "2108-02-29"]),
    ("0 0 31 * *", "2026-01-31", ["2026-03-31", "2026-05-31", "2026-07-31"]),
    ("0 0 30 * *", "2026-01-30", ["2026-03-30", "2026-04-30"]),
    ("0 12 L * *", "2027-12-01", ["2027-12-31T12:00", "2028-01-31T12:00", "2028-02-29T12:00"]),
    ("0 0 1 1 *", "2026-12-31T23:59", ["2027-01-01", "2028-01-01"]),
    ("59 23 31 12 *", "2026-01-01", ["2026-12-31T23:59", "2027-12-31T23:59"]),
    ("0 0 13 * 5", "2026-11-01", ["2026-11-06", "2026-11-13", "2026-11-20"]),
    ("0 0 */2 * 1", "2026-11-01", ["2026-11-09", "2026-11-23", "2026-12-07"]),
    ("0 0 * * 7", "2026-11-01", ["2026-11-08", "2026-11-15"]),
    ("0 9 * * MON#1", "2026-11-03", ["2026-12-07T09:00", "2027-01-04T09:00"]),
    ("@monthly", "2026-11-03", ["2026-12-01", "2027-01-01", "2027-02-01"]),
    ("@Weekly", "2026-11-03", ["2026-11-08", "2026-11-15"]),
    ("0 0 * JAN,jul mon", "2026-06-30", ["2026-07-06", "2026-07-13"]),
]
"""Written by hand: leap days, ends of months and years, both days given, names."""


@pytest.mark.parametrize(("expression", "start", "expected"), DAYS)
def test_days_that_are_not_in_every_month(expression: str, start: str, expected: list[str]) -> None:
    found = Timing(cron=expression).first(utc(start).timestamp(), len(expected))
    assert [datetime.fromtimestamp(due, UTC) for due in found] == list(map(utc, expected))


@pytest.mark.parametrize(
    ("expression", "start"), [day[:2] for day in DAYS if day[0][0].isdigit() and "/" not in day[0]]
)
def test_days_by_another_library(expression: str, start: str) -> None:
    """Without `0 0 */2 * 1`: croniter takes a day that fits either, Debian's cron one that fits both."""
    other = croniter(expression.replace("L", "l"), utc(start))
    expected = [other.get_next(datetime).timestamp() for _ in range(20)]
    assert Timing(cron=expression).first(utc(start).timestamp(), 20) == expected


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    wide = st.tuples(number, number).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: f"{pair[0]}-{pair[1]}")
    # The library takes a range of one number with a step, 3-3/2, for an open one.
    stepped = st.tuples(st.one_of(st.just("*"), wide), st.integers(1, 9)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    several = st.lists(st.one_of(number.map(str), span), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), several, stepped)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(_field(0, 59), _field(0, 23), _field(1, 28), st.just("*"), _field(0, 6)).map(" ".join),
    st.sampled_from(CHANGES),
)
def test_any_expression_where_clocks_are_set(expression: str, change: tuple[str, datetime]) -> None:
    zone, around = change
    start, end = around - timedelta(hours=26), around + timedelta(hours=30)
    assert due_times(expression, zone, start, end) == Oracle(expression, zone).between(start, end)


@given(st.floats(1.0, 1e6, allow_nan=False), st.floats(-1e9, 1e9, allow_nan=False), st.floats(0, 4e9, allow_nan=False))
def test_intervals_are_counted_from_their_anchor(every: float, anchor: float, moment: float) -> None:
    found = Timing(every=every, anchor=anchor).first(moment, 5)
    assert found[0] > moment
    assert found[0] - moment <= every * 1.001
    assert all(before < after for before, after in pairwise(found))
    again = Timing(every=every, anchor=anchor).first(found[2], 2)
    assert again == found[3:]


def test_jitter_is_made_from_the_schedule_and_the_due_time() -> None:
    timing = Timing(every=60.0, jitter=30.0)
    delays = [timing.delay("a", 60.0 * number) for number in range(200)]
    assert delays == [timing.delay("a", 60.0 * number) for number in range(200)]
    assert delays != [timing.delay("b", 60.0 * number) for number in range(200)]
    assert min(delays) < 3.0 < 27.0 < max(delays) < 30.0
    assert Timing(every=60.0).delay("a", 60.0) == 0.0
