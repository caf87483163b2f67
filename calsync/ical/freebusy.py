"""VFREEBUSY components → occurrences: when somebody is busy, and nothing else of it (RFC 5545, section 3.6.4).

Its periods have no title and no UID of their own. What cannot be read, and what lies behind the span that is told of, is
never free.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from icalendar import Component

from calsync.ical.occurrences import Occurrence, Reading
from calsync.ical.parser import parse
from calsync.ical.recurrence import TimeRange, moment_of


def read_freebusy(ics: bytes, horizon: TimeRange) -> Reading:
    """The busy periods within the horizon, tentative ones too; `unplaced` where one cannot be read. Never raises.

    Behind the last DTEND, if there is one, is an occurrence that is not `certain`.
    """
    try:
        parsed = parse(ics)
        components = parsed.calendar.walk("VFREEBUSY")
        found = [period for component in components for period in _periods(component)]
        ends = [end for component in components if isinstance(end := moment_of(component, "DTEND"), datetime)]
    except Exception as error:  # whatever a parser makes of other people's bytes
        return Reading(defects=(f"VFREEBUSY cannot be read: {type(error).__name__}",), unplaced=True)
    occurrences = [
        Occurrence(start, end, "", "busy") for start, end in found if start < horizon.end and end >= horizon.start
    ]
    told = max((end.replace(tzinfo=end.tzinfo or UTC).astimezone(UTC) for end in ends), default=horizon.end)
    if told < horizon.end and not parsed.calendar.events:
        occurrences.append(Occurrence(told, horizon.end, "", "not told of", certain=False))
    return Reading(tuple(occurrences), defects=parsed.defects, unplaced=bool(parsed.defects))


def _periods(component: Component) -> Iterator[tuple[datetime, datetime]]:
    """The periods (UTC) in which somebody is not free; kinds that nobody knows are busy (section 3.2.9)."""
    stated: Any = component.get("FREEBUSY", [])
    for period in stated if isinstance(stated, list) else [stated]:
        if str(period.params.get("FBTYPE", "BUSY")).upper() == "FREE":
            continue
        if period.start.utcoffset() != timedelta():
            raise ValueError("a period is not in UTC, as section 3.8.2.6 wants it")
        yield period.start.astimezone(UTC), period.end.astimezone(UTC)
