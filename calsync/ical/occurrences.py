"""Any iCalendar resource → occurrences: what stands on the calendar, when, and whether it makes anybody busy.

People put everything on a calendar, so nothing here trusts its input. What cannot be read in full is a defect: it is
reported, its event stays out of the feed, and it counts as busy wherever it may take place, never as free. A text of more
than `MAX_LINE` bytes is left out alone, without its event.

All-day and floating events (RFC 5545, section 3.3.5) have no instant of their own; their occurrences are naive, and whoever
compares them brings the timezone of the observer.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, timedelta, tzinfo
from types import MappingProxyType
from typing import Any, Literal
from zoneinfo import ZoneInfo

from icalendar import Component, Event, vCategory
from icalendar.prop import vBroken

from calsync.core.properties import SLOT
from calsync.core.timezones import resolve, zone
from calsync.ical.contentlines import content_lines
from calsync.ical.parser import TIME_PROPERTIES, CustomZone, Parsed, parse
from calsync.ical.recurrence import (
    OverBudget,
    TimeRange,
    instances,
    instant_of,
    last_start,
    moment_of,
    rules_of,
    span_of,
    utc_of,
)

MAX_TITLE = 500
"""How many characters of a title are shown; the feed has it whole."""
_TZIDS: dict[frozenset[str], frozenset[str]] = {}
_NO_TIMEZONES: Mapping[str, bytes] = MappingProxyType({})
_LONGEST_AHEAD, _LONGEST_BEHIND = timedelta(hours=14), timedelta(hours=12)  # UTC+14 to UTC−12


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One dated happening. `start` and `end` are in UTC, or naive where it is all-day or floating.

    `kind` says what it is: somebody's event, a reserved train slot (`slot` is its id), a recurring window, or a freeze.
    One that is not `certain` may take place at any time from `start` to `end`.
    """

    start: datetime
    end: datetime
    uid: str
    summary: str
    href: str = ""
    kind: Literal["event", "slot", "recurring", "freeze"] = "event"
    slot: str = ""
    categories: tuple[str, ...] = ()
    busy: bool = True
    certain: bool = True
    train_only: bool = False

    def span(self, observer: str) -> tuple[datetime, datetime]:
        """Start and end as instants; `observer` is the timezone in which a floating one is seen.

        The earlier one is first, also where clocks that skip an hour turn the two round.
        """
        if self.start.tzinfo is not None:
            return self.start, self.end
        tz = zone(observer)
        start, end = sorted(resolve(edge, tz)[0] for edge in (self.start, self.end))
        return start, end


@dataclass(frozen=True, slots=True)
class Reading:
    """What a resource says: its occurrences within the horizon, what of it the feed carries, and its defects.

    `published` holds VEVENTs as they stand (CRLF lines), `timezones` the VTIMEZONEs of its own that they need and
    `tzids` the names of the pytz timezones they need.
    `unplaced` tells that something of which not even the time can be read stands on it. `over` is an instant from which on
    nothing of it takes place, wherever it is seen; None where that is not known, or never. `cut` tells that reading it
    took too long, and ended.
    """

    occurrences: tuple[Occurrence, ...] = ()
    published: bytes = b""
    timezones: Mapping[str, bytes] = field(default_factory=lambda: _NO_TIMEZONES)
    tzids: frozenset[str] = frozenset()
    defects: tuple[str, ...] = ()
    unplaced: bool = False
    over: datetime | None = None
    cut: bool = False


def read(ics: bytes, href: str, horizon: TimeRange, seconds: float = math.inf) -> Reading:
    """Read one resource (bytes of `text/calendar`); never raises for what is in it.

    What is left unread after so many `seconds` of processor time for expanding is a defect, and unplaced.
    """
    try:
        parsed = parse(ics)
    except Exception as error:  # whatever a parser makes of other people's bytes, the defect is the resource's
        return unreadable(error)
    return read_occurrences(parsed, href, horizon, seconds)


def unreadable(error: Exception) -> Reading:
    """Return the reading of a resource that the parser refused with `error`."""
    return Reading(defects=(f"cannot be parsed: {_one_line(error)}",), unplaced=True)


def read_occurrences(
    parsed: Parsed, href: str, horizon: TimeRange, seconds: float = math.inf, *, publish: bool = True
) -> Reading:
    """Read a parsed resource, as `read` does; without `publish`, nothing is made for the feed.

    Settles the timezones of the tree, which therefore can be read once only.
    """
    defects = [*parsed.defects]
    groups: dict[str, list[Event]] = defaultdict(list)
    for event in parsed.calendar.events:
        groups[str(event.get("UID", ""))].append(event)
    occurrences: list[Occurrence] = []
    unplaced = False
    published: list[bytes] = []
    tzids: set[str] = set()
    used: dict[str, bytes] = {}
    ends: list[datetime | None] = []
    until, cut = time.thread_time() + seconds, False
    for uid, events in groups.items():
        if time.thread_time() > until:
            defects.append(f"has more in it than can be read in {seconds:g} s")
            unplaced = cut = True
            break
        reading = _Group(uid, href, events, parsed.zones, horizon, publish=publish).read()
        occurrences += reading.occurrences
        unplaced = unplaced or reading.unplaced
        ends.append(reading.over)
        defects += (f"{uid or 'event without UID'}: {defect}" for defect in reading.defects)
        if reading.published:
            published.append(reading.published)
            tzids |= reading.tzids
            used.update(reading.timezones)
    text = published[0] if len(published) == 1 else b"".join(published)
    known = [end for end in ends if end is not None]
    over = max(known) if known and len(known) == len(ends) and not defects else None
    shared = _TZIDS.setdefault(frozenset(tzids), frozenset(tzids))
    return Reading(tuple(occurrences), text, used or _NO_TIMEZONES, shared, tuple(defects), unplaced, over, cut)


def is_within(occurrence: Occurrence, horizon: TimeRange) -> bool:
    """Return whether the occurrence touches the horizon, wherever its clocks are if it is floating."""
    start, end = (moment.replace(tzinfo=UTC) for moment in (occurrence.start, occurrence.end))
    day = timedelta(days=occurrence.start.tzinfo is None)
    return start < horizon.end + day and end >= horizon.start - day


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".replace("\r", " ").replace("\n", " ")[:160]


class _Group:
    """The components of one UID: a master with its overrides, or overrides alone."""

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
        self.publish = publish
        self.uid, self.href, self.events, self.horizon = uid, href, events, horizon
        self.zones = zones
        self.defects: list[str] = []
        self.unknown_zone = self.unplaced = False
        self.private = any(_is_private(event) for event in events)
        self.tzids: set[str] = set()
        self.used: dict[str, bytes] = {}
        self.shared: dict[Any, Any] = {}

    def read(self) -> Reading:
        """Occurrences, feed text and defects of the group."""
        try:
            return self._read()
        except Exception as error:  # as in `read` below: other people's values, such as a year beyond 9999
            places = (found for event in self.events for found in self._anywhere(event))
            inside = tuple(found for found in places if is_within(found, self.horizon))
            return Reading(inside, defects=(*self.defects, _one_line(error)), unplaced=self.unplaced)

    def _read(self) -> Reading:
        for event in self.events:
            self._settle_timezones(event)
        text = b"".join(_published(event, private=self.private) for event in self.events) if self.publish else b""
        loose: list[Event] = []
        whole: list[Event] = []
        for event in self.events:
            (loose if self._is_loose(event) else whole).append(event)
        occurrences = [*self._expand(whole), *(found for event in loose for found in self._anywhere(event))]
        if self.unknown_zone:
            occurrences = [self._widened(occurrence) for occurrence in occurrences]
        inside = tuple(found for found in occurrences if is_within(found, self.horizon))
        if self.defects:
            return Reading(inside, defects=tuple(self.defects), unplaced=self.unplaced)
        tzids = frozenset(self.tzids)
        shared = _TZIDS.setdefault(tzids, tzids)  # there are few of them, and each would take more than an occurrence
        return Reading(inside, text, self.used or _NO_TIMEZONES, shared, over=self._over(occurrences))

    def _over(self, occurrences: list[Occurrence]) -> datetime | None:
        """When everything in the group is over for good, and a day more for where on earth it is seen."""
        ends = [occurrence.end.replace(tzinfo=UTC) for occurrence in occurrences]
        for event in self.events:
            start, end = (utc_of(moment) for moment in span_of(event))
            starts = [last_start(rule, start) for rule in rules_of(event)]
            if "RDATE" in event or None in starts:
                return None
            ends += [end, *(_later(last, end - start) for last in starts if last is not None)]
        return _later(max(ends), timedelta(days=1))

    def _settle_timezones(self, event: Event) -> None:
        """Give every time of the event the timezone that its TZID means here, under the name that the feed uses."""
        for name, values in event.items():
            for value in values if isinstance(values, list) else [values]:
                if isinstance(value, vBroken):
                    continue
                tzid = getattr(value, "params", {}).get("TZID")
                moments = [moment for moment in getattr(value, "dts", [value]) if hasattr(moment, "dt")]
                if tzid is None:
                    continue
                if not moments:  # the TZID of a property that calsync does not read
                    del value.params["TZID"]
                    continue
                custom = self.zones.get(str(tzid))
                if custom is not None:
                    self._set_timezone(moments, custom.tz)
                    value.params["TZID"] = custom.name
                    self.used[custom.name] = custom.text
                    continue
                zones = {_timezone_of(moment.dt) for moment in moments}
                known = next((tz for tz in zones if isinstance(tz, ZoneInfo)), None)
                if known is not None and known.utcoffset(None) == timedelta():
                    self._set_timezone(moments, UTC)
                    del value.params["TZID"]
                elif known is not None:
                    value.params["TZID"] = known.key
                    self.tzids.add(known.key)
                elif zones - {"date", UTC}:  # what icalendar remembers of another resource's timezone is not this one's
                    self._set_timezone(moments, None)
                    self.unknown_zone = True
                    self.defects.append(f'{name} has the timezone "{str(tzid)[:60]}", which nobody knows')

    def _set_timezone(self, moments: list[Any], tz: tzinfo | None) -> None:
        for moment in moments:
            if isinstance(moment.dt, tuple):  # an RDATE of periods
                moment.dt = tuple(part.replace(tzinfo=tz) if isinstance(part, datetime) else part for part in moment.dt)
            elif isinstance(moment.dt, datetime):
                moment.dt = moment.dt.replace(tzinfo=tz)

    def _is_loose(self, event: Event) -> bool:
        """Whether the component cannot be expanded as it stands; says so in `defects`."""
        broken = sorted({str(name) for name, _ in event.errors} & TIME_PROPERTIES)
        if broken:
            self.defects.append(f"{', '.join(broken)} cannot be read")
            return True
        start, end = moment_of(event, "DTSTART"), moment_of(event, "DTEND")
        if start is None:
            self.defects.append("DTSTART is missing")
            return True
        if end is not None and isinstance(start, datetime) != isinstance(end, datetime):
            self.defects.append("DTSTART and DTEND are not of one kind")
            return True
        if any("FREQ" not in rule for rule in rules_of(event)):
            self.defects.append("RRULE has no FREQ")
            return True
        start, end = span_of(event)
        if utc_of(end) < utc_of(start):
            self.defects.append("DURATION is negative" if "DURATION" in event else "DTEND is before DTSTART")
            return True
        return False

    def _expand(self, events: list[Event]) -> list[Occurrence]:
        try:
            return [self._occurrence(*found) for found in instances(events, self.horizon)]
        except OverBudget as error:
            self.defects.append(str(error))
        except Exception as error:  # see `read` below
            self.defects.append(f"its recurrence cannot be expanded: {_one_line(error)}")
        return [found for event in events for found in self._anywhere(event)]

    def _anywhere(self, event: Event) -> list[Occurrence]:
        """Where an event that cannot be expanded may take place: once, or from its start to the end of its rules."""
        try:
            start, end = sorted(utc_of(moment) for moment in span_of(event))
        except Exception:  # no start that anybody could read: nothing but the defect is known
            self.unplaced = True
            return []
        unread = {str(name) for name, _ in event.errors}
        if unread & {"DTEND", "DURATION"}:
            end = _later(end, timedelta(days=1))
        if rules_of(event) or "RDATE" in event or unread & {"RRULE", "RDATE"}:
            until = [utc_of(moment) for rule in rules_of(event) for moment in rule.get("UNTIL", [])]
            end = _later(max(end, *until), end - start) if until else self.horizon.end
        return [self._widened(self._occurrence(event, start, max(end, _later(start, timedelta(minutes=1)))))]

    def _widened(self, occurrence: Occurrence) -> Occurrence:
        """The occurrence wherever on earth its clock may stand."""
        start, end = occurrence.start, occurrence.end
        if start.tzinfo is None or self.unknown_zone:
            start = _later(start.replace(tzinfo=UTC), -_LONGEST_AHEAD)
            end = _later(end.replace(tzinfo=UTC), _LONGEST_BEHIND)
        return replace(occurrence, start=start, end=end, certain=False)

    def _occurrence(self, event: Component, start: date, end: date) -> Occurrence:
        begin, finish = instant_of(start), instant_of(end)
        if (begin.tzinfo is None) != (finish.tzinfo is None):
            finish = finish.replace(tzinfo=begin.tzinfo)
        summary = "busy" if self.private else title(str(event.get("SUMMARY", "")))
        categories = () if self.private else _categories(event)
        # Instances of one event share what they have in common; there may be a hundred thousand.
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


def title(summary: str) -> str:
    """A SUMMARY as it is shown: something, and not longer than anybody reads."""
    text = summary.strip() or "event without a title"
    return text if len(text) <= MAX_TITLE else text[: MAX_TITLE - 1] + "…"


def _later(moment: datetime, span: timedelta) -> datetime:
    """The moment that much later, or the last one that there is, or the first."""
    try:
        return moment + span
    except OverflowError:
        year, month, day = (MAXYEAR, 12, 31) if span > timedelta() else (MINYEAR, 1, 1)
        return datetime(year, month, day, tzinfo=moment.tzinfo)


def _timezone_of(moment: Any) -> tzinfo | str | None:
    """The timezone of a date-time or of a period's start, None where it has none; "date" for a date, which needs none."""
    first = moment[0] if isinstance(moment, tuple) else moment
    return first.tzinfo if isinstance(first, datetime) else "date"


def _is_private(event: Component) -> bool:
    """Whether no more may be shown than that somebody is busy: a class that is not known counts as private."""
    return str(event.get("CLASS", "PUBLIC")).upper() != "PUBLIC"


def _categories(event: Component) -> tuple[str, ...]:
    found = event.get("CATEGORIES", [])
    lines = found if isinstance(found, list) else [found]
    return tuple(str(category) for line in lines if isinstance(line, vCategory) for category in line.cats)


def _published(event: Event, *, private: bool) -> bytes:
    """The VEVENT as it stands, without alarms; of a private one no more than when it is."""
    shown = event.copy()
    if private:
        for name in [name for name in shown if name.upper() not in TIME_PROPERTIES]:
            del shown[name]
        shown.add("SUMMARY", "busy")
    return content_lines([shown])
