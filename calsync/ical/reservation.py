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

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import quote

from icalendar import Calendar, Event, Parameters, Timezone, vDatetime, vDDDTypes, vRecur, vText, vUri

from calsync.core.conductors import Conductor, Pair
from calsync.core.delivery import Delivery
from calsync.core.errors import Invalid
from calsync.core.planning import Seat
from calsync.core.properties import MARK, PRODID, RECORD, SLOT
from calsync.core.reservation import Reservation
from calsync.core.settings import Config
from calsync.core.timezones import resolve, zone
from calsync.core.weeks import Week
from calsync.core.windows import Slot
from calsync.core.working_hours import Hours
from calsync.ical.contentlines import content_lines, vcalendar
from calsync.ical.delivery import put_deliveries
from calsync.ical.merge import three_way
from calsync.ical.recurrence import moment_of
from calsync.ical.vtimezone import vtimezone


def to_token(reservation: Reservation) -> str:
    """The reservation as a plain token: base64url of JSON."""

    def person(conductor: Conductor) -> dict[str, Any]:
        return {
            "name": conductor.name,
            "timezone": conductor.timezone,
            "hours": str(conductor.hours),
            "override": conductor.window,
        }

    def seated(conductor: Conductor, seat: Seat) -> dict[str, Any]:
        return {**person(conductor), "window": seat.window, "reason": seat.reason}

    def place(slot: Slot) -> dict[str, Any]:
        return {
            "window": slot.window,
            "date": str(slot.date),
            "timezone": slot.timezone,
            "start": f"{slot.start.astimezone(UTC):%Y%m%dT%H%M%SZ}",
            "end": f"{slot.end.astimezone(UTC):%Y%m%dT%H%M%SZ}",
            "role": slot.role,
            "stage": slot.stage,
            "who": list(slot.who),
        }

    record = {
        "version": 1,
        "week": str(reservation.week),
        "title": reservation.title,
        "primary": seated(reservation.pair.primary, reservation.primary),
        "backup": seated(reservation.pair.backup, reservation.backup),
        "slots": [place(slot) for slot in reservation.slots],
        "cancelled": [place(slot) for slot in reservation.cancelled],
        "modified": f"{reservation.modified:%Y%m%dT%H%M%SZ}",
        "train": reservation.train,
        "ticket": reservation.ticket,
        "override": reservation.override,
        "author": reservation.author,
        "sequence": reservation.sequence,
        "released": reservation.released,
        "responsible": person(reservation.responsible) if reservation.responsible else None,
    }
    return base64.urlsafe_b64encode(json.dumps(record, separators=(",", ":")).encode()).decode()


def from_token(token: str) -> Reservation:
    """The reservation of a record; raises whatever comes of a token that somebody else wrote."""
    return _from_record(json.loads(base64.urlsafe_b64decode(token)))


def _from_record(record: dict[str, Any]) -> Reservation:
    def text(value: object) -> str:
        if not isinstance(value, str):
            raise TypeError(f"{value!r} is not a text")
        return value

    def maybe(value: object) -> str | None:
        return None if value is None else text(value)

    def person(entry: dict[str, Any]) -> Conductor:
        zone(entry["timezone"])
        return Conductor(text(entry["name"]), entry["timezone"], Hours.parse(entry["hours"]), maybe(entry["override"]))

    def seat(entry: dict[str, Any]) -> Seat:
        return Seat(text(entry["window"]), text(entry["reason"]))

    def slot(entry: dict[str, Any]) -> Slot:
        tz = zone(entry["timezone"])
        start, end = _stamp(entry["start"]).astimezone(tz), _stamp(entry["end"]).astimezone(tz)
        role = entry["role"] if entry["role"] in ("primary", "backup") else None
        who = tuple(text(name) for name in entry["who"])
        return Slot(text(entry["window"]), date.fromisoformat(entry["date"]), start, end, role, maybe(entry["stage"]), who)

    return Reservation(
        week=Week.parse(record["week"]),
        title=text(record["title"]),
        pair=Pair(person(record["primary"]), person(record["backup"])),
        primary=seat(record["primary"]),
        backup=seat(record["backup"]),
        slots=tuple(slot(entry) for entry in record["slots"]),
        cancelled=tuple(slot(entry) for entry in record["cancelled"]),
        modified=_stamp(record["modified"]),
        train=maybe(record["train"]),
        ticket=maybe(record["ticket"]),
        override=maybe(record["override"]),
        author=maybe(record["author"]),
        sequence=int(record["sequence"]),
        released=bool(record["released"]),
        responsible=person(record["responsible"]) if record.get("responsible") else None,
    )


def _stamp(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


CATEGORIES = ("train",)
_HREF = re.compile(r"train-(\d{4}-W\d{2})\.ics", re.ASCII)


def reservation_href(week: Week) -> str:
    """Where the week's reservation stands on the calendar."""
    return f"train-{week}.ics"


def week_of(reservation_href: str) -> Week | None:
    """The week whose reservation stands at `href`; None for what is not calsync's."""
    try:
        return Week.parse(match[1]) if (match := _HREF.fullmatch(reservation_href)) else None
    except Invalid:
        return None


def summary(reservation: Reservation, slot: Slot) -> str:
    """A slot's title: train, version, stage, the secondary timeslot marked as such, and who sits there."""
    who = ", ".join(reservation.names(slot))
    secondary = ["secondary timeslot"] if slot.role == "backup" else []
    return " – ".join([reservation.train_title, slot.stage or slot.window, *secondary, who])


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


def encode_reservation(
    config: Config,
    reservation: Reservation,
    mark: str,
    former: bytes = b"",
    written: Reservation | None = None,
    deliveries: Sequence[Delivery] | None = None,
) -> bytes:
    """Return the reservation as a resource (CRLF lines); `mark` is a plain token that names this write.

    `former` is the resource that it replaces, and `written` the reservation as calsync wrote it there; what people put on
    that is kept. `deliveries` take the place of those on the former resource; None leaves them as they are.
    """
    components, timezones = _components(config, reservation, mark)
    if written is None and not deliveries:
        return vcalendar(*(vtimezone(name) for name in timezones), content_lines(components))
    calendar = _calendar(components, timezones)
    if written is not None:
        theirs = Calendar.from_ical(former)
        assert isinstance(theirs, Calendar)  # as it was when `written` was read there
        three_way(calendar, _calendar(*_components(config, written, "")), theirs, schedule=config.calendar.invite)
    if deliveries is not None:
        put_deliveries(calendar, deliveries)
    return bytes(calendar.to_ical())


def _calendar(components: Sequence[Event], timezones: Sequence[str]) -> Calendar:
    calendar = Calendar()
    calendar.add("VERSION", "2.0")
    calendar.add("PRODID", PRODID)
    calendar.subcomponents = [*(Timezone.from_ical(vtimezone(name)) for name in timezones), *components]
    return calendar


def _components(config: Config, reservation: Reservation, mark: str) -> tuple[list[Event], list[str]]:
    """The VEVENTs of a reservation, and the names of the timezones that they need."""
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
    """The properties that all slots of the reservation have in common."""
    event = Event()
    event.add("UID", reservation_href(reservation.week).removesuffix(".ics"))
    event.add("DTSTAMP", reservation.modified)
    event.add("LAST-MODIFIED", reservation.modified)
    event.add("SEQUENCE", reservation.sequence)
    event.add("CATEGORIES", list(CATEGORIES))
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
    """Make attendees of those who sit in the slot and whose address is known (RFC 5545, section 3.8.4.1)."""
    event.add("ORGANIZER", f"mailto:{config.calendar.organizer}")
    for name in names:
        known = config.roster.get(name)
        if known is not None and known.email:
            parameters = {"CN": name, "PARTSTAT": "NEEDS-ACTION", "RSVP": "TRUE"}
            event.add("ATTENDEE", f"mailto:{known.email}", parameters=parameters)


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


@dataclass(frozen=True, slots=True)
class Written:
    """A reservation as calsync wrote it, the mark of that write, and whether people cancelled the whole of it since."""

    reservation: Reservation
    mark: str
    cancelled: bool


def decode_reservation(calendar: Calendar) -> Written:
    """Return what calsync wrote on a parsed resource; `ValueError` if it does not carry a reservation.

    What people did to the resource since is not in it (see `merge.apply_edits`), except a later `modified` and
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
    except Exception as error:  # anybody may write there
        raise ValueError(f"{RECORD} cannot be read: {error}") from None
    status = str(master.get("STATUS", "")).upper()
    cancelled = status == "CANCELLED" and not written.released and SLOT not in master
    return Written(replace(written, sequence=sequence, modified=modified), str(master.get(MARK, "")), cancelled)
