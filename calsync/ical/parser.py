"""One iCalendar resource, parsed: its components, and the timezones that only its own VTIMEZONEs know.

icalendar keeps one definition per TZID and process, the first it met; here each resource has its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from icalendar import Calendar, Timezone

from calsync.ical.recurrence import MAX_SECONDS, processor_time

MAX_LINE = 32_768
"""How long one content line may be, in bytes; longer ones are left unread."""

TIME_PROPERTIES = {
    "UID", "DTSTAMP", "DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID",
    "SEQUENCE", "CREATED", "LAST-MODIFIED", "STATUS", "TRANSP", "CLASS",
}  # fmt: skip
"""The properties that say when an event takes place, and nothing of what it is."""
_EDGE = re.compile(rb"^(?:(BEGIN)|END):VTIMEZONE\r?\n", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CustomZone:
    """A timezone that only the resource's own VTIMEZONE knows. `name` tells it from others of the same TZID."""

    tz: Any
    name: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Parsed:
    """A resource as a component tree without its VTIMEZONEs, and the timezones that only they know, by TZID.

    `defects` names what was left out. Reading the occurrences settles timezones in the tree, so that is done once.
    """

    calendar: Calendar
    zones: Mapping[str, CustomZone]
    defects: tuple[str, ...]


def parse(ics: bytes) -> Parsed:
    """Parse a resource (bytes of `text/calendar`).

    Raises whatever the parser raises for bytes that are not a calendar.
    """
    defects: list[str] = []
    text, vtimezones = _split(_without_long_lines(ics, defects))
    zones: Mapping[str, CustomZone] = {}
    if vtimezones:
        try:
            zones = (_known_zones if len(vtimezones) < MAX_LINE else _custom_zones)(vtimezones)
        except Exception as error:  # as for all of other people's bytes
            defects.append(f"its timezones cannot be read: {type(error).__name__}")
    with processor_time(MAX_SECONDS * len(text) / MAX_LINE) if len(text) > MAX_LINE else nullcontext():
        return Parsed(_calendar(text), zones, tuple(defects))


def _split(text: bytes) -> tuple[bytes, bytes]:
    """The resource without its VTIMEZONEs, and those."""
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


def _custom_zones(vtimezones: bytes) -> Mapping[str, CustomZone]:
    """The timezones among these that pytz does not know, by TZID."""
    zones = {}
    with processor_time(MAX_SECONDS * (1 + len(vtimezones) / MAX_LINE)):
        calendar = _calendar(b"BEGIN:VCALENDAR\r\n" + vtimezones + b"END:VCALENDAR\r\n")
        for component in calendar.walk("VTIMEZONE"):
            assert isinstance(component, Timezone)  # what walk finds under that name
            tzid = str(component.get("TZID", ""))
            if isinstance(component.to_tz(), ZoneInfo):
                continue
            name = f"{tzid}-{hashlib.sha256(component.to_ical()).hexdigest()[:8]}"
            own = component.copy(recursive=True)
            own["TZID"] = name
            zones[tzid] = CustomZone(component.to_tz(lookup_tzid=False), name, own.to_ical())
    return MappingProxyType(zones)


_known_zones = lru_cache(maxsize=256)(_custom_zones)  # a calendar has few, and each of its resources repeats them


def _calendar(text: bytes) -> Calendar:
    component = Calendar.from_ical(text)
    if not isinstance(component, Calendar):
        raise ValueError(f"it is a {component.name}, not a VCALENDAR")
    return component


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
