"""Read when somebody is busy from VFREEBUSY components (RFC 5545, section 3.6.4).

A period has no title and no UID. A period that cannot be read, and the time after the span that the components cover, are
unknown, never free.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from icalendar import Component

from calsync.ical.components import moment_of, values_of
from calsync.ical.occurrences import Occurrence, Reading
from calsync.ical.parser import Parsed
from calsync.ical.recurrence import TimeRange


def read_freebusy(parsed: Parsed, horizon: TimeRange) -> Reading:
    """Return the busy periods within the horizon, tentative ones too; never raises for what is in the resource.

    The reading is `unplaced` if a period cannot be read. From the last DTEND on, if there is one and the resource has no
    events, an occurrence that is not `certain` fills the horizon.
    """
    try:
        components = parsed.calendar.walk("VFREEBUSY")
        periods = [period for component in components for period in _busy_periods(component)]
        ends = [end for component in components if isinstance(end := moment_of(component, "DTEND"), datetime)]
    except Exception as error:  # other people's values
        return Reading(defects=(f"VFREEBUSY cannot be read: {type(error).__name__}",), unplaced=True)
    occurrences = [
        Occurrence(start, end, "", "busy") for start, end in periods if start < horizon.end and end >= horizon.start
    ]
    covered_until = max((end.replace(tzinfo=end.tzinfo or UTC).astimezone(UTC) for end in ends), default=horizon.end)
    if covered_until < horizon.end and not parsed.calendar.events:
        occurrences.append(Occurrence(covered_until, horizon.end, "", "unknown", certain=False))
    return Reading(tuple(occurrences), defects=parsed.defects, unplaced=bool(components and parsed.defects))


def _busy_periods(component: Component) -> Iterator[tuple[datetime, datetime]]:
    """Yield the periods (UTC) in which somebody is not free; unknown kinds of periods are busy (section 3.2.9)."""
    for period in values_of(component, "FREEBUSY"):
        if str(period.params.get("FBTYPE", "BUSY")).upper() == "FREE":
            continue
        if period.start.utcoffset() != timedelta():
            raise ValueError("a period is not in UTC, as section 3.8.2.6 requires")
        yield period.start.astimezone(UTC), period.end.astimezone(UTC)
