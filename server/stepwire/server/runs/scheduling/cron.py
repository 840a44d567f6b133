"""When a schedule is due: cron expressions in a time zone, intervals, one point in time.

Times are seconds since the epoch, UTC. What changes of summer time do to cron expressions is what Debian's cron does:
`docs/schedules.md` says it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

from stepwire.server.runs.errors import Violation

__all__ = ["MAX_EVERY", "MAX_JITTER", "Timing"]

MAX_EVERY: Final = 315_360_000.0
"""Seconds: ten years."""
MAX_JITTER: Final = 86_400.0
"""Seconds: one day."""
_MAX_TEXT: Final = 256
"""Characters of a cron expression, and of a time zone."""
_LAST: Final = 253_370_764_800.0
"""The year 9999, in seconds since the epoch: Python has no dates beyond it."""
_LONGEST_FOLD: Final = timedelta(hours=3)
"""By how much clocks are set back at most."""
_MINUTE: Final = timedelta(minutes=1)
_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When a schedule is due: exactly one of `cron`, `every` and `at` is given.

    Attributes:
        cron: A cron expression of five fields, or a macro such as @daily; empty for none.
        every: Seconds from one due time to the next.
        at: The one due time.
        anchor: A due time of `every`, from which the others are counted.
        zone: The IANA time zone of `cron`.
        jitter: Runs start up to so many seconds after their due times.
        start: No due time is before this one.
        end: No due time is at or after this one.
    """

    cron: str = ""
    every: float | None = None
    at: float | None = None
    anchor: float = 0.0
    zone: str = "UTC"
    jitter: float = 0.0
    start: float | None = None
    end: float | None = None

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Timing:
        """Return what `saved` made a dict of."""
        return cls(**saved)

    def saved(self) -> dict[str, Any]:
        """Return a JSON-able dict, without what has its default."""
        usual = {each.name: each.default for each in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != usual[name]}

    def violations(self) -> list[Violation]:
        """Return what is wrong with it."""
        if sum((bool(self.cron), self.every is not None, self.at is not None)) != 1:
            return [Violation("timing", "must have one of cron, interval and at")]
        found: list[Violation] = []
        if len(self.zone) > _MAX_TEXT or not _zone_exists(self.zone):
            found.append(Violation("timing.time_zone", "must be the name of an IANA time zone, as in Europe/Oslo"))
        elif self.cron and (message := self._wrong_cron()):
            found.append(Violation("timing.cron", message))
        if self.zone != "UTC" and not self.cron:
            found.append(Violation("timing.time_zone", "is only for cron expressions"))
        if self.every is not None and not 1.0 <= self.every <= MAX_EVERY:
            found.append(Violation("timing.interval.every", "must be from 1 second to 10 years"))
        if not 0.0 <= self.jitter <= MAX_JITTER:
            found.append(Violation("timing.jitter", "must be from 0 to 1 day"))
        if any(abs(each) > _LAST for each in (self.anchor, self.at, self.start, self.end) if each is not None):
            found.append(Violation("timing", "must have times before the year 9999"))
        if self.start is not None and self.end is not None and self.start >= self.end:
            found.append(Violation("timing.end_time", "must be after start_time"))
        return found

    def _wrong_cron(self) -> str:
        """Return what is wrong with the cron expression; empty if nothing is."""
        from cronsim import CronSim, CronSimError  # only servers with schedules need it

        expression = self._expression
        if len(self.cron) > _MAX_TEXT:
            return f"must be at most {_MAX_TEXT} characters"
        if self.cron.strip().startswith("@") and expression == self.cron.strip():
            return f"has an unknown name: use one of {', '.join(_MACROS)}"
        if len(expression.split()) != 5:
            return "must have five fields: minute, hour, day of the month, month, day of the week"
        try:
            found = next(CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC)), None)
        except CronSimError as error:
            return f"is not valid: {str(error)[0].lower()}{str(error)[1:]}"
        except (ValueError, RecursionError):  # numbers or lists without end
            return "is not valid"
        return "" if found is not None else "names a day that never comes"

    @property
    def _expression(self) -> str:
        text = self.cron.strip()
        return _MACROS.get(text.lower(), text)

    def after(self, moment: float) -> Iterator[float]:
        """Yield the due times after a moment, in order."""
        if self.start is not None and moment < self.start:
            moment = math.nextafter(self.start, -math.inf)
        for due in self._after(moment):
            if due > _LAST or (self.end is not None and due >= self.end):
                return
            yield due

    def next(self, moment: float) -> float | None:
        """Return the first due time after a moment; None if there is none."""
        return next(self.after(moment), None)

    def first(self, moment: float, count: int) -> list[float]:
        """Return the first `count` due times after a moment."""
        return list(islice(self.after(moment), count))

    def _after(self, moment: float) -> Iterator[float]:
        if self.at is not None:
            if self.at > moment:
                yield self.at
        elif self.every is not None:
            number = math.floor((moment - self.anchor) / self.every)
            while True:
                due = self.anchor + number * self.every
                if due > moment:
                    yield due
                number += 1
        else:
            yield from self._cron_after(moment)

    def _cron_after(self, moment: float) -> Iterator[float]:
        """Yield the due times of the cron expression.

        The library says which local times the expression names, as if clocks were never set. What becomes of local
        times that do not exist, or come twice, is decided here.
        """
        from cronsim import CronSim

        zone = ZoneInfo(self.zone)
        begin = datetime.fromtimestamp(math.floor(moment), zone)
        by_wall = not any(field.startswith("*") for field in self._expression.split()[:2])
        local = begin.replace(tzinfo=None)
        if not by_wall and (_change(local, zone) < 0 or (begin - _LONGEST_FOLD).utcoffset() != begin.utcoffset()):
            local -= _LONGEST_FOLD  # of local times that come twice the second ones may be ahead
        named = CronSim(self._expression, local)
        try:
            for due in _once(named, zone) if by_wall else _each_time(named, zone):
                if due > moment:
                    moment = due
                    yield due
        except (OverflowError, ValueError):  # the end of Python's dates
            return

    def delay(self, uid: str, due: float) -> float:
        """Return how long after a due time its run starts: the same for the same schedule and due time."""
        if not self.jitter:
            return 0.0
        digest = sha256(f"{uid}/{round(due * 1e6)}".encode()).digest()
        return self.jitter * int.from_bytes(digest[:8], "big") / 2**64


def _zone_exists(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _once(named: Iterable[datetime], zone: ZoneInfo) -> Iterator[float]:
    """Yield a moment for each local time: in a gap its end, of two the first."""
    for local in named:
        while _change(local, zone) > 0:
            local += _MINUTE
        yield local.replace(tzinfo=zone).timestamp()


def _each_time(named: Iterable[datetime], zone: ZoneInfo) -> Iterator[float]:
    """Yield each moment that has one of the local times, in order: none in a gap, two where clocks are set back."""
    second: list[float] = []
    for local in named:
        change = _change(local, zone)
        if change > 0:
            continue
        due = local.replace(tzinfo=zone).timestamp()
        while second and second[0] < due:
            yield second.pop(0)
        yield due
        if change < 0:
            second.append(due - change)
    yield from second


def _change(local: datetime, zone: ZoneInfo) -> float:
    """Return by how many seconds clocks are set at a local time: above 0 in a gap, below 0 where it comes twice."""
    before, after = (local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    assert before is not None
    assert after is not None
    return (after - before).total_seconds()
