"""Working hours: a daily span on somebody's wall clock, such as `09:00-18:00`; `22:00-06:00` ends on the next day."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Self

from pytz.tzinfo import BaseTzInfo

from calsync.errors import Invalid
from calsync.zones import resolve

_SPAN = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*[-–]\s*([01]?\d|2[0-4]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hours:
    """Working hours on every day; an `end` not after `start` lies on the next day."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `09:00-18:00`; `24:00` is midnight."""
        match = _SPAN.fullmatch(text.strip())
        if match is None or (match[3] == "24" and match[4] != "00"):
            raise Invalid(f'"{text[:40]}" are not working hours; write them as "09:00-18:00".')
        start, end = time(int(match[1]), int(match[2])), time(int(match[3]) % 24, int(match[4]))
        if start == end and start != time():
            raise Invalid(f'"{text[:40]}" has no length; write "00:00-24:00" for the whole day.')
        return cls(start, end)

    def on(self, day: date, tz: BaseTzInfo) -> tuple[datetime, datetime]:
        """The working day that begins on `day` in `tz`, as two aware instants."""
        return _working_day(self, day, tz)

    def around(self, start: datetime, end: datetime, tz: BaseTzInfo) -> list[tuple[datetime, datetime]]:
        """The working days that lie at most a day before or after the span from `start` to `end` (aware)."""
        first = start.astimezone(tz).date() - timedelta(days=2)
        last = end.astimezone(tz).date() + timedelta(days=1)
        return [self.on(first + timedelta(days=n), tz) for n in range((last - first).days + 1)]

    def cover(self, start: datetime, end: datetime, tz: BaseTzInfo) -> bool:
        """Whether the whole span from `start` to `end` (aware) is working time, back-to-back days counted as one."""
        return worked_until(start, self.around(start, end, tz)) >= end

    def __str__(self) -> str:
        end = "24:00" if self.end == time() else f"{self.end:%H:%M}"
        return f"{self.start:%H:%M}-{end}"


@lru_cache(maxsize=16_384)  # a check of a week asks for the same few days again and again
def _working_day(hours: Hours, day: date, tz: BaseTzInfo) -> tuple[datetime, datetime]:
    last = day + timedelta(days=hours.end <= hours.start)
    return resolve(datetime.combine(day, hours.start), tz)[0], resolve(datetime.combine(last, hours.end), tz)[0]


def worked_until(moment: datetime, days: Iterable[tuple[datetime, datetime]]) -> datetime:
    """Until when work goes on without a break from `moment` over working `days` by start; `moment` itself outside them."""
    for opens, closes in days:
        if opens <= moment < closes:
            moment = closes
    return moment


DEFAULT_HOURS = Hours(time(9), time(18))
"""What a working day is taken to be where nobody said otherwise."""
