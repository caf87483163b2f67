"""The JSON that the API answers with: reservations, plans, conflicts, and what runs now.

Times are RFC 3339 with an offset. A model whose fields are those of a value in `core` or `schedule` is made from it with
`model_validate`; the others have a method `of`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AliasPath, BaseModel, ConfigDict, Field

from calsync.booking.reservations import Outcome
from calsync.core.conductors import Conductor
from calsync.core.planning import Plan, Seat
from calsync.core.settings import Kind
from calsync.core.windows import Role
from calsync.schedule.check import Check
from calsync.schedule.status import Status


class Out(BaseModel):
    """What the API answers with."""

    model_config = ConfigDict(from_attributes=True)


class EventOut(Out):
    """The event that a slot conflicts with."""

    uid: str | None = Field(description="Null for an event from somebody's own busy feed, which is private.")
    summary: str
    start: datetime
    end: datetime


class CoverOut(Out):
    """Somebody who could conduct instead, and the reason for choosing them."""

    name: str
    reason: str


class ConflictOut(Out):
    """One reason against a slot; `slot` is null if it may concern any slot."""

    kind: Kind
    blocking: bool
    slot: str | None
    event: EventOut | None
    message: str
    cover: list[CoverOut] = Field([], description="Who could conduct instead, if the reason is that somebody is away.")


class AlternativeOut(Out):
    """A free place for the slot `instead_of`."""

    instead_of: str
    window: str
    start: datetime
    end: datetime


class SlotOut(Out):
    """A window on one date; times have the offset of the window."""

    id: str = Field(examples=["2026-12-01-european"])
    window: str
    role: Role | None
    stage: str | None
    start: datetime
    end: datetime
    uid: str


class SeatOut(Out):
    """A conductor, the window they sit in, and the reason for it."""

    name: str
    timezone: str
    hours: str
    window: str
    reason: str

    @classmethod
    def of(cls, conductor: Conductor, seat: Seat) -> SeatOut:
        """Put a conductor and their seat together."""
        return cls(
            name=conductor.name,
            timezone=conductor.timezone,
            hours=str(conductor.hours),
            window=seat.window,
            reason=seat.reason,
        )


class ReservationOut(Out):
    """A train week on the calendar. `etag` and `url` are null in a dry run."""

    week: str
    train: str | None
    ticket: str | None
    override: str | None
    spans_regions: bool
    state: Literal["complete", "changed", "released"]
    changes: list[str] = Field(description="What people did to the reservation on the calendar, in sentences.")
    primary: SeatOut
    backup: SeatOut
    responsible: str = Field(description="Who is responsible now: the primary, or who the train was handed to.")
    slots: list[SlotOut]
    skipped: list[SlotOut] = Field(description="Slots of the week that are already over.")
    cancelled: list[SlotOut] = Field(description="Slots that were given up.")
    warnings: list[ConflictOut]
    etag: str | None
    url: str | None

    @classmethod
    def of(cls, outcome: Outcome) -> ReservationOut:
        """Flatten an outcome and its reservation."""
        reservation = outcome.reservation
        return cls(
            week=str(reservation.week),
            train=reservation.train,
            ticket=reservation.ticket,
            override=reservation.override,
            spans_regions=reservation.spans_regions,
            state="released" if reservation.released else "changed" if outcome.changes else "complete",
            changes=list(outcome.changes),
            primary=SeatOut.of(reservation.pair.primary, reservation.primary),
            backup=SeatOut.of(reservation.pair.backup, reservation.backup),
            responsible=reservation.in_charge.name,
            slots=[SlotOut.model_validate(slot) for slot in reservation.slots],
            skipped=[SlotOut.model_validate(slot) for slot in outcome.skipped],
            cancelled=[SlotOut.model_validate(slot) for slot in reservation.cancelled],
            warnings=[ConflictOut.model_validate(conflict) for conflict in outcome.warnings],
            etag=outcome.etag or None,
            url=f"/api/reservations/{reservation.week}" if outcome.etag else None,
        )


class PlanOut(Out):
    """Who would sit where, and the slots to reserve for them."""

    week: str
    spans_regions: bool
    primary: SeatOut
    backup: SeatOut
    slots: list[SlotOut]
    skipped: list[SlotOut]

    @classmethod
    def of(cls, plan: Plan) -> PlanOut:
        """Put the pair of a plan into their seats."""
        return cls(
            week=str(plan.week),
            spans_regions=plan.spans_regions,
            primary=SeatOut.of(plan.pair.primary, plan.primary),
            backup=SeatOut.of(plan.pair.backup, plan.backup),
            slots=[SlotOut.model_validate(slot) for slot in plan.slots],
            skipped=[SlotOut.model_validate(slot) for slot in plan.skipped],
        )


_STALE = "While the calendar is away, how many seconds ago it last answered; null otherwise."


class ConflictsOut(Out):
    """The slots that were checked, and every conflict; `plan` and `alternatives` if a pair was given."""

    slots: list[SlotOut]
    conflicts: list[ConflictOut]
    plan: PlanOut | None = None
    alternatives: list[AlternativeOut] = []
    reserved: bool = Field(description="Whether the week is reserved.")
    stale: int | None = Field(None, description=_STALE)

    @classmethod
    def of(cls, check: Check, stale: int | None = None) -> ConflictsOut:
        """Add `stale` to a check, and list its slots."""
        return cls(
            slots=[SlotOut.model_validate(slot) for slot in check.plan.slots],
            conflicts=[ConflictOut.model_validate(conflict) for conflict in check.conflicts],
            plan=PlanOut.of(check.plan),
            alternatives=[AlternativeOut.model_validate(alternative) for alternative in check.alternatives],
            reserved=check.holder is not None,
            stale=stale,
        )


class WindowOut(Out):
    """A window, and its slots in the week."""

    name: str
    title: str
    timezone: str
    category: str | None
    train: bool
    slots: list[SlotOut]


class WindowsOut(Out):
    """The windows of a week; `no_train` is the reason if the week has no train."""

    week: str
    no_train: str | None
    windows: list[WindowOut]


class DutyOut(Out):
    """A slot that runs or comes, what it is for, and who is responsible."""

    summary: str
    slot: SlotOut
    responsible: list[str]


class PresenceOut(Out):
    """Whether a conductor is within their working hours, until when that is so, and how to reach them.

    `away` is until when they are away, whatever their hours say. `unknown` is the reason if this is unknown. Somebody
    without a `role` took the train over.
    """

    name: str = Field(validation_alias=AliasPath("conductor", "name"))
    role: Role | None
    timezone: str = Field(validation_alias=AliasPath("conductor", "timezone"))
    working: bool
    until: datetime
    away: datetime | None = Field(validation_alias="away_until")
    unknown: str | None
    irc: str | None
    video: str | None


class NowOut(Out):
    """What runs at `at`, what comes next, and the pair of the train that runs or comes."""

    at: datetime
    running: list[DutyOut]
    next: list[DutyOut]
    week: str | None
    conductors: list[PresenceOut]
    stale: int | None = Field(None, description=_STALE)

    @classmethod
    def of(cls, status: Status, stale: int | None = None) -> NowOut:
        """Add `stale` to a status, and name its week."""
        return cls(
            at=status.at,
            running=[DutyOut.model_validate(shift) for shift in status.running],
            next=[DutyOut.model_validate(shift) for shift in status.next],
            week=str(status.reservation.week) if status.reservation else None,
            conductors=[PresenceOut.model_validate(conductor) for conductor in status.pair],
            stale=stale,
        )
