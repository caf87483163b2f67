"""Expand recurrences (RFC 5545, section 3.8.5) within a budget.

recurring_ical_events does the work. This module spares it what needs no expansion, refuses what exceeds the budget by its
rule alone, skips the past of old rules, and corrects the length of instances over clock changes.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import recurring_ical_events
from icalendar import Calendar, Component, Event, vDDDTypes, vRecur

from calsync.ical.budget import MAX_INSTANCES, MAX_SECONDS, OverBudget, processor_time
from calsync.ical.components import instant_of, moment_of, rules_of, span_of, utc_of

_MASTER = "X-CALSYNC-MASTER"  # on the instances that a rule generates, in memory only: the event that has the rule
_SHORT_PERIODS = {"SECONDLY": timedelta(seconds=1), "MINUTELY": timedelta(minutes=1), "HOURLY": timedelta(hours=1)}
_EVEN_PERIODS = {**_SHORT_PERIODS, "DAILY": timedelta(days=1), "WEEKLY": timedelta(weeks=1)}
_SLOW = {"HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"}
_PLAIN_PARTS = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST"}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A span of time from `start` to `end` (aware)."""

    start: datetime
    end: datetime


def instances(events: list[Event], horizon: TimeRange) -> list[tuple[Component, date, date]]:
    """Return the instances of a master with its overrides in the horizon and a little beyond.

    Each is a component with its start and end. Raises `OverBudget` if expanding takes too long or yields too much.
    """
    if not events:
        return []
    if len(events) == 1 and not any(name in events[0] for name in ("RRULE", "RDATE", "RECURRENCE-ID")):
        return [(events[0], *span_of(events[0]))]
    if (overrides := _overrides_of_all(events)) is not None:
        return [(event, *span_of(event)) for event in overrides]
    if any(_exceeds_budget(rule, event, horizon) for event in events for rule in rules_of(event)):
        raise OverBudget(f"recurs more than {MAX_INSTANCES:,} times within the horizon")
    with nullcontext() if all(_is_plain(event) for event in events) else processor_time(MAX_SECONDS):
        return [(instance, *_span_of_instance(instance)) for instance in _expand(events, horizon)]


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
    if any(_kind(moment) != _kind(start) for moment in replaced):
        return None
    starts = {utc_of(start + timedelta(days=n)) for n in range(len(overrides))}
    return overrides if {utc_of(moment) for moment in replaced if moment is not None} == starts else None


def _kind(moment: date | None) -> tuple[type, bool]:
    """Return whether it is a date or a date-time, and whether that has a timezone."""
    return type(moment), getattr(moment, "tzinfo", None) is not None


def _interval(rule: vRecur) -> int:
    return int(rule.get("INTERVAL", [1])[0])


def _frequency(rule: vRecur) -> str:
    return str(rule.get("FREQ", [""])[0]).upper()


def _is_plain(event: Event) -> bool:
    """Return whether the event has an instance in every period, so that the budget in instances bounds its time too."""
    rules = rules_of(event)
    if len(rules) > 1 or any(int(rule.get("COUNT", [0])[0]) > MAX_INSTANCES for rule in rules):
        return False
    return all(_PLAIN_PARTS.issuperset(rule) and _interval(rule) > 0 and _frequency(rule) in _SLOW for rule in rules)


def _exceeds_budget(rule: vRecur, event: Event, horizon: TimeRange) -> bool:
    """Return whether the rule alone shows that it has too many instances in the horizon."""
    period = _SHORT_PERIODS.get(_frequency(rule))
    if period is None or any(key.upper().startswith("BY") for key in rule):
        return False
    start = max(horizon.start, utc_of(span_of(event)[0]))
    end = min([horizon.end, *(utc_of(until) for until in rule.get("UNTIL", []))])
    count = (end - start) / (period * max(_interval(rule), 1))
    if "COUNT" in rule:
        count = min(count, int(rule["COUNT"][0]))
    return count > MAX_INSTANCES


def last_start(rule: vRecur, first: datetime) -> datetime | None:
    """Return an instant (UTC) after which no instance of the rule starts; None if none is known.

    `first` (UTC) is the start of the first instance. A rule that has an instance in every period ends with its COUNT of
    periods.
    """
    if "UNTIL" in rule:
        return max(utc_of(until) for until in rule["UNTIL"])
    period, interval, keys = _EVEN_PERIODS.get(_frequency(rule)), _interval(rule), {key.upper() for key in rule}
    allowed = _PLAIN_PARTS | {"BYDAY"} if _frequency(rule) == "WEEKLY" else _PLAIN_PARTS
    if "COUNT" not in keys or period is None or interval < 1 or not allowed.issuperset(keys):
        return None
    with suppress(OverflowError):
        return first + (int(rule["COUNT"][0]) + 1) * interval * period
    return None


def _expand(events: list[Event], horizon: TimeRange) -> list[Component]:
    calendar = Calendar()
    for event in events:
        copy = event.copy()
        if "RECURRENCE-ID" not in event:
            copy[_MASTER] = event
            _skip_past(copy, horizon.start)
        calendar.add_component(copy)
    # More on both sides, because all-day and floating instances are compared by their date alone.
    margin = timedelta(days=2)
    expanded: list[Component] = recurring_ical_events.of(calendar).between(horizon.start - margin, horizon.end + margin)
    if len(expanded) > MAX_INSTANCES:
        raise OverBudget(f"recurs more than {MAX_INSTANCES:,} times within the horizon")
    return expanded


def _skip_past(master: Event, start: datetime) -> None:
    """Let an old rule with even periods begin shortly before `start`, in step, so that no past instance is counted."""
    rules = rules_of(master)
    if len(rules) != 1 or {"COUNT", "BYSETPOS"} & {key.upper() for key in rules[0]}:
        return
    period = _EVEN_PERIODS.get(_frequency(rules[0]))
    first, last = span_of(master)
    lead = timedelta(days=60) + (utc_of(last) - utc_of(first))
    if period is None or not (past := start - lead - utc_of(first)) > timedelta():
        return
    step = period * max(_interval(rules[0]), 1)
    skipped = past // step * step
    master["DTSTART"] = vDDDTypes(first + skipped)
    if (end := moment_of(master, "DTEND")) is not None:
        master["DTEND"] = vDDDTypes(end + skipped)


def _span_of_instance(instance: Component) -> tuple[date, date]:
    """Return start and end of an expanded instance.

    Instances of a rule have the exact duration of their master, also if the clocks change within them (RFC 5545, section
    3.8.5.3). The library counts the duration on the wall clock.
    """
    start, end = moment_of(instance, "DTSTART"), moment_of(instance, "DTEND")
    assert start is not None  # the library sets both
    assert end is not None
    master = instance.get(_MASTER)
    if master is None or "RDATE" in master or not isinstance(start, datetime) or start.tzinfo is None:
        return start, end
    if "DURATION" in master:
        moved = Event()
        moved["DTSTART"], moved["DURATION"] = instance["DTSTART"], master["DURATION"]
        return span_of(moved)
    first, last = span_of(master)
    return start, instant_of(start) + (instant_of(last) - instant_of(first))
