"""What the agenda keeps of one resource of the calendar.

Somebody's event becomes its occurrences. A train week becomes its reservation, with what people changed on it. An absence
becomes its record. Of what ended before the horizon, the agenda keeps only that it exists, and what the rotation counts.
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
    """One resource as it was read (a calendar object resource of RFC 4791)."""

    href: str
    etag: str
    reading: Reading
    reservation: Reservation | None = None
    """The reservation of a train week with what people changed on it; None if it cannot be read."""
    written: Reservation | None = None
    """The reservation as calsync wrote it."""
    changes: tuple[str, ...] = ()
    """What people changed on the reservation, in sentences."""
    mark: str = ""
    """The mark of the last write of the reservation."""
    ics: bytes = b""
    """The bytes of a train week, also of an unreadable one."""
    absence: AbsenceRecord | None = None
    deliveries: tuple[Delivery, ...] = ()
    """The messages about the train week."""
    ends: datetime | None = None
    """When the last slot of the train week ends (UTC)."""
    past_pair: tuple[str, ...] | None = None
    """All that is kept of a train week that ended before the horizon: the names of its pair, see `names_of`."""

    @property
    def is_managed(self) -> bool:
        """Whether it is a reservation, an absence, or not readable in full."""
        role = self.reservation or self.absence or self.past_pair
        return role is not None or bool(self.ics or self.reading.defects)


def read_object(resource: Resource, horizon: TimeRange, since: datetime | None = None) -> CalendarObject:
    """Read a resource within the horizon; never raises for what is in it.

    The rotation counts from `since` on (UTC), so pairs and absences are kept from then on.
    """
    parsed = parse(resource.ics)
    counted = TimeRange(min(since, horizon.start), horizon.end) if since is not None else horizon
    if (week := week_of(resource.href)) is not None:
        return _read_week(week, resource, parsed, horizon, counted)
    if absence_name(resource.href) is not None and (absence := decode_absence(parsed.calendar)) is not None:
        return _read_absence(absence, resource, parsed, horizon, counted)
    reading = read_occurrences(parsed, resource.href, horizon)
    return _without_history(CalendarObject(resource.href, resource.etag, reading), horizon)


def _read_absence(
    absence: AbsenceRecord, resource: Resource, parsed: Parsed, horizon: TimeRange, counted: TimeRange
) -> CalendarObject:
    reading = read_occurrences(parsed, resource.href, counted)
    if _is_over(reading, horizon) and reading.occurrences:  # only the rotation still counts it
        return CalendarObject(resource.href, resource.etag, Reading(reading.occurrences), absence=absence)
    return _without_history(CalendarObject(resource.href, resource.etag, reading, absence=absence), horizon)


def _read_week(week: Week, resource: Resource, parsed: Parsed, horizon: TimeRange, counted: TimeRange) -> CalendarObject:
    """Read a train week; its slots show within the horizon, and count for the rotation as they were within `counted`."""
    # The feed renders a reservation from its record, and does not need the text.
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
    is_counted = counted != horizon and counted.start.date() <= week.monday and not reservation.released
    return replace(kept, past_pair=names_of(reservation)) if kept.reservation is None and is_counted else kept


def names_of(reservation: Reservation) -> tuple[str, ...]:
    """Return the names of primary and backup; none for a week whose slots were all given up."""
    return (reservation.pair.primary.name, reservation.pair.backup.name) if reservation.slots else ()


def _as_slots(reading: Reading, horizon: TimeRange, *, cancelled: bool = False) -> Reading:
    """Return the reading with its occurrences in the horizon as slots; those of a cancelled week make nobody busy."""
    slots = (
        replace(occurrence, kind="slot", busy=occurrence.busy and not cancelled)
        for occurrence in reading.occurrences
        if is_within(occurrence, horizon)
    )
    return replace(reading, occurrences=tuple(slots))


def _end(slots: Sequence[Slot]) -> datetime | None:
    return max((slot.end.astimezone(UTC) for slot in slots), default=None)


def _is_over(reading: Reading, horizon: TimeRange) -> bool:
    return reading.ends is not None and reading.ends < horizon.start


def _without_history(stored: CalendarObject, horizon: TimeRange) -> CalendarObject:
    """Return the object; of one that ended before the horizon, only that it exists and when it ended."""
    if _is_over(stored.reading, horizon):
        return CalendarObject(stored.href, stored.etag, Reading(ends=stored.reading.ends))
    return replace(stored, reading=replace(stored.reading, ends=None))
