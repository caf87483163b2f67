"""Apply the rotation (`core.rotation`) to the calendar: its reserved weeks, and who is away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache

from calsync.core.conductors import Conductor, Pair, conductor
from calsync.core.errors import Invalid
from calsync.core.planning import plan, seat, train_slots
from calsync.core.rotation import Tally, Turn, rotate, tally, year_of
from calsync.core.settings import Config
from calsync.core.text import format_span
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.core.windows import Slot
from calsync.schedule.agenda import Agenda
from calsync.schedule.availability import absences, watch_span

_DAY = timedelta(days=1)
CANCELLED = "people cancelled it on the calendar"


@dataclass(frozen=True, slots=True)
class Rotation:
    """Some weeks of the rotation."""

    turns: tuple[Turn, ...]
    year: tuple[Week, Week]
    """The first and the last week of the rotation's year that the first turn is in."""
    tallies: tuple[Tally, ...]
    """How many turns everybody has in that year."""


def start_of(config: Config) -> Week:
    """Return the week in which the rotation starts; `Invalid` if windows.toml has no rotation."""
    if config.rotation.start is None:
        raise Invalid('There is no rotation in windows.toml; add [rotation] with order = [names] and start = "2026-W49".')
    return config.rotation.start


def rotation(agenda: Agenda, now: datetime, weeks: int) -> Rotation:
    """Return `weeks` weeks of the rotation, from the week of `now` (aware) or the rotation's start, whichever is later."""
    first = max(start_of(agenda.config), Week.containing(now.date()))
    last = first.shift(weeks - 1)
    year = year_of(start_of(agenda.config), first)
    turns = list(turns_until(agenda, max(last, year[1]), now))
    within = [turn for turn in turns if year[0] <= turn.week <= year[1]]
    shown = tuple(turn for turn in turns if first <= turn.week <= last)
    return Rotation(shown, year, tally(agenda.config.rotation.order, within))


def turns_until(agenda: Agenda, last: Week, now: datetime) -> Iterator[Turn]:
    """Yield every turn from the rotation's start to the week `last`, as the calendar has them at `now` (aware)."""
    order, start = agenda.config.rotation.order, start_of(agenda.config)
    pairs = {week: (names[0], names[1]) for week, names in agenda.pairs_by_week.items() if names}
    cancelled = {week for week, names in agenda.pairs_by_week.items() if not names}
    this_week = Week.containing(now.date())

    @cache
    def away(name: str, week: Week, primary: str | None) -> str | None:
        return _why_away(agenda, name, week, primary, feed=week >= this_week)

    for turn in rotate(order, start, last, pairs, {*agenda.config.declined, *cancelled}, away):
        if turn.week in cancelled:
            yield replace(turn, notes=(f"No train: {CANCELLED}.",))
        elif turn.state == "reserved":
            yield replace(turn, notes=tuple(_absence_notes(agenda, turn.week, now)))
        else:
            yield turn


def _why_away(agenda: Agenda, name: str, week: Week, primary: str | None, *, feed: bool) -> str | None:
    """Return why somebody cannot conduct in the week: their first absence in a slot that would be theirs; None if they can.

    Without `feed`, only absences on the calendar count: busy feeds drop past events, so they say nothing of past weeks.
    """
    who = conductor(agenda.config, name)
    # Most weeks have no absence, and finding somebody's slots takes longer.
    start = week.eve
    until = start + 10 * _DAY + agenda.config.conflicts.watch_after
    if not any(absences(agenda, who, start, until, feed=feed)):
        return None
    reasons = (_absence_text(agenda, who, slot, feed=feed) for slot in _slots(agenda.config, who, week, primary))
    return next((reason for reason in reasons if reason is not None), None)


def _absence_text(agenda: Agenda, who: Conductor, slot: Slot, *, feed: bool = True) -> str | None:
    """Return their first absence during the slot or soon after it, in words; None if they are available."""
    near = absences(agenda, who, *watch_span(agenda.config, slot), feed=feed)
    absence = next((absence for absence in near if absence.certain), None)
    if absence is None:
        return None
    start, end = (edge.astimezone(zone(who.timezone)) for edge in (absence.start, absence.end))
    return f"away {format_span(start, end)}" + (f" ({' '.join(absence.note.split())})" if absence.note else "")


def _absence_notes(agenda: Agenda, week: Week, now: datetime) -> Iterator[str]:
    """Yield a sentence for each person who is away in a slot of the reserved week that is not over."""
    stored = agenda.reservation(week)
    if stored is None or stored.reservation is None:
        return
    reasons: dict[str, str] = {}
    for slot in stored.reservation.ahead(now):
        for who in stored.reservation.on_duty(slot):
            if (reason := _absence_text(agenda, who, slot)) is not None:
                reasons.setdefault(who.name, reason)
    for name, reason in reasons.items():
        yield (
            f"{name} is {reason}, in a slot or soon after it. Hand the train off, or change the pair; the week's conflicts "
            "list who could cover."
        )


def _slots(config: Config, who: Conductor, week: Week, primary: str | None) -> Sequence[Slot]:
    """Return the slots that would be theirs as primary, or as the backup of `primary`."""
    if primary is None:
        window = seat(config, who, week).window
        return [slot for slot in train_slots(config, week) if slot.window == window]
    planned = plan(config, Pair(conductor(config, primary), who), week, week.eve)
    return [slot for slot in planned.slots if who in planned.conductors(slot)]


def pair_of(config: Config, turn: Turn) -> Pair:
    """Return the pair of a planned turn."""
    assert turn.primary is not None  # as `planned` promises
    assert turn.backup is not None
    return Pair(conductor(config, turn.primary), conductor(config, turn.backup))
