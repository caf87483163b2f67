"""Agenda → text/calendar: what people subscribe to.

Every slot is a VEVENT of its own in UTC, since no two calendar clients agree about recurrences with overrides; recurring
windows and freezes likewise, for the coming eight weeks. Other people's events stand as they do on the calendar, with the
VTIMEZONEs they need. Two renders of the same agenda are the same bytes: DTSTAMP is the last change, never now (RFC 5545,
section 3.8.7.2), so that the ETag moves when something did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

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
"""How far ahead recurring windows and freezes are shown."""
TTL = timedelta(minutes=15)
"""How often a subscriber is asked to look again."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a feed shows: only slots of these windows, only those in which `conductor` sits, only reservations.

    `alarm` puts a reminder that long before each slot and recurring window.
    """

    windows: tuple[str, ...] = ()
    conductor: str | None = None
    only_reservations: bool = False
    alarm: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Feed:
    """A rendered feed: its bytes, its strong `etag` (quoted), when it last changed (UTC, whole seconds; None where nobody
    can tell), and until when it stays right without the agenda changing.
    """

    body: bytes
    etag: str
    modified: datetime | None
    expires: datetime


def render(agenda: Agenda, now: datetime, filters: Filters = Filters()) -> Feed:
    """Render the feed at `now` (aware); it reads the clock only to drop what is past and to show eight weeks ahead."""
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
    """Yield the slots that the filters let through, by start: each with whether it was given up, and as a VEVENT."""
    reservation = stored.reservation
    assert reservation is not None  # as Agenda.reservations promises
    slots = [*((slot, False) for slot in reservation.slots), *((slot, True) for slot in reservation.cancelled)]
    for slot, cancelled in sorted(slots, key=lambda pair: (pair[0].start, pair[0].window)):
        if filters.windows and slot.window not in filters.windows:
            continue
        if filters.conductor is None or filters.conductor in _seated(reservation, slot):
            yield slot, cancelled, slot_event(config, reservation, slot, cancelled=cancelled, alarm=filters.alarm)


def _seated(reservation: Reservation, slot: Slot) -> set[str]:
    """Whose slot it is: who is responsible for it, and those who sit in it."""
    return {*reservation.names(slot), *(who.name for who in reservation.conductors(slot) if not slot.who)}


def head(name: str) -> bytes:
    """The lines of a published VCALENDAR called `name` before its components (CRLF)."""
    calendar = Calendar()
    calendar.add("VERSION", "2.0")
    calendar.add("PRODID", PRODID)
    calendar.add("CALSCALE", "GREGORIAN")
    calendar.add("NAME", name)  # RFC 7986, section 5.1; the X- forms are what clients know
    calendar.add("X-WR-CALNAME", name)
    calendar.add("REFRESH-INTERVAL", TTL, parameters={"VALUE": "DURATION"})
    calendar.add("X-PUBLISHED-TTL", vDuration(TTL))
    return bytes(calendar.to_ical().removesuffix(b"END:VCALENDAR\r\n"))


def slot_event(
    config: Config,
    reservation: Reservation,
    slot: Slot,
    *,
    cancelled: bool = False,
    tentative: bool = False,
    alarm: timedelta | None = None,
) -> bytes:
    """One slot as a VEVENT in UTC (CRLF lines); a `tentative` one is not reserved yet."""
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
    event.add(
        "CATEGORIES", [config.windows[slot.window].category or "train"] if slot.window in config.windows else ["train"]
    )
    event.add("STATUS", "CANCELLED" if cancelled else "TENTATIVE" if tentative else "CONFIRMED")
    event.add("TRANSP", "TRANSPARENT" if cancelled else "OPAQUE")
    if link:
        event.add("URL", link)
    add_conference(event, reservation, config.train.video_url)
    if not cancelled:
        _remind(event, alarm)
    return content_lines(event)


def _fixed(agenda: Agenda, filters: Filters, today: datetime) -> list[Occurrence]:
    """The recurring windows and freezes from today on, by start."""
    if filters.conductor or filters.only_reservations:
        return []
    until = today + AHEAD
    spans = agenda.overlapping(today, until, "UTC")
    found = {occurrence.uid: occurrence for occurrence, _, _ in spans if occurrence.kind in ("recurring", "freeze")}
    if filters.windows:
        wanted = tuple(f"-{window}" for window in filters.windows)
        found = {uid: one for uid, one in found.items() if one.kind == "recurring" and one.slot[10:] in wanted}
    return sorted(found.values(), key=lambda one: (one.start, one.uid))


def _fixed_event(occurrence: Occurrence, alarm: timedelta | None) -> bytes:
    event = Event()
    event.add("UID", occurrence.uid)
    # When it came within the eight weeks that are shown: the same for every replica, whenever it looked.
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
