"""Recurrences, expanded within a budget (RFC 5545, section 3.8.5).

One endless or contrived rule must not stop the rest of a calendar from being read, so an expansion has a budget in
instances and in processor time.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from inspect import CO_GENERATOR
from types import FrameType
from typing import Any

import recurring_ical_events
from icalendar import Calendar, Component, Event, vDDDTypes, vRecur
from icalendar.prop import vBroken

MAX_INSTANCES = 5_000
"""How many instances one event may have within the horizon."""
MAX_SECONDS = 0.5
"""How much processor time the expansion of one event may take."""
_CORE = "X-CALSYNC-CORE"  # marks the instances that a rule generates, in memory only
_PERIODS = {"SECONDLY": timedelta(seconds=1), "MINUTELY": timedelta(minutes=1), "HOURLY": timedelta(hours=1)}
_STEADY = {**_PERIODS, "DAILY": timedelta(days=1), "WEEKLY": timedelta(weeks=1)}
_SLOW = {"HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"}
_PLAIN = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST"}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The span (aware instants) in which occurrences are known."""

    start: datetime
    end: datetime


class OverBudget(Exception):
    """The expansion would take too long or yield too much; the message says which."""


_WORKERS = {"calsync", "dateutil", "icalendar", "recurring_ical_events"}


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


@contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Stop the pure-Python work inside with `OverBudget` when it has used up its processor time.

    A profile hook sees every call, so that even a rule without any instance until the year 9999 is stopped between two.
    """
    deadline = time.thread_time() + seconds
    calls = itertools.count(1)
    over = False

    def watch(frame: FrameType, _event: str, _arg: Any) -> None:
        nonlocal over
        # Asking for the time is dear next to most calls. What is raised in a callback of the garbage collector, or in a
        # generator that is being closed, gets lost, and the hook with it, so it is raised in the work itself.
        over = over or (not next(calls) % 256 and time.thread_time() > deadline)
        if over and not frame.f_code.co_flags & CO_GENERATOR and _package(frame) in _WORKERS:
            raise OverBudget(f"its recurrence takes longer than {MAX_SECONDS} s to expand")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)


def instances(events: list[Event], horizon: TimeRange) -> list[tuple[Component, date, date]]:
    """The instances of a master with its overrides in the horizon and a little beyond, each as component, start and end.

    Raises `OverBudget` where that would take too long or yield too much.
    """
    if not events:
        return []
    if len(events) == 1 and not any(name in events[0] for name in ("RRULE", "RDATE", "RECURRENCE-ID")):
        return [(events[0], *span_of(events[0]))]
    if (overrides := _overrides_of_all(events)) is not None:
        return [(event, *span_of(event)) for event in overrides]
    if any(_is_endless(rule, event, horizon) for event in events for rule in rules_of(event)):
        raise OverBudget(f"recurs more than {MAX_INSTANCES:,} times within the horizon")
    with nullcontext() if all(_is_plain(event) for event in events) else processor_time(MAX_SECONDS):
        return [(found, *_instance_span(found)) for found in _expanded(events, horizon)]


def _overrides_of_all(events: list[Event]) -> list[Event] | None:
    """Return the overrides of a daily rule if each of its instances has one, as in a train week; None otherwise.

    They are then all that there is to expand.
    """
    masters = [event for event in events if "RECURRENCE-ID" not in event]
    overrides = [event for event in events if "RECURRENCE-ID" in event]
    if len(masters) != 1 or {"RDATE", "EXDATE"} & masters[0].keys():
        return None
    rules, start = rules_of(masters[0]), span_of(masters[0])[0]
    if len(rules) != 1 or set(rules[0]) != {"FREQ", "COUNT"} or _frequency(rules[0]) != "DAILY":
        return None
    if int(rules[0]["COUNT"][0]) != len(overrides) or any(
        event["RECURRENCE-ID"].params.get("RANGE") for event in overrides
    ):
        return None
    replaced = [moment_of(event, "RECURRENCE-ID") for event in overrides]
    instances = {utc_of(start + timedelta(days=n)) for n in range(len(overrides))}
    return overrides if {utc_of(moment) for moment in replaced if moment is not None} == instances else None


def _interval(rule: vRecur) -> int:
    return int(rule.get("INTERVAL", [1])[0])


def _frequency(rule: vRecur) -> str:
    return str(rule.get("FREQ", [""])[0]).upper()


def _is_plain(event: Event) -> bool:
    """Whether the event yields an instance every period, so that the budget in instances alone bounds its time."""
    rules = rules_of(event)
    if len(rules) > 1 or any(int(rule.get("COUNT", [0])[0]) > MAX_INSTANCES for rule in rules):
        return False
    return all(_PLAIN.issuperset(rule) and _interval(rule) > 0 and _frequency(rule) in _SLOW for rule in rules)


def _is_endless(rule: vRecur, event: Event, horizon: TimeRange) -> bool:
    """Whether the rule alone shows that it exceeds the budget, without trying."""
    period = _PERIODS.get(_frequency(rule))
    if period is None or any(key.upper().startswith("BY") for key in rule):
        return False
    start = max(horizon.start, utc_of(span_of(event)[0]))
    end = min([horizon.end, *(utc_of(until) for until in rule.get("UNTIL", []))])
    found = (end - start) / (period * max(_interval(rule), 1))
    if "COUNT" in rule:
        found = min(found, int(rule["COUNT"][0]))
    return found > MAX_INSTANCES


def last_start(rule: vRecur, first: datetime) -> datetime | None:
    """An instant (UTC) after which the rule starts nothing, if it starts with `first` (UTC); None where none is known.

    A rule that has an instance in every period is over when its COUNT of periods is.
    """
    if "UNTIL" in rule:
        return max(utc_of(until) for until in rule["UNTIL"])
    period, interval, keys = _STEADY.get(_frequency(rule)), _interval(rule), {key.upper() for key in rule}
    allowed = _PLAIN | {"BYDAY"} if _frequency(rule) == "WEEKLY" else _PLAIN
    if "COUNT" not in keys or period is None or interval < 1 or not allowed.issuperset(keys):
        return None
    with suppress(OverflowError):
        return first + (int(rule["COUNT"][0]) + 1) * interval * period
    return None


def _expanded(events: list[Event], horizon: TimeRange) -> list[Component]:
    calendar = Calendar()
    for event in events:
        copy = event.copy()
        if "RECURRENCE-ID" not in event:
            copy[_CORE] = event
            _catch_up(copy, horizon.start)
        calendar.add_component(copy)
    # More on both sides: all-day and floating instances are compared by their date alone.
    margin = timedelta(days=2)
    found: list[Component] = recurring_ical_events.of(calendar).between(horizon.start - margin, horizon.end + margin)
    if len(found) > MAX_INSTANCES:
        raise OverBudget(f"recurs more than {MAX_INSTANCES:,} times within the horizon")
    return found


def _catch_up(master: Event, start: datetime) -> None:
    """Begin an old and steady rule anew shortly before `start`, in step, so that no instance of the past is counted."""
    rules = rules_of(master)
    if len(rules) != 1 or {"COUNT", "BYSETPOS"} & {key.upper() for key in rules[0]}:
        return
    period = _STEADY.get(_frequency(rules[0]))
    first, last = span_of(master)
    lead = timedelta(days=60) + (utc_of(last) - utc_of(first))
    if period is None or not (behind := start - lead - utc_of(first)) > timedelta():
        return
    step = period * max(_interval(rules[0]), 1)
    ahead = behind // step * step
    master["DTSTART"] = vDDDTypes(first + ahead)
    if (end := moment_of(master, "DTEND")) is not None:
        master["DTEND"] = vDDDTypes(end + ahead)


def moment_of(event: Component, name: str) -> date | None:
    """The date or date-time of a property; None where it has none that can be read."""
    value = event.get(name)
    return None if isinstance(value, vBroken) else getattr(value, "dt", None)


def rules_of(event: Component) -> list[vRecur]:
    """The component's readable RRULEs."""
    rules = event.get("RRULE", [])
    return [rule for rule in (rules if isinstance(rules, list) else [rules]) if isinstance(rule, vRecur)]


def span_of(event: Component) -> tuple[date, date]:
    """Start and end of the component itself (RFC 5545, section 3.6.1); days of a DURATION are nominal, hours are exact."""
    start, end, duration = moment_of(event, "DTSTART"), moment_of(event, "DTEND"), event.get("DURATION")
    if start is None:
        raise ValueError("DTSTART is missing")
    if end is not None:
        return start, end
    if duration is None or isinstance(duration, vBroken):
        return start, start if isinstance(start, datetime) else start + timedelta(days=1)
    span: timedelta = duration.dt
    if not isinstance(start, datetime):
        return start, start + (timedelta(days=span.days) or timedelta(days=1))
    nominal = start + timedelta(days=span.days)
    exact = timedelta(seconds=span.seconds)
    return start, nominal + exact if nominal.tzinfo is None else instant_of(nominal) + exact


def _instance_span(instance: Component) -> tuple[date, date]:
    """Start and end of an expanded instance.

    Instances of a rule have the exact duration of their master, also where the clocks change in between (RFC 5545,
    section 3.8.5.3); the library counts it on the wall clock.
    """
    start, end = moment_of(instance, "DTSTART"), moment_of(instance, "DTEND")
    assert start is not None  # the library sets both
    assert end is not None
    core = instance.get(_CORE)
    if core is None or "RDATE" in core or not isinstance(start, datetime) or start.tzinfo is None:
        return start, end
    if "DURATION" in core:
        master = Event()
        master["DTSTART"], master["DURATION"] = instance["DTSTART"], core["DURATION"]
        return span_of(master)
    first, last = span_of(core)
    return start, instant_of(start) + (instant_of(last) - instant_of(first))


def instant_of(moment: date) -> datetime:
    """A date or date-time as an instant in UTC; naive where it is floating."""
    if not isinstance(moment, datetime):
        return datetime(moment.year, moment.month, moment.day)
    return moment if moment.tzinfo is None else moment.astimezone(UTC)


def utc_of(moment: date) -> datetime:
    """The same, with a floating one taken as UTC, so that any two can be compared."""
    instant = instant_of(moment)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
