"""Any iCalendar resource → occurrences: what stands on the calendar, when, and whether it makes anybody busy.

People put everything on a calendar, so nothing here trusts its input. What cannot be read in full is a defect: it is
reported, it stays out of the feed, and it counts as busy wherever it may take place, never as free. An expansion has a
budget in instances and in processor time, so that one endless rule does not stop the others from being read.

All-day and floating events (RFC 5545, section 3.3.5) have no instant of their own; their occurrences are naive, and whoever
compares them brings the timezone of the observer.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from types import FrameType
from typing import Any, Literal
from zoneinfo import ZoneInfo

import recurring_ical_events
from icalendar import Calendar, Component, Event, Timezone, vDDDTypes, vRecur

from calsync.zones import resolve, zone

MAX_INSTANCES = 5_000
"""How many instances one event may have within the horizon."""
MAX_SECONDS = 0.5
"""How much processor time the expansion of one event may take."""
MAX_LINE = 32_768
"""How long one content line may be, in bytes; longer ones are left unread."""

SLOT = "X-CALSYNC-SLOT"
"""The property in which a component of a reservation carries the id of its slot."""

_CORE = "X-CALSYNC-CORE"  # marks the instances that a rule generates, in memory only
_PRIVATE = ("PRIVATE", "CONFIDENTIAL")
_TIME_PROPERTIES = {
    "UID", "DTSTAMP", "DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID",
    "SEQUENCE", "CREATED", "LAST-MODIFIED", "STATUS", "TRANSP", "CLASS",
}  # fmt: skip
_LONGEST_AHEAD, _LONGEST_BEHIND = timedelta(hours=14), timedelta(hours=12)  # UTC+14 to UTC−12
_VTIMEZONES = re.compile(rb"^BEGIN:VTIMEZONE\r?$.*?^END:VTIMEZONE\r?\n", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_PERIODS = {"SECONDLY": timedelta(seconds=1), "MINUTELY": timedelta(minutes=1), "HOURLY": timedelta(hours=1)}
_PLAIN = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST"}
_STEADY = {"HOURLY": timedelta(hours=1), "DAILY": timedelta(days=1), "WEEKLY": timedelta(weeks=1)}


@dataclass(frozen=True, slots=True)
class Horizon:
    """The span (aware instants) in which occurrences are known."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One dated happening. `start` and `end` are in UTC, or naive where it is all-day or floating.

    `kind` says what it is: somebody's event, a reserved train slot (then `slot` is its id), a standing window, or a freeze.
    One that is not `certain` may take place at any time from `start` to `end`.
    """

    start: datetime
    end: datetime
    uid: str
    summary: str
    href: str = ""
    kind: Literal["event", "slot", "standing", "freeze"] = "event"
    slot: str = ""
    categories: tuple[str, ...] = ()
    busy: bool = True
    certain: bool = True
    train_only: bool = False

    def span(self, observer: str) -> tuple[datetime, datetime]:
        """Start and end as instants; `observer` is the timezone in which a floating one is seen."""
        if self.start.tzinfo is not None:
            return self.start, self.end
        tz = zone(observer)
        return resolve(self.start, tz)[0], resolve(self.end, tz)[0]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a resource says: its occurrences within the horizon, what of it the feed carries, and its defects.

    `published` holds VEVENTs as they stand (CRLF lines), `timezones` the VTIMEZONEs of its own that they need and
    `tzids` the names of the pytz timezones they need.
    """

    occurrences: tuple[Occurrence, ...] = ()
    published: bytes = b""
    timezones: Mapping[str, bytes] = field(default_factory=dict)
    tzids: frozenset[str] = frozenset()
    defects: tuple[str, ...] = ()


class _OverBudget(Exception):
    """The expansion would take too long or yield too much."""


@contextmanager
def _processor_time(seconds: float) -> Iterator[None]:
    """Stop the pure-Python work inside with `_OverBudget` when it has used up its processor time.

    A profile hook sees every call, so that even a rule that yields nothing until the year 9999 is stopped between two calls.
    """
    deadline = time.thread_time() + seconds
    calls = itertools.count(1)

    def watch(frame: FrameType, event: str, arg: Any) -> None:
        # Asking for the time is dear next to most calls.
        if not next(calls) % 256 and time.thread_time() > deadline:
            raise _OverBudget

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)


def read(ics: bytes, href: str, horizon: Horizon) -> Reading:
    """Read one resource (bytes of `text/calendar`); never raises for what stands in it."""
    defects: list[str] = []
    text = _without_long_lines(ics, defects)
    try:
        calendar, zones = _parse(text)
    except Exception as error:  # whatever a parser makes of other people's bytes, the defect is the resource's
        defects.append(f"cannot be parsed: {_one_line(error)}")
        try:
            calendar, zones = _parse(_VTIMEZONES.sub(b"", text))
        except Exception:  # then it was not the timezones
            return Reading(defects=tuple(defects))
    groups: dict[str, list[Event]] = defaultdict(list)
    for event in calendar.events:
        groups[str(event.get("UID", ""))].append(event)
    occurrences: list[Occurrence] = []
    published: list[bytes] = []
    tzids: set[str] = set()
    used: dict[str, bytes] = {}
    for uid, events in groups.items():
        found = _Group(uid, href, events, zones, horizon).read()
        occurrences += found.occurrences
        defects += (f"{uid or 'event without UID'}: {defect}" for defect in found.defects)
        if found.published:
            published.append(found.published)
            tzids |= found.tzids
            used.update(found.timezones)
    return Reading(tuple(occurrences), b"".join(published), used, frozenset(tzids), tuple(defects))


def _parse(text: bytes) -> tuple[Calendar, dict[str, _CustomZone]]:
    if b"BEGIN:VTIMEZONE" not in text and len(text) < MAX_LINE:
        return Calendar.from_ical(text), {}
    with _processor_time(MAX_SECONDS * (1 + len(text) / MAX_LINE)):
        calendar = Calendar.from_ical(text)
        return calendar, _custom_zones(calendar)


def _without_long_lines(ics: bytes, defects: list[str]) -> bytes:
    """The resource without content lines of more than `MAX_LINE` bytes, which are named in `defects`."""
    if len(ics) <= MAX_LINE:
        return ics
    kept = []
    for line in re.sub(rb"\r?\n[ \t]", b"", ics).splitlines():
        if len(line) > MAX_LINE:
            name = re.split(rb"[:;]", line, maxsplit=1)[0][:30].decode("ascii", "replace")
            defects.append(f"{name} has {len(line):,} bytes and is left out")
        else:
            kept.append(line)
    return b"\r\n".join([*kept, b""])


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".replace("\r", " ").replace("\n", " ")[:160]


@dataclass(frozen=True, slots=True)
class _CustomZone:
    """A timezone that only the resource's own VTIMEZONE knows. `name` tells it from others of the same TZID."""

    tz: Any
    name: str
    text: bytes


def _custom_zones(calendar: Calendar) -> dict[str, _CustomZone]:
    """The resource's own timezones, by TZID. icalendar keeps one definition per TZID and process, the first it met."""
    zones = {}
    for component in calendar.walk("VTIMEZONE"):
        assert isinstance(component, Timezone)  # what walk finds under that name
        tzid = str(component.get("TZID", ""))
        if isinstance(component.to_tz(), ZoneInfo):
            continue
        name = f"{tzid}-{hashlib.sha256(component.to_ical()).hexdigest()[:8]}"
        own = component.copy(recursive=True)
        own["TZID"] = name
        zones[tzid] = _CustomZone(component.to_tz(lookup_tzid=False), name, own.to_ical())
    return zones


class _Group:
    """The components of one UID: a master with its overrides, or overrides alone."""

    def __init__(
        self, uid: str, href: str, events: list[Event], zones: Mapping[str, _CustomZone], horizon: Horizon
    ) -> None:
        self.uid, self.href, self.events, self.horizon = uid, href, events, horizon
        self.zones = zones
        self.defects: list[str] = []
        self.unknown_zone = False
        self.tzids: set[str] = set()
        self.used: dict[str, bytes] = {}

    def read(self) -> Reading:
        """Occurrences, feed text and defects of the group."""
        try:
            return self._read()
        except Exception as error:  # as in `read` below: other people's values, such as a year beyond 9999
            return Reading(defects=(*self.defects, _one_line(error)))

    def _read(self) -> Reading:
        for event in self.events:
            self._settle_timezones(event)
        text = b"".join(_published(event) for event in self.events)
        loose: list[Event] = []
        whole: list[Event] = []
        for event in self.events:
            (loose if self._is_loose(event) else whole).append(event)
        occurrences = [*self._expand(whole), *(found for event in loose for found in self._anywhere(event))]
        if self.unknown_zone:
            occurrences = [self._widened(occurrence) for occurrence in occurrences]
        inside = tuple(found for found in occurrences if self._within_horizon(found))
        if self.defects:
            return Reading(inside, defects=tuple(self.defects))
        return Reading(inside, text, self.used, frozenset(self.tzids))

    def _settle_timezones(self, event: Event) -> None:
        """Give every time of the event the timezone that its TZID means here, under the name that the feed uses."""
        for name, values in event.items():
            for value in values if isinstance(values, list) else [values]:
                tzid = getattr(value, "params", {}).get("TZID")
                if tzid is None:
                    continue
                moments = getattr(value, "dts", [value])
                custom = self.zones.get(str(tzid))
                for moment in moments:
                    if custom is not None and isinstance(moment.dt, datetime):
                        moment.dt = moment.dt.replace(tzinfo=custom.tz)
                zones = {getattr(moment.dt, "tzinfo", None) for moment in moments}
                known = next((tz for tz in zones if isinstance(tz, ZoneInfo)), None)
                if custom is not None:
                    value.params["TZID"] = custom.name
                    self.used[custom.name] = custom.text
                elif known is not None and known.utcoffset(None) == timedelta():
                    for moment in moments:
                        moment.dt = moment.dt.astimezone(UTC)
                    del value.params["TZID"]
                elif known is not None:
                    value.params["TZID"] = known.key
                    self.tzids.add(known.key)
                elif None in zones and any(isinstance(moment.dt, datetime) for moment in moments):
                    self.unknown_zone = True
                    self.defects.append(f'{name} has the timezone "{str(tzid)[:60]}", which nobody knows')

    def _is_loose(self, event: Event) -> bool:
        """Whether the component cannot be expanded as it stands; says so in `defects`."""
        broken = sorted({str(name) for name, _ in event.errors} & _TIME_PROPERTIES)
        if broken:
            self.defects.append(f"{', '.join(broken)} cannot be read")
            return True
        start, end = _moment(event, "DTSTART"), _moment(event, "DTEND")
        if start is None:
            self.defects.append("DTSTART is missing")
            return True
        if end is not None and isinstance(start, datetime) != isinstance(end, datetime):
            self.defects.append("DTSTART and DTEND are not of one kind")
            return True
        if end is not None and _utc(end) < _utc(start):
            self.defects.append("DTEND is before DTSTART")
            return True
        return False

    def _expand(self, events: list[Event]) -> list[Occurrence]:
        if not events:
            return []
        if len(events) == 1 and not any(name in events[0] for name in ("RRULE", "RDATE", "RECURRENCE-ID")):
            return [self._occurrence(events[0], *_span(events[0]))]
        if any(self._is_endless(rule, event) for event in events for rule in _rules(event)):
            self.defects.append(f"recurs more than {MAX_INSTANCES:,} times within the horizon")
            return [found for event in events for found in self._anywhere(event)]
        plain = all(_PLAIN.issuperset(rule) and int(rule.get("INTERVAL", [1])[0]) > 0 for e in events for rule in _rules(e))
        try:
            # A plain rule yields an instance every period, so that the number of instances alone bounds its time.
            with nullcontext() if plain else _processor_time(MAX_SECONDS):
                return [self._occurrence(event, *_instance_span(event)) for event in self._instances(events)]
        except _OverBudget:
            self.defects.append(f"its recurrence takes longer than {MAX_SECONDS} s to expand")
        except Exception as error:  # see `read` above
            self.defects.append(f"its recurrence cannot be expanded: {_one_line(error)}")
        return [found for event in events for found in self._anywhere(event)]

    def _is_endless(self, rule: vRecur, event: Event) -> bool:
        """Whether the rule alone shows that it exceeds the budget, without trying."""
        period = _PERIODS.get(str(rule.get("FREQ", [""])[0]).upper())
        if period is None or any(key.upper().startswith("BY") for key in rule):
            return False
        instances = (self.horizon.end - self.horizon.start) / (period * int(rule.get("INTERVAL", [1])[0] or 1))
        if "COUNT" in rule:
            instances = min(instances, int(rule["COUNT"][0]))
        return instances > MAX_INSTANCES and "UNTIL" not in rule

    def _instances(self, events: list[Event]) -> list[Component]:
        calendar = Calendar()
        for event in events:
            copy = event.copy()
            if "RECURRENCE-ID" not in event:
                copy[_CORE] = event
                self._catch_up(copy)
            calendar.add_component(copy)
        # More on both sides: all-day and floating instances are compared by their date alone.
        day = timedelta(days=2)
        found = recurring_ical_events.of(calendar).between(self.horizon.start - day, self.horizon.end + day)
        if len(found) > MAX_INSTANCES:
            raise _OverBudget
        return found

    def _catch_up(self, master: Event) -> None:
        """Start an old and steady rule anew shortly before the horizon, in step, so that no instance of the past is counted."""
        rules = _rules(master)
        if len(rules) != 1 or {"COUNT", "BYSETPOS"} & {key.upper() for key in rules[0]}:
            return
        period = _STEADY.get(str(rules[0].get("FREQ", [""])[0]).upper())
        start, end = _span(master)
        lead = timedelta(days=60) + (_utc(end) - _utc(start))
        if period is None or not (behind := self.horizon.start - lead - _utc(start)) > timedelta():
            return
        step = period * max(int(rules[0].get("INTERVAL", [1])[0]), 1)
        ahead = behind // step * step
        for name in ("DTSTART", "DTEND"):
            if name in master:
                master[name] = vDDDTypes(master[name].dt + ahead)

    def _anywhere(self, event: Event) -> list[Occurrence]:
        """Where an event that cannot be expanded may take place: once, or from its start to the end of its rules."""
        try:
            start, end = sorted((_utc(moment) for moment in _span(event)))
        except Exception:  # no start that anybody could read: nothing but the defect is known
            return []
        unread = {str(name) for name, _ in event.errors}
        if unread & {"DTEND", "DURATION"}:
            end += timedelta(days=1)
        if _rules(event) or "RDATE" in event or unread & {"RRULE", "RDATE"}:
            until = [_utc(moment) for rule in _rules(event) for moment in rule.get("UNTIL", [])]
            end = max(end, *until) + (end - start) if until else self.horizon.end
        return [self._widened(self._occurrence(event, start, max(end, start + timedelta(minutes=1))))]

    def _widened(self, occurrence: Occurrence) -> Occurrence:
        """The occurrence wherever on earth its clock may stand."""
        start, end = occurrence.start, occurrence.end
        if start.tzinfo is None or self.unknown_zone:
            start = start.replace(tzinfo=UTC) - _LONGEST_AHEAD
            end = end.replace(tzinfo=UTC) + _LONGEST_BEHIND
        return replace(occurrence, start=start, end=end, certain=False)

    def _occurrence(self, event: Component, start: date, end: date) -> Occurrence:
        begin, finish = _instant(start), _instant(end)
        if (begin.tzinfo is None) != (finish.tzinfo is None):
            finish = finish.replace(tzinfo=begin.tzinfo)
        private = str(event.get("CLASS", "")).upper() in _PRIVATE
        return Occurrence(
            begin,
            finish,
            self.uid,
            "busy" if private else str(event.get("SUMMARY", "")).strip() or "event without a title",
            self.href,
            slot=str(event.get(SLOT, "")),
            categories=() if private else tuple(str(category) for category in event.categories),
            busy=str(event.get("STATUS", "")).upper() != "CANCELLED"
            and str(event.get("TRANSP", "")).upper() != "TRANSPARENT",
        )

    def _within_horizon(self, occurrence: Occurrence) -> bool:
        start, end = (moment.replace(tzinfo=UTC) for moment in (occurrence.start, occurrence.end))
        day = timedelta(days=occurrence.start.tzinfo is None)
        return start < self.horizon.end + day and end >= self.horizon.start - day


def _moment(event: Component, name: str) -> date | None:
    value = event.get(name)
    return getattr(value, "dt", None)


def _rules(event: Component) -> list[vRecur]:
    rules = event.get("RRULE", [])
    return [rule for rule in (rules if isinstance(rules, list) else [rules]) if isinstance(rule, vRecur)]


def _span(event: Component) -> tuple[date, date]:
    """Start and end of the component itself (RFC 5545, section 3.6.1); days of a DURATION are nominal, hours are exact."""
    start, end, duration = _moment(event, "DTSTART"), _moment(event, "DTEND"), event.get("DURATION")
    if start is None:
        raise ValueError("DTSTART is missing")
    if end is not None:
        return start, end
    if duration is None:
        return start, start if isinstance(start, datetime) else start + timedelta(days=1)
    span: timedelta = duration.dt
    if not isinstance(start, datetime):
        return start, start + max(timedelta(days=span.days), timedelta(days=1))
    nominal = start + timedelta(days=span.days)
    exact = timedelta(seconds=span.seconds)
    return start, nominal + exact if nominal.tzinfo is None else _instant(nominal) + exact


def _instance_span(instance: Component) -> tuple[date, date]:
    """Start and end of an expanded instance.

    Instances of a rule have the exact duration of their master, also where the clocks change in between (RFC 5545,
    section 3.8.5.3); the library counts it on the wall clock.
    """
    start, end = _moment(instance, "DTSTART"), _moment(instance, "DTEND")
    assert start is not None and end is not None  # the library sets both
    core = instance.get(_CORE)
    if core is None or "RDATE" in core or not isinstance(start, datetime) or start.tzinfo is None:
        return start, end
    if "DURATION" in core:
        master = Event()
        master["DTSTART"], master["DURATION"] = instance["DTSTART"], core["DURATION"]
        return _span(master)
    first, last = _span(core)
    return start, _instant(start) + (_instant(last) - _instant(first))


def _instant(moment: date) -> datetime:
    """A date or date-time as an instant in UTC; naive where it is floating."""
    if not isinstance(moment, datetime):
        return datetime(moment.year, moment.month, moment.day)
    return moment if moment.tzinfo is None else moment.astimezone(UTC)


def _utc(moment: date) -> datetime:
    instant = _instant(moment)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def _published(event: Event) -> bytes:
    """The VEVENT as it stands, without alarms; of a private one no more than when it is."""
    shown = event.copy()
    if str(event.get("CLASS", "")).upper() in _PRIVATE:
        for name in [name for name in shown if name.upper() not in _TIME_PROPERTIES]:
            del shown[name]
        shown["SUMMARY"] = "busy"
    return bytes(shown.to_ical())
