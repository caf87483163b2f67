"""Render the agenda as text/calendar, to which people subscribe.

Every slot is a VEVENT of its own in UTC, because no two calendar clients agree about recurrences with overrides. So are the
recurring windows and freezes of the coming eight weeks. Other people's events are as they are on the calendar, with the
VTIMEZONEs that they need. Two renderings of the same agenda are the same bytes: DTSTAMP is the last change, never now (RFC
5545, section 3.8.7.2), so the ETag changes only with the content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Literal

from icalendar import Alarm, Calendar, Event, vDuration

from calsync.core.properties import PRODID
from calsync.core.reservation import Reservation
from calsync.core.settings import Config
from calsync.core.windows import Slot
from calsync.ical.contentlines import content_lines
from calsync.ical.occurrences import Occurrence
from calsync.ical.reservation import add_conference, description, summary, ticket_link
from calsync.ical.vtimezone import vtimezone
from calsync.schedule.agenda import Agenda
from calsync.schedule.objects import CalendarObject

AHEAD = timedelta(weeks=8)
"""How far ahead the feed shows recurring windows and freezes."""
TTL = timedelta(minutes=15)
"""How often subscribers should poll."""
Status = Literal["CONFIRMED", "TENTATIVE", "CANCELLED"]
"""The STATUS of a slot's VEVENT; a slot that is planned but not reserved is tentative."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a feed shows; everything by default."""

    windows: tuple[str, ...] = ()
    """Only slots and recurring windows with these names."""
    conductor: str | None = None
    """Only slots in which this person sits, or for which they are responsible."""
    only_reservations: bool = False
    """Only slots of trains."""
    alarm: timedelta | None = None
    """How long before each slot and recurring window to remind; None for no reminders."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A rendered feed."""

    body: bytes
    etag: str
    """A strong ETag, quoted."""
    modified: datetime | None
    """When it last changed, in UTC and whole seconds; None if that is unknown."""
    expires: datetime
    """Until when it stays the same if the agenda does."""


def render(agenda: Agenda, now: datetime, filters: Filters = Filters()) -> Feed:
    """Render the feed at `now` (aware), without cancelled slots that are over, and eight weeks ahead."""
    today = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    edges = [today, today + timedelta(days=1)]
    parts = [head(agenda.config.calendar.name)]
    others: list[bytes] = []
    if not (filters.windows or filters.conductor or filters.only_reservations):
        readings = [stored.reading for _, stored in sorted(agenda.objects.items())]
        others = [reading.published for reading in readings]
        parts += (vtimezone(name) for name in sorted(frozenset().union(*(reading.tzids for reading in readings))))
        timezones = {name: text for reading in readings for name, text in reading.timezones.items()}
        parts += (text for _, text in sorted(timezones.items()))
    for stored in agenda.reservations:
        for slot, cancelled, text in _slots(agenda.config, stored, filters):
            if cancelled:
                edges.append(slot.end.astimezone(UTC))
                if slot.end <= now:
                    continue
            parts.append(text)
    parts += (_fixed_event(occurrence, filters.alarm) for occurrence in _fixed(agenda, filters, today))
    body = b"".join([*parts, *others, b"END:VCALENDAR\r\n"])
    passed = max(edge for edge in edges if edge <= now)
    modified = max(agenda.changed, passed.replace(microsecond=0))
    return Feed(body, etag_of(body), modified, min(edge for edge in edges if edge > now))


def etag_of(body: bytes) -> str:
    """Return the strong ETag of these bytes, quoted."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _slots(config: Config, stored: CalendarObject, filters: Filters) -> Iterator[tuple[Slot, bool, bytes]]:
    """Yield the slots that pass the filters, by start: each with whether it is cancelled, and its VEVENT."""
    reservation = stored.reservation
    assert reservation is not None  # as Agenda.reservations promises
    slots = [*((slot, False) for slot in reservation.slots), *((slot, True) for slot in reservation.cancelled)]
    for slot, cancelled in sorted(slots, key=lambda pair: (pair[0].start, pair[0].window)):
        if filters.windows and slot.window not in filters.windows:
            continue
        if filters.conductor is None or filters.conductor in _people(reservation, slot):
            status: Status = "CANCELLED" if cancelled else "CONFIRMED"
            yield slot, cancelled, slot_event(config, reservation, slot, status, filters.alarm)


def _people(reservation: Reservation, slot: Slot) -> set[str]:
    """Return the names of those who are responsible for the slot, and of those who sit in it."""
    return {*reservation.names(slot), *(who.name for who in reservation.conductors(slot) if not slot.who)}


def head(name: str) -> bytes:
    """Return the lines of a published VCALENDAR called `name` before its components (CRLF)."""
    calendar = Calendar()
    calendar.add("VERSION", "2.0")
    calendar.add("PRODID", PRODID)
    calendar.add("CALSCALE", "GREGORIAN")
    calendar.add("NAME", name)  # RFC 7986, section 5.1; clients read the X- forms
    calendar.add("X-WR-CALNAME", name)
    calendar.add("REFRESH-INTERVAL", TTL, parameters={"VALUE": "DURATION"})
    calendar.add("X-PUBLISHED-TTL", vDuration(TTL))
    return bytes(calendar.to_ical().removesuffix(b"END:VCALENDAR\r\n"))


def slot_event(
    config: Config, reservation: Reservation, slot: Slot, status: Status = "CONFIRMED", alarm: timedelta | None = None
) -> bytes:
    """Return a slot as a VEVENT in UTC (CRLF lines), with a reminder `alarm` before it unless it is cancelled."""
    link = ticket_link(reservation.ticket, config.train.ticket_url)
    event = Event()
    event.add("UID", slot.uid)
    event.add("DTSTAMP", reservation.modified)
    event.add("LAST-MODIFIED", reservation.modified)
    event.add("SEQUENCE", reservation.sequence)
    event.add("DTSTART", slot.start.astimezone(UTC))
    event.add("DTEND", slot.end.astimezone(UTC))
    event.add("SUMMARY", summary(reservation, slot))
    event.add("DESCRIPTION", description(reservation, slot, link))
    window = config.windows.get(slot.window)
    event.add("CATEGORIES", [(window.category if window else None) or "train"])
    event.add("STATUS", status)
    event.add("TRANSP", "TRANSPARENT" if status == "CANCELLED" else "OPAQUE")
    if link:
        event.add("URL", link)
    add_conference(event, reservation, config.train.video_url)
    if status != "CANCELLED":
        _remind(event, alarm)
    return content_lines(event)


def _fixed(agenda: Agenda, filters: Filters, today: datetime) -> list[Occurrence]:
    """Return the recurring windows and freezes from today on, by start."""
    if filters.conductor or filters.only_reservations:
        return []
    spans = agenda.overlapping(today, today + AHEAD, "UTC")
    by_uid = {occurrence.uid: occurrence for occurrence, _, _ in spans if occurrence.kind in ("recurring", "freeze")}
    fixed = sorted(by_uid.values(), key=lambda occurrence: (occurrence.start, occurrence.uid))
    if not filters.windows:
        return fixed
    suffixes = tuple(f"-{window}" for window in filters.windows)  # of a slot's id, after the date
    return [occurrence for occurrence in fixed if occurrence.kind == "recurring" and occurrence.slot[10:] in suffixes]


def _fixed_event(occurrence: Occurrence, alarm: timedelta | None) -> bytes:
    event = Event()
    event.add("UID", occurrence.uid)
    # When it came into the eight weeks that the feed shows: every replica renders the same.
    event.add("DTSTAMP", datetime.combine((occurrence.start - AHEAD).date(), time(), UTC))
    event.add("DTSTART", occurrence.start)
    event.add("DTEND", occurrence.end)
    event.add("SUMMARY", occurrence.summary)
    categories = list(occurrence.categories) or (["freeze"] if occurrence.kind == "freeze" else [])
    if categories:
        event.add("CATEGORIES", categories)
    event.add("TRANSP", "TRANSPARENT" if occurrence.kind == "freeze" else "OPAQUE")
    if occurrence.kind == "recurring":
        _remind(event, alarm)
    return content_lines(event)


def _remind(event: Event, alarm: timedelta | None) -> None:
    if alarm is None:
        return
    reminder = Alarm()
    reminder.add("ACTION", "DISPLAY")
    reminder.add("DESCRIPTION", str(event["SUMMARY"]))
    reminder.add("TRIGGER", -alarm)
    event.add_component(reminder)
