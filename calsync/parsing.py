"""One iCalendar resource, parsed: its components, and the timezones that only its own VTIMEZONEs know.

icalendar keeps one definition per TZID and process, the first it met; here each resource has its own.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from icalendar import Calendar, Timezone

from calsync.recurrence import MAX_SECONDS, processor_time

MAX_LINE = 32_768
"""How long one content line may be, in bytes; longer ones are left unread."""

TIME_PROPERTIES = {
    "UID", "DTSTAMP", "DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID",
    "SEQUENCE", "CREATED", "LAST-MODIFIED", "STATUS", "TRANSP", "CLASS",
}  # fmt: skip
"""The properties that say when an event takes place, and nothing of what it is."""

_VTIMEZONES = re.compile(rb"^BEGIN:VTIMEZONE\r?$.*?^END:VTIMEZONE\r?\n", re.MULTILINE | re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CustomZone:
    """A timezone that only the resource's own VTIMEZONE knows. `name` tells it from others of the same TZID."""

    tz: Any
    name: str
    text: bytes


def _custom_zones(calendar: Calendar) -> dict[str, CustomZone]:
    """The resource's own timezones, by TZID. icalendar keeps one definition per TZID and process, the first it met."""
    zones = {}
    for component in calendar.walk("VTIMEZONE"):
        assert isinstance(component, Timezone)  # what walk finds under that name
        tzid = str(component.get("TZID", ""))
        if isinstance(component.to_tz(), ZoneInfo):
            continue
        name = f"{tzid}-{hashlib.sha256(component.to_ical()).hexdigest()[:8]}"
        own = component.copy(recursive=True)
        own["TZID"] = name
        zones[tzid] = CustomZone(component.to_tz(lookup_tzid=False), name, own.to_ical())
    return zones


def _calendar(text: bytes) -> Calendar:
    component = Calendar.from_ical(text)
    if not isinstance(component, Calendar):
        raise ValueError(f"it is a {component.name}, not a VCALENDAR")
    return component


def parse(ics: bytes, defects: list[str]) -> tuple[Calendar, dict[str, CustomZone]]:
    """A resource and the timezones of its own by TZID; what is left out of it is named in `defects`.

    Raises whatever the parser raises for bytes that are no calendar.
    """
    text = _without_long_lines(ics, defects)
    try:
        return _parse(text)
    except Exception as error:
        without = _VTIMEZONES.sub(b"", text)
        if without == text:
            raise
        found = _parse(without)
        defects.append(f"its timezones cannot be read: {type(error).__name__}")
        return found


def _parse(text: bytes) -> tuple[Calendar, dict[str, CustomZone]]:
    if b"BEGIN:VTIMEZONE" not in text and len(text) < MAX_LINE:
        return _calendar(text), {}
    with processor_time(MAX_SECONDS * (1 + len(text) / MAX_LINE)):
        calendar = _calendar(text)
        return calendar, _custom_zones(calendar)


def _without_long_lines(ics: bytes, defects: list[str]) -> bytes:
    """The resource without content lines of more than `MAX_LINE` bytes, which are named in `defects`."""
    if len(ics) <= MAX_LINE:
        return ics
    kept = []
    for line in re.sub(rb"\r?\n[ \t]", b"", ics).splitlines():
        if len(line) > MAX_LINE:
            name = re.split(rb"[:;]", line, maxsplit=1)[0][:30].decode("ascii", "replace")
            defects.append(f"{name} has {len(line):,} bytes and is left out")
            if name.upper() in TIME_PROPERTIES:
                kept.append(f"{name}:left out".encode())  # unreadable, so that the event counts wherever it may be
        else:
            kept.append(line)
    return b"\r\n".join([*kept, b""])
