"""Absence ⇄ iCalendar resource.

An absence is a VEVENT of its own, `away-….ics`, which people may move or remove like any other event; its times count as
they are. It is TRANSPARENT, since one person's absence keeps nobody else from deploying. `X-CALSYNC-AWAY` says whose
absence it is (base64url of JSON).
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, timedelta

from icalendar import Calendar, Event

from calsync.core.absence import AbsenceRecord
from calsync.core.properties import AWAY
from calsync.core.timezones import utc_seconds, zone
from calsync.ical.contentlines import vcalendar

_PREFIX, _SUFFIX = "away-", ".ics"


def absence_href(name: str) -> str:
    """Where the absence called `name` stands on the calendar."""
    return f"{_PREFIX}{name}{_SUFFIX}"


def absence_name(absence_href: str) -> str | None:
    """The name of the absence at `href`; None for what is none."""
    if absence_href.startswith(_PREFIX) and absence_href.endswith(_SUFFIX):
        return absence_href.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return None


def encode_absence(
    away: AbsenceRecord, name: str, start: date, end: date, now: datetime, *, cancelled: bool = False
) -> bytes:
    """The absence as a resource (CRLF lines). Dates are both included; instants are aware; `start` is not after `end`.

    One that is `cancelled` is none any more.
    """
    event = Event()
    event.add("UID", f"{_PREFIX}{name}")
    event.add("DTSTAMP", utc_seconds(now))
    event.add("LAST-MODIFIED", utc_seconds(now))
    if isinstance(start, datetime) and isinstance(end, datetime):
        event.add("DTSTART", start.astimezone(UTC))
        event.add("DTEND", end.astimezone(UTC))
    else:
        event.add("DTSTART", start)
        event.add("DTEND", end + timedelta(days=1))  # RFC 5545, section 3.6.1: the end is not included
    event.add("SUMMARY", f"{away.conductor} is away")
    if away.note:
        event.add("DESCRIPTION", away.note)
    event.add("CATEGORIES", ["away"])
    event.add("TRANSP", "TRANSPARENT")
    if cancelled:
        event.add("STATUS", "CANCELLED")
    record = {
        "version": 1,
        "conductor": away.conductor,
        "timezone": away.timezone,
        "note": away.note,
        "author": away.author,
    }
    event.add(AWAY, base64.urlsafe_b64encode(json.dumps(record, separators=(",", ":")).encode()).decode())
    return vcalendar(event.to_ical())


def decode_absence(calendar: Calendar) -> AbsenceRecord | None:
    """Return whose absence a parsed resource is; None if it is none, was cancelled, or cannot be read."""
    try:
        event = next(event for event in calendar.events if AWAY in event)
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            return None
        record = json.loads(base64.urlsafe_b64decode(str(event[AWAY])))
        zone(record["timezone"])
        return AbsenceRecord(str(record["conductor"]), record["timezone"], record.get("note"), record.get("author"))
    except Exception:  # anybody may write there; what cannot be read is shown like any event
        return None
