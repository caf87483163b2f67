"""The JSON of the API: what comes in, checked, and what goes out. Times are RFC 3339 with an offset."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from calsync.agenda import Entry
from calsync.config import Config, Kind
from calsync.conflicts import Alternative, Conflict, Event
from calsync.errors import Invalid
from calsync.hours import Hours
from calsync.planning import Conductor, Pair, Plan, Seat, conductor
from calsync.reservations import Check, Outcome, Request
from calsync.watch import Duty, Presence, Watch
from calsync.weeks import Week
from calsync.windows import Role, Slot

Word = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Sentence = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]


class In(BaseModel):
    """What comes in; fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class PersonIn(In):
    """A conductor. `timezone` may be left out for a name of the roster, `name` for somebody who stays unnamed."""

    name: Word | None = None
    timezone: Word | None = Field(None, examples=["Europe/Paris"])
    hours: Word | None = Field(None, examples=["09:00-18:00"])
    window: Word | None = Field(None, description="The train window to sit in, whatever the hours say.")

    def conductor(self, config: Config, role: Role) -> Conductor:
        """The conductor meant, with what the roster knows; `Invalid` where that is nobody."""
        if self.name is None and self.timezone is None:
            raise Invalid(f"{role}: give a name of the roster or a timezone.")
        hours = Hours.parse(self.hours) if self.hours else None
        return conductor(config, self.name or role, timezone=self.timezone, hours=hours, window=self.window)


Person = Annotated[PersonIn | Word, Field(examples=["conductor-eu", {"name": "ana", "timezone": "Europe/Paris"}])]


def _conductor(config: Config, person: PersonIn | str, role: Role) -> Conductor:
    return (PersonIn(name=person) if isinstance(person, str) else person).conductor(config, role)


class ReservationIn(In):
    """What to reserve; without a week, the next one whose train has not begun."""

    week: Word | None = Field(None, description="An ISO week, or any date in it.", examples=["2026-W49"])
    train: Word | None = Field(None, examples=["1.46.0-wmf.5"])
    ticket: Word | None = Field(None, examples=["T400001"])
    primary: Person
    backup: Person
    override: Sentence | None = Field(None, description="Why conflicts are accepted; recorded on the events.")

    def request(self, config: Config) -> Request:
        """The same for the core."""
        return Request(
            Pair(_conductor(config, self.primary, "primary"), _conductor(config, self.backup, "backup")),
            Week.parse(self.week) if self.week else None,
            self.train,
            self.ticket,
            self.override,
        )


class ReservationPatch(In):
    """What to change; a field that is left out stays, and `train` and `ticket` can be taken away with null."""

    train: Word | None = None
    ticket: Word | None = None
    primary: Person | None = None
    backup: Person | None = None
    override: Sentence | None = None

    def request(self, config: Config, standing: Outcome) -> Request:
        """The whole reservation asked for, on top of the one that stands."""
        kept = standing.reservation
        primary = _conductor(config, self.primary, "primary") if self.primary is not None else kept.pair.primary
        backup = _conductor(config, self.backup, "backup") if self.backup is not None else kept.pair.backup
        given = self.model_fields_set
        return Request(
            Pair(primary, backup),
            kept.week,
            self.train if "train" in given else kept.train,
            self.ticket if "ticket" in given else kept.ticket,
            self.override if "override" in given else kept.override,
        )


class SpanIn(In):
    """A span of time."""

    start: AwareDatetime
    end: AwareDatetime

    @model_validator(mode="after")
    def _in_order(self) -> SpanIn:
        if self.end <= self.start:
            raise ValueError("end is not after start; swap them")
        return self


class SlotsIn(In):
    """Spans to check against the agenda, whoever sits there."""

    slots: Annotated[list[SpanIn], Field(min_length=1, max_length=100)]


class EventOut(BaseModel):
    """What a slot conflicts with."""

    uid: str
    summary: str
    start: datetime
    end: datetime

    @classmethod
    def of(cls, event: Event) -> EventOut:
        """From the core."""
        return cls(uid=event.uid, summary=event.summary, start=event.start, end=event.end)


class ConflictOut(BaseModel):
    """One reason against a slot; `slot` is null where it may concern any."""

    kind: Kind
    blocking: bool
    slot: str | None
    event: EventOut | None
    message: str

    @classmethod
    def of(cls, conflict: Conflict) -> ConflictOut:
        """From the core."""
        event = EventOut.of(conflict.event) if conflict.event else None
        return cls(
            kind=conflict.kind, blocking=conflict.blocking, slot=conflict.slot, event=event, message=conflict.message
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
            slots=[SlotOut.of(slot) for slot in found.slots],
            skipped=[SlotOut.of(slot) for slot in outcome.skipped],
            cancelled=[SlotOut.of(slot) for slot in found.cancelled],
            warnings=[ConflictOut.of(conflict) for conflict in outcome.warnings],
            etag=outcome.etag or None,
            url=f"/api/reservations/{found.week}" if outcome.etag else None,
        )

    @classmethod
    def standing(cls, entry: Entry, warnings: tuple[Conflict, ...]) -> ReservationOut:
        """From an entry of the agenda that has a reservation."""
        assert entry.reservation is not None  # the caller's choice of entry
        return cls.of(Outcome(entry.reservation, entry.etag, False, (), warnings, entry.changes))


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


class ConflictsOut(BaseModel):
    """What was checked and every conflict found; `plan` and `alternatives` where a pair was given."""

    slots: list[SlotOut]
    conflicts: list[ConflictOut]
    plan: PlanOut | None = None
    alternatives: list[AlternativeOut] = []
    reserved: bool = Field(False, description="Whether a reservation holds the week.")

    @classmethod
    def of(cls, found: Check) -> ConflictsOut:
        """From the core's check of a request."""
        return cls(
            slots=[SlotOut.of(slot) for slot in found.plan.slots],
            conflicts=[ConflictOut.of(conflict) for conflict in found.conflicts],
            plan=PlanOut.of(found.plan),
            alternatives=[AlternativeOut.of(free) for free in found.alternatives],
            reserved=found.holder is not None,
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
    def of(cls, duty: Duty) -> DutyOut:
        """From the core."""
        return cls(summary=duty.summary, slot=SlotOut.of(duty.slot), responsible=list(duty.responsible))


class PresenceOut(BaseModel):
    """Whether a conductor is within their working hours, and until when that is so."""

    name: str
    role: Role
    timezone: str
    working: bool
    until: datetime

    @classmethod
    def of(cls, found: Presence) -> PresenceOut:
        """From the core."""
        who = found.conductor
        return cls(name=who.name, role=found.role, timezone=who.timezone, working=found.working, until=found.until)


class NowOut(BaseModel):
    """What runs at `at`, what comes next, and the pair of the running or coming train."""

    at: datetime
    running: list[DutyOut]
    next: list[DutyOut]
    week: str | None
    conductors: list[PresenceOut]

    @classmethod
    def of(cls, found: Watch) -> NowOut:
        """From the core."""
        return cls(
            at=found.at,
            running=[DutyOut.of(duty) for duty in found.running],
            next=[DutyOut.of(duty) for duty in found.next],
            week=str(found.reservation.week) if found.reservation else None,
            conductors=[PresenceOut.of(one) for one in found.pair],
        )
