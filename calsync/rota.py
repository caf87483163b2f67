"""The rotation on the calendar: what stands there and who is away, put to the rotation; and reserving its coming weeks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Literal

from calsync.agenda import Agenda, Follower
from calsync.conflicts import Conflict, when
from calsync.cover import absences, watched
from calsync.errors import Conflicted, Invalid
from calsync.planning import Pair, conductor, next_week, seat, train_slots
from calsync.reservations import Outcome, Request, reserve
from calsync.rotation import Tally, Turn, rotate, tally, year_of
from calsync.settings import Config
from calsync.weeks import Week
from calsync.windows import train_windows
from calsync.zones import zone

_DAY = timedelta(days=1)

Result = Literal["reserved", "stands", "no-train", "open", "conflict", "beyond"]
"""What became of a week: reserved by this call, reserved before, nothing to reserve, nobody to, refused, or too far."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """The weeks asked for, and how often everybody has a turn in the rotation's `year` that the first of them lies in."""

    turns: tuple[Turn, ...]
    year: tuple[Week, Week]
    tallies: tuple[Tally, ...]


@dataclass(frozen=True, slots=True)
class Reserved:
    """What became of one week, in a sentence; `outcome` where it stands, `conflicts` where they refused it."""

    turn: Turn
    result: Result
    message: str
    outcome: Outcome | None = None
    conflicts: tuple[Conflict, ...] = ()


def start_of(config: Config) -> Week:
    """The week in which the rotation starts; `Invalid` where windows.toml has no rotation."""
    if config.rotation.start is None:
        raise Invalid('There is no rotation in windows.toml; add [rotation] with order = [names] and start = "2026-W49".')
    return config.rotation.start


def rotation(config: Config, agenda: Agenda, now: datetime, weeks: int) -> Rotation:
    """The rotation's next `weeks` weeks from that of `now` (aware) on, or from its start on if that is later."""
    first = max(start_of(config), Week.containing(now.date()))
    last = first.shift(weeks - 1)
    year = year_of(start_of(config), first)
    turns = list(_turns(config, agenda, max(last, year[1])))
    within = [turn for turn in turns if year[0] <= turn.week <= year[1]]
    shown = tuple(turn for turn in turns if first <= turn.week <= last)
    return Rotation(shown, year, tally(config.rotation.order, within))


def _turns(config: Config, agenda: Agenda, last: Week) -> Iterator[Turn]:
    held = {
        entry.reservation.week: (entry.reservation.pair.primary.name, entry.reservation.pair.backup.name)
        for entry in agenda.reservations
        if entry.reservation is not None and not entry.reservation.released
    }

    @cache
    def away(name: str, week: Week) -> str | None:
        return _away(config, agenda, name, week)

    return rotate(config.rotation.order, start_of(config), last, held, config.declined, away)


def _away(config: Config, agenda: Agenda, name: str, week: Week) -> str | None:
    """Why somebody cannot conduct in the week: the first absence that touches a slot in which they would sit."""
    who, windows = conductor(config, name), train_windows(config)
    # Most weeks have none, and where somebody would sit takes longer to work out.
    monday = datetime.combine(week.monday, time(), UTC)
    if not any(absences(agenda, who, monday - _DAY, monday + 9 * _DAY + config.conflicts.watch_after)):
        return None
    sits = seat(config, windows, who, week).window
    for slot in train_slots(config, [window for window in windows if window.name == sits], week):
        found = next((one for one in absences(agenda, who, *watched(config, slot)) if one.certain), None)
        if found is not None:
            start, end = (edge.astimezone(zone(who.timezone)) for edge in (found.start, found.end))
            return f"away {when(start, end)}" + (f" ({' '.join(found.note.split())})" if found.note else "")
    return None


def pair_of(config: Config, turn: Turn) -> Pair:
    """The pair of a planned turn."""
    assert turn.primary is not None  # as `planned` promises
    assert turn.backup is not None
    return Pair(conductor(config, turn.primary), conductor(config, turn.backup))


def reserve_weeks(follower: Follower, weeks: int, now: datetime, *, author: str | None = None) -> Iterator[Reserved]:
    """Reserve every free one of the next `weeks` weeks whose train has not begun, each for itself, and tell of every one.

    A week that is reserved stays as it is, so that the same call again changes nothing. Raises the calendar's errors.
    """
    config = follower.config
    first = max(start_of(config), next_week(config, now))
    for n in range(weeks):
        week = first.shift(n)
        # Somebody else may reserve meanwhile, and the rotation goes on from what they reserved.
        turn = next(turn for turn in _turns(config, follower.sync(now), week) if turn.week == week)
        yield _reserve(follower, turn, now, author)


def _reserve(follower: Follower, turn: Turn, now: datetime, author: str | None) -> Reserved:
    week, config = turn.week, follower.config
    if turn.state == "reserved":
        return Reserved(turn, "stands", f"{week} is reserved already, for {turn.primary} and {turn.backup}.")
    if turn.state == "no-train":
        return Reserved(turn, "no-train", f"{week} has no train: {config.declined[week]}.")
    if turn.state == "open":
        return Reserved(turn, "open", f"{week} has no pair. {' '.join(turn.notes)}")
    entry = follower.agenda.reservation(week)
    if entry is not None and entry.reservation is None:
        return Reserved(turn, "conflict", f"{week} is held by a reservation that cannot be read; calsync doctor says why.")
    try:
        outcome = reserve(follower, Request(pair_of(config, turn), week), now, author=author)
    except Conflicted as error:
        return Reserved(turn, "conflict", f"{week} is not reserved: {error}", conflicts=error.conflicts)
    except Invalid as error:
        return Reserved(turn, "beyond", f"{week} is not reserved: {error}")
    said = "is reserved" if outcome.created else "is reserved already,"
    return Reserved(turn, "reserved" if outcome.created else "stands", _sentence(turn, said), outcome)


def _sentence(turn: Turn, said: str) -> str:
    return f"{turn.week} {said} for {turn.primary} and {turn.backup}."
