"""One resource of the calendar → what the agenda keeps of it.

Anybody's event is its occurrences. A train week is its reservation as it stands, with what people did to it; an absence is
whose it is. Of what was over before the horizon no more is kept than that it is there, and what the rotation counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType

from calsync.calendars.base import Resource
from calsync.core.absence import AbsenceRecord
from calsync.core.delivery import Delivery
from calsync.core.reservation import Reservation
from calsync.core.windows import Slot
from calsync.ical.absence import absence_name, decode_absence
from calsync.ical.delivery import read_deliveries
from calsync.ical.merge import apply_edits
from calsync.ical.occurrences import Occurrence, Reading, read, title
from calsync.ical.recurrence import TimeRange
from calsync.ical.reservation import CATEGORIES, Written, decode_reservation, reservation_href, summary, week_of


@dataclass(frozen=True, slots=True)
class CalendarObject:
    """One resource as it was read.

    A reservation's has `reservation` (as it stands) and when the last of its slots `ends` (UTC), the `changes` that people
    made to it since, the `mark` of its last write, its bytes, and the `deliveries` about it. An absence has `away`. Of a
    train week that was over before the horizon, only `held` is kept: its part of `Agenda.held`.
    """

    href: str
    etag: str
    reading: Reading
    reservation: Reservation | None = None
    changes: tuple[str, ...] = ()
    mark: str = ""
    ics: bytes = b""
    away: AbsenceRecord | None = None
    deliveries: tuple[Delivery, ...] = ()
    ends: datetime | None = None
    held: tuple[str, ...] | None = None

    @property
    def is_managed(self) -> bool:
        """Whether it is more than somebody's event, or less."""
        known = self.reservation or self.away or self.held
        return known is not None or bool(self.ics or self.reading.defects)


NO_OBJECTS: Mapping[bytes, CalendarObject] = MappingProxyType({})
"""No entries."""


def read_object(
    resource: Resource,
    horizon: TimeRange,
    expected: Mapping[bytes, CalendarObject] = NO_OBJECTS,
    since: datetime | None = None,
) -> CalendarObject:
    """The resource as it is read, within the horizon.

    `expected` has the entries, by their bytes, of which it is known already what reading comes to. From `since` on (UTC)
    the rotation counts: of what was over before the horizon, it is kept who held a week, and who was away.
    """
    if (known := expected.get(resource.ics)) is not None and known.href == resource.href:
        return replace(known, etag=resource.etag)
    reading = read(resource.ics, resource.href, horizon)
    week = week_of(resource.href)
    if week is None:
        absence = decode_absence(resource.ics) if absence_name(resource.href) is not None else None
        if absence is not None and since is not None and since < horizon.start:
            return _absence(resource, reading, absence, horizon, since)
        return _without_history(CalendarObject(resource.href, resource.etag, reading, away=absence), horizon)
    # The feed draws a reservation from its record, never as it stands.
    reading = replace(reading, published=b"", timezones={}, tzids=frozenset())
    try:
        written = decode_reservation(resource.ics)
        if written.reservation.week != week:
            raise ValueError(f"it is the reservation of {written.reservation.week}")
    except ValueError as error:
        reading = _as_slots(replace(reading, defects=(*reading.defects, f"the reservation cannot be read: {error}")))
        return CalendarObject(resource.href, resource.etag, reading, ics=resource.ics)
    reading = _as_slots(reading, cancelled=written.cancelled)
    reservation, changes = apply_edits(written.reservation, reading.occurrences, horizon, cancelled=written.cancelled)
    reading = replace(reading, over=None if changes or reading.defects else _over(reservation))
    if since is not None and since.date() <= week.monday <= horizon.start.date():
        reservation = _at_its_time(written, resource, TimeRange(since, horizon.end))
    sent = read_deliveries(resource.ics)
    entry = CalendarObject(
        resource.href,
        resource.etag,
        reading,
        reservation,
        changes,
        written.mark,
        resource.ics,
        deliveries=sent,
        ends=_end(reservation.slots),
    )
    left = _without_history(entry, horizon)
    counts = left.reservation is None and since is not None and since.date() <= week.monday and not reservation.released
    return replace(left, held=names_of(reservation)) if counts else left


def _absence(
    resource: Resource, reading: Reading, absence: AbsenceRecord, horizon: TimeRange, since: datetime
) -> CalendarObject:
    """The entry of an absence, with what of it took place from `since` on; what is over stands on no feed."""
    entry = _without_history(CalendarObject(resource.href, resource.etag, reading, away=absence), horizon)
    past = read(resource.ics, resource.href, TimeRange(since, horizon.end)).occurrences
    return replace(entry, reading=replace(entry.reading, occurrences=past, over=None), away=absence) if past else entry


def _at_its_time(written: Written, resource: Resource, horizon: TimeRange) -> Reservation:
    """The reservation as it stood when it took place, though that is before what else is looked at."""
    occurrences = _as_slots(read(resource.ics, resource.href, horizon), cancelled=written.cancelled).occurrences
    return apply_edits(written.reservation, occurrences, horizon, cancelled=written.cancelled)[0]


def names_of(reservation: Reservation) -> tuple[str, ...]:
    """The names of the primary and the backup; of a week whose slots were all given up, nobody's."""
    return (reservation.pair.primary.name, reservation.pair.backup.name) if reservation.slots else ()


def _over(reservation: Reservation) -> datetime | None:
    return _end([*reservation.slots, *reservation.cancelled])


def _end(slots: Sequence[Slot]) -> datetime | None:
    return max((slot.end.astimezone(UTC) for slot in slots), default=None)


def _without_history(entry: CalendarObject, horizon: TimeRange) -> CalendarObject:
    """The entry; of one that was over before the horizon no more than that it is, as if the calendar had not told of it."""
    over = entry.reading.over
    if over is not None and over < horizon.start:
        return CalendarObject(entry.href, entry.etag, Reading(over=over))
    return replace(entry, reading=replace(entry.reading, over=None))


def expected_object(reservation: Reservation, mark: str, ics: bytes, horizon: TimeRange) -> CalendarObject | None:
    """What reading the resource comes to that `events.encode` has just made of the reservation and of nothing else.

    None where only reading tells: of line breaks and the like in a title not every one is read as it was written.
    """
    href = reservation_href(reservation.week)
    slots = [*((slot, True) for slot in reservation.slots), *((slot, False) for slot in reservation.cancelled)]
    if not all(summary(reservation, slot).isprintable() for slot, _ in slots):
        return None
    occurrences = tuple(
        Occurrence(
            slot.start.astimezone(UTC),
            slot.end.astimezone(UTC),
            href.removesuffix(".ics"),
            title(summary(reservation, slot)),
            href,
            "slot",
            slot.id,
            CATEGORIES,
            busy,
        )
        for slot, busy in sorted(slots, key=lambda pair: (pair[0].start, pair[0].window))
        if slot.start < horizon.end and slot.end >= horizon.start
    )
    reading = Reading(occurrences, over=_over(reservation))
    entry = CalendarObject(href, "", reading, reservation, (), mark, ics, ends=_end(reservation.slots))
    return _without_history(entry, horizon)


def _as_slots(reading: Reading, *, cancelled: bool = False) -> Reading:
    """The occurrences of a reservation's resource; those of one that people cancelled make nobody busy."""
    slots = (replace(found, kind="slot", busy=found.busy and not cancelled) for found in reading.occurrences)
    return replace(reading, occurrences=tuple(slots))
