"""The agenda: the Deployments calendar in memory, as every check and every reader sees it.

An `Agenda` is immutable. It holds what is on the calendar within the horizon, and the recurring windows and freezes of
windows.toml. Occurrences are indexed by quarters of a day, so the cost of a question about a span depends on the span and
not on the calendar. The next agenda shares everything with this one except what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from functools import cached_property

from calsync.calendars.base import Changes, SyncToken
from calsync.core.absence import AbsenceRecord
from calsync.core.reservation import Reservation
from calsync.core.settings import Config
from calsync.core.weeks import FIRST_YEAR, Week
from calsync.ical.absence import absence_name
from calsync.ical.occurrences import Occurrence
from calsync.ical.recurrence import TimeRange
from calsync.ical.reservation import reservation_href, week_of
from calsync.schedule.diary import Busy, Diary
from calsync.schedule.fixed import freezes, recurring_windows
from calsync.schedule.objects import CalendarObject, names_of, read_object

LEAD = timedelta(weeks=4)
"""How far before its start the rotation takes reserved weeks into account."""

_DAY, _QUARTER = timedelta(days=1), timedelta(hours=6)
_EPOCH, _BEGINNING = datetime(1970, 1, 1, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
_LONGEST_AHEAD, _LONGEST_BEHIND = timedelta(hours=14), timedelta(hours=12)  # UTC+14 to UTC−12


@dataclass(frozen=True)
class Agenda:
    """The calendar as it was last read, under one configuration."""

    config: Config
    horizon: TimeRange
    """The span in which occurrences are known."""
    changed: datetime
    """When this content was first seen."""
    synced: datetime
    """When it was last confirmed."""
    token: SyncToken | None = None
    objects: Mapping[str, CalendarObject] = field(default_factory=dict)
    """Every resource, by its href."""
    managed: Mapping[str, CalendarObject] = field(default_factory=dict)
    """The reservations, the absences and whatever cannot be read in full, by href."""
    quarters: Mapping[int, tuple[Occurrence, ...]] = field(default_factory=dict)
    """The occurrences in each quarter of a day, counted from 1970 in UTC."""
    busy: Mapping[str, Busy] = field(default_factory=dict)
    """What people's own busy feeds say, by name; it is never published."""
    since: datetime | None = None
    """From when on the rotation counts weeks and absences, which are kept although they are over; None without one."""

    def overlapping(self, start: datetime, end: datetime, observer: str) -> Iterator[tuple[Occurrence, datetime, datetime]]:
        """Yield the occurrences that overlap the span from `start` to `end` (aware), each with start and end as instants.

        Spans are half-open: an occurrence that ends when the span starts does not overlap it, nor does one without length.
        `observer` is the timezone in which all-day and floating occurrences are seen.
        """
        start, end = start.astimezone(UTC), end.astimezone(UTC)
        seen: set[int] = set()
        for quarter in range(_quarter(start), _quarter(end) + 1):
            for occurrence in self.quarters.get(quarter, ()):
                in_utc = occurrence.start.tzinfo is UTC  # faster than asking each occurrence for its span
                begin, finish = (occurrence.start, occurrence.end) if in_utc else occurrence.span(observer)
                if begin < end and start < finish and begin < finish and id(occurrence) not in seen:
                    seen.add(id(occurrence))
                    yield occurrence, begin, finish

    def has_content_of(self, other: Agenda) -> bool:
        """Return whether both have the same content; a sync without changes keeps it."""
        return self.objects is other.objects and self.busy is other.busy and self.horizon == other.horizon

    def reservation(self, week: Week) -> CalendarObject | None:
        """Return the object at the href of the week's reservation: reserved, released, or no longer readable."""
        stored = self.managed.get(reservation_href(week))
        return stored if stored is None or stored.past_pair is None else None

    @property
    def ended(self) -> dict[str, datetime]:
        """When the resources that ended before the horizon ended, by etag.

        Absences are never among them, because they may count for the rotation of another process.
        """
        return {
            stored.etag: ends
            for stored in self.objects.values()
            if not stored.reading.occurrences
            and (ends := stored.reading.ends) is not None
            and ends < self.horizon.start
            and absence_name(stored.href) is None
        }

    @property
    def rotation_hrefs(self) -> tuple[str, ...]:
        """The hrefs of the weeks from `since` to the horizon, which the rotation counts although they are over."""
        if self.since is None:
            return ()
        weeks = (self.horizon.start - self.since) // timedelta(weeks=1) + 1
        first = Week.containing(self.since.date())
        return tuple(reservation_href(first.shift(n)) for n in range(max(0, weeks)))

    @cached_property
    def reservations(self) -> tuple[CalendarObject, ...]:
        """The readable reservations, by week; the released ones too."""
        reservations = [stored for stored in self.managed.values() if stored.reservation is not None]
        return tuple(sorted(reservations, key=lambda stored: stored.href))

    @cached_property
    def reserved(self) -> tuple[tuple[CalendarObject, Reservation], ...]:
        """The readable reservations that are not released, by week, each with its object."""
        return tuple(
            (stored, stored.reservation)
            for stored in self.reservations
            if stored.reservation is not None and not stored.reservation.released
        )

    @cached_property
    def pairs_by_week(self) -> Mapping[Week, tuple[str, ...]]:
        """The names of primary and backup of every week from `since` on that is reserved, or was when it took place.

        A week whose slots were all removed counts for nobody; its pair is empty.
        """
        pairs: dict[Week, tuple[str, ...]] = {}
        for stored in self.managed.values():
            week, reservation = week_of(stored.href), stored.reservation
            if week is None or self.since is None or week.monday < self.since.date():
                continue
            if stored.past_pair is not None:
                pairs[week] = stored.past_pair
            elif reservation is not None and not reservation.released:
                pairs[week] = names_of(reservation)
        return pairs

    @cached_property
    def absences(self) -> Mapping[str, Diary]:
        """The absences on the calendar, by the name of who is away."""
        by_name: dict[str, list[tuple[Occurrence, AbsenceRecord]]] = {}
        for _, stored in sorted(self.managed.items()):
            if stored.absence is not None:
                occurrences = ((occurrence, stored.absence) for occurrence in stored.reading.occurrences)
                by_name.setdefault(stored.absence.conductor, []).extend(occurrences)
        return {name: Diary(absences) for name, absences in by_name.items()}

    @cached_property
    def defects(self) -> dict[str, tuple[str, ...]]:
        """What could not be read in full, by href."""
        return {href: stored.reading.defects for href, stored in sorted(self.managed.items()) if stored.reading.defects}

    @cached_property
    def unplaced(self) -> tuple[str, ...]:
        """The hrefs of the resources that may hide an event of which not even the time is known."""
        return tuple(href for href in self.defects if self.objects[href].reading.unplaced)

    def covers(self, start: datetime, end: datetime) -> bool:
        """Return whether the whole span lies within the horizon."""
        return self.horizon.start <= start and end <= self.horizon.end

    def after(self, changes: Changes, now: datetime) -> Agenda:
        """Return the agenda with these changes, which were read at `now` (aware)."""
        touched = {resource.href for resource in changes.changed} | set(changes.removed)
        if changes.complete:
            touched |= self.objects.keys()
        if not touched:
            return replace(self, token=changes.token, synced=now)
        fresh = {resource.href: read_object(resource, self.horizon, self.since) for resource in changes.changed}
        gone = [stored for href in touched if (stored := self.objects.get(href)) is not None]
        quarters = dict(self.quarters)
        for quarter in {
            quarter for stored in gone for event in stored.reading.occurrences for quarter in _quarters(event, self.horizon)
        }:
            quarters[quarter] = tuple(event for event in quarters[quarter] if event.href not in touched)
        _add(quarters, (event for stored in fresh.values() for event in stored.reading.occurrences), self.horizon)
        return replace(
            self,
            # Last-Modified counts in whole seconds; two contents never share one.
            changed=max(now.replace(microsecond=0), self.changed + timedelta(seconds=1)),
            synced=now,
            token=changes.token,
            objects=_updated(self.objects, touched, fresh),
            managed=_updated(self.managed, touched, {href: stored for href, stored in fresh.items() if stored.is_managed}),
            quarters=quarters,
        )


def _updated(
    objects: Mapping[str, CalendarObject], touched: set[str], fresh: Mapping[str, CalendarObject]
) -> Mapping[str, CalendarObject]:
    """Return the objects with those at the hrefs in `touched` replaced by `fresh`."""
    return {**{href: stored for href, stored in objects.items() if href not in touched}, **fresh}


def horizon_around(config: Config, now: datetime) -> TimeRange:
    """Return the horizon around the UTC day of `now` (aware)."""
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    return TimeRange(midnight - config.calendar.horizon.past, midnight + config.calendar.horizon.future + _DAY)


def blank(config: Config, now: datetime, changed: datetime = _BEGINNING) -> Agenda:
    """Return an agenda around `now` (aware) with the recurring windows and freezes alone; not older than `changed`."""
    horizon = horizon_around(config, now)
    quarters: dict[int, tuple[Occurrence, ...]] = {}
    _add(quarters, [*recurring_windows(config, horizon), *freezes(config, horizon)], horizon)
    changed = max(changed, now.replace(microsecond=0))
    return Agenda(config, horizon, changed=changed, synced=now, quarters=quarters, since=_since(config))


def _since(config: Config) -> datetime | None:
    if config.rotation.start is None:
        return None
    first = max(config.rotation.start.monday - LEAD, Week(FIRST_YEAR, 1).monday)
    return datetime.combine(first, time(), UTC)


def _quarter(moment: datetime) -> int:
    return (moment - _EPOCH) // _QUARTER


def _quarters(occurrence: Occurrence, horizon: TimeRange) -> range:
    """Return the quarters of days that the occurrence touches in the horizon for any observer."""
    start, end = (moment.replace(tzinfo=UTC) for moment in (occurrence.start, occurrence.end))
    start, end = max(start, horizon.start - _DAY), min(end, horizon.end + _DAY)
    if occurrence.start.tzinfo is None:
        start, end = start - _LONGEST_AHEAD, end + _LONGEST_BEHIND
    return range(_quarter(start), _quarter(end) + 1)


def _add(quarters: dict[int, tuple[Occurrence, ...]], occurrences: Iterable[Occurrence], horizon: TimeRange) -> None:
    """Put the occurrences into the quarters that they touch."""
    added: dict[int, list[Occurrence]] = {}
    for occurrence in occurrences:
        for quarter in _quarters(occurrence, horizon):
            added.setdefault(quarter, []).append(occurrence)
    for quarter, more in added.items():
        quarters[quarter] = (*quarters.get(quarter, ()), *more)
