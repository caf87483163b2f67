"""Reserving the coming weeks of the rotation, each by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from calsync.booking.reservations import Outcome, reserve
from calsync.core.conflict import Conflict, Conflicted
from calsync.core.errors import Changed, Invalid, Refused
from calsync.core.planning import next_week
from calsync.core.rotation import Turn
from calsync.schedule.check import ReservationRequest
from calsync.schedule.rotation import CANCELLED, pair_of, start_of, turns_until
from calsync.schedule.sync import CalendarSync

Result = Literal["reserved", "stands", "no-train", "open", "conflict", "beyond", "invalid", "refused"]
"""What became of a week: reserved by this call, reserved before, nothing to reserve, nobody to, conflicts, too far, at odds
with windows.toml, or refused by the calendar.
"""
FAILED: Collection[Result] = ("open", "conflict", "beyond", "invalid", "refused")
"""The results of a week that has a train and is not reserved."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What became of one week, in a sentence; `outcome` where it stands, `conflicts` where they refused it."""

    turn: Turn
    result: Result
    message: str
    outcome: Outcome | None = None
    conflicts: tuple[Conflict, ...] = ()


def reserve_weeks(sync: CalendarSync, weeks: int, now: datetime, *, author: str | None = None) -> Iterator[Reserved]:
    """Reserve every free one of the next `weeks` weeks whose train has not begun, each for itself, and tell of every one.

    A week that is reserved stays as it is, so that the same call again changes nothing. A week that the calendar refuses
    keeps no other from being reserved; raises `Unreachable` once it is away, and `Refused` where it cannot be read.
    """
    config = sync.config
    first = max(start_of(config), next_week(config, now))
    for n in range(weeks):
        week = first.shift(n)
        # Somebody else may reserve meanwhile, and the rotation goes on from what they reserved.
        turn = next(turn for turn in turns_until(sync.refresh(now), week, now) if turn.week == week)
        yield _reserve(sync, turn, now, author)


def _reserve(sync: CalendarSync, turn: Turn, now: datetime, author: str | None) -> Reserved:
    week, config = turn.week, sync.config
    if turn.state == "reserved":
        return Reserved(turn, "stands", " ".join([_sentence(turn, "is reserved already,"), *turn.notes]))
    if turn.state == "no-train":
        why = config.declined.get(week) or f"{CANCELLED}; release the week to have one all the same"
        return Reserved(turn, "no-train", f"{week} has no train: {why}.")
    if turn.state == "open":
        return Reserved(turn, "open", f"{week} has no pair. {' '.join(turn.notes)}")
    entry = sync.agenda.reservation(week)
    if entry is not None and entry.reservation is None:
        return Reserved(turn, "conflict", f"{week} is held by a reservation that cannot be read; calsync doctor says why.")
    try:
        outcome = reserve(sync, ReservationRequest(pair_of(config, turn), week), now, author=author)
    except Conflicted as error:
        return Reserved(turn, "conflict", f"{week} is not reserved: {error}", conflicts=error.conflicts)
    except Invalid as error:
        result: Result = "beyond" if sync.agenda.horizon.end < week.shift(1).eve else "invalid"
        return Reserved(turn, result, f"{week} is not reserved: {error}")
    except (Changed, Refused) as error:
        return Reserved(turn, "refused", f"{week} is not reserved: {error}")
    said = "is reserved" if outcome.created else "is reserved already,"
    return Reserved(turn, "reserved" if outcome.created else "stands", _sentence(turn, said), outcome)


def _sentence(turn: Turn, said: str) -> str:
    return f"{turn.week} {said} for {turn.primary} and {turn.backup}."
