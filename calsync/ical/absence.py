"""Encode and decode absences.

An absence is a VEVENT of its own, `away-….ics`. People may move or remove it like any other event, and its times count as
they are. It is TRANSPARENT, because one person's absence keeps nobody else from deploying. `X-CALSYNC-AWAY` says whose
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
from calsync.ical.contentlines import content_lines, vcalendar

_PREFIX, _SUFFIX = "away-", ".ics"


def absence_href(name: str) -> str:
    """Return the href of the absence called `name`."""
    return f"{_PREFIX}{name}{_SUFFIX}"


def absence_name(href: str) -> str | None:
    """Return the name of the absence at `href`; None if it is not the href of an absence."""
    if href.startswith(_PREFIX) and href.endswith(_SUFFIX):
        return href.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return None


def encode_absence(
    absence: AbsenceRecord, name: str, start: date, end: date, now: datetime, *, cancelled: bool = False
) -> bytes:
    """Return the absence as a resource (CRLF lines) that was written at `now` (aware).

    `start` and `end` are two dates, both included, or two aware instants; `start` is not after `end`. A cancelled absence
    does not count any more.
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
    event.add("SUMMARY", f"{absence.conductor} is away")
    if absence.note:
        event.add("DESCRIPTION", absence.note)
    event.add("CATEGORIES", ["away"])
    event.add("TRANSP", "TRANSPARENT")
    if cancelled:
        event.add("STATUS", "CANCELLED")
    record = {
        "version": 1,
        "conductor": absence.conductor,
        "timezone": absence.timezone,
        "note": absence.note,
        "author": absence.author,
    }
    event.add(AWAY, base64.urlsafe_b64encode(json.dumps(record, separators=(",", ":")).encode()).decode())
    return vcalendar(content_lines(event))


def decode_absence(calendar: Calendar) -> AbsenceRecord | None:
    """Return whose absence a parsed resource is; None if it is not an absence, was cancelled, or cannot be read."""
    try:
        event = next(event for event in calendar.events if AWAY in event)
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            return None
        record = json.loads(base64.urlsafe_b64decode(str(event[AWAY])))
        zone(record["timezone"])
        return AbsenceRecord(str(record["conductor"]), record["timezone"], record.get("note"), record.get("author"))
    except Exception:  # anybody may write there; an unreadable absence is shown like any event
        return None
