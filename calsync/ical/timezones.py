"""The timezones that the TZIDs of one resource mean.

icalendar keeps one definition per TZID and process: the first that it met. Here every resource has the definitions of its
own VTIMEZONEs, and a TZID that neither they nor pytz define is unknown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from icalendar import Calendar, Event, Timezone
from icalendar.prop import vBroken

from calsync.ical.components import values_of


@dataclass(frozen=True, slots=True)
class CustomZone:
    """A timezone that pytz does not know."""

    tz: Any
    name: str
    """A TZID that no other definition has, so one feed can hold the definitions of several resources."""
    text: bytes
    """The VTIMEZONE under that name (CRLF lines)."""


@dataclass(slots=True)
class UsedTimezones:
    """The timezones of the times of some events."""

    tzids: set[str] = field(default_factory=set)
    """Those that pytz knows."""
    custom: dict[str, bytes] = field(default_factory=dict)
    """The VTIMEZONEs of the others, by TZID."""
    unknown: list[tuple[str, str]] = field(default_factory=list)
    """The property and the TZID of each time in an unknown timezone."""


def read_custom_zones(calendar: Calendar) -> Mapping[str, CustomZone]:
    """Return the timezones that only the VTIMEZONEs in `calendar` define, by their TZIDs."""
    zones = {}
    for component in calendar.walk("VTIMEZONE"):
        assert isinstance(component, Timezone)  # what walk finds under that name
        tzid = str(component.get("TZID", ""))
        if isinstance(component.to_tz(), ZoneInfo):
            continue
        name = f"{tzid}-{hashlib.sha256(component.to_ical()).hexdigest()[:8]}"
        renamed = component.copy(recursive=True)
        renamed["TZID"] = name
        zones[tzid] = CustomZone(component.to_tz(lookup_tzid=False), name, renamed.to_ical())
    return MappingProxyType(zones)


def set_timezones(event: Event, zones: Mapping[str, CustomZone], used: UsedTimezones) -> None:
    """Give each time of the event the timezone that its TZID means in this resource, and its name in the feed.

    `zones` are the resource's own timezones. Adds to `used`. A time in an unknown timezone becomes floating. Call it once
    for an event, because it renames TZIDs.
    """
    properties = [(name, value) for name in event for value in values_of(event, name)]
    for name, value in properties:
        tzid = getattr(value, "params", {}).get("TZID")
        if tzid is None or isinstance(value, vBroken):
            continue
        moments = [moment for moment in getattr(value, "dts", [value]) if hasattr(moment, "dt")]
        if not moments:  # the TZID of a property that calsync does not read
            del value.params["TZID"]
            continue
        custom = zones.get(str(tzid))
        if custom is not None:
            _set_timezone(moments, custom.tz)
            value.params["TZID"] = custom.name
            used.custom[custom.name] = custom.text
            continue
        timezones = {_timezone_of(moment.dt) for moment in moments}
        iana = next((tz for tz in timezones if isinstance(tz, ZoneInfo)), None)
        if iana is not None and iana.utcoffset(None) == timedelta():
            _set_timezone(moments, UTC)
            del value.params["TZID"]
        elif iana is not None:
            value.params["TZID"] = iana.key
            used.tzids.add(iana.key)
        elif timezones - {"date", UTC}:  # what icalendar remembers of another resource's timezone is not this one's
            _set_timezone(moments, None)
            used.unknown.append((name, str(tzid)))


def _set_timezone(moments: list[Any], tz: tzinfo | None) -> None:
    for moment in moments:
        if isinstance(moment.dt, tuple):  # an RDATE of periods
            moment.dt = tuple(part.replace(tzinfo=tz) if isinstance(part, datetime) else part for part in moment.dt)
        elif isinstance(moment.dt, datetime):
            moment.dt = moment.dt.replace(tzinfo=tz)


def _timezone_of(moment: Any) -> tzinfo | str | None:
    """Return the timezone of a date-time or of a period's start (None if it has none), or "date" for a date."""
    first = moment[0] if isinstance(moment, tuple) else moment
    return first.tzinfo if isinstance(first, datetime) else "date"
