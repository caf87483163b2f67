"""Parse one iCalendar resource into its components and the timezones that only it defines.

A line that is too long to read is left out alone; the rest of its event stays. VTIMEZONEs are parsed apart, because most
resources of a calendar repeat the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache

from icalendar import Calendar

from calsync.ical.budget import MAX_SECONDS, processor_time
from calsync.ical.timezones import CustomZone, read_custom_zones

MAX_LINE = 32_768
"""The maximum length of a content line in bytes; longer ones are left out."""
TIME_PROPERTIES = {
    "UID", "DTSTAMP", "DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID",
    "SEQUENCE", "CREATED", "LAST-MODIFIED", "STATUS", "TRANSP", "CLASS",
}  # fmt: skip
"""The properties that say when an event takes place, but not what it is about."""
_EDGE = re.compile(rb"^(?:(BEGIN)|END):VTIMEZONE\r?\n", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A resource as a component tree without its VTIMEZONEs; an empty tree if it is not a calendar."""

    calendar: Calendar
    zones: Mapping[str, CustomZone]
    """The timezones that only its VTIMEZONEs define, by TZID."""
    defects: tuple[str, ...]
    """What could not be read and is left out."""
    is_calendar: bool = True


def parse(ics: bytes) -> Parsed:
    """Parse a resource (bytes of `text/calendar`); never raises for what is in it."""
    defects: list[str] = []
    text, vtimezones = _split(_without_long_lines(ics, defects))
    zones: Mapping[str, CustomZone] = {}
    if vtimezones:
        try:
            zones = (_known_zones if len(vtimezones) < MAX_LINE else _zones)(vtimezones)
        except Exception as error:  # whatever a parser makes of other people's bytes
            defects.append(f"its timezones cannot be read: {type(error).__name__}")
    try:
        with processor_time(MAX_SECONDS * len(text) / MAX_LINE) if len(text) > MAX_LINE else nullcontext():
            return Parsed(_calendar(text), zones, tuple(defects))
    except Exception as error:  # as above
        return Parsed(Calendar(), {}, (f"cannot be parsed: {error_text(error)}",), is_calendar=False)


def error_text(error: Exception) -> str:
    """Return an error of a library in one line of at most 160 characters."""
    return f"{type(error).__name__}: {error}".replace("\r", " ").replace("\n", " ")[:160]


def _split(text: bytes) -> tuple[bytes, bytes]:
    """Return the resource without its VTIMEZONEs, and the VTIMEZONEs."""
    rest, vtimezones, last = [], [], 0
    start: int | None = None
    for edge in _EDGE.finditer(text):
        if edge[1] and start is None:
            start = edge.start()
        elif not edge[1] and start is not None:
            rest.append(text[last:start])
            vtimezones.append(text[start : edge.end()])
            last, start = edge.end(), None
    return b"".join([*rest, text[last:]]), b"".join(vtimezones)


def _zones(vtimezones: bytes) -> Mapping[str, CustomZone]:
    with processor_time(MAX_SECONDS * (1 + len(vtimezones) / MAX_LINE)):
        return read_custom_zones(_calendar(b"BEGIN:VCALENDAR\r\n" + vtimezones + b"END:VCALENDAR\r\n"))


_known_zones = lru_cache(maxsize=256)(_zones)  # a calendar has few definitions, and each of its resources repeats them


def _calendar(text: bytes) -> Calendar:
    component = Calendar.from_ical(text)
    if not isinstance(component, Calendar):
        raise ValueError(f"it is a {component.name}, not a VCALENDAR")
    return component


def _without_long_lines(ics: bytes, defects: list[str]) -> bytes:
    """Return the resource without content lines of more than `MAX_LINE` bytes, and name them in `defects`."""
    if len(ics) <= MAX_LINE:
        return ics
    lines = []
    for line in re.sub(rb"\r?\n[ \t]", b"", ics).splitlines():
        if len(line) > MAX_LINE:
            name = re.split(rb"[:;]", line, maxsplit=1)[0][:30].decode("ascii", "replace")
            defects.append(f"{name} has {len(line):,} bytes and is left out")
            if name.upper() in TIME_PROPERTIES:
                lines.append(f"{name}:left out".encode())  # unreadable, so the event counts wherever it may take place
        else:
            lines.append(line)
    return b"\r\n".join([*lines, b""])
