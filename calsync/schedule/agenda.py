"""The agenda: the Deployments calendar in memory, as every check and every reader sees it.

An `Agenda` is immutable. It holds what is on the calendar within the horizon, and the recurring windows and freezes of
windows.toml, all as occurrences indexed by the quarter of the day, so that a question about a span costs what happens in
it. The next agenda shares everything with this one but what changed.
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
from calsync.schedule.objects import CalendarObject, names_of, read_object

LEAD = timedelta(weeks=4)
"""How long before the rotation's start a week may be that it follows."""

_DAY = timedelta(days=1)
_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Agenda:
    """What is known of the calendar, under the configuration `config`.

    `changed` is when this content was first seen, `synced` when it was last confirmed. `objects` has every resource by its
    href, and `managed` those that are not simply somebody's event: reservations, absences, and what cannot be read in full.
    `busy` is what people's own feeds say, by their names; it is published nowhere. The rotation counts from `since` on: of
    what is over, trains and absences from then on are kept; None without a rotation.
    """

    config: Config
    horizon: TimeRange
    changed: datetime
    synced: datetime
    token: SyncToken | None = None
    objects: Mapping[str, CalendarObject] = field(default_factory=dict)
    managed: Mapping[str, CalendarObject] = field(default_factory=dict)
    quarters: Mapping[int, tuple[Occurrence, ...]] = field(default_factory=dict)
    busy: Mapping[str, Busy] = field(default_factory=dict)
    since: datetime | None = None

    def overlapping(self, start: datetime, end: datetime, observer: str) -> Iterator[tuple[Occurrence, datetime, datetime]]:
        """Yield the occurrences that overlap the span from `start` to `end` (aware), each with start and end as instants.

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

    def has_content_of(self, other: Agenda) -> bool:
        """Return whether what is made of one is right for the other too: a sync without changes alters no content."""
        return self.objects is other.objects and self.busy is other.busy and self.horizon == other.horizon

    def reservation(self, week: Week) -> CalendarObject | None:
        """Return the object at the href of the week's reservation: reserved, released, or not readable any more."""
        stored = self.managed.get(reservation_href(week))
        return stored if stored is None or stored.past_pair is None else None

    @property
    def history(self) -> dict[str, datetime]:
        """When what was over before the horizon was over, by etag.

        No absence is in it, even where there is no rotation: it may count for the rotation of another process.
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
        reservations = [stored for stored in self.managed.values() if stored.reservation is not None]
        return tuple(sorted(reservations, key=lambda stored: stored.href))

    @cached_property
    def pairs_by_week(self) -> Mapping[Week, tuple[str, ...]]:
        """Primary and backup of every train week from `since` on that is reserved, or was when it took place.

        A week whose slots people all removed has an empty pair: it counts for nobody.
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
    def away(self) -> Mapping[str, Diary]:
        """The absences on the calendar, by the name of who is away."""
        absences: dict[str, list[tuple[Occurrence, AbsenceRecord]]] = {}
        for _, stored in sorted(self.managed.items()):
            if stored.away is not None:
                occurrences = ((occurrence, stored.away) for occurrence in stored.reading.occurrences)
                absences.setdefault(stored.away.conductor, []).extend(occurrences)
        return {name: Diary(of_person) for name, of_person in absences.items()}

    @cached_property
    def defects(self) -> dict[str, tuple[str, ...]]:
        """What could not be read in full, by href."""
        return {href: stored.reading.defects for href, stored in sorted(self.managed.items()) if stored.reading.defects}

    @cached_property
    def unplaced(self) -> tuple[str, ...]:
        """The hrefs of resources that may hide an event of which not even the time is known."""
        return tuple(href for href in self.defects if self.objects[href].reading.unplaced)

    def covers(self, start: datetime, end: datetime) -> bool:
        """Return whether the whole span lies within the horizon."""
        return self.horizon.start <= start and end <= self.horizon.end

    def after(self, changes: Changes, now: datetime) -> Agenda:
        """Return the agenda that takes in `changes` at `now` (aware); this one stays as it is."""
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
            # Last-Modified counts in whole seconds, so two contents never share one.
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
    """Return the objects without those at hrefs in `touched`, and with `fresh`."""
    updated = dict(objects)
    for href in touched:
        updated.pop(href, None)
    updated.update(fresh)
    return updated


def horizon_around(config: Config, now: datetime) -> TimeRange:
    """Return the horizon around the UTC day of `now` (aware)."""
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    return TimeRange(midnight - config.calendar.horizon.past, midnight + config.calendar.horizon.future + _DAY)


def blank(config: Config, now: datetime, changed: datetime = _EVER) -> Agenda:
    """Return an agenda around `now` (aware) of windows.toml alone, windows and freezes; not older than `changed`."""
    span = horizon_around(config, now)
    quarters: dict[int, tuple[Occurrence, ...]] = {}
    _add(quarters, [*_recurring(config, span), *_freezes(config, span)], span)
    last = max(changed, now.replace(microsecond=0))
    return Agenda(config, span, changed=last, synced=now, quarters=quarters, since=_since(config))


def _since(config: Config) -> datetime | None:
    if config.rotation.start is None:
        return None
    first = max(config.rotation.start.monday - LEAD, Week(FIRST_YEAR, 1).monday)
    return datetime.combine(first, time(), UTC)


def _recurring(config: Config, horizon: TimeRange) -> Iterator[Occurrence]:
    for window in config.recurring_windows:
        for slot in window.between(horizon.start, horizon.end):
            yield Occurrence(
                slot.start.astimezone(UTC),
                slot.end.astimezone(UTC),
                slot.uid,
                window.title,
                kind="recurring",
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
