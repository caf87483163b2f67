"""The agenda: the Deployments calendar in memory, as every check and every reader sees it.

An `Agenda` is immutable. It holds what stands on the calendar within the horizon, and with it the standing windows and
freezes of windows.toml, all as occurrences indexed by day, so that a question about a span costs what happens in it. A
`Follower` keeps the current agenda: it asks the calendar for changes and swaps the whole agenda for the next one, so that
readers never wait and never see half of a change.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from zlib import crc32

from calsync import events
from calsync.calendars import Calendar, Changes, Resource, SyncToken
from calsync.calendars.lastknown import LastKnown
from calsync.edits import as_it_stands
from calsync.errors import Unreachable
from calsync.occurrences import Occurrence, Reading, read
from calsync.records import Reservation
from calsync.recurrence import Horizon
from calsync.settings import Config, freeze_span
from calsync.weeks import WEEKDAYS, Week
from calsync.windows import standing_windows
from calsync.zones import resolve, zone

TURN = timedelta(seconds=30)
"""How long a writer waits for the writers before it."""

_DAY = timedelta(days=1)
_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource as it was read.

    A reservation's has `reservation` (as it stands), the `changes` that people made to it since, the `mark` of its last
    write, and its bytes.
    """

    href: str
    etag: str
    reading: Reading
    reservation: Reservation | None = None
    changes: tuple[str, ...] = ()
    mark: str = ""
    ics: bytes = b""


@dataclass(frozen=True)
class Agenda:
    """What is known of the calendar. `changed` is when this content was first seen, `synced` when it was last confirmed."""

    horizon: Horizon
    changed: datetime
    synced: datetime
    token: SyncToken | None = None
    entries: Mapping[str, Entry] = field(default_factory=dict)
    days: Mapping[int, tuple[Occurrence, ...]] = field(default_factory=dict)

    def overlapping(self, start: datetime, end: datetime, observer: str) -> Iterator[tuple[Occurrence, datetime, datetime]]:
        """The occurrences that overlap the span from `start` to `end` (aware), each with its start and end as instants.

        Half-open on both sides: what ends when the span starts does not overlap it, and neither does what has no length.
        `observer` is the timezone in which all-day and floating occurrences are seen.
        """
        seen: set[int] = set()
        for day in range(_ordinal(start) - 1, _ordinal(end) + 2):
            for occurrence in self.days.get(day, ()):
                begin, finish = occurrence.span(observer)
                if begin < end and start < finish and begin < finish and id(occurrence) not in seen:
                    seen.add(id(occurrence))
                    yield occurrence, begin, finish

    def reservation(self, week: Week) -> Entry | None:
        """What stands where the week's reservation belongs: held, released, or no longer readable."""
        return self.entries.get(events.href(week))

    @cached_property
    def reservations(self) -> tuple[Entry, ...]:
        """The readable reservations by week, the released ones too."""
        found = [entry for entry in self.entries.values() if entry.reservation is not None]
        return tuple(sorted(found, key=lambda entry: entry.href))

    @cached_property
    def defects(self) -> dict[str, tuple[str, ...]]:
        """What could not be read in full, by href."""
        return {href: entry.reading.defects for href, entry in sorted(self.entries.items()) if entry.reading.defects}

    @cached_property
    def unplaced(self) -> tuple[str, ...]:
        """The hrefs of resources that may hide an event of which not even the time is known."""
        return tuple(href for href in self.defects if self.entries[href].reading.unplaced)

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether the whole span lies within the horizon."""
        return self.horizon.start <= start and end <= self.horizon.end

    def after(self, changes: Changes, now: datetime) -> Agenda:
        """The agenda once `changes` are taken in; this one stays as it is."""
        touched = {resource.href for resource in changes.changed} | set(changes.removed)
        if changes.complete:
            touched |= self.entries.keys()
        if not touched:
            return replace(self, token=changes.token, synced=now)
        fresh = {resource.href: _entry(resource, self.horizon) for resource in changes.changed}
        entries = {href: entry for href, entry in self.entries.items() if href not in touched} | fresh
        gone = (
            occurrence for href in touched & self.entries.keys() for occurrence in self.entries[href].reading.occurrences
        )
        days = dict(self.days)
        for day in {day for occurrence in gone for day in _days(occurrence, self.horizon)}:
            days[day] = tuple(occurrence for occurrence in days[day] if occurrence.href not in touched)
        _add(days, (occurrence for entry in fresh.values() for occurrence in entry.reading.occurrences), self.horizon)
        # Last-Modified counts in whole seconds, so two contents never share one.
        changed = max(now.replace(microsecond=0), self.changed + timedelta(seconds=1))
        return replace(self, token=changes.token, entries=entries, days=days, synced=now, changed=changed)


def horizon(config: Config, now: datetime) -> Horizon:
    """The horizon around the UTC day of `now` (aware)."""
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    return Horizon(midnight - config.calendar.horizon.past, midnight + config.calendar.horizon.future + _DAY)


def blank(config: Config, now: datetime, changed: datetime = _EVER) -> Agenda:
    """An agenda around `now` (aware) of windows.toml alone: standing windows and freezes; not older than `changed`."""
    span = horizon(config, now)
    days: dict[int, tuple[Occurrence, ...]] = {}
    _add(days, [*_standing(config, span), *_freezes(config, span)], span)
    return Agenda(span, changed=max(changed, now.replace(microsecond=0)), synced=now, days=days)


def _entry(resource: Resource, horizon: Horizon) -> Entry:
    reading = read(resource.ics, resource.href, horizon)
    week = events.week_of(resource.href)
    if week is None:
        return Entry(resource.href, resource.etag, reading)
    # The feed draws a reservation from its record, never as it stands.
    reading = replace(reading, published=b"", timezones={}, tzids=frozenset())
    try:
        written = events.decode(resource.ics)
        if written.reservation.week != week:
            raise ValueError(f"it is the reservation of {written.reservation.week}")
    except ValueError as error:
        reading = _as_slots(replace(reading, defects=(*reading.defects, f"the reservation cannot be read: {error}")))
        return Entry(resource.href, resource.etag, reading, ics=resource.ics)
    reading = _as_slots(reading, cancelled=written.cancelled)
    reservation, changes = as_it_stands(written.reservation, reading.occurrences, horizon, cancelled=written.cancelled)
    return Entry(resource.href, resource.etag, reading, reservation, changes, written.mark, resource.ics)


def _as_slots(reading: Reading, *, cancelled: bool = False) -> Reading:
    """The occurrences of a reservation's resource; those of one that people cancelled make nobody busy."""
    slots = (replace(found, kind="slot", busy=found.busy and not cancelled) for found in reading.occurrences)
    return replace(reading, occurrences=tuple(slots))


def _standing(config: Config, horizon: Horizon) -> Iterator[Occurrence]:
    for window in standing_windows(config):
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


def _freezes(config: Config, horizon: Horizon) -> Iterator[Occurrence]:
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


def _weekly(days: tuple[str, ...], timezone: str, horizon: Horizon) -> Iterator[tuple[datetime, datetime]]:
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


def _ordinal(moment: datetime) -> int:
    return (moment if moment.tzinfo is None else moment.astimezone(UTC)).toordinal()


def _days(occurrence: Occurrence, horizon: Horizon) -> range:
    first, last = max(_ordinal(occurrence.start), _ordinal(horizon.start) - 1), _ordinal(occurrence.end)
    return range(first, min(last, _ordinal(horizon.end) + 1) + 1)


def _add(days: dict[int, tuple[Occurrence, ...]], occurrences: Iterable[Occurrence], horizon: Horizon) -> None:
    """Put occurrences into the days they touch; naive ones under their own date, which the question widens for."""
    added: dict[int, list[Occurrence]] = {}
    for occurrence in occurrences:
        for day in _days(occurrence, horizon):
            added.setdefault(day, []).append(occurrence)
    for day, found in added.items():
        days[day] = (*days.get(day, ()), *found)


class Follower:
    """Keeps the current `agenda` of a calendar; safe to use from several threads.

    One thread at a time syncs, and one at a time has its turn to write; readers take whatever agenda stands. `last_known`
    is the copy on disk of a calendar that may be away.
    """

    def __init__(self, calendar: Calendar, config: Config, now: datetime, last_known: LastKnown | None = None) -> None:
        self.calendar, self.config = calendar, config
        self.agenda = blank(config, now)
        self._writing = threading.Lock()
        self._last_known = last_known
        self._syncing = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let one writer in at a time: those who wait then see what stands, instead of losing a race on the calendar."""
        if not self._writing.acquire(timeout=TURN.total_seconds()):
            raise Unreachable("The calendar is slow, and others are waiting to write; try again later.")
        try:
            yield
        finally:
            self._writing.release()

    def recall(self, now: datetime) -> Agenda:
        """Take the last known calendar from disk, if there is one, until the calendar itself answers."""
        with self._syncing:
            self.agenda = self._recalled(self.agenda, now)
            return self.agenda

    def sync(self, now: datetime) -> Agenda:
        """Take in what changed on the calendar; raises its errors, and leaves the agenda as it is then.

        When the day has changed, everything is read anew for the horizon of today.
        """
        with self._syncing:
            agenda = self.agenda
            if horizon(self.config, now) != agenda.horizon:
                agenda = self._recalled(blank(self.config, now, changed=agenda.changed + timedelta(seconds=1)), now)
            changes = self.calendar.changes(agenda.token, agenda.entries)
            if self._last_known is not None:
                self._last_known.save(changes, now)
            self.agenda = agenda.after(changes, now)
            return self.agenda

    def _recalled(self, agenda: Agenda, now: datetime) -> Agenda:
        found = self._last_known.load() if self._last_known is not None else None
        if found is None:
            return agenda
        changes, synced = found
        return replace(agenda.after(changes, now), synced=synced)
