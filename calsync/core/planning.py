"""Planning a week for a pair: who sits in which window and why, and which slots that makes.

A conductor sits in the train window that overlaps their working hours most over the week's train days. If none overlaps,
it is the window nearest to their working hours. The first listed window wins a tie. Only the time of day counts here: a
train day on which a conductor does not work is a conflict, and does not change their window. The pair spans regions if the
two sit in different windows; then both windows are reserved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from calsync.core.conductors import Conductor, Pair
from calsync.core.errors import Invalid
from calsync.core.settings import Config
from calsync.core.text import format_duration
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.core.windows import Role, Slot, Window
from calsync.core.working_hours import WORKDAYS, Hours


@dataclass(frozen=True, slots=True)
class Seat:
    """The name of the window that a conductor sits in, and the reason as a sentence without a full stop."""

    window: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reservation would have: the pair's seats, the `slots` by start, and those `skipped` because they are over."""

    week: Week
    pair: Pair
    primary: Seat
    backup: Seat
    slots: tuple[Slot, ...]
    skipped: tuple[Slot, ...]

    @property
    def spans_regions(self) -> bool:
        """Whether the two sit in different windows."""
        return self.primary.window != self.backup.window

    def conductors(self, slot: Slot) -> tuple[Conductor, ...]:
        """Return who sits in the slot: the conductor of its role, or both if they share a window."""
        return self.pair.seated(slot.role, together=not self.spans_regions)


def plan(config: Config, pair: Pair, week: Week | None, now: datetime) -> Plan:
    """Plan the week for the pair. The default is the next week whose train has not begun at `now` (aware).

    Raises `Invalid` if the week has no train or is over, if the pair is one person, and for an unknown window.
    """
    _check_pair(config, pair)
    week = week or next_week(config, now)
    if reason := config.declined.get(week):
        raise Invalid(f"There is no train in {week}: {reason}. Choose another week.")
    primary = seat(config, pair.primary, week)
    backup = seat(config, pair.backup, week)
    slots = _slots(config, primary, backup, week)
    ahead = tuple(slot for slot in slots if slot.end > now)
    if not ahead:
        raise Invalid(f"The train of {week} is over; the next one is {next_week(config, now)}.")
    return Plan(week, pair, primary, backup, ahead, tuple(slot for slot in slots if slot.end <= now))


def _check_pair(config: Config, pair: Pair) -> None:
    if pair.primary.name == pair.backup.name:
        raise Invalid(f"{pair.primary.name} cannot be both primary and backup; name two people.")
    for conductor in (pair.primary, pair.backup):
        if conductor.window is not None and conductor.window not in config.train.windows:
            raise Invalid(f'"{conductor.window[:40]}" is not a train window; use one of {", ".join(config.train.windows)}.')


def next_week(config: Config, now: datetime) -> Week:
    """Return the next week whose train has not begun at `now` (aware) in any window."""
    week = Week.containing(now.date()).shift(-1)
    while week in config.declined or min(slot.start for slot in train_slots(config, week)) <= now:
        week = week.shift(1)
    return week


def train_slots(config: Config, week: Week) -> list[Slot]:
    """Return every slot that the train may use in the week, by start, with its stage and without a role."""
    slots = (
        window.on(week.day(day), stage=config.train.stages[day])
        for window in config.train_windows
        for day in config.train.days
    )
    return sorted(slots, key=lambda slot: (slot.start, slot.window))


def seat(config: Config, conductor: Conductor, week: Week) -> Seat:
    """Return the window that the conductor sits in during the week, with the reason."""
    if conductor.window is not None:
        return Seat(conductor.window, f"{conductor.window} is set for {conductor.name}")
    return _seat(config.train_windows, config.train.days, conductor.hours.daily, conductor.timezone, week)


@lru_cache(maxsize=4_096)  # a rotation needs everybody's seat in every week
def _seat(windows: tuple[Window, ...], days: tuple[str, ...], hours: Hours, timezone: str, week: Week) -> Seat:
    measured = {window.name: _measure(hours, timezone, [window.on(week.day(day)) for day in days]) for window in windows}
    # On a tie, max and min return the first, which is the window listed first.
    name = max(measured, key=lambda name: measured[name].overlap)
    if not measured[name].overlap:
        name = min(measured, key=lambda name: measured[name].distance)
    return Seat(name, measured[name].reason)


@dataclass(frozen=True, slots=True)
class _Measure:
    """How a window fits somebody's daily hours: sums over the train days, and the reason to sit there."""

    overlap: timedelta
    distance: timedelta
    reason: str


def _measure(hours: Hours, timezone: str, slots: Sequence[Slot]) -> _Measure:
    overlap, distance, length = timedelta(), timedelta(), timedelta()
    tz = zone(timezone)
    for slot in slots:
        days = hours.around(slot.start, slot.end, tz)
        overlap += sum((max(min(slot.end, end) - max(slot.start, start), timedelta()) for start, end in days), timedelta())
        distance += min(max(start - slot.end, slot.start - end, timedelta()) for start, end in days)
        length += slot.end - slot.start
    where = f"{replace(hours, days=WORKDAYS)} {timezone}"
    spans = clock_spans(slots, timezone)
    if overlap == length:
        reason = f"{spans} lies in {where}"
    elif overlap:
        reason = f"{spans} overlaps {where} for {format_duration(overlap)} of {format_duration(length)}"
    else:
        reason = f"{spans} is nearest to {where}" + (f", {format_duration(distance / len(slots))} away" if distance else "")
    return _Measure(overlap, distance, reason)


def clock_spans(slots: Sequence[Slot], timezone: str) -> str:
    """Return when the slots are on the clocks of `timezone`: `10:00–12:00`, by weekday if that differs."""
    tz = zone(timezone)
    local = [(slot.start.astimezone(tz), slot.end.astimezone(tz)) for slot in slots]
    spans = [f"{start:%H:%M}–{end:%H:%M}" for start, end in local]
    if len(set(spans)) == 1:
        return spans[0]
    return ", ".join(f"{start:%a} {span}" for (start, _), span in zip(local, spans, strict=True))


def _slots(config: Config, primary: Seat, backup: Seat, week: Week) -> list[Slot]:
    by_name = {window.name: window for window in config.train_windows}
    roles: dict[str, Role] = {backup.window: "backup", primary.window: "primary"}
    slots = [
        by_name[window].on(week.day(day), role, config.train.stages[day])
        for window, role in roles.items()
        for day in config.train.days
    ]
    if config.train.backup_slots == "after-primary":
        first = min(slot.start for slot in slots if slot.role == "primary")
        slots = [slot for slot in slots if slot.role == "primary" or slot.start > first]
    return sorted(slots, key=lambda slot: (slot.start, slot.window))
