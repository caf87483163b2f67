"""The JSON about the pair's week: the rotation, absences, hand-offs and updates. Times are RFC 3339 with an offset."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from pydantic import BaseModel, Field

from calsync.booking.handoff import Handoff
from calsync.booking.rotation import Result, WeekResult
from calsync.core.delivery import Delivery, DeliveryState, Target
from calsync.core.rotation import Tally, Turn, TurnState
from calsync.notifications.updates import Update
from calsync.schedule.absences import AbsenceView, Source
from calsync.schedule.rotation import Rotation
from calsync.schemas.reservations import ConflictOut, ReservationOut


class TurnOut(BaseModel):
    """One week of the rotation; `url` where it is reserved, `notes` what is unusual about it."""

    week: str = Field(examples=["2026-W49"])
    state: TurnState
    primary: str | None
    backup: str | None
    passed: list[str] = Field(description="Who was away when it was their turn.")
    notes: list[str]
    url: str | None

    @classmethod
    def of(cls, turn: Turn) -> TurnOut:
        """From the core."""
        return cls(
            week=str(turn.week),
            state=turn.state,
            primary=turn.primary,
            backup=turn.backup,
            passed=list(turn.passed),
            notes=list(turn.notes),
            url=f"/api/reservations/{turn.week}" if turn.state == "reserved" else None,
        )


class TallyOut(BaseModel):
    """How often somebody is primary; `reason` where that differs by more than one from others."""

    name: str
    turns: int
    reason: str | None

    @classmethod
    def of(cls, tally: Tally) -> TallyOut:
        """From the core."""
        return cls(name=tally.name, turns=tally.turns, reason=tally.reason)


class YearOut(BaseModel):
    """The rotation's year of 52 weeks, from its `first` to its `last`, and everybody's turns in it."""

    first: str
    last: str
    turns: list[TallyOut]


class RotationOut(BaseModel):
    """The coming weeks of the rotation, and its year."""

    weeks: list[TurnOut]
    year: YearOut

    @classmethod
    def of(cls, found: Rotation) -> RotationOut:
        """From the core."""
        turns = [TallyOut.of(tally) for tally in found.tallies]
        year = YearOut(first=str(found.year[0]), last=str(found.year[1]), turns=turns)
        return cls(weeks=[TurnOut.of(turn) for turn in found.turns], year=year)


class ReservedOut(BaseModel):
    """What became of one week that was to be reserved."""

    week: str
    result: Result
    message: str
    reservation: ReservationOut | None
    conflicts: list[ConflictOut]

    @classmethod
    def of(cls, found: WeekResult) -> ReservedOut:
        """From the core."""
        return cls(
            week=str(found.turn.week),
            result=found.result,
            message=found.message,
            reservation=ReservationOut.of(found.outcome) if found.outcome else None,
            conflicts=[ConflictOut.of(conflict) for conflict in found.conflicts],
        )


class AwayOut(BaseModel):
    """An absence; `all_day` ones from one date to another, both included, on the clocks of `timezone`."""

    id: str | None = Field(description="By which it is taken away; null for what somebody's own busy feed says.")
    source: Source = Field(description="Whether it stands on the calendar, or in that person's own busy feed.")
    conductor: str
    timezone: str
    start: datetime | date
    end: datetime | date
    all_day: bool
    note: str | None
    author: str | None
    conflicts: list[ConflictOut] = Field(description="What it does to slots that are reserved, and who could cover.")

    @classmethod
    def of(cls, found: AbsenceView) -> AwayOut:
        """From the core."""
        return cls(
            id=found.name,
            source=found.source,
            conductor=found.away.conductor,
            timezone=found.away.timezone,
            start=found.start,
            end=found.end,
            all_day=found.all_day,
            note=found.away.note,
            author=found.away.author,
            conflicts=[ConflictOut.of(conflict) for conflict in found.conflicts],
        )


class DeliveryOut(BaseModel):
    """What became of one message. A pending one is tried again from `due` on; `about` names what it belongs to."""

    about: str
    target: Target
    text: str
    state: DeliveryState
    detail: str | None
    attempts: int
    due: datetime | None

    @classmethod
    def of(cls, found: Delivery) -> DeliveryOut:
        """From the core."""
        return cls(
            about=found.correlation_id,
            target=found.target,
            text=found.text,
            state=found.state,
            detail=found.detail,
            attempts=found.attempts,
            due=found.not_before if found.state == "pending" else None,
        )


class HandoffOut(BaseModel):
    """A hand-off that stands on the calendar, and what became of telling it."""

    reservation: ReservationOut
    deliveries: list[DeliveryOut]

    @classmethod
    def of(cls, found: Handoff, sent: Sequence[Delivery]) -> HandoffOut:
        """From the core."""
        return cls(reservation=ReservationOut.of(found.outcome), deliveries=[DeliveryOut.of(one) for one in sent])


class UpdateOut(BaseModel):
    """Where an update went, and why there."""

    week: str
    to: list[Target]
    reason: str
    deliveries: list[DeliveryOut]

    @classmethod
    def of(cls, week: str, found: Update, sent: Sequence[Delivery]) -> UpdateOut:
        """From the core."""
        return cls(
            week=week,
            to=[one.target for one in sent if one.state != "skipped"],
            reason=found.route.reason,
            deliveries=[DeliveryOut.of(one) for one in sent],
        )
