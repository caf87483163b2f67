"""The JSON about the pair's week: the rotation, absences, hand-offs and updates. Times are RFC 3339 with an offset."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from pydantic import AliasPath, Field

from calsync.booking.handoff import Handoff
from calsync.booking.rotation import Result, WeekResult
from calsync.core.delivery import Delivery, DeliveryState, Target
from calsync.core.rotation import Turn, TurnState
from calsync.notifications.updates import Update
from calsync.schedule.absences import Source
from calsync.schedule.rotation import Rotation
from calsync.schemas.reservations import ConflictOut, Out, ReservationOut


class TurnOut(Out):
    """One week of the rotation; `url` is set if it is reserved, and `notes` say what is unusual about it."""

    week: str = Field(examples=["2026-W49"])
    state: TurnState
    primary: str | None
    backup: str | None
    passed: list[str] = Field(description="Who was away when it was their turn.")
    notes: list[str]
    url: str | None

    @classmethod
    def of(cls, turn: Turn) -> TurnOut:
        """Add the address of the reservation to a turn."""
        return cls(
            week=str(turn.week),
            state=turn.state,
            primary=turn.primary,
            backup=turn.backup,
            passed=list(turn.passed),
            notes=list(turn.notes),
            url=f"/api/reservations/{turn.week}" if turn.state == "reserved" else None,
        )


class TallyOut(Out):
    """How often somebody is primary; `reason` is set if that differs by more than one from others."""

    name: str
    turns: int
    reason: str | None


class YearOut(Out):
    """The rotation's year of 52 weeks, from `first` to `last`, and everybody's turns in it."""

    first: str
    last: str
    turns: list[TallyOut]


class RotationOut(Out):
    """The coming weeks of the rotation, and its year."""

    weeks: list[TurnOut]
    year: YearOut

    @classmethod
    def of(cls, rotation: Rotation) -> RotationOut:
        """Put the tallies of a rotation into its year."""
        tallies = [TallyOut.model_validate(tally) for tally in rotation.tallies]
        year = YearOut(first=str(rotation.year[0]), last=str(rotation.year[1]), turns=tallies)
        return cls(weeks=[TurnOut.of(turn) for turn in rotation.turns], year=year)


class ReservedOut(Out):
    """The result for one week of the rotation that was to be reserved."""

    week: str
    result: Result
    message: str
    reservation: ReservationOut | None
    conflicts: list[ConflictOut]

    @classmethod
    def of(cls, week: WeekResult) -> ReservedOut:
        """Name the week of a result."""
        return cls(
            week=str(week.turn.week),
            result=week.result,
            message=week.message,
            reservation=ReservationOut.of(week.outcome) if week.outcome else None,
            conflicts=[ConflictOut.model_validate(conflict) for conflict in week.conflicts],
        )


class AwayOut(Out):
    """An absence. With `all_day`, `start` and `end` are dates, both included, on the clocks of `timezone`."""

    id: str | None = Field(
        validation_alias="name", description="The id to remove it by; null for an event from a busy feed."
    )
    source: Source = Field(description="The Deployments calendar, or the person's own busy feed.")
    conductor: str = Field(validation_alias=AliasPath("record", "conductor"))
    timezone: str = Field(validation_alias=AliasPath("record", "timezone"))
    start: datetime | date
    end: datetime | date
    all_day: bool
    note: str | None = Field(validation_alias=AliasPath("record", "note"))
    author: str | None = Field(validation_alias=AliasPath("record", "author"))
    conflicts: list[ConflictOut] = Field(description="Its conflicts with reserved slots, and who could cover.")


class DeliveryOut(Out):
    """A message and its state. A pending one is retried from `due` on; `about` is the cause that several may share."""

    about: str
    target: Target
    text: str
    state: DeliveryState
    detail: str | None
    attempts: int
    due: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryOut:
        """Leave out the time of the next attempt if there is none."""
        return cls(
            about=delivery.correlation_id,
            target=delivery.target,
            text=delivery.text,
            state=delivery.state,
            detail=delivery.detail,
            attempts=delivery.attempts,
            due=delivery.not_before if delivery.state == "pending" else None,
        )


class HandoffOut(Out):
    """A hand-off that is on the calendar, and the messages about it."""

    reservation: ReservationOut
    deliveries: list[DeliveryOut]

    @classmethod
    def of(cls, handoff: Handoff, sent: Sequence[Delivery]) -> HandoffOut:
        """Put a hand-off and its messages together."""
        return cls(
            reservation=ReservationOut.of(handoff.outcome), deliveries=[DeliveryOut.of(delivery) for delivery in sent]
        )


class UpdateOut(Out):
    """Where an update went, and the reason for it."""

    week: str
    to: list[Target]
    reason: str
    deliveries: list[DeliveryOut]

    @classmethod
    def of(cls, week: str, update: Update, sent: Sequence[Delivery]) -> UpdateOut:
        """Put an update and its messages together."""
        return cls(
            week=week,
            to=[delivery.target for delivery in sent if delivery.state != "skipped"],
            reason=update.route.reason,
            deliveries=[DeliveryOut.of(delivery) for delivery in sent],
        )
