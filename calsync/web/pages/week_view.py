"""What happens in a week, for people to look at: slots, windows, freezes, other people's events, and who works when."""

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
    """A week to look at, from `start` to `end` (aware): what happens in it, and the conflicts of its reserved slots."""

    start: datetime
    end: datetime
    happenings: tuple[TimelineEvent, ...]
    conflicts: tuple[Conflict, ...]


@dataclass(slots=True)
class _Held:
    """The slots that are held around a week, by id, and what speaks against them."""

    slots: dict[str, tuple[Reservation, Slot]] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)


def week_events(agenda: Agenda, week: Week, timezone: str, planned: Check | None = None) -> WeekEvents:
    """What happens in the week as seen in `timezone`; with what `planned` would reserve laid over it."""
    start, end = week_span(week, timezone)
    held = _held(agenda, week, start, end)
    found = [
        _happening(agenda.config, held, occurrence, begin, finish)
        for occurrence, begin, finish in agenda.overlapping(start, end, timezone)
    ]
    proposed = {slot.id for slot in planned.plan.slots} if planned else set()
    found += _open(agenda, week, {*held.slots, *proposed})
    if planned:
        found += _planned(agenda.config, planned)
    return WeekEvents(start, end, tuple(found), tuple(held.conflicts))


def working_days(pair: Pair, start: datetime, end: datetime) -> tuple[WorkingDay, ...]:
    """When the two work from `start` to `end` (aware)."""
    people: tuple[tuple[Role, Conductor], ...] = (("primary", pair.primary), ("backup", pair.backup))
    return tuple(
        WorkingDay(role, visible(person.name), opens, closes)
        for role, person in people
        for opens, closes in person.hours.around(start, end, zone(person.timezone))
        if opens < end and start < closes
    )


def _held(agenda: Agenda, week: Week, start: datetime, end: datetime) -> _Held:
    held = _Held()
    for near in _around(week):
        entry = agenda.reservation(near)
        if entry is None or entry.reservation is None or entry.reservation.released:
            continue
        slots = [slot for slot in entry.reservation.slots if slot.start < end and start < slot.end]
        held.slots |= {slot.id: (entry.reservation, slot) for slot in slots}
        found = conflicts_of(agenda, entry.reservation, slots) if slots else ()
        held.conflicts += (conflict for conflict in found if conflict not in held.conflicts)
    return held


def _around(week: Week) -> Iterator[Week]:
    """The week and its neighbours: a slot may lie in one week for the train and in another for the viewer."""
    for weeks in (-1, 0, 1):
        try:
            yield week.shift(weeks)
        except Invalid:  # before the first or after the last there is
            continue


def _against(conflicts: Sequence[Conflict], slot: Slot) -> tuple[tuple[str, ...], bool]:
    found = [conflict for conflict in conflicts if conflict.slot == slot.id]
    return tuple(visible(conflict.message) for conflict in found), any(conflict.blocking for conflict in found)


def _happening(config: Config, held: _Held, found: Occurrence, start: datetime, end: datetime) -> TimelineEvent:
    if found.kind == "slot" and found.busy and found.slot in held.slots:
        reservation, slot = held.slots[found.slot]
        return _reserved(config, reservation, slot, start, end, *_against(held.conflicts, slot))
    kind: Kind = found.kind
    if not found.certain:
        kind = "unknown"
    elif found.kind == "slot" and not found.busy:
        kind = "cancelled"
    notes = {"unknown": "cannot be read in full", "cancelled": "given up"}
    free = "" if found.busy or kind == "cancelled" else "keeps nobody busy"
    return TimelineEvent(kind, visible(found.summary), start, end, notes.get(kind, free))


def _reserved(
    config: Config,
    reservation: Reservation,
    slot: Slot,
    start: datetime,
    end: datetime,
    against: tuple[str, ...],
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
        against,
        blocked,
        slot.role,
        slot.id,
    )


def _who(reservation: Reservation, slot: Slot) -> str:
    if reservation.responsible is not None and not slot.who:
        return f"{visible(reservation.responsible.name)} · took over"
    return _sits(reservation.names(slot), slot.role, together=not reservation.spans_regions)


def _sits(names: Sequence[str], role: Role | None, *, together: bool) -> str:
    said = "primary and backup" if together else "secondary" if role == "backup" else "primary"
    return f"{visible(', '.join(names))} · {said}"


def _title(config: Config, window: str) -> str:
    return config.windows[window].title if window in config.windows else window


def _open(agenda: Agenda, week: Week, taken: set[str]) -> Iterator[TimelineEvent]:
    """The train windows of the week that nobody holds, in weeks that have a train."""
    for near in _around(week):
        if near in agenda.config.declined:
            continue
        entry = agenda.reservation(near)
        held = entry is not None and not (entry.reservation and entry.reservation.released)
        for slot in train_slots(agenda.config, near):
            if slot.id not in taken:
                note = "not used by this train" if held else "not reserved"
                facts = (f"Stage {slot.stage}",)
                yield TimelineEvent("open", _title(agenda.config, slot.window), slot.start, slot.end, note, facts)


def _planned(config: Config, planned: Check) -> Iterator[TimelineEvent]:
    plan = planned.plan
    holder = planned.holder.reservation if planned.holder is not None else None
    said = "would be reserved" if planned.holder is None else "the week is held"
    # What the pair holds already is there as its reserved slots.
    for slot in plan.slots if holder is None or holder.pair != plan.pair else ():
        names = [conductor.name for conductor in plan.conductors(slot)]
        yield TimelineEvent(
            "planned",
            f"{slot.stage} · {said}",
            slot.start,
            slot.end,
            _sits(names, slot.role, together=not plan.spans_regions),
            (_title(config, slot.window),),
            *_against(planned.conflicts, slot),
            slot.role,
            f"new-{slot.id}",
        )
    seen = set()
    for free in planned.alternatives:
        if (free.window, free.start) not in seen:
            seen.add((free.window, free.start))
            note = f"instead of {free.instead_of}"
            yield TimelineEvent("free", f"free: {_title(config, free.window)}", free.start, free.end, note)
