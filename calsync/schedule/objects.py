"""One resource of the calendar → what the agenda keeps of it.

Somebody's event becomes its occurrences. A train week becomes its reservation, with what people did to it; an absence
becomes the record of whose it is. Of what was over before the horizon, the agenda keeps only that it exists, and what the
rotation counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from calsync.calendars.base import Resource
from calsync.core.absence import AbsenceRecord
from calsync.core.delivery import Delivery
from calsync.core.reservation import Reservation
from calsync.core.weeks import Week
from calsync.core.windows import Slot
from calsync.ical.absence import absence_name, decode_absence
from calsync.ical.delivery import read_deliveries
from calsync.ical.merge import apply_edits
from calsync.ical.occurrences import Reading, is_within, read_occurrences
from calsync.ical.parser import Parsed, parse
from calsync.ical.recurrence import TimeRange
from calsync.ical.reservation import decode_reservation, week_of


@dataclass(frozen=True, slots=True)
class CalendarObject:
    """One resource as it was read (a calendar object resource of RFC 4791).

    A train week has `ics`, its bytes. One that can be read also has `written` (the reservation as calsync wrote it),
    `reservation` (with what people did to it since), the `changes` they made (in sentences), the `mark` of its last write,
    the `deliveries` about it, and when the last of its slots `ends` (UTC). An absence has `away`. Of a train week that was
    over before the horizon only `past_pair` is kept, for `Agenda.pairs_by_week`.
    """

    href: str
    etag: str
    reading: Reading
    reservation: Reservation | None = None
    written: Reservation | None = None
    changes: tuple[str, ...] = ()
    mark: str = ""
    ics: bytes = b""
    away: AbsenceRecord | None = None
    deliveries: tuple[Delivery, ...] = ()
    ends: datetime | None = None
    past_pair: tuple[str, ...] | None = None

    @property
    def is_managed(self) -> bool:
        """Whether it is not simply somebody's event."""
        role = self.reservation or self.away or self.past_pair
        return role is not None or bool(self.ics or self.reading.defects)


def read_object(resource: Resource, horizon: TimeRange, since: datetime | None = None) -> CalendarObject:
    """Read a resource within the horizon; never raises for what is in it.

    The rotation counts from `since` on (UTC): of what was over before the horizon, pairs and absences are kept.
    """
    week = week_of(resource.href)
    parsed = parse(resource.ics)
    counted = TimeRange(min(since, horizon.start), horizon.end) if since is not None else horizon
    if week is not None:
        return _read_week(week, resource, parsed, horizon, counted)
    if absence_name(resource.href) is not None and (away := decode_absence(parsed.calendar)) is not None:
        reading = read_occurrences(parsed, resource.href, counted)
        stored = _without_history(CalendarObject(resource.href, resource.etag, reading, away=away), horizon)
        is_history = stored.away is None and reading.occurrences
        return replace(stored, reading=Reading(reading.occurrences), away=away) if is_history else stored
    reading = read_occurrences(parsed, resource.href, horizon)
    return _without_history(CalendarObject(resource.href, resource.etag, reading), horizon)


def _read_week(week: Week, resource: Resource, parsed: Parsed, horizon: TimeRange, counted: TimeRange) -> CalendarObject:
    """Read a train week; its slots count as they were in `counted`, and are shown within the horizon."""
    # The feed draws a reservation from its record, so its own text is not needed.
    reading = read_occurrences(parsed, resource.href, counted, publish=False)
    try:
        written = decode_reservation(parsed.calendar)
        if written.reservation.week != week:
            raise ValueError(f"it is the reservation of {written.reservation.week}")
    except ValueError as error:
        defects = (*reading.defects, f"the reservation cannot be read: {error}")
        reading = _as_slots(replace(reading, defects=defects), horizon)
        return CalendarObject(resource.href, resource.etag, reading, ics=resource.ics)
    slots = _as_slots(reading, horizon, cancelled=written.cancelled)
    reservation, changes = apply_edits(written.reservation, slots.occurrences, horizon, cancelled=written.cancelled)
    ends = None if changes or reading.defects else _end([*reservation.slots, *reservation.cancelled])
    if counted.start.date() <= week.monday <= horizon.start.date():
        reservation, _ = apply_edits(written.reservation, reading.occurrences, counted, cancelled=written.cancelled)
    stored = CalendarObject(
        resource.href,
        resource.etag,
        replace(slots, ends=ends),
        reservation,
        written.reservation,
        changes,
        written.mark,
        resource.ics,
        deliveries=read_deliveries(parsed.calendar),
        ends=_end(reservation.slots),
    )
    kept = _without_history(stored, horizon)
    if kept.reservation is None and counted.start.date() <= week.monday and counted != horizon and not reservation.released:
        return replace(kept, past_pair=names_of(reservation))
    return kept


def names_of(reservation: Reservation) -> tuple[str, ...]:
    """Return the names of the primary and the backup; none for a week whose slots were all given up."""
    return (reservation.pair.primary.name, reservation.pair.backup.name) if reservation.slots else ()


def _as_slots(reading: Reading, horizon: TimeRange, *, cancelled: bool = False) -> Reading:
    """Return the reading with its occurrences as slots; those of a week that people cancelled make nobody busy."""
    slots = (
        replace(occurrence, kind="slot", busy=occurrence.busy and not cancelled)
        for occurrence in reading.occurrences
        if is_within(occurrence, horizon)
    )
    return replace(reading, occurrences=tuple(slots))


def _end(slots: Sequence[Slot]) -> datetime | None:
    return max((slot.end.astimezone(UTC) for slot in slots), default=None)


def _without_history(stored: CalendarObject, horizon: TimeRange) -> CalendarObject:
    """Return the object; of one that was over before the horizon, nothing but that it exists and when it was over."""
    ends = stored.reading.ends
    if ends is not None and ends < horizon.start:
        return CalendarObject(stored.href, stored.etag, Reading(ends=ends))
    return replace(stored, reading=replace(stored.reading, ends=None))
