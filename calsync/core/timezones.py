"""Timezones, all of them pytz's, and the one rule by which a wall clock becomes an instant.

A time that the clocks skip takes the offset from before the gap, and a time that they show twice is the first of the two
(RFC 5545, section 3.3.5). pytz refuses such times under `is_dst=None`, so they are never resolved by accident.

The standard library's `zoneinfo`, which icalendar uses for the events it parses, is pointed at pytz's files: one timezone
database for the whole process, whatever the machine has installed.
"""

from __future__ import annotations

import difflib
import os
import zoneinfo
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from typing import Literal

import pytz
from pytz.tzinfo import BaseTzInfo

from calsync.core.errors import UnknownTimezone

Oddity = Literal["skipped", "repeated"]
"""What a clock change does to a wall-clock time: the clocks jump over it, or show it twice."""


_FILES = os.path.join(os.path.dirname(pytz.__file__), "zoneinfo")


if os.path.isdir(_FILES):  # a distribution's pytz may read the system's files, as zoneinfo then does too
    zoneinfo.reset_tzpath([_FILES])


@cache
def zone(name: str) -> BaseTzInfo:
    """The timezone called `name`, spelled as in the IANA database; `UnknownTimezone` names close ones otherwise."""
    if name in pytz.all_timezones_set:
        return pytz.timezone(name)
    raise UnknownTimezone(name[:60], suggestions(name))


def suggestions(name: str) -> list[str]:
    """Up to three timezones that `name` may have meant, best first: by letters, then by the city alone."""
    folded = {known.lower(): known for known in pytz.all_timezones}
    wanted = name[:60].lower().replace(" ", "_")
    if wanted in folded:
        return [folded[wanted]]
    cities = [known for known in pytz.common_timezones if known.lower().rpartition("/")[2] == wanted.rpartition("/")[2]]
    near = difflib.get_close_matches(wanted, folded, n=3, cutoff=0.75)
    return list(dict.fromkeys([*cities, *(folded[match] for match in near)]))[:3]


@lru_cache(maxsize=16_384)  # a check of a week asks for the same few hundred edges again and again
def resolve(wall: datetime, tz: BaseTzInfo) -> tuple[datetime, Oddity | None]:
    """The instant at which the clocks of `tz` show the naive time `wall`, and what is odd about it."""
    try:
        return tz.localize(wall, is_dst=None), None
    except pytz.NonExistentTimeError:
        return tz.normalize(tz.localize(wall, is_dst=False)), "skipped"
    except pytz.AmbiguousTimeError:
        return min(tz.localize(wall, is_dst=True), tz.localize(wall, is_dst=False)), "repeated"


def midnight(day: date, timezone: str) -> datetime:
    """Return the instant at which `day` begins on the clocks of `timezone`."""
    return resolve(datetime.combine(day, time()), zone(timezone))[0]


def utc_seconds(moment: datetime) -> datetime:
    """The aware moment as iCalendar has it in DTSTAMP and LAST-MODIFIED: in UTC and whole seconds (RFC 5545, 3.8.7)."""
    return moment.astimezone(UTC).replace(microsecond=0)


def clock_change(start: datetime, end: datetime, tz: BaseTzInfo) -> timedelta:
    """By how much the clocks of `tz` move forward (backward, if negative) between two instants."""
    before, after = start.astimezone(tz).utcoffset(), end.astimezone(tz).utcoffset()
    assert before is not None  # both are aware
    assert after is not None
    return after - before
