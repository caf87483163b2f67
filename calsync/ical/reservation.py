"""Encode and decode reservations.

One train week is one resource, `train-2026-W49.ics`, with every slot of the week: "both windows or neither" is one write.
Several slots are a master VEVENT with `RRULE:FREQ=DAILY;COUNT=n` and an override for each of the n instances, which has the
slot's true start and end. One slot is a plain VEVENT. Recurrence engines agree on this form. Some lose instances of RDATE
sets with overrides, and some do not match a RECURRENCE-ID in UTC.

People read the standard properties. calsync reads plain tokens, which no server rewrites: `X-CALSYNC-RECORD` (the
reservation) and `X-CALSYNC-MARK` (which write this was) on the master, and `X-CALSYNC-SLOT` (its id) on each slot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from urllib.parse import quote

from icalendar import Calendar, Event, Parameters, Timezone, vDatetime, vDDDTypes, vRecur, vText, vUri

from calsync.core.delivery import Delivery
from calsync.core.errors import Invalid
from calsync.core.properties import MARK, PRODID, RECORD, SLOT
from calsync.core.reservation import Reservation
from calsync.core.settings import Config
from calsync.core.timezones import resolve, zone
from calsync.core.weeks import Week
from calsync.core.windows import Slot
from calsync.ical.components import moment_of
from calsync.ical.contentlines import content_lines, vcalendar
from calsync.ical.delivery import put_deliveries
from calsync.ical.merge import keep_servers_silent, three_way
from calsync.ical.record import from_token, to_token
from calsync.ical.vtimezone import vtimezone

CATEGORIES = ("train",)
_HREF = re.compile(r"train-(\d{4}-W\d{2})\.ics", re.ASCII)


def reservation_href(week: Week) -> str:
    """Return the href of the week's reservation."""
    return f"train-{week}.ics"


def week_of(href: str) -> Week | None:
    """Return the week whose reservation is at `href`; None if it is not the href of a reservation."""
    try:
        return Week.parse(match[1]) if (match := _HREF.fullmatch(href)) else None
    except Invalid:
        return None


def summary(reservation: Reservation, slot: Slot) -> str:
    """Return a slot's title: train, version, stage, "secondary timeslot" for the backup's, and who sits there."""
    who = ", ".join(reservation.names(slot))
    secondary = ["secondary timeslot"] if slot.role == "backup" else []
    return " – ".join([reservation.train_title, slot.stage or slot.window, *secondary, who])


def description(reservation: Reservation, slot: Slot, link: str | None) -> str:
    """Return the text that people read when they open a slot; `link` is the address of its ticket."""
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
    """Return the web address of a ticket, by the pattern `train.ticket_url`."""
    if ticket is None or ticket_url is None:
        return None
    return ticket_url.replace("{ticket}", quote(ticket, safe=""))


def video_room(week: Week, video_url: str | None) -> str | None:
    """Return the web address of the week's video room, by the pattern `train.video_url`."""
    return video_url.replace("{week}", str(week)) if video_url else None


def add_conference(event: Event, reservation: Reservation, video_url: str | None) -> None:
    """Put the video room on a slot (RFC 7986, section 5.11)."""
    if room := video_room(reservation.week, video_url):
        label = f"{reservation.title} {reservation.week}"
        parameters = Parameters({"VALUE": "URI", "FEATURE": ["AUDIO", "VIDEO"], "LABEL": label})
        event.add("CONFERENCE", vUri(room), parameters=parameters)


def encode_reservation(
    config: Config,
    reservation: Reservation,
    mark: str,
    former: bytes = b"",
    written: Reservation | None = None,
    deliveries: Sequence[Delivery] | None = None,
) -> bytes:
    """Return the reservation as a resource (CRLF lines); `mark` is a plain token that identifies this write.

    `former` is the resource that it replaces, and `written` the reservation as calsync wrote it there. What people changed
    since then is kept. `deliveries` replace those on the former resource; None leaves them as they are.
    """
    components, timezones = _components(config, reservation, mark)
    if written is None and not deliveries:
        return vcalendar(*(vtimezone(name) for name in timezones), *(content_lines(event) for event in components))
    calendar = _calendar(components, timezones)
    if written is not None:
        theirs = Calendar.from_ical(former)
        assert isinstance(theirs, Calendar)  # as it was when `written` was read there
        three_way(calendar, _calendar(*_components(config, written, "")), theirs)
        if not config.calendar.invite:
            keep_servers_silent(calendar)
    if deliveries is not None:
        put_deliveries(calendar, deliveries)
    return content_lines(calendar)


def _calendar(components: Sequence[Event], timezones: Sequence[str]) -> Calendar:
    calendar = Calendar()
    calendar.add("VERSION", "2.0")
    calendar.add("PRODID", PRODID)
    calendar.subcomponents = [*(Timezone.from_ical(vtimezone(name)) for name in timezones), *components]
    return calendar


def _components(config: Config, reservation: Reservation, mark: str) -> tuple[list[Event], list[str]]:
    """Return the VEVENTs of a reservation, and the names of the timezones that they need."""
    slots = sorted([*reservation.slots, *reservation.cancelled], key=lambda slot: (slot.start, slot.window))
    shared = _shared(config, reservation)
    components = [_component(config, reservation, slot, shared) for slot in slots]
    timezones = {slot.timezone for slot in slots}
    if len(slots) == 1:
        master = components[0]
    else:
        recurrence_ids = _recurrence_ids(slots)
        timezones.add(str(recurrence_ids[0].tzinfo))
        master = Event(components[0])
        del master[SLOT]
        master["DTSTART"] = vDDDTypes(recurrence_ids[0])
        master["DTEND"] = vDDDTypes(recurrence_ids[0] + (slots[0].end - slots[0].start))
        master["RRULE"] = vRecur({"FREQ": "DAILY", "COUNT": len(slots)})
        for component, recurrence_id in zip(components, recurrence_ids, strict=True):
            component["RECURRENCE-ID"] = vDDDTypes(recurrence_id)
        components.insert(0, master)
    master["STATUS"] = vText("CANCELLED" if reservation.released else "CONFIRMED")
    master.add(RECORD, to_token(reservation))
    master.add(MARK, mark)
    return components, sorted(timezones)


def _shared(config: Config, reservation: Reservation) -> Event:
    """Return the properties that all slots of the reservation share."""
    event = Event()
    event.add("UID", reservation_href(reservation.week).removesuffix(".ics"))
    event.add("DTSTAMP", reservation.modified)
    event.add("LAST-MODIFIED", reservation.modified)
    event.add("SEQUENCE", reservation.sequence)
    event.add("CATEGORIES", [*CATEGORIES])
    event.add("TRANSP", "OPAQUE")
    if link := ticket_link(reservation.ticket, config.train.ticket_url):
        event.add("URL", link)
    add_conference(event, reservation, config.train.video_url)
    return event


def _component(config: Config, reservation: Reservation, slot: Slot, shared: Event) -> Event:
    event = Event(shared)
    event["DTSTART"], event["DTEND"] = vDDDTypes(slot.start), vDDDTypes(slot.end)
    event["SUMMARY"] = vText(summary(reservation, slot))
    link = ticket_link(reservation.ticket, config.train.ticket_url)
    event["DESCRIPTION"] = vText(description(reservation, slot, link))
    event["STATUS"] = vText("CANCELLED" if slot in reservation.cancelled else "CONFIRMED")
    event[SLOT] = vText(slot.id)
    if config.calendar.invite:
        _invite(config, event, reservation.names(slot))
    return event


def _invite(config: Config, event: Event, names: Sequence[str]) -> None:
    """Invite those who sit in the slot and have an address in the roster (RFC 5545, section 3.8.4.1)."""
    event.add("ORGANIZER", f"mailto:{config.calendar.organizer}")
    for name in names:
        settings = config.roster.get(name)
        if settings is not None and settings.email:
            parameters = {"CN": name, "PARTSTAT": "NEEDS-ACTION", "RSVP": "TRUE"}
            event.add("ATTENDEE", f"mailto:{settings.email}", parameters=parameters)


def _recurrence_ids(slots: Sequence[Slot]) -> list[datetime]:
    """Return one instance a day in the first slot's timezone, at its time of day, or at noon if clocks change then.

    Some engines do not match a RECURRENCE-ID without a TZID, and a time in UTC has none; London takes its place.
    """
    first = slots[0].start
    if not vDatetime(first).params.get("TZID"):
        first = first.astimezone(zone("Europe/London"))
    tz = zone(str(first.tzinfo))
    for clock in (first.time(), time(12)):
        days = (first.date() + timedelta(days=n) for n in range(len(slots)))
        instances = [resolve(datetime.combine(day, clock), tz) for day in days]
        if all(oddity is None for _, oddity in instances):
            break
    return [instant for instant, _ in instances]


@dataclass(frozen=True, slots=True)
class Written:
    """A reservation as calsync wrote it, the mark of that write, and whether people cancelled the whole week since."""

    reservation: Reservation
    mark: str
    cancelled: bool


def decode_reservation(calendar: Calendar) -> Written:
    """Return what calsync wrote on a parsed resource; `ValueError` if there is no reservation on it.

    It has nothing of what people did to the resource since (see `merge.apply_edits`), except a later `modified` and
    `sequence`.
    """
    masters = [event for event in calendar.events if RECORD in event]
    if len(masters) != 1:
        raise ValueError(f"{RECORD} is missing")
    master = masters[0]
    try:
        written = from_token(str(master[RECORD]))
        sequence = max([written.sequence, *(int(event.get("SEQUENCE", 0)) for event in calendar.events)])
        stamps = [moment_of(event, "LAST-MODIFIED") for event in calendar.events]
        modified = max([written.modified, *(stamp for stamp in stamps if isinstance(stamp, datetime) and stamp.tzinfo)])
    except Exception as error:  # anybody may write there, and anything
        raise ValueError(f"{RECORD} cannot be read: {error}") from None
    status = str(master.get("STATUS", "")).upper()
    cancelled = status == "CANCELLED" and not written.released and SLOT not in master
    return Written(replace(written, sequence=sequence, modified=modified), str(master.get(MARK, "")), cancelled)
