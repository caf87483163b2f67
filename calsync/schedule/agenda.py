"""The agenda: the Deployments calendar in memory, as every check and every reader sees it.

An `Agenda` is immutable. It holds what stands on the calendar within the horizon, and with it the standing windows and
freezes of windows.toml, all as occurrences indexed by the quarter of the day, so that a question about a span costs what
happens in it. The next agenda shares with this one all but what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from zlib import crc32

from calsync.calendars.base import Changes, SyncToken
from calsync.core.absence import AbsenceRecord
from calsync.core.settings import Config, freeze_span
from calsync.core.timezones import resolve, zone
from calsync.core.weeks import FIRST_YEAR, WEEKDAYS, Week
from calsync.ical.absence import absence_name
from calsync.ical.occurrences import Occurrence
from calsync.ical.recurrence import TimeRange
from calsync.ical.reservation import reservation_href, week_of
from calsync.schedule.diary import Busy, Diary
from calsync.schedule.objects import NO_OBJECTS, CalendarObject, names_of, read_object
from calsync.schedule.shelves import Shelves

LEAD = timedelta(weeks=4)
"""How long before the rotation's start a week may be that it follows."""


_DAY = timedelta(days=1)


_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Agenda:
    """What is known of the calendar. `changed` is when this content was first seen, `synced` when it was last confirmed.

    `busy` is what people's own feeds say, by their names; it stands beside the calendar and is on nobody's feed.
    """

    horizon: TimeRange
    changed: datetime
    synced: datetime
    token: SyncToken | None = None
    entries: Shelves[CalendarObject] = field(default_factory=Shelves)
    managed: Mapping[str, CalendarObject] = field(default_factory=dict)
    """The entries that are more than somebody's event, or less: reservations, absences, and what cannot be read in full."""
    quarters: Mapping[int, tuple[Occurrence, ...]] = field(default_factory=dict)
    busy: Mapping[str, Busy] = field(default_factory=dict)
    since: datetime | None = None
    """From when on the rotation counts: of what is over, trains and absences from then on are kept; None without one."""

    def overlapping(self, start: datetime, end: datetime, observer: str) -> Iterator[tuple[Occurrence, datetime, datetime]]:
        """The occurrences that overlap the span from `start` to `end` (aware), each with its start and end as instants.

        Half-open on both sides: what ends when the span starts does not overlap it, and neither does what has no length.
        `observer` is the timezone in which all-day and floating occurrences are seen.
        """
        start, end = start.astimezone(UTC), end.astimezone(UTC)
        seen: set[int] = set()
        for quarter in range(_quarter(start), _quarter(end) + 1):
            for found in self.quarters.get(quarter, ()):
                begin, finish = (found.start, found.end) if found.start.tzinfo is UTC else found.span(observer)
                if begin < end and start < finish and begin < finish and id(found) not in seen:
                    seen.add(id(found))
                    yield found, begin, finish

    def says_the_same_as(self, other: Agenda) -> bool:
        """Whether what is made of one is right for the other: a sync without changes makes one of the same content."""
        same = self.entries is other.entries and self.busy is other.busy and self.horizon == other.horizon
        return self is other or same

    def reservation(self, week: Week) -> CalendarObject | None:
        """What stands where the week's reservation belongs: held, released, or no longer readable."""
        entry = self.managed.get(reservation_href(week))
        return entry if entry is None or entry.held is None else None

    @property
    def history(self) -> dict[str, datetime]:
        """When what was over before the horizon was over, by etag.

        No absence is in it, whether there is a rotation here or not: for that of another process it counts.
        """
        blank = (entry for entry in self.entries.values() if not entry.reading.occurrences)
        return {
            entry.etag: over
            for entry in blank
            if (over := entry.reading.over) is not None and over < self.horizon.start and absence_name(entry.href) is None
        }

    @property
    def counted(self) -> tuple[str, ...]:
        """The hrefs of the weeks from `since` to the horizon, which the rotation counts although they are over."""
        if self.since is None:
            return ()
        weeks = (self.horizon.start - self.since) // timedelta(weeks=1) + 1
        first = Week.containing(self.since.date())
        return tuple(reservation_href(first.shift(n)) for n in range(max(0, weeks)))

    @cached_property
    def reservations(self) -> tuple[CalendarObject, ...]:
        """The readable reservations by week, the released ones too."""
        found = [entry for entry in self.managed.values() if entry.reservation is not None]
        return tuple(sorted(found, key=lambda entry: entry.href))

    @cached_property
    def held(self) -> Mapping[Week, tuple[str, ...]]:
        """Primary and backup of every train week that is held, or was when it took place, from `since` on.

        Nobody of a week of which people took every slot off the calendar.
        """
        found: dict[Week, tuple[str, ...]] = {}
        for entry in self.managed.values():
            week, reservation = week_of(entry.href), entry.reservation
            if week is None or self.since is None or week.monday < self.since.date():
                continue
            if entry.held is not None:
                found[week] = entry.held
            elif reservation is not None and not reservation.released:
                found[week] = names_of(reservation)
        return found

    @cached_property
    def away(self) -> Mapping[str, Diary]:
        """The absences that stand on the calendar, by the name of who is away."""
        found: dict[str, list[tuple[Occurrence, AbsenceRecord]]] = {}
        for _, entry in sorted(self.managed.items()):
            if entry.away is not None:
                standing = ((occurrence, entry.away) for occurrence in entry.reading.occurrences)
                found.setdefault(entry.away.conductor, []).extend(standing)
        return {name: Diary(absences) for name, absences in found.items()}

    @cached_property
    def defects(self) -> dict[str, tuple[str, ...]]:
        """What could not be read in full, by href."""
        return {href: entry.reading.defects for href, entry in sorted(self.managed.items()) if entry.reading.defects}

    @cached_property
    def unplaced(self) -> tuple[str, ...]:
        """The hrefs of resources that may hide an event of which not even the time is known."""
        return tuple(href for href in self.defects if self.entries[href].reading.unplaced)

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether the whole span lies within the horizon."""
        return self.horizon.start <= start and end <= self.horizon.end

    def after(self, changes: Changes, now: datetime, expected: Mapping[bytes, CalendarObject] = NO_OBJECTS) -> Agenda:
        """The agenda once `changes` are taken in; this one stays as it is.

        `expected` has the entries, by their bytes, of resources of which it is known already what reading them comes to.
        """
        touched = {resource.href for resource in changes.changed} | set(changes.removed)
        if changes.complete:
            touched |= self.entries.keys()
        if not touched:
            return replace(self, token=changes.token, synced=now)
        fresh = {resource.href: read_object(resource, self.horizon, expected, self.since) for resource in changes.changed}
        gone = [entry for href in touched if (entry := self.entries.get(href)) is not None]
        quarters = dict(self.quarters)
        for quarter in {
            quarter for entry in gone for found in entry.reading.occurrences for quarter in _quarters(found, self.horizon)
        }:
            quarters[quarter] = tuple(found for found in quarters[quarter] if found.href not in touched)
        _add(quarters, (found for entry in fresh.values() for found in entry.reading.occurrences), self.horizon)
        kept = {href: entry for href, entry in self.managed.items() if href not in touched}
        managed = kept | {href: entry for href, entry in fresh.items() if entry.is_managed}
        entries = self.entries.after(touched, fresh)
        # Last-Modified counts in whole seconds, so two contents never share one.
        changed = max(now.replace(microsecond=0), self.changed + timedelta(seconds=1))
        return Agenda(self.horizon, changed, now, changes.token, entries, managed, quarters, self.busy, self.since)


def horizon_around(config: Config, now: datetime) -> TimeRange:
    """The horizon around the UTC day of `now` (aware)."""
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    return TimeRange(midnight - config.calendar.horizon.past, midnight + config.calendar.horizon.future + _DAY)


def blank(config: Config, now: datetime, changed: datetime = _EVER) -> Agenda:
    """An agenda around `now` (aware) of windows.toml alone: standing windows and freezes; not older than `changed`."""
    span = horizon_around(config, now)
    quarters: dict[int, tuple[Occurrence, ...]] = {}
    _add(quarters, [*_standing(config, span), *_freezes(config, span)], span)
    last = max(changed, now.replace(microsecond=0))
    return Agenda(span, changed=last, synced=now, quarters=quarters, since=_since(config))


def _since(config: Config) -> datetime | None:
    if config.rotation.start is None:
        return None
    first = max(config.rotation.start.monday - LEAD, Week(FIRST_YEAR, 1).monday)
    return datetime.combine(first, time(), UTC)


def _standing(config: Config, horizon: TimeRange) -> Iterator[Occurrence]:
    for window in config.recurring_windows:
        for slot in window.between(horizon.start, horizon.end):
            yield Occurrence(
                slot.start.astimezone(UTC),
                slot.end.astimezone(UTC),
                slot.uid,
                window.title,
                kind="standing",
                slot=slot.id,
                categories=(window.category,) if window.category else (),
            )


def _freezes(config: Config, horizon: TimeRange) -> Iterator[Occurrence]:
    for freeze in config.freezes:
        if freeze.days is None:
            spans: Iterable[tuple[datetime, datetime]] = [freeze_span(freeze)]
        else:
            spans = _weekly(freeze.days, freeze.timezone, horizon)
        for start, end in spans:
            yield Occurrence(
                start.astimezone(UTC),
                end.astimezone(UTC),
                f"freeze-{start:%Y%m%dT%H%M%SZ}-{end:%Y%m%dT%H%M%SZ}-{crc32(freeze.reason.encode()):08x}@calsync",
                freeze.reason,
                kind="freeze",
                train_only=freeze.scope == "train",
            )


def _weekly(days: tuple[str, ...], timezone: str, horizon: TimeRange) -> Iterator[tuple[datetime, datetime]]:
    """The spans of days that are in `days`, consecutive ones as one, from midnight to midnight in `timezone`; in UTC."""
    tz = zone(timezone)
    day, last = horizon.start.astimezone(tz).date() - 7 * _DAY, horizon.end.astimezone(tz).date() + 7 * _DAY
    first = None
    while day <= last:
        frozen = WEEKDAYS[day.weekday()] in days and day < last
        if frozen and first is None:
            first = day
        if not frozen and first is not None:
            start, end = (resolve(datetime.combine(edge, time()), tz)[0].astimezone(UTC) for edge in (first, day))
            if start < horizon.end and horizon.start < end:
                yield start, end
            first = None
        day += _DAY


_QUARTER = timedelta(hours=6)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_AHEAD, _BEHIND = timedelta(hours=14), timedelta(hours=12)  # UTC+14 to UTC−12, between which a floating one may be


def _quarter(moment: datetime) -> int:
    return (moment - _EPOCH) // _QUARTER


def _quarters(occurrence: Occurrence, horizon: TimeRange) -> range:
    """The quarters of days, counted from 1970 in UTC, that the occurrence touches in the horizon for any observer."""
    start, end = (moment.replace(tzinfo=UTC) for moment in (occurrence.start, occurrence.end))
    start, end = max(start, horizon.start - _DAY), min(end, horizon.end + _DAY)
    if occurrence.start.tzinfo is None:
        start, end = start - _AHEAD, end + _BEHIND
    return range(_quarter(start), _quarter(end) + 1)


def _add(quarters: dict[int, tuple[Occurrence, ...]], occurrences: Iterable[Occurrence], horizon: TimeRange) -> None:
    """Put occurrences into the quarters they touch."""
    added: dict[int, list[Occurrence]] = {}
    for occurrence in occurrences:
        for quarter in _quarters(occurrence, horizon):
            added.setdefault(quarter, []).append(occurrence)
    for quarter, found in added.items():
        quarters[quarter] = (*quarters.get(quarter, ()), *found)
