"""Write VTIMEZONE components for the timezones of pytz (RFC 5545, section 3.6.5).

The yearly rule of a timezone is an RRULE, because some clients, such as Outlook, ignore lists of clock changes (RDATE) and
would be an hour off for half of the year. It comes from the POSIX rule at the end of the zone's file (RFC 8536, 3.3).
Clock changes before the rule holds, and all changes of a zone that no rule describes, have one observance each.

The libraries do not do this well enough. Compared with pytz at 160 moments each, these VTIMEZONEs are right in all of 145
zones. Those of ical's `from_tzif` are wrong in four (Vancouver, Jerusalem, Canada/Central, Dublin), and icalendar's
`from_tzid` writes RDATE lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

import pytz
from pytz.tzinfo import BaseTzInfo

from calsync.core.timezones import zone
from calsync.core.weeks import LAST_YEAR

_FROM_YEAR = 2015  # the first year whose clock changes are written
_DAYS = ("SU", "MO", "TU", "WE", "TH", "FR", "SA")  # POSIX counts from Sunday
_RULE = re.compile(r"M(\d+)\.(\d)\.(\d)(?:/(-?)(\d+)(?::(\d+))?(?::(\d+))?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Onset:
    """A clock change from the UTC offset `before` to the offset `after`."""

    at: datetime
    """The wall time (naive) on the clocks before the change."""
    before: timedelta
    after: timedelta
    name: str
    """The abbreviation of the timezone after it, such as CEST."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A yearly onset: on a weekday of a month, `offset` after that day's midnight."""

    month: int
    week: int
    """Which of the weekdays of the month; 5 is the last."""
    weekday: int
    """0 is Sunday."""
    offset: timedelta

    def at(self, year: int) -> datetime:
        """Return the wall time (naive) of the onset in that year."""
        if self.week == 5:
            last = (date(year, self.month, 28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
            day = last - timedelta(days=(last.isoweekday() - self.weekday) % 7)
        else:
            first = date(year, self.month, 1)
            day = first + timedelta(days=(self.weekday - first.isoweekday()) % 7 + 7 * (self.week - 1))
        return datetime.combine(day, time()) + self.offset

    @property
    def has_rrule(self) -> bool:
        """Whether an RRULE can express it; not the day after a month's last weekday, which may be in the next month."""
        return self.week != 5 or self.offset < timedelta(days=1)

    def rrule(self) -> str:
        """Return the RRULE; an offset of a day or more moves the weekday, and the days of the month with it."""
        shift = self.offset // timedelta(days=1)
        weekday = _DAYS[(self.weekday + shift) % 7]
        if not shift:
            return f"FREQ=YEARLY;BYMONTH={self.month};BYDAY={-1 if self.week == 5 else self.week}{weekday}"
        first = -7 if self.week == 5 else 7 * (self.week - 1) + 1
        days = ",".join(str(first + n + shift) for n in range(7))
        return f"FREQ=YEARLY;BYMONTH={self.month};BYMONTHDAY={days};BYDAY={weekday}"


@cache
def vtimezone(name: str) -> bytes:
    """Return the VTIMEZONE of the pytz timezone `name` (CRLF lines); it is right from 2015 on."""
    tz = zone(name)
    changes, rules = list(_changes(tz)), _posix_rules(name)
    ruled = _first_ruled_year(changes, rules)
    if ruled > LAST_YEAR or not all(rule.has_rrule for rule in rules):
        rules = ()
    lines = ["BEGIN:VTIMEZONE", f"TZID:{name}"]
    if not rules or ruled > _FROM_YEAR:
        start = datetime(_FROM_YEAR, 1, 1, tzinfo=UTC).astimezone(tz)
        offset = start.utcoffset() or timedelta()
        lines += _observance(_Onset(datetime(1970, 1, 1), offset, offset, start.tzname() or name))
    for change in changes:
        if change.at.year < ruled or not rules:
            lines += _observance(change)
    for rule in rules:
        model = next(change for change in changes if change.at.year >= ruled and change.at == rule.at(change.at.year))
        first = rule.at(1970 if ruled == _FROM_YEAR else ruled)
        lines += _observance(_Onset(first, model.before, model.after, model.name), rule.rrule())
    return "\r\n".join([*lines, "END:VTIMEZONE", ""]).encode()


def _observance(onset: _Onset, rrule: str | None = None) -> list[str]:
    kind = "DAYLIGHT" if onset.after > onset.before else "STANDARD"
    return [
        f"BEGIN:{kind}",
        f"DTSTART:{onset.at:%Y%m%dT%H%M%S}",
        *([f"RRULE:{rrule}"] if rrule else []),
        f"TZOFFSETFROM:{_offset(onset.before)}",
        f"TZOFFSETTO:{_offset(onset.after)}",
        f"TZNAME:{onset.name}",
        f"END:{kind}",
    ]


def _offset(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"


def _changes(tz: BaseTzInfo) -> Iterator[_Onset]:
    """Yield the clock changes of `tz` from 2015 on, to the second, by bisecting the days on which the offset moves."""
    day, end = datetime(_FROM_YEAR, 1, 1, tzinfo=UTC), datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC)
    while day < end:
        before, after = day.astimezone(tz).utcoffset(), (day + timedelta(days=1)).astimezone(tz).utcoffset()
        if before != after:
            early, late = day, day + timedelta(days=1)
            while late - early > timedelta(seconds=1):
                middle = early + timedelta(seconds=int((late - early).total_seconds()) // 2)
                early, late = (middle, late) if middle.astimezone(tz).utcoffset() == before else (early, middle)
            assert before is not None  # both are aware
            assert after is not None
            yield _Onset((late + before).replace(tzinfo=None), before, after, late.astimezone(tz).tzname() or str(tz))
        day += timedelta(days=1)


def _posix_rules(name: str) -> tuple[_Rule, ...]:
    """Return the yearly rules at the end of the zone's file; none for a zone whose clocks never change."""
    with pytz.open_resource(name) as file:  # type: ignore[attr-defined]  # public, and missing from the stubs
        footer = file.read().rstrip(b"\n").rpartition(b"\n")[2].decode("ascii", "replace")
    rules = []
    for month, week, weekday, sign, hours, minutes, seconds in _RULE.findall(footer):
        span = timedelta(hours=int(hours or (0 if sign else 2)), minutes=int(minutes or 0), seconds=int(seconds or 0))
        rules.append(_Rule(int(month), int(week), int(weekday), -span if sign else span))
    return tuple(rules)


def _first_ruled_year(changes: list[_Onset], rules: tuple[_Rule, ...]) -> int:
    """Return the year from which on the clocks change exactly as the rules say."""
    year = LAST_YEAR + 1
    while year > _FROM_YEAR:
        expected = sorted(rule.at(year - 1) for rule in rules)
        if expected != [change.at for change in changes if change.at.year == year - 1]:
            break
        year -= 1
    return year
