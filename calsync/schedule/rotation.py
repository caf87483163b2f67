"""The rotation on the calendar: what stands there and who is away, put to the rotation."""

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
from calsync.schedule.availability import absences, watched

_DAY = timedelta(days=1)
CANCELLED = "people cancelled it on the calendar"


@dataclass(frozen=True, slots=True)
class Rotation:
    """The weeks asked for, and how often everybody has a turn in the rotation's `year` that the first of them lies in."""

    turns: tuple[Turn, ...]
    year: tuple[Week, Week]
    tallies: tuple[Tally, ...]


def start_of(config: Config) -> Week:
    """The week in which the rotation starts; `Invalid` where windows.toml has no rotation."""
    if config.rotation.start is None:
        raise Invalid('There is no rotation in windows.toml; add [rotation] with order = [names] and start = "2026-W49".')
    return config.rotation.start


def rotation(agenda: Agenda, now: datetime, weeks: int) -> Rotation:
    """The rotation's next `weeks` weeks from that of `now` (aware) on, or from its start on if that is later."""
    first = max(start_of(agenda.config), Week.containing(now.date()))
    last = first.shift(weeks - 1)
    year = year_of(start_of(agenda.config), first)
    turns = list(turns_until(agenda, max(last, year[1]), now))
    within = [turn for turn in turns if year[0] <= turn.week <= year[1]]
    shown = tuple(turn for turn in turns if first <= turn.week <= last)
    return Rotation(shown, year, tally(agenda.config.rotation.order, within))


def turns_until(agenda: Agenda, last: Week, now: datetime) -> Iterator[Turn]:
    """Yield every turn from the rotation's start to the week `last`, as the calendar has them at `now` (aware)."""
    held = {week: (names[0], names[1]) for week, names in agenda.pairs_by_week.items() if names}
    cancelled = {week for week, names in agenda.pairs_by_week.items() if not names}
    this_week = Week.containing(now.date())

    @cache
    def away(name: str, week: Week, primary: str | None) -> str | None:
        return _away(agenda, name, week, primary, over=week < this_week)

    for turn in rotate(
        agenda.config.rotation.order, start_of(agenda.config), last, held, {*agenda.config.declined, *cancelled}, away
    ):
        if turn.week in cancelled:
            yield replace(turn, notes=(f"No train: {CANCELLED}.",))
        elif turn.state == "reserved":
            yield replace(turn, notes=tuple(_missing(agenda, turn.week, now)))
        else:
            yield turn


def _away(agenda: Agenda, name: str, week: Week, primary: str | None, *, over: bool) -> str | None:
    """Why somebody cannot conduct in the week: the first absence that touches a slot in which they would sit.

    Of a week that is `over` only what stands on the calendar counts, which remains; people's own feeds forget.
    """
    who = conductor(agenda.config, name)
    # Most weeks have none, and where somebody would sit takes longer to work out.
    start = week.eve
    until = start + 10 * _DAY + agenda.config.conflicts.watch_after
    if not any(absences(agenda, who, start, until, feed=not over)):
        return None
    reasons = (_away_in(agenda, who, slot, feed=not over) for slot in _slots(agenda.config, who, week, primary))
    return next((reason for reason in reasons if reason is not None), None)


def _away_in(agenda: Agenda, who: Conductor, slot: Slot, *, feed: bool = True) -> str | None:
    """The first absence that touches the slot or the time soon after it, in words; None where they are there."""
    near = absences(agenda, who, *watched(agenda.config, slot), feed=feed)
    found = next((one for one in near if one.certain), None)
    if found is None:
        return None
    start, end = (edge.astimezone(zone(who.timezone)) for edge in (found.start, found.end))
    return f"away {format_span(start, end)}" + (f" ({' '.join(found.note.split())})" if found.note else "")


def _missing(agenda: Agenda, week: Week, now: datetime) -> Iterator[str]:
    """Who is away in a slot of the reserved week that is not over, each in a sentence with what to do about it."""
    entry = agenda.reservation(week)
    reservation = entry.reservation if entry is not None else None
    if reservation is None:
        return
    told: set[str] = set()
    for slot in (slot for slot in reservation.slots if slot.end > now):
        for who in reservation.on_duty(slot):
            why = _away_in(agenda, who, slot)
            if why is None or who.name in told:
                continue
            told.add(who.name)
            yield (
                f"{who.name} is {why}, in a slot or soon after it; the week's conflicts say who could cover: hand the "
                "train off, or change the pair."
            )


def _slots(config: Config, who: Conductor, week: Week, primary: str | None) -> Sequence[Slot]:
    """The slots in which they would sit as primary, or as the backup of `primary`."""
    if primary is None:
        window = seat(config, who, week).window
        return [slot for slot in train_slots(config, week) if slot.window == window]
    planned = plan(config, Pair(conductor(config, primary), who), week, week.eve)
    return [slot for slot in planned.slots if who in planned.conductors(slot)]


def pair_of(config: Config, turn: Turn) -> Pair:
    """The pair of a planned turn."""
    assert turn.primary is not None  # as `planned` promises
    assert turn.backup is not None
    return Pair(conductor(config, turn.primary), conductor(config, turn.backup))
