"""Reservation ⇄ iCalendar resource.

One train week is one resource, `train-2026-W49.ics`, with every slot of that week, so that "both windows or neither" is one
write. Several slots are a master VEVENT with `RRULE:FREQ=DAILY;COUNT=n` and one override for each of the n instances, which
carries the slot's true start and end; one slot is a plain VEVENT. This is the form that recurrence engines agree on: they
lose instances of RDATE sets with overrides, and do not match a RECURRENCE-ID in UTC.

What people read stands in the standard properties. What calsync needs exactly stands as plain tokens, which no server
rewrites: `X-CALSYNC-RECORD` (the reservation as base64url of JSON, on the master), `X-CALSYNC-MARK` (which write this was)
and `X-CALSYNC-SLOT` (the slot's id, on each component that is one).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from urllib.parse import quote

from icalendar import Calendar, Event, Parameters, vDatetime, vRecur, vUri

from calsync.errors import Invalid
from calsync.occurrences import SLOT, Occurrence
from calsync.records import Reservation, from_token, timezone_of, to_token
from calsync.recurrence import Horizon, moment_of
from calsync.vtimezones import vtimezone
from calsync.weeks import Week
from calsync.windows import Slot
from calsync.zones import resolve, zone

RECORD, MARK = "X-CALSYNC-RECORD", "X-CALSYNC-MARK"
PRODID = "-//calsync//calsync//EN"

_HREF = re.compile(r"train-(\d{4}-W\d{2})\.ics", re.ASCII)


def href(week: Week) -> str:
    """Where the week's reservation stands on the calendar."""
    return f"train-{week}.ics"


def week_of(href: str) -> Week | None:
    """The week whose reservation stands at `href`; None for what is not calsync's."""
    try:
        return Week.parse(match[1]) if (match := _HREF.fullmatch(href)) else None
    except Invalid:
        return None


def summary(reservation: Reservation, slot: Slot) -> str:
    """A slot's title: train, version, stage, the secondary timeslot marked as such, and who sits there."""
    train = " ".join(part for part in (reservation.title, reservation.train) if part)
    who = ", ".join(reservation.names(slot))
    secondary = ["secondary timeslot"] if slot.role == "backup" else []
    return " – ".join([train, slot.stage or slot.window, *secondary, who])


def description(reservation: Reservation, slot: Slot, link: str | None) -> str:
    """What people read when they open a slot."""
    pair = reservation.pair
    lines = [
        f"Stage: {slot.stage}",
        *([f"Version: {reservation.train}"] if reservation.train else []),
        f"Primary: {pair.primary.name} ({pair.primary.timezone}, {pair.primary.hours})",
        f"Backup: {pair.backup.name} ({pair.backup.timezone}, {pair.backup.hours})",
        "This is the backup's window, the secondary timeslot."
        if slot.role == "backup"
        else "This is the window of the primary and the backup."
        if not reservation.spans_regions
        else "This is the primary's window.",
        *([f"Responsible now: {reservation.responsible.name}"] if reservation.responsible else []),
        *([f"Train blocker ticket: {reservation.ticket}" + (f" {link}" if link else "")] if reservation.ticket else []),
        *([f"Reserved despite conflicts: {reservation.override}"] if reservation.override else []),
        *([f"Reserved by: {reservation.author}"] if reservation.author else []),
    ]
    return "\n".join(lines)


def ticket_link(ticket: str | None, ticket_url: str | None) -> str | None:
    """The web address of a ticket, by the pattern of `train.ticket_url`."""
    if ticket is None or ticket_url is None:
        return None
    return ticket_url.replace("{ticket}", quote(ticket, safe=""))


def video_room(week: Week, video_url: str | None) -> str | None:
    """The web address of the week's video room, by the pattern of `train.video_url`."""
    return video_url.replace("{week}", str(week)) if video_url else None


def add_conference(event: Event, reservation: Reservation, video_url: str | None) -> None:
    """Put the video room on a slot (RFC 7986, section 5.11)."""
    if room := video_room(reservation.week, video_url):
        label = f"{reservation.title} {reservation.week}"
        parameters = Parameters({"VALUE": "URI", "FEATURE": ["AUDIO", "VIDEO"], "LABEL": label})
        event.add("CONFERENCE", vUri(room), parameters=parameters)


def encode(reservation: Reservation, mark: str, ticket_url: str | None = None, *, video_url: str | None = None) -> bytes:
    """The reservation as a resource (CRLF lines); `mark` is a plain token that names this write."""
    slots = sorted([*reservation.slots, *reservation.cancelled], key=lambda slot: (slot.start, slot.window))
    components = [_component(reservation, slot, ticket_url, video_url) for slot in slots]
    master_zones: set[str] = set()
    if len(slots) == 1:
        master = components[0]
    else:
        master = _component(reservation, slots[0], ticket_url, video_url)
        del master[SLOT]
        master["RRULE"] = vRecur({"FREQ": "DAILY", "COUNT": len(slots)})
        recurrence_ids = _recurrence_ids(slots)
        master_zones.add(str(recurrence_ids[0].tzinfo))
        master.pop("DTSTART")
        master.pop("DTEND")
        master.add("DTSTART", recurrence_ids[0])
        master.add("DTEND", recurrence_ids[0] + (slots[0].end - slots[0].start))
        for component, recurrence_id in zip(components, recurrence_ids, strict=True):
            component.add("RECURRENCE-ID", recurrence_id)
        components.insert(0, master)
    master.pop("STATUS")
    master.add("STATUS", "CANCELLED" if reservation.released else "CONFIRMED")
    master.add(RECORD, to_token(reservation))
    master.add(MARK, mark)
    timezones = sorted({timezone_of(slot) for slot in slots} | master_zones)
    parts = [f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:{PRODID}\r\n".encode()]
    parts += (vtimezone(name) for name in timezones)
    parts += (component.to_ical() for component in components)
    return b"".join([*parts, b"END:VCALENDAR\r\n"])


def _component(reservation: Reservation, slot: Slot, ticket_url: str | None, video_url: str | None) -> Event:
    link = ticket_link(reservation.ticket, ticket_url)
    event = Event()
    event.add("UID", href(reservation.week).removesuffix(".ics"))
    event.add("DTSTAMP", reservation.modified)
    event.add("LAST-MODIFIED", reservation.modified)
    event.add("SEQUENCE", reservation.sequence)
    event.add("DTSTART", slot.start)
    event.add("DTEND", slot.end)
    event.add("SUMMARY", summary(reservation, slot))
    event.add("DESCRIPTION", description(reservation, slot, link))
    event.add("CATEGORIES", ["train"])
    event.add("STATUS", "CANCELLED" if slot in reservation.cancelled else "CONFIRMED")
    event.add("TRANSP", "OPAQUE")
    if link:
        event.add("URL", link)
    add_conference(event, reservation, video_url)
    event.add(SLOT, slot.id)
    return event


def _recurrence_ids(slots: Sequence[Slot]) -> list[datetime]:
    """One instance a day in the first slot's timezone, at its time of day, or at noon where a clock change touches that.

    A time in UTC carries no TZID, and engines do not match a RECURRENCE-ID without one; London stands in for it.
    """
    first = slots[0].start
    if not vDatetime(first).params.get("TZID"):
        first = first.astimezone(zone("Europe/London"))
    tz = zone(str(first.tzinfo))
    for clock in (first.time(), time(12)):
        days = (first.date() + timedelta(days=n) for n in range(len(slots)))
        instances = [resolve(datetime.combine(day, clock), tz) for day in days]
        if not any(oddity for _, oddity in instances):
            break
    return [instant for instant, _ in instances]


def decode(ics: bytes) -> tuple[Reservation, str]:
    """The reservation as calsync wrote it and the mark of that write; `ValueError` where the resource does not carry one.

    What people did to the resource since is not in it (see `as_it_stands`), but for its later `modified` and `sequence`.
    """
    calendar = Calendar.from_ical(ics)
    components = calendar.events if isinstance(calendar, Calendar) else []
    masters = [event for event in components if RECORD in event]
    if len(masters) != 1:
        raise ValueError(f"{RECORD} is missing")
    try:
        written = from_token(str(masters[0][RECORD]))
        sequence = max([written.sequence, *(int(event.get("SEQUENCE", 0)) for event in components)])
        stamps = [moment_of(event, "LAST-MODIFIED") for event in components]
        modified = max([written.modified, *(stamp for stamp in stamps if isinstance(stamp, datetime) and stamp.tzinfo)])
    except Exception as error:  # the record stood where anybody may write
        raise ValueError(f"{RECORD} cannot be read: {error}") from None
    return replace(written, sequence=sequence, modified=modified), str(masters[0].get(MARK, ""))


def as_it_stands(
    reservation: Reservation, occurrences: Sequence[Occurrence], horizon: Horizon
) -> tuple[Reservation, tuple[str, ...]]:
    """The reservation with what people did to its resource, as the occurrences show, and that in sentences, if anything.

    Slots outside the horizon, in which alone occurrences are known, count as they were written.
    """
    standing = {found.slot: found for found in occurrences if found.slot and found.busy}
    slots: list[Slot] = []
    removed: list[Slot] = []
    changes: list[str] = []
    for slot in reservation.slots:
        found = standing.pop(slot.id, None)
        if found is None and slot.start < horizon.end and horizon.start < slot.end:
            changes.append(f"{slot.id} was removed from the calendar.")
            removed.append(slot)
            continue
        if found is not None and not found.certain:
            changes.append(f"{slot.id} cannot be read any more; it is shown as it was reserved.")
        elif found is not None:
            tz = zone(timezone_of(slot))
            start, end = (moment.astimezone(tz) for moment in found.span(timezone_of(slot)))
            if (start, end) != (slot.start, slot.end):
                changes.append(f"{slot.id} was moved to {start:%a %d %b %H:%M}–{end:%H:%M} {tz}.")
            slot = replace(slot, start=start, end=end)
        slots.append(slot)
    cancelled = (*reservation.cancelled, *removed)
    return replace(reservation, slots=tuple(slots), cancelled=cancelled), tuple(changes)
