"""Timezones from pytz, and the one rule that turns a wall-clock time into an instant (RFC 5545, section 3.3.5).

A time that the clocks skip takes the offset from before the gap. A time that they show twice is the first of the two. pytz
refuses both with `is_dst=None`, so neither is ever resolved by accident.

icalendar uses the standard library's `zoneinfo` for the events it parses. `zoneinfo` is pointed at pytz's files, so the
process has one timezone database, whatever the machine has installed.
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
"""What a clock change does to a wall-clock time: the clocks skip it, or show it twice."""
_FILES = os.path.join(os.path.dirname(pytz.__file__), "zoneinfo")


if os.path.isdir(_FILES):  # a pytz packaged by a distribution reads the system's files, as zoneinfo does by itself
    zoneinfo.reset_tzpath([_FILES])


@cache
def zone(name: str) -> BaseTzInfo:
    """Return the timezone called `name` in the IANA database; raises `UnknownTimezone`, which suggests close names."""
    if name in pytz.all_timezones_set:
        return pytz.timezone(name)
    raise UnknownTimezone(name[:60], suggestions(name))


def suggestions(name: str) -> list[str]:
    """Return up to three names of timezones that `name` may mean, best first: those of the same city, then by spelling."""
    folded = {timezone.lower(): timezone for timezone in pytz.all_timezones}
    wanted = name[:60].lower().replace(" ", "_")
    if wanted in folded:
        return [folded[wanted]]
    city = wanted.rpartition("/")[2]
    cities = [timezone for timezone in pytz.common_timezones if timezone.lower().rpartition("/")[2] == city]
    near = difflib.get_close_matches(wanted, folded, n=3, cutoff=0.75)
    return list(dict.fromkeys([*cities, *(folded[match] for match in near)]))[:3]


@lru_cache(maxsize=16_384)  # each check of a week resolves the same few hundred times
def resolve(wall: datetime, tz: BaseTzInfo) -> tuple[datetime, Oddity | None]:
    """Return the instant at which the clocks of `tz` show the naive time `wall`, and what is odd about that time."""
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
    """Return the aware moment in UTC and whole seconds, as DTSTAMP and LAST-MODIFIED need it (RFC 5545, section 3.8.7)."""
    return moment.astimezone(UTC).replace(microsecond=0)


def clock_change(start: datetime, end: datetime, tz: BaseTzInfo) -> timedelta:
    """Return by how much the clocks of `tz` move forward between two instants; negative if they move back."""
    before, after = start.astimezone(tz).utcoffset(), end.astimezone(tz).utcoffset()
    assert before is not None  # both are aware
    assert after is not None
    return after - before
