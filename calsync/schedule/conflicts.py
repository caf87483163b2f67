"""Find the conflicts of slots with the agenda, with people and with the clocks, and free places instead.

Every question about conflicts is answered by `check`, from one agenda: for the plan on the page, before and after a write,
and for what people put on the calendar later. Two spans overlap if each starts before the other ends. So an event that ends
when a slot starts does not overlap it, and neither does one without a length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from pytz.tzinfo import BaseTzInfo

from calsync.core.conductors import Conductor, Pair
from calsync.core.conflict import Alternative, Conflict, Event, blocking
from calsync.core.planning import Plan
from calsync.core.reservation import Reservation
from calsync.core.settings import KINDS, Kind
from calsync.core.text import format_span
from calsync.core.timezones import clock_change, resolve, zone
from calsync.core.windows import Slot, Window
from calsync.ical.reservation import reservation_href
from calsync.schedule.agenda import Agenda
from calsync.schedule.availability import Absence, absences, find_cover, watch_span, why_unknown

STEP = timedelta(minutes=15)
"""The steps in which `alternatives` moves a slot."""
People = Callable[[Slot], Sequence[Conductor]]
"""Returns whose absences and working hours count for a slot."""


def nobody(_slot: Slot) -> Sequence[Conductor]:
    """Return no people: only the agenda and the clocks count."""
    return ()


def check(
    agenda: Agenda,
    slots: Sequence[Slot],
    people: People = nobody,
    *,
    own: str = "",
    train: bool = True,
    pair: Pair | None = None,
) -> tuple[Conflict, ...]:
    """Return the conflicts of the slots with the agenda, with absences and working hours of `people`, and with the clocks.

    `own` is the href of the reservation that has these slots; it does not conflict with itself. Without `train`, the slots
    are not a train's, and freezes for trains do not count. `pair` is the week's; the partner is asked first to cover.
    """
    windows = {window.name: window for window in agenda.config.train_windows}
    conflicts = [
        conflict
        for slot in slots
        for conflict in _conflicts(agenda, slot, windows.get(slot.window), people(slot), own=own, train=train, pair=pair)
    ]
    starts = {slot.id: slot.start for slot in slots}
    conflicts.sort(key=lambda conflict: (starts[conflict.slot or ""], KINDS.index(conflict.kind)))
    return (*conflicts, *(_unplaced(href) for href in agenda.unplaced if href != own))


def _conflicts(
    agenda: Agenda,
    slot: Slot,
    window: Window | None,
    conductors: Sequence[Conductor],
    *,
    own: str,
    train: bool,
    pair: Pair | None,
) -> Iterator[Conflict]:
    yield from _with_agenda(agenda, slot, conductors, own=own, train=train)
    yield from _with_absences(agenda, slot, conductors, pair)
    blocks = agenda.config.conflicts.blocks
    yield from _inherent(slot, window, tuple(conductors), hours_block=blocks("hours"), clocks_block=blocks("dst"))


@lru_cache(maxsize=8_192)  # the same slots are checked before and after a write, and for everybody who looks
def _inherent(
    slot: Slot, window: Window | None, conductors: tuple[Conductor, ...], *, hours_block: bool, clocks_block: bool
) -> tuple[Conflict, ...]:
    """Return the conflicts that the slot has whatever is on the calendar."""
    return (
        *_with_hours(slot, conductors, blocks=hours_block),
        *_with_clocks(slot, window, conductors, blocks=clocks_block),
    )


def conflicts_of(agenda: Agenda, reservation: Reservation, slots: Sequence[Slot]) -> tuple[Conflict, ...]:
    """Return the conflicts of these slots of a reservation."""
    return check(agenda, slots, reservation.on_duty, own=reservation_href(reservation.week), pair=reservation.pair)


def conflicts_of_reservations(agenda: Agenda, after: datetime) -> Iterator[tuple[Reservation, tuple[Conflict, ...]]]:
    """Yield every reserved week with slots that end after `after` (aware), with the conflicts of those slots."""
    after = after.astimezone(UTC)
    for stored, reservation in agenda.reserved:
        if stored.ends is not None and stored.ends > after:
            yield reservation, conflicts_of(agenda, reservation, reservation.ahead(after))


def _with_agenda(
    agenda: Agenda, slot: Slot, conductors: Sequence[Conductor], *, own: str, train: bool
) -> Iterator[Conflict]:
    buffer, observer = agenda.config.conflicts.buffer, str(slot.start.tzinfo)
    tz = zone(observer)
    ignored = {category.casefold() for category in agenda.config.conflicts.ignore_categories}
    names = {conductor.name for conductor in conductors}
    for occurrence, start, end in agenda.overlapping(slot.start - buffer, slot.end + buffer, observer):
        if not occurrence.busy or (occurrence.href and occurrence.href == own) or (occurrence.train_only and not train):
            continue
        categories = {category.casefold() for category in occurrence.categories}
        if occurrence.kind in ("event", "recurring") and ignored & categories:
            continue
        near = "overlaps" if start < slot.end and slot.start < end else "is too close to"
        place = _place(slot)
        title = " ".join(occurrence.summary.split())  # a message is one line
        event = Event(occurrence.uid, occurrence.summary, start.astimezone(tz), end.astimezone(tz))
        local = format_span(event.start, event.end)
        kind: Kind
        if not occurrence.certain:
            kind = "unknown"
            message = f"“{title}” cannot be read in full and may take place during {place}."
        elif occurrence.kind == "freeze":
            kind, message = "freeze", f"{place} lies in a freeze: {title} ({local})."
        elif occurrence.kind == "slot":
            other = agenda.objects[occurrence.href].reservation
            pair = {other.pair.primary.name, other.pair.backup.name} if other else set()
            shared = sorted(names & pair - {"primary", "backup"})
            kind = "busy" if shared else "reserved"
            whose = f"a slot of {' and '.join(shared)}" if shared else "a slot of another train"
            message = f"{place} {near} {whose}: “{title}” ({local})."
        else:
            kind, message = "overlap", f"“{title}” ({local}) {near} {place}."
        yield Conflict(kind, agenda.config.conflicts.blocks(kind), slot.id, message, event)


def _with_absences(agenda: Agenda, slot: Slot, conductors: Sequence[Conductor], pair: Pair | None) -> Iterator[Conflict]:
    for conductor in conductors:
        if conductor.name not in agenda.absences and conductor.name not in agenda.busy:
            continue
        if reason := why_unknown(agenda, conductor):
            message = f"Cannot tell whether {conductor.name} is away during {_place(slot)}: {reason}."
            yield Conflict("unknown", agenda.config.conflicts.blocks("unknown"), slot.id, message)
        near = sorted(absences(agenda, conductor, *watch_span(agenda.config, slot)), key=lambda absence: absence.start)
        certain = [absence for absence in near if absence.certain]
        if certain:
            yield _absence_conflict(agenda, slot, conductor, certain, pair)
        elif near:
            reason = "an event cannot be read in full, or their feed ends earlier"
            message = f"{conductor.name} may be away during {_place(slot)}: {reason}."
            yield Conflict("unknown", agenda.config.conflicts.blocks("unknown"), slot.id, message)


def _absence_conflict(
    agenda: Agenda, slot: Slot, conductor: Conductor, by_start: Sequence[Absence], pair: Pair | None
) -> Conflict:
    tz = zone(str(slot.start.tzinfo))
    first = by_start[0]
    event = Event(first.uid, f"{conductor.name} is away", first.start.astimezone(tz), first.end.astimezone(tz))
    when = "during" if first.start < slot.end else "soon after"
    spans = " and ".join(dict.fromkeys(_absence_text(absence, conductor) for absence in by_start))
    cover = find_cover(agenda, slot, conductor, pair)
    who = f"{' or '.join(person.name for person in cover)} could cover" if cover else "nobody can cover"
    message = f"{conductor.name} is away ({spans}) {when} {_place(slot)}; {who}."
    return Conflict("busy", agenda.config.conflicts.blocks("busy"), slot.id, message, event, cover, conductor.name)


def _absence_text(absence: Absence, conductor: Conductor) -> str:
    theirs = zone(conductor.timezone)
    span = f"{format_span(absence.start.astimezone(theirs), absence.end.astimezone(theirs))} {theirs}"
    return span + (f": {' '.join(absence.note.split())}" if absence.note else "")


def _place(slot: Slot) -> str:
    return f"{format_span(slot.start, slot.end)} {slot.start.tzinfo} ({slot.window})"


def _with_hours(slot: Slot, conductors: Sequence[Conductor], *, blocks: bool) -> Iterator[Conflict]:
    for conductor in conductors:
        if not conductor.works(slot.start, slot.end):
            tz = zone(conductor.timezone)
            local = format_span(slot.start.astimezone(tz), slot.end.astimezone(tz))
            placed = conductor.hours_text(slot.start, slot.end).removeprefix("is ")
            message = f"{slot.id} is {local} for {conductor.name}, {placed}."
            yield Conflict("hours", blocks, slot.id, message)


def _with_clocks(slot: Slot, window: Window | None, conductors: Sequence[Conductor], *, blocks: bool) -> Iterator[Conflict]:
    if window is None:
        return
    tz = zone(window.timezone)
    week_before, here = window.on(slot.date - timedelta(weeks=1)), window.on(slot.date)
    if slot.start == slot.end and here.start == here.end:  # unless people moved it to a place where it has a length
        message = (
            f"{slot.id} has no length: the clocks of {window.timezone} skip its start, which becomes {slot.start:%H:%M}, "
            "and its end is no later."
        )
        yield Conflict("dst", True, slot.id, message)
    for wall, edge in zip(window.wall(slot.date), ("start", "end"), strict=True):
        _, oddity = resolve(wall, tz)
        if oddity:
            does = "is skipped by the clocks" if oddity == "skipped" else "comes twice on the clocks"
            yield Conflict(
                "dst",
                blocks,
                slot.id,
                f"The {edge} of {slot.id}, {wall:%H:%M}, {does} of {window.timezone} on {wall:%d %b}.",
            )
    if clock_change(slot.start, slot.end, tz):
        yield Conflict(
            "dst",
            blocks,
            slot.id,
            f"The clocks of {window.timezone} change during {slot.id}, so its length differs.",
        )
    for conductor in conductors:
        theirs = zone(conductor.timezone)
        usual, now = week_before.start.astimezone(theirs), here.start.astimezone(theirs)
        moments = (week_before.start - timedelta(days=1), week_before.start, here.start)
        if usual.time() != now.time() and not _change_together(tz, theirs, moments):
            message = (
                f"{slot.id} starts at {now:%H:%M} for {conductor.name}, not at {usual:%H:%M} as the week before: "
                f"the clocks of {window.timezone} and {conductor.timezone} do not change together."
            )
            yield Conflict("dst", blocks, slot.id, message)


def _change_together(tz: BaseTzInfo, other: BaseTzInfo, moments: Sequence[datetime]) -> bool:
    """Return whether the clocks of two timezones are equally far apart at all of these moments (aware)."""
    first = moments[0]
    return len({clock_change(first, moment, tz) - clock_change(first, moment, other) for moment in moments}) == 1


def _unplaced(href: str) -> Conflict:
    message = f"{href} on the calendar cannot be read, and its time is not known; calsync doctor says why."
    return Conflict("unknown", False, None, message)


def alternatives(
    agenda: Agenda,
    plan: Plan,
    conflicts: Sequence[Conflict],
    people: People,
    *,
    now: datetime,
    own: str = "",
) -> tuple[Alternative, ...]:
    """Return free places for each blocked slot: the day's other train windows, and the nearest spans before and after it.

    The spans have the slot's length and are within the working hours of `people`. Each place passes the check that the slot
    failed.
    """
    blocked = {conflict.slot for conflict in blocking(conflicts)}
    named = {window.name: window for window in agenda.config.train_windows}
    free: list[Alternative] = []
    for slot in plan.slots:
        if slot.id not in blocked:
            continue
        taken = [other for other in plan.slots if other is not slot]

        def is_free(place: Slot, taken: Sequence[Slot] = taken) -> bool:
            window = named.get(place.window)
            against = _conflicts(agenda, place, window, people(place), own=own, train=True, pair=plan.pair)
            return (
                place.start > now
                and not any(place.start < other.end and other.start < place.end for other in taken)
                # Lazy, since the first is enough and most places have many.
                and not any(conflict.blocking for conflict in against)
            )

        windows = (window.on(slot.date, slot.role, slot.stage) for window in named.values())
        elsewhere = [place for place in windows if place.window != slot.window and is_free(place)]
        later = next(filter(is_free, _steps(slot, people(slot), STEP)), None)
        earlier = next(filter(is_free, _steps(slot, people(slot), -STEP)), None)
        places = [*elsewhere, *(place for place in (earlier, later) if place is not None)]
        free += (Alternative(slot.id, place.window, place.start, place.end) for place in places)
    return tuple(sorted(free, key=lambda alternative: (alternative.start, alternative.window)))


def _steps(slot: Slot, conductors: Sequence[Conductor], step: timedelta) -> Iterator[Slot]:
    """Yield the slot moved by more and more steps, up to half a day, whenever it is within everybody's working hours."""
    tz = zone(str(slot.start.tzinfo))
    for n in range(1, timedelta(hours=12) // abs(step)):
        start, end = (edge + n * step for edge in (slot.start, slot.end))
        if all(conductor.works(start, end) for conductor in conductors):
            yield replace(slot, start=start.astimezone(tz), end=end.astimezone(tz))
