"""Read any iCalendar resource as occurrences: what takes place, when, and whether it makes anybody busy.

People put everything on a calendar, so nothing here trusts its input. An event that cannot be read in full has a defect: it
is reported, stays out of the feed, and counts as busy wherever it may take place, never as free. Damage to one event takes
no other event away.

All-day and floating events (RFC 5545, section 3.3.5) have no instant of their own. Their occurrences are naive, and whoever
compares them brings the timezone of the observer.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

from icalendar import Component, Event, vCategory

from calsync.core.properties import SLOT
from calsync.core.timezones import resolve, zone
from calsync.ical.budget import OverBudget
from calsync.ical.components import instant_of, moment_of, rules_of, span_of, utc_of, values_of
from calsync.ical.contentlines import content_lines
from calsync.ical.parser import TIME_PROPERTIES, Parsed, error_text
from calsync.ical.recurrence import TimeRange, instances, last_start
from calsync.ical.timezones import CustomZone, UsedTimezones, set_timezones

MAX_TITLE = 500
"""The maximum length of a title in characters; the feed has the whole title."""
_NO_TIMEZONES: Mapping[str, bytes] = MappingProxyType({})
_TZIDS: dict[frozenset[str], frozenset[str]] = {}
"""One object for each set of TZIDs. There are few sets, and a set takes more memory than an occurrence."""
_LONGEST_AHEAD, _LONGEST_BEHIND = timedelta(hours=14), timedelta(hours=12)  # UTC+14 to UTC−12


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One instance of an event, a train slot, a recurring window or a freeze."""

    start: datetime
    end: datetime
    """In UTC like `start`; both are naive if the occurrence is all-day or floating."""
    uid: str
    summary: str
    href: str = ""
    """Its resource; empty for what is not on the calendar."""
    kind: Literal["event", "slot", "recurring", "freeze"] = "event"
    slot: str = ""
    """The id of the train slot or of the slot of a recurring window."""
    categories: tuple[str, ...] = ()
    busy: bool = True
    certain: bool = True
    """False if it cannot be read in full, and may take place at any time from `start` to `end`."""
    train_only: bool = False
    """Whether a freeze holds for trains only."""

    def span(self, observer: str) -> tuple[datetime, datetime]:
        """Return start and end as instants; a floating occurrence is seen in the timezone `observer`.

        The earlier instant comes first, even if clocks that skip an hour reverse the two.
        """
        if self.start.tzinfo is not None:
            return self.start, self.end
        tz = zone(observer)
        start, end = sorted(resolve(edge, tz)[0] for edge in (self.start, self.end))
        return start, end


@dataclass(frozen=True, slots=True)
class Reading:
    """What a resource says within the horizon."""

    occurrences: tuple[Occurrence, ...] = ()
    published: bytes = b""
    """Its VEVENTs for the feed (CRLF lines)."""
    timezones: Mapping[str, bytes] = field(default_factory=lambda: _NO_TIMEZONES)
    """The VTIMEZONEs of its own that `published` needs, by TZID."""
    tzids: frozenset[str] = frozenset()
    """The timezones of pytz that `published` needs."""
    defects: tuple[str, ...] = ()
    """What could not be read, in sentences without a full stop."""
    unplaced: bool = False
    """Whether it may hide an event of which not even the time is known."""
    ends: datetime | None = None
    """An instant (UTC) from which on nothing of it takes place for any observer; None if it has none or none is known."""
    timed_out: bool = False
    """Whether reading ended early because it took too long."""


def read_occurrences(
    parsed: Parsed, href: str, horizon: TimeRange, seconds: float = math.inf, *, publish: bool = True
) -> Reading:
    """Read a parsed resource once; never raises for what is in it.

    Events that are not read after this many seconds of processor time are a defect, and unplaced. Without `publish`,
    `published` stays empty. Sets the timezones of the component tree, so a second reading would see other names.
    """
    groups: dict[str, list[Event]] = defaultdict(list)
    for event in parsed.calendar.events:
        groups[str(event.get("UID", ""))].append(event)
    defects = [*parsed.defects]
    readings: list[Reading] = []
    deadline, timed_out = time.thread_time() + seconds, False
    for uid, events in groups.items():
        if time.thread_time() > deadline:
            defects.append(f"has more in it than can be read in {seconds:g} s")
            timed_out = True
            break
        reading = _EventGroup(uid, href, events, parsed.zones, horizon, publish=publish).read()
        readings.append(reading)
        defects += (f"{uid or 'event without UID'}: {defect}" for defect in reading.defects)
    ends = [reading.ends for reading in readings if reading.ends is not None]
    tzids = frozenset(tzid for reading in readings for tzid in reading.tzids)
    timezones = {tzid: text for reading in readings for tzid, text in reading.timezones.items()}
    return Reading(
        tuple(occurrence for reading in readings for occurrence in reading.occurrences),
        b"".join(reading.published for reading in readings),
        timezones or _NO_TIMEZONES,
        _TZIDS.setdefault(tzids, tzids),
        tuple(defects),
        unplaced=timed_out or not parsed.is_calendar or any(reading.unplaced for reading in readings),
        ends=max(ends) if ends and len(ends) == len(readings) and not defects else None,
        timed_out=timed_out,
    )


def is_within(occurrence: Occurrence, horizon: TimeRange) -> bool:
    """Return whether the occurrence touches the horizon, for any observer if it is floating."""
    start, end = (edge.replace(tzinfo=UTC) for edge in (occurrence.start, occurrence.end))
    day = timedelta(days=occurrence.start.tzinfo is None)
    return start < horizon.end + day and end >= horizon.start - day


class _EventGroup:
    """The VEVENTs of one UID: a master with its overrides, or overrides alone."""

    def __init__(
        self,
        uid: str,
        href: str,
        events: list[Event],
        zones: Mapping[str, CustomZone],
        horizon: TimeRange,
        *,
        publish: bool,
    ) -> None:
        self.uid, self.href, self.events, self.zones = uid, href, events, zones
        self.horizon, self.publish = horizon, publish
        self.private = any(_is_private(event) for event in events)
        self.timezones = UsedTimezones()
        self.defects: list[str] = []
        self.unplaced = False
        self.shared: dict[Any, Any] = {}

    def read(self) -> Reading:
        """Return occurrences, published text and defects of the group; never raises."""
        try:
            occurrences = self._occurrences()
            if not self.defects:
                reading = Reading(self._within(occurrences), ends=self._end(occurrences))
                return self._with_published(reading) if self.publish else reading
        except Exception as error:  # other people's values, such as a year beyond 9999
            occurrences = [occurrence for event in self.events for occurrence in self._anywhere(event)]
            self.defects.append(error_text(error))
        return Reading(self._within(occurrences), defects=tuple(self.defects), unplaced=self.unplaced)

    def _within(self, occurrences: list[Occurrence]) -> tuple[Occurrence, ...]:
        return tuple(occurrence for occurrence in occurrences if is_within(occurrence, self.horizon))

    def _occurrences(self) -> list[Occurrence]:
        for event in self.events:
            set_timezones(event, self.zones, self.timezones)
        self.defects += (f'{name} has the unknown timezone "{tzid[:60]}"' for name, tzid in self.timezones.unknown)
        sound: list[Event] = []
        broken: list[Event] = []
        for event in self.events:
            defect = _defect_of(event)
            if defect is None:
                sound.append(event)
            else:
                broken.append(event)
                self.defects.append(defect)
        occurrences = [*self._expand(sound), *(occurrence for event in broken for occurrence in self._anywhere(event))]
        return [self._widened(occurrence) for occurrence in occurrences] if self.timezones.unknown else occurrences

    def _expand(self, events: list[Event]) -> list[Occurrence]:
        try:
            return [self._occurrence(*instance) for instance in instances(events, self.horizon)]
        except OverBudget as error:
            self.defects.append(str(error))
        except Exception as error:  # other people's values
            self.defects.append(f"its recurrence cannot be expanded: {error_text(error)}")
        return [occurrence for event in events for occurrence in self._anywhere(event)]

    def _anywhere(self, event: Event) -> list[Occurrence]:
        """Return where an event that cannot be expanded may take place: once, or from its start to the end of its rules."""
        try:
            start, end = sorted(utc_of(edge) for edge in span_of(event))
        except Exception:  # without a readable start, only the defect is known
            self.unplaced = True
            return []
        unreadable = {str(name) for name, _ in event.errors}
        if unreadable & {"DTEND", "DURATION"}:
            end = _later(end, timedelta(days=1))
        if rules_of(event) or "RDATE" in event or unreadable & {"RRULE", "RDATE"}:
            untils = [utc_of(until) for rule in rules_of(event) for until in rule.get("UNTIL", [])]
            end = _later(max(end, *untils), end - start) if untils else self.horizon.end
        return [self._widened(self._occurrence(event, start, max(end, _later(start, timedelta(minutes=1)))))]

    def _widened(self, occurrence: Occurrence) -> Occurrence:
        """Return the occurrence as an uncertain one, over all timezones if its own is not known."""
        start, end = occurrence.start, occurrence.end
        if start.tzinfo is None or self.timezones.unknown:
            start = _later(start.replace(tzinfo=UTC), -_LONGEST_AHEAD)
            end = _later(end.replace(tzinfo=UTC), _LONGEST_BEHIND)
        return replace(occurrence, start=start, end=end, certain=False)

    def _occurrence(self, event: Component, start: date, end: date) -> Occurrence:
        begin, finish = instant_of(start), instant_of(end)
        if (begin.tzinfo is None) != (finish.tzinfo is None):
            finish = finish.replace(tzinfo=begin.tzinfo)
        summary = "busy" if self.private else _title(str(event.get("SUMMARY", "")))
        categories = () if self.private else _categories(event)
        # Instances of one event share equal values; there may be a hundred thousand instances.
        return Occurrence(
            begin,
            finish,
            self.uid,
            self.shared.setdefault(summary, summary),
            self.href,
            slot=str(event.get(SLOT, "")),
            categories=self.shared.setdefault(categories, categories),
            busy=str(event.get("STATUS", "")).upper() != "CANCELLED"
            and str(event.get("TRANSP", "")).upper() != "TRANSPARENT",
        )

    def _end(self, occurrences: list[Occurrence]) -> datetime | None:
        """Return when the whole group is over for every observer; None if it never ends or that is not known."""
        ends = [occurrence.end.replace(tzinfo=UTC) for occurrence in occurrences]
        for event in self.events:
            start, end = (utc_of(edge) for edge in span_of(event))
            last_starts = [last_start(rule, start) for rule in rules_of(event)]
            if "RDATE" in event or None in last_starts:
                return None
            ends += [end, *(_later(last, end - start) for last in last_starts if last is not None)]
        return _later(max(ends), timedelta(days=1))

    def _with_published(self, reading: Reading) -> Reading:
        text = b"".join(self._published(event) for event in self.events)
        return replace(reading, published=text, timezones=self.timezones.custom, tzids=frozenset(self.timezones.tzids))

    def _published(self, event: Event) -> bytes:
        """Return the VEVENT without alarms; of a private one only when it takes place."""
        published = event.copy()
        if self.private:
            for name in [name for name in published if name.upper() not in TIME_PROPERTIES]:
                del published[name]
            published.add("SUMMARY", "busy")
        return content_lines(published)


def _defect_of(event: Event) -> str | None:
    """Return why the component cannot be expanded; None if it can."""
    unreadable = sorted({str(name) for name, _ in event.errors} & TIME_PROPERTIES)
    if unreadable:
        return f"{', '.join(unreadable)} cannot be read"
    start, end = moment_of(event, "DTSTART"), moment_of(event, "DTEND")
    if start is None:
        return "DTSTART is missing"
    if end is not None and isinstance(start, datetime) != isinstance(end, datetime):
        return "DTSTART and DTEND are not of the same type"
    if any("FREQ" not in rule for rule in rules_of(event)):
        return "RRULE has no FREQ"
    start, end = span_of(event)
    if utc_of(end) < utc_of(start):
        return "DURATION is negative" if "DURATION" in event else "DTEND is before DTSTART"
    return None


def _is_private(event: Component) -> bool:
    """Return whether only the times of the event may be shown; an unknown class counts as private."""
    return str(event.get("CLASS", "PUBLIC")).upper() != "PUBLIC"


def _title(summary: str) -> str:
    """Return a SUMMARY as it is shown: not empty, and at most `MAX_TITLE` characters."""
    title = summary.strip() or "event without a title"
    return title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1] + "…"


def _categories(event: Component) -> tuple[str, ...]:
    lines = [line for line in values_of(event, "CATEGORIES") if isinstance(line, vCategory)]
    return tuple(str(category) for line in lines for category in line.cats)


def _later(moment: datetime, span: timedelta) -> datetime:
    """Return the moment moved by the span, or the first or last moment that exists."""
    try:
        return moment + span
    except OverflowError:
        year, month, day = (MAXYEAR, 12, 31) if span > timedelta() else (MINYEAR, 1, 1)
        return datetime(year, month, day, tzinfo=moment.tzinfo)
