"""The JSON that goes out of the API, drawn from the core. Times are RFC 3339 with an offset."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from calsync.booking.reservations import Outcome
from calsync.core.conductors import Conductor
from calsync.core.conflict import Alternative, Conflict, Event
from calsync.core.planning import Plan, Seat
from calsync.core.settings import Kind
from calsync.core.windows import Role, Slot
from calsync.schedule.check import Check
from calsync.schedule.status import OnCallStatus, Shift, Status


class EventOut(BaseModel):
    """What a slot conflicts with."""

    uid: str | None = Field(description="Null for what stands in somebody's own busy feed, which is private.")
    summary: str
    start: datetime
    end: datetime

    @classmethod
    def of(cls, event: Event) -> EventOut:
        """From the core."""
        return cls(uid=event.uid, summary=event.summary, start=event.start, end=event.end)


class CoverOut(BaseModel):
    """Somebody who could conduct instead of who is away, and why they."""

    name: str
    reason: str


class ConflictOut(BaseModel):
    """One reason against a slot; `slot` is null where it may concern any."""

    kind: Kind
    blocking: bool
    slot: str | None
    event: EventOut | None
    message: str
    cover: list[CoverOut] = Field([], description="Who could conduct instead, where somebody is away.")

    @classmethod
    def of(cls, conflict: Conflict) -> ConflictOut:
        """From the core."""
        event = EventOut.of(conflict.event) if conflict.event else None
        return cls(
            kind=conflict.kind,
            blocking=conflict.blocking,
            slot=conflict.slot,
            event=event,
            message=conflict.message,
            cover=[CoverOut(name=one.name, reason=one.reason) for one in conflict.cover],
        )


class AlternativeOut(BaseModel):
    """A free place for the slot `instead_of`."""

    instead_of: str
    window: str
    start: datetime
    end: datetime

    @classmethod
    def of(cls, free: Alternative) -> AlternativeOut:
        """From the core."""
        return cls(instead_of=free.instead_of, window=free.window, start=free.start, end=free.end)


class SlotOut(BaseModel):
    """One dated place of a window, in the window's own offset."""

    id: str = Field(examples=["2026-12-01-european"])
    window: str
    role: Role | None
    stage: str | None
    start: datetime
    end: datetime
    uid: str

    @classmethod
    def of(cls, slot: Slot) -> SlotOut:
        """From the core."""
        return cls(
            id=slot.id, window=slot.window, role=slot.role, stage=slot.stage, start=slot.start, end=slot.end, uid=slot.uid
        )


class SeatOut(BaseModel):
    """A conductor, the window they sit in, and why."""

    name: str
    timezone: str
    hours: str
    window: str
    reason: str

    @classmethod
    def of(cls, person: Conductor, seat: Seat) -> SeatOut:
        """From the core."""
        return cls(
            name=person.name, timezone=person.timezone, hours=str(person.hours), window=seat.window, reason=seat.reason
        )


class ReservationOut(BaseModel):
    """A train week on the calendar. `etag` and `url` are null in a dry run."""

    week: str
    train: str | None
    ticket: str | None
    override: str | None
    spans_regions: bool
    state: Literal["complete", "changed", "released"]
    changes: list[str] = Field(description="What people did to it on the calendar, in sentences.")
    primary: SeatOut
    backup: SeatOut
    responsible: str = Field(description="Who is responsible now: the primary, or who the train was handed to.")
    slots: list[SlotOut]
    skipped: list[SlotOut] = Field(description="Slots of the week that are over already.")
    cancelled: list[SlotOut] = Field(description="Slots that were given up.")
    warnings: list[ConflictOut]
    etag: str | None
    url: str | None

    @classmethod
    def of(cls, outcome: Outcome) -> ReservationOut:
        """From the core."""
        found = outcome.reservation
        return cls(
            week=str(found.week),
            train=found.train,
            ticket=found.ticket,
            override=found.override,
            spans_regions=found.spans_regions,
            state="released" if found.released else "changed" if outcome.changes else "complete",
            changes=list(outcome.changes),
            primary=SeatOut.of(found.pair.primary, found.primary),
            backup=SeatOut.of(found.pair.backup, found.backup),
            responsible=found.in_charge.name,
            slots=[SlotOut.of(slot) for slot in found.slots],
            skipped=[SlotOut.of(slot) for slot in outcome.skipped],
            cancelled=[SlotOut.of(slot) for slot in found.cancelled],
            warnings=[ConflictOut.of(conflict) for conflict in outcome.warnings],
            etag=outcome.etag or None,
            url=f"/api/reservations/{found.week}" if outcome.etag else None,
        )


class PlanOut(BaseModel):
    """Who would sit where, and which slots that makes."""

    week: str
    spans_regions: bool
    primary: SeatOut
    backup: SeatOut
    slots: list[SlotOut]
    skipped: list[SlotOut]

    @classmethod
    def of(cls, plan: Plan) -> PlanOut:
        """From the core."""
        return cls(
            week=str(plan.week),
            spans_regions=plan.spans_regions,
            primary=SeatOut.of(plan.pair.primary, plan.primary),
            backup=SeatOut.of(plan.pair.backup, plan.backup),
            slots=[SlotOut.of(slot) for slot in plan.slots],
            skipped=[SlotOut.of(slot) for slot in plan.skipped],
        )


_STALE = "How many seconds ago the calendar last answered, while it is away; null while it is here."


class ConflictsOut(BaseModel):
    """What was checked and every conflict found; `plan` and `alternatives` where a pair was given."""

    slots: list[SlotOut]
    conflicts: list[ConflictOut]
    plan: PlanOut | None = None
    alternatives: list[AlternativeOut] = []
    reserved: bool = Field(description="Whether a reservation holds the week.")
    stale: int | None = Field(None, description=_STALE)

    @classmethod
    def of(cls, found: Check, stale: int | None = None) -> ConflictsOut:
        """From the core's check of a request."""
        return cls(
            slots=[SlotOut.of(slot) for slot in found.plan.slots],
            conflicts=[ConflictOut.of(conflict) for conflict in found.conflicts],
            plan=PlanOut.of(found.plan),
            alternatives=[AlternativeOut.of(free) for free in found.alternatives],
            reserved=found.holder is not None,
            stale=stale,
        )


class WindowOut(BaseModel):
    """A window, and its slots in the week asked for."""

    name: str
    title: str
    timezone: str
    category: str | None
    train: bool
    slots: list[SlotOut]


class WindowsOut(BaseModel):
    """The windows of a week; `no_train` says why it has no train, if it has none."""

    week: str
    no_train: str | None
    windows: list[WindowOut]


class DutyOut(BaseModel):
    """A slot that runs or comes, what it is for, and who is responsible."""

    summary: str
    slot: SlotOut
    responsible: list[str]

    @classmethod
    def of(cls, duty: Shift) -> DutyOut:
        """From the core."""
        return cls(summary=duty.summary, slot=SlotOut.of(duty.slot), responsible=list(duty.responsible))


class PresenceOut(BaseModel):
    """Whether a conductor is within their working hours, until when that is so, and how to reach them.

    `away` is until when they are away, whatever their hours say, and `unknown` why nobody can tell whether they are.
    Whoever has no `role` took the train over.
    """

    name: str
    role: Role | None
    timezone: str
    working: bool
    until: datetime
    away: datetime | None
    unknown: str | None
    irc: str | None
    video: str | None

    @classmethod
    def of(cls, found: OnCallStatus) -> PresenceOut:
        """From the core."""
        who = found.conductor
        return cls(
            name=who.name,
            role=found.role,
            timezone=who.timezone,
            working=found.working,
            until=found.until,
            away=found.away,
            unknown=found.unknown,
            irc=found.irc,
            video=found.video,
        )


class NowOut(BaseModel):
    """What runs at `at`, what comes next, and the pair of the running or coming train."""

    at: datetime
    running: list[DutyOut]
    next: list[DutyOut]
    week: str | None
    conductors: list[PresenceOut]
    stale: int | None = Field(None, description=_STALE)

    @classmethod
    def of(cls, found: Status, stale: int | None = None) -> NowOut:
        """From the core."""
        return cls(
            at=found.at,
            running=[DutyOut.of(duty) for duty in found.running],
            next=[DutyOut.of(duty) for duty in found.next],
            week=str(found.reservation.week) if found.reservation else None,
            conductors=[PresenceOut.of(one) for one in found.pair],
            stale=stale,
        )
