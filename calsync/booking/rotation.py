"""Reserve the coming weeks of the rotation, each by itself."""

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
"""The result for a week. Part of the API.

reserved: by this call. stands: reserved before. no-train: there is no train. open: nobody is available. conflict: conflicts
block it. beyond: it is outside the horizon. invalid: windows.toml does not allow it. refused: the calendar refused it.
"""

FAILED: Collection[Result] = ("open", "conflict", "beyond", "invalid", "refused")
"""The results for a week that has a train and is not reserved."""


@dataclass(frozen=True, slots=True)
class WeekResult:
    """The result for one week; `outcome` is set if the week is reserved, `conflicts` if they block it."""

    turn: Turn
    result: Result
    message: str
    outcome: Outcome | None = None
    conflicts: tuple[Conflict, ...] = ()


def reserve_weeks(sync: CalendarSync, weeks: int, now: datetime, *, author: str | None = None) -> Iterator[WeekResult]:
    """Reserve the free ones of the next `weeks` weeks whose train has not begun, and yield a result for every week.

    Each week is reserved by itself: a week that the calendar refuses does not stop the others. Reserved weeks stay as they
    are, so a second call changes nothing. Raises `Unreachable` if the calendar is away, and `Refused` if it cannot be read.
    """
    config = sync.config
    first = max(start_of(config), next_week(config, now))
    for n in range(weeks):
        week = first.shift(n)
        # Somebody else may reserve in between. The rotation then continues from their reservation.
        turn = next(turn for turn in turns_until(sync.refresh(now), week, now) if turn.week == week)
        yield _reserve_turn(sync, turn, now, author)


def _reserve_turn(sync: CalendarSync, turn: Turn, now: datetime, author: str | None) -> WeekResult:
    week, config = turn.week, sync.config
    reserved = f"{week} is reserved for {turn.primary} and {turn.backup}."
    already = f"{week} is reserved already, for {turn.primary} and {turn.backup}."
    if turn.state == "reserved":
        return WeekResult(turn, "stands", " ".join([already, *turn.notes]))
    if turn.state == "no-train":
        why = config.declined.get(week) or f"{CANCELLED}; release the week if it has a train after all"
        return WeekResult(turn, "no-train", f"{week} has no train: {why}.")
    if turn.state == "open":
        return WeekResult(turn, "open", f"{week} has no pair. {' '.join(turn.notes)}")
    existing = sync.agenda.reservation(week)
    if existing is not None and existing.reservation is None:
        message = f"{week} is not reserved: its reservation on the calendar cannot be read; calsync doctor says why."
        return WeekResult(turn, "conflict", message)
    try:
        outcome = reserve(sync, ReservationRequest(pair_of(config, turn), week), now, author=author)
    except Conflicted as error:
        return WeekResult(turn, "conflict", f"{week} is not reserved: {error}", conflicts=error.conflicts)
    except Invalid as error:
        result: Result = "beyond" if sync.agenda.horizon.end < week.shift(1).eve else "invalid"
        return WeekResult(turn, result, f"{week} is not reserved: {error}")
    except (Changed, Refused) as error:
        return WeekResult(turn, "refused", f"{week} is not reserved: {error}")
    return (
        WeekResult(turn, "reserved", reserved, outcome) if outcome.created else WeekResult(turn, "stands", already, outcome)
    )
