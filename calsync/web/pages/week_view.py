"""The events of a week's timeline: slots, windows, freezes, other people's events; and the working days of the pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from calsync.core.conductors import Conductor, Pair
from calsync.core.conflict import Conflict
from calsync.core.errors import Invalid
from calsync.core.planning import train_slots
from calsync.core.reservation import Reservation
from calsync.core.settings import Config
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.core.windows import Role, Slot
from calsync.ical.occurrences import Occurrence
from calsync.ical.reservation import ticket_link
from calsync.schedule.agenda import Agenda
from calsync.schedule.check import Check
from calsync.schedule.conflicts import conflicts_of
from calsync.web.pages.timeline import Kind, TimelineEvent, WorkingDay, visible, week_span


@dataclass(frozen=True, slots=True)
class WeekEvents:
    """The events from `start` to `end` (aware), and the conflicts of the reserved slots among them."""

    start: datetime
    end: datetime
    events: tuple[TimelineEvent, ...]
    conflicts: tuple[Conflict, ...]


@dataclass(slots=True)
class _Reserved:
    """The reserved slots around a week, by id, and their conflicts."""

    slots: dict[str, tuple[Reservation, Slot]] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)


def week_events(agenda: Agenda, week: Week, timezone: str, check: Check | None = None) -> WeekEvents:
    """Return the events of the week as seen in `timezone`, with the plan and the alternatives of `check` laid over them."""
    start, end = week_span(week, timezone)
    reserved = _reserved(agenda, week, start, end)
    events = [
        _event(agenda.config, reserved, occurrence, begin, finish)
        for occurrence, begin, finish in agenda.overlapping(start, end, timezone)
    ]
    planned = {slot.id for slot in check.plan.slots} if check else set()
    events += _open_windows(agenda, week, {*reserved.slots, *planned})
    if check:
        events += _planned(agenda.config, check)
    return WeekEvents(start, end, tuple(events), tuple(reserved.conflicts))


def working_days(pair: Pair, start: datetime, end: datetime) -> tuple[WorkingDay, ...]:
    """Return the working days of the two that overlap the span from `start` to `end` (aware)."""
    people: tuple[tuple[Role, Conductor], ...] = (("primary", pair.primary), ("backup", pair.backup))
    return tuple(
        WorkingDay(role, visible(person.name), opens, closes)
        for role, person in people
        for opens, closes in person.hours.around(start, end, zone(person.timezone))
        if opens < end and start < closes
    )


def _reserved(agenda: Agenda, week: Week, start: datetime, end: datetime) -> _Reserved:
    reserved = _Reserved()
    for near in _around(week):
        stored = agenda.reservation(near)
        if stored is None or stored.reservation is None or stored.reservation.released:
            continue
        slots = [slot for slot in stored.reservation.slots if slot.start < end and start < slot.end]
        reserved.slots |= {slot.id: (stored.reservation, slot) for slot in slots}
        conflicts = conflicts_of(agenda, stored.reservation, slots) if slots else ()
        reserved.conflicts += (conflict for conflict in conflicts if conflict not in reserved.conflicts)
    return reserved


def _around(week: Week) -> Iterator[Week]:
    """Yield the week and its neighbours, because a slot may be in one week of the train and in another of the viewer."""
    for weeks in (-1, 0, 1):
        try:
            yield week.shift(weeks)
        except Invalid:  # before the first or after the last possible week
            continue


def _conflicts(conflicts: Sequence[Conflict], slot: Slot) -> tuple[tuple[str, ...], bool]:
    """Return the conflicts of a slot in sentences, and whether any of them blocks."""
    of_slot = [conflict for conflict in conflicts if conflict.slot == slot.id]
    return tuple(visible(conflict.message) for conflict in of_slot), any(conflict.blocking for conflict in of_slot)


def _event(config: Config, reserved: _Reserved, occurrence: Occurrence, start: datetime, end: datetime) -> TimelineEvent:
    if occurrence.kind == "slot" and occurrence.busy and occurrence.slot in reserved.slots:
        reservation, slot = reserved.slots[occurrence.slot]
        return _reserved_slot(config, reservation, slot, start, end, *_conflicts(reserved.conflicts, slot))
    kind: Kind = occurrence.kind
    if not occurrence.certain:
        kind = "unknown"
    elif occurrence.kind == "slot" and not occurrence.busy:
        kind = "cancelled"
    notes = {"unknown": "cannot be read in full", "cancelled": "given up"}
    free = "" if occurrence.busy or kind == "cancelled" else "blocks no time"
    return TimelineEvent(kind, visible(occurrence.summary), start, end, notes.get(kind, free))


def _reserved_slot(
    config: Config,
    reservation: Reservation,
    slot: Slot,
    start: datetime,
    end: datetime,
    conflicts: tuple[str, ...],
    blocked: bool,
) -> TimelineEvent:
    link = ticket_link(reservation.ticket, config.train.ticket_url)
    facts = [
        reservation.train_title,
        _title(config, slot.window),
        *([f"Ticket {reservation.ticket}" + (f", {link}" if link else "")] if reservation.ticket else []),
    ]
    return TimelineEvent(
        "slot",
        visible(" · ".join(part for part in (slot.stage or slot.window, reservation.train) if part)),
        start,
        end,
        _who(reservation, slot),
        tuple(visible(fact) for fact in facts),
        conflicts,
        blocked,
        slot.role,
        slot.id,
    )


def _who(reservation: Reservation, slot: Slot) -> str:
    if reservation.responsible is not None and not slot.who:
        return f"{visible(reservation.responsible.name)} · took over"
    return _names(reservation.names(slot), slot.role, together=not reservation.spans_regions)


def _names(names: Sequence[str], role: Role | None, *, together: bool) -> str:
    roles = "primary and backup" if together else "secondary" if role == "backup" else "primary"
    return f"{visible(', '.join(names))} · {roles}"


def _title(config: Config, window: str) -> str:
    return config.windows[window].title if window in config.windows else window


def _open_windows(agenda: Agenda, week: Week, taken: set[str]) -> Iterator[TimelineEvent]:
    """Yield the train windows that nobody has reserved, in weeks that have a train."""
    for near in _around(week):
        if near in agenda.config.declined:
            continue
        stored = agenda.reservation(near)
        is_reserved = stored is not None and not (stored.reservation and stored.reservation.released)
        for slot in train_slots(agenda.config, near):
            if slot.id not in taken:
                note = "not used by this train" if is_reserved else "not reserved"
                facts = (f"Stage {slot.stage}",)
                yield TimelineEvent("open", _title(agenda.config, slot.window), slot.start, slot.end, note, facts)


def _planned(config: Config, check: Check) -> Iterator[TimelineEvent]:
    """Yield the slots of the plan and the free alternatives."""
    plan = check.plan
    holder = check.holder.reservation if check.holder is not None else None
    note = "would be reserved" if check.holder is None else "the week is reserved"
    # If the pair has reserved the week, the reserved slots show it.
    for slot in plan.slots if holder is None or holder.pair != plan.pair else ():
        names = [conductor.name for conductor in plan.conductors(slot)]
        yield TimelineEvent(
            "planned",
            f"{slot.stage} · {note}",
            slot.start,
            slot.end,
            _names(names, slot.role, together=not plan.spans_regions),
            (_title(config, slot.window),),
            *_conflicts(check.conflicts, slot),
            slot.role,
            f"new-{slot.id}",
        )
    seen = set()
    for free in check.alternatives:
        if (free.window, free.start) not in seen:
            seen.add((free.window, free.start))
            note = f"instead of {free.instead_of}"
            yield TimelineEvent("free", f"free: {_title(config, free.window)}", free.start, free.end, note)
