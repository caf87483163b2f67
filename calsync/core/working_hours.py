"""Working hours: a span on somebody's wall clock, on each of their working days.

`09:00-18:00` is from Monday to Friday. `sun-thu 09:00-18:00` and `mon,wed 09:00-13:00` name other days. `22:00-06:00` ends
on the next day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Self

from pytz.tzinfo import BaseTzInfo

from calsync.core.errors import Invalid
from calsync.core.timezones import resolve
from calsync.core.weeks import WEEKDAYS

WORKDAYS = WEEKDAYS[:5]
"""The working days of people who do not name theirs."""
_SPAN = re.compile(
    r"(?:([a-z][a-z, –-]*)\s+)?([01]?\d|2[0-3]):([0-5]\d)\s*[-–]\s*([01]?\d|2[0-4]):([0-5]\d)", re.ASCII | re.IGNORECASE
)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Hours:
    """Working hours on each of `days`, in the week's order; an `end` that is not after `start` is on the next day."""

    start: time
    end: time
    days: tuple[str, ...] = WORKDAYS

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `09:00-18:00` or `sun-thu 09:00-18:00`; `24:00` is midnight. Raises `Invalid`."""
        match = _SPAN.fullmatch(text.strip())
        days = _days(match[1]) if match is not None and match[1] else WORKDAYS
        if match is None or not days or (match[4] == "24" and match[5] != "00"):
            raise Invalid(
                f'"{text[:40]}" is not valid; write working hours as "09:00-18:00", or with days as "sun-thu 09:00-18:00".'
            )
        start, end = time(int(match[2]), int(match[3])), time(int(match[4]) % 24, int(match[5]))
        if start == end and start != time():
            raise Invalid(f'"{text[:40]}" has no length; write "00:00-24:00" for the whole day.')
        return cls(start, end, days)

    @property
    def daily(self) -> Self:
        """The same hours on all seven days."""
        return replace(self, days=WEEKDAYS)

    def on(self, day: date, tz: BaseTzInfo) -> tuple[datetime, datetime]:
        """Return when work begins and ends on `day` in `tz` (aware). Does not check that `day` is a working day."""
        return _working_day(self, day, tz)

    def around(self, start: datetime, end: datetime, tz: BaseTzInfo) -> list[tuple[datetime, datetime]]:
        """Return the working days from a day before to a day after the span from `start` to `end` (aware), as spans."""
        first = start.astimezone(tz).date() - 2 * _DAY
        last = end.astimezone(tz).date() + _DAY
        near = (first + n * _DAY for n in range((last - first).days + 1))
        return [self.on(day, tz) for day in near if WEEKDAYS[day.weekday()] in self.days]

    def cover(self, start: datetime, end: datetime, tz: BaseTzInfo) -> bool:
        """Whether the whole span from `start` to `end` (aware) is working time; it may cross adjoining working days."""
        return worked_until(start, self.around(start, end, tz)) >= end

    def __str__(self) -> str:
        end = "24:00" if self.end == time() else f"{self.end:%H:%M}"
        span = f"{self.start:%H:%M}-{end}"
        return span if self.days == WORKDAYS else f"{_days_text(self.days)} {span}"


def _days(text: str) -> tuple[str, ...]:
    """Parse `mon,wed` or `sun-thu` into days in the week's order; returns none if `text` is something else."""
    days: set[str] = set()
    for part in re.split(r"\s*,\s*", text.strip().lower()):
        first, _, last = (name.strip() for name in part.replace("–", "-").partition("-"))
        if first not in WEEKDAYS or (last or first) not in WEEKDAYS:
            return ()
        start, length = WEEKDAYS.index(first), (WEEKDAYS.index(last or first) - WEEKDAYS.index(first)) % 7
        days |= {WEEKDAYS[(start + n) % 7] for n in range(length + 1)}
    return tuple(day for day in WEEKDAYS if day in days)


def _days_text(days: tuple[str, ...]) -> str:
    """Return the days as `_days` reads them: `mon,wed` or `mon-thu`."""
    runs: list[list[str]] = []
    for day in days:
        if runs and WEEKDAYS.index(day) == WEEKDAYS.index(runs[-1][-1]) + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


@lru_cache(maxsize=16_384)  # each check of a week needs the same few days
def _working_day(hours: Hours, day: date, tz: BaseTzInfo) -> tuple[datetime, datetime]:
    last = day + timedelta(days=hours.end <= hours.start)
    return resolve(datetime.combine(day, hours.start), tz)[0], resolve(datetime.combine(last, hours.end), tz)[0]


def worked_until(moment: datetime, days: Iterable[tuple[datetime, datetime]]) -> datetime:
    """Return the end of the unbroken work time at `moment`, given working `days` by start; `moment` itself outside them."""
    for opens, closes in days:
        if opens <= moment < closes:
            moment = closes
    return moment


DEFAULT_HOURS = Hours(time(9), time(18))
"""The working hours of people who do not name theirs."""
