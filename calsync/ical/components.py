"""Values of a component's properties: moments, durations and rules.

A moment is a date or a date-time, as iCalendar has both. The values come from other people, so any of them may be missing
or unreadable.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from icalendar import Component, vRecur
from icalendar.prop import vBroken


def values_of(component: Component, name: str) -> list[Any]:
    """Return the values of a property, which may occur any number of times."""
    values = component.get(name, [])
    return values if isinstance(values, list) else [values]


def moment_of(component: Component, name: str) -> date | None:
    """Return the moment that a property holds; None if it is missing, unreadable or not a moment."""
    value = component.get(name)
    return None if isinstance(value, vBroken) else getattr(value, "dt", None)


def rules_of(component: Component) -> list[vRecur]:
    """Return the readable RRULEs."""
    return [rule for rule in values_of(component, "RRULE") if isinstance(rule, vRecur)]


def span_of(component: Component) -> tuple[date, date]:
    """Return when the component itself starts and ends (RFC 5545, section 3.6.1); `ValueError` without a DTSTART.

    The days of a DURATION are nominal, its hours are exact.
    """
    start, end, duration = moment_of(component, "DTSTART"), moment_of(component, "DTEND"), component.get("DURATION")
    if start is None:
        raise ValueError("DTSTART is missing")
    if end is not None:
        return start, end
    if duration is None or isinstance(duration, vBroken):
        return start, start if isinstance(start, datetime) else start + timedelta(days=1)
    length: timedelta = duration.dt
    if not isinstance(start, datetime):
        return start, start + (timedelta(days=length.days) or timedelta(days=1))
    nominal = start + timedelta(days=length.days)
    exact = timedelta(seconds=length.seconds)
    return start, nominal + exact if nominal.tzinfo is None else instant_of(nominal) + exact


def instant_of(moment: date) -> datetime:
    """Return the moment as an instant in UTC; a date or a floating time stays naive."""
    if not isinstance(moment, datetime):
        return datetime(moment.year, moment.month, moment.day)
    return moment if moment.tzinfo is None else moment.astimezone(UTC)


def utc_of(moment: date) -> datetime:
    """Return the moment as an instant in UTC, with a floating one taken as UTC, so that any two can be compared."""
    instant = instant_of(moment)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
