"""The rotation on the calendar: what stands there and who is away, put to the rotation; and reserving its coming weeks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Literal

from calsync.agenda import Agenda
from calsync.conflicts import Conflict, when
from calsync.cover import absences, watched
from calsync.errors import Changed, Conflicted, Invalid, Refused
from calsync.follower import Follower
from calsync.planning import Conductor, Pair, conductor, next_week, plan, seat, train_slots
from calsync.reservations import Outcome, Request, reserve
from calsync.rotation import Tally, Turn, rotate, tally, year_of
from calsync.settings import Config
from calsync.weeks import Week
from calsync.windows import Slot, train_windows
from calsync.zones import zone

_DAY = timedelta(days=1)

Result = Literal["reserved", "stands", "no-train", "open", "conflict", "beyond", "invalid", "refused"]
"""What became of a week: reserved by this call, reserved before, nothing to reserve, nobody to, conflicts, too far, at odds
with windows.toml, or refused by the calendar.
"""

FAILED: Collection[Result] = ("open", "conflict", "beyond", "invalid", "refused")
"""The results of a week that has a train and is not reserved."""

_CANCELLED = "people cancelled it on the calendar"


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
    turns = list(_turns(config, agenda, max(last, year[1]), now))
    within = [turn for turn in turns if year[0] <= turn.week <= year[1]]
    shown = tuple(turn for turn in turns if first <= turn.week <= last)
    return Rotation(shown, year, tally(config.rotation.order, within))


def _turns(config: Config, agenda: Agenda, last: Week, now: datetime) -> Iterator[Turn]:
    held = {week: (names[0], names[1]) for week, names in agenda.held.items() if names}
    cancelled = {week for week, names in agenda.held.items() if not names}
    this_week = Week.containing(now.date())

    @cache
    def away(name: str, week: Week, primary: str | None) -> str | None:
        return _away(config, agenda, name, week, primary, over=week < this_week)

    for turn in rotate(config.rotation.order, start_of(config), last, held, {*config.declined, *cancelled}, away):
        if turn.week in cancelled:
            yield replace(turn, notes=(f"No train: {_CANCELLED}.",))
        elif turn.state == "reserved":
            yield replace(turn, notes=tuple(_missing(config, agenda, turn.week, now)))
        else:
            yield turn


def _away(config: Config, agenda: Agenda, name: str, week: Week, primary: str | None, *, over: bool) -> str | None:
    """Why somebody cannot conduct in the week: the first absence that touches a slot in which they would sit.

    Of a week that is `over` only what stands on the calendar counts, which remains; people's own feeds forget.
    """
    who = conductor(config, name)
    # Most weeks have none, and where somebody would sit takes longer to work out.
    start = week.eve
    until = start + 10 * _DAY + config.conflicts.watch_after
    if not any(absences(config, agenda, who, start, until, feed=not over)):
        return None
    reasons = (_away_in(config, agenda, who, slot, feed=not over) for slot in _slots(config, who, week, primary))
    return next((reason for reason in reasons if reason is not None), None)


def _away_in(config: Config, agenda: Agenda, who: Conductor, slot: Slot, *, feed: bool = True) -> str | None:
    """The first absence that touches the slot or the time soon after it, in words; None where they are there."""
    near = absences(config, agenda, who, *watched(config, slot), feed=feed)
    found = next((one for one in near if one.certain), None)
    if found is None:
        return None
    start, end = (edge.astimezone(zone(who.timezone)) for edge in (found.start, found.end))
    return f"away {when(start, end)}" + (f" ({' '.join(found.note.split())})" if found.note else "")


def _missing(config: Config, agenda: Agenda, week: Week, now: datetime) -> Iterator[str]:
    """Who is away in a slot of the reserved week that is not over, each in a sentence with what to do about it."""
    entry = agenda.reservation(week)
    reservation = entry.reservation if entry is not None else None
    if reservation is None:
        return
    told: set[str] = set()
    for slot in (slot for slot in reservation.slots if slot.end > now):
        for who in reservation.on_duty(slot):
            why = _away_in(config, agenda, who, slot)
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
        windows = train_windows(config)
        sits = seat(config, windows, who, week).window
        return train_slots(config, [window for window in windows if window.name == sits], week)
    planned = plan(config, Pair(conductor(config, primary), who), week, week.eve)
    return [slot for slot in planned.slots if who in planned.conductors(slot)]


def pair_of(config: Config, turn: Turn) -> Pair:
    """The pair of a planned turn."""
    assert turn.primary is not None  # as `planned` promises
    assert turn.backup is not None
    return Pair(conductor(config, turn.primary), conductor(config, turn.backup))


def reserve_weeks(follower: Follower, weeks: int, now: datetime, *, author: str | None = None) -> Iterator[Reserved]:
    """Reserve every free one of the next `weeks` weeks whose train has not begun, each for itself, and tell of every one.

    A week that is reserved stays as it is, so that the same call again changes nothing. A week that the calendar refuses
    keeps no other from being reserved; raises `Unreachable` once it is away, and `Refused` where it cannot be read.
    """
    config = follower.config
    first = max(start_of(config), next_week(config, now))
    for n in range(weeks):
        week = first.shift(n)
        # Somebody else may reserve meanwhile, and the rotation goes on from what they reserved.
        turn = next(turn for turn in _turns(config, follower.sync(now), week, now) if turn.week == week)
        yield _reserve(follower, turn, now, author)


def _reserve(follower: Follower, turn: Turn, now: datetime, author: str | None) -> Reserved:
    week, config = turn.week, follower.config
    if turn.state == "reserved":
        return Reserved(turn, "stands", " ".join([_sentence(turn, "is reserved already,"), *turn.notes]))
    if turn.state == "no-train":
        why = config.declined.get(week) or f"{_CANCELLED}; release the week to have one all the same"
        return Reserved(turn, "no-train", f"{week} has no train: {why}.")
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
        result: Result = "beyond" if follower.agenda.horizon.end < week.shift(1).eve else "invalid"
        return Reserved(turn, result, f"{week} is not reserved: {error}")
    except (Changed, Refused) as error:
        return Reserved(turn, "refused", f"{week} is not reserved: {error}")
    said = "is reserved" if outcome.created else "is reserved already,"
    return Reserved(turn, "reserved" if outcome.created else "stands", _sentence(turn, said), outcome)


def _sentence(turn: Turn, said: str) -> str:
    return f"{turn.week} {said} for {turn.primary} and {turn.backup}."
