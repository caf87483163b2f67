"""Slots × agenda × people → conflicts, and places that are really free.

Every question about a conflict is answered here, by one function, from one agenda: the plan on the page, the check before a
write and the one after it, and what people put on the calendar later. Two spans overlap when each starts before the other
ends, so that what ends as a slot starts is no overlap, and neither is what has no length.
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
from calsync.schedule.availability import Absence, absences, find_cover, unknown, watched

STEP = timedelta(minutes=15)
"""The grid on which free places are looked for."""
People = Callable[[Slot], Sequence[Conductor]]


def nobody(_slot: Slot) -> Sequence[Conductor]:
    """For slots of which nobody's hours are to be checked."""
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
    """Every conflict of the slots with the agenda, with the absences and working hours of `people`, and with the clocks.

    `own` is the href of the reservation whose slots these are; it does not stand in its own way. Freezes of the scope
    `train` hold for `train` slots alone. `pair` is the week's, whose partner comes first where somebody is away.
    """
    windows = {window.name: window for window in agenda.config.train_windows}
    found = [
        conflict
        for slot in slots
        for conflict in _of_slot(agenda, slot, windows.get(slot.window), people(slot), own=own, train=train, pair=pair)
    ]
    starts = {slot.id: slot.start for slot in slots}
    found.sort(key=lambda conflict: (starts[conflict.slot or ""], KINDS.index(conflict.kind)))
    return (*found, *(_unplaced(href) for href in agenda.unplaced if href != own))


def _of_slot(
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
    yield from _by_itself(slot, window, tuple(conductors), hours=blocks("hours"), clocks=blocks("dst"))


@lru_cache(maxsize=8_192)  # the same slots are checked before and after a write, and for everybody who looks
def _by_itself(
    slot: Slot, window: Window | None, conductors: tuple[Conductor, ...], *, hours: bool, clocks: bool
) -> tuple[Conflict, ...]:
    """What speaks against a slot whatever stands on the calendar; `hours` and `clocks` say whether that blocks."""
    return (*_with_hours(slot, conductors, blocks=hours), *_with_clocks(slot, window, conductors, blocks=clocks))


def conflicts_of(agenda: Agenda, reservation: Reservation, slots: Sequence[Slot]) -> tuple[Conflict, ...]:
    """Return the conflicts of these slots of a reservation."""
    return check(agenda, slots, reservation.on_duty, own=reservation_href(reservation.week), pair=reservation.pair)


def conflicts_of_reservations(agenda: Agenda, after: datetime) -> Iterator[tuple[Reservation, tuple[Conflict, ...]]]:
    """Yield every reserved week with slots that end after `after` (aware), with the conflicts of those slots."""
    after = after.astimezone(UTC)
    for stored in agenda.reservations:
        reservation = stored.reservation
        if reservation is not None and not reservation.released and stored.ends is not None and stored.ends > after:
            yield reservation, conflicts_of(agenda, reservation, reservation.ahead(after))


def _with_agenda(
    agenda: Agenda, slot: Slot, conductors: Sequence[Conductor], *, own: str, train: bool
) -> Iterator[Conflict]:
    buffer, observer = agenda.config.conflicts.buffer, str(slot.start.tzinfo)
    tz = zone(observer)
    ignored = {category.casefold() for category in agenda.config.conflicts.ignore_categories}
    names = {conductor.name for conductor in conductors}
    for found, start, end in agenda.overlapping(slot.start - buffer, slot.end + buffer, observer):
        if not found.busy or (found.href and found.href == own) or (found.train_only and not train):
            continue
        if found.kind in ("event", "recurring") and ignored & {category.casefold() for category in found.categories}:
            continue
        near = "overlaps" if start < slot.end and slot.start < end else "is too close to"
        place = f"{format_span(slot.start, slot.end)} {observer} ({slot.window})"
        title = " ".join(found.summary.split())  # a message is one line
        event = Event(found.uid, found.summary, start.astimezone(tz), end.astimezone(tz))
        local = format_span(event.start, event.end)
        kind: Kind
        if not found.certain:
            kind = "unknown"
            message = f"“{title}” cannot be read in full and may take place during {place}."
        elif found.kind == "freeze":
            kind, message = "freeze", f"{place} lies in a freeze: {title} ({local})."
        elif found.kind == "slot":
            other = agenda.objects[found.href].reservation
            pair = [other.pair.primary.name, other.pair.backup.name] if other else []
            shared = sorted(names & set(pair) - {"primary", "backup"})
            kind = "busy" if shared else "reserved"
            who = f"{' and '.join(shared)} conducts" if shared else "another train holds"
            message = f"{place} {near} a reserved slot: {who} “{title}” ({local})."
        else:
            kind, message = "overlap", f"“{title}” ({local}) {near} {place}."
        yield Conflict(kind, agenda.config.conflicts.blocks(kind), slot.id, message, event)


def _with_absences(agenda: Agenda, slot: Slot, conductors: Sequence[Conductor], pair: Pair | None) -> Iterator[Conflict]:
    for conductor in conductors:
        if conductor.name not in agenda.away and conductor.name not in agenda.busy:
            continue
        tz = zone(str(slot.start.tzinfo))
        place = f"{format_span(slot.start, slot.end)} {tz} ({slot.window})"
        if why := unknown(agenda, conductor):
            message = f"Whether {conductor.name} is away during {place} is not known: {why}."
            yield Conflict("unknown", agenda.config.conflicts.blocks("unknown"), slot.id, message)
        found = list(absences(agenda, conductor, *watched(agenda.config, slot)))
        certain = [absence for absence in found if absence.certain]
        if found and not certain:
            message = f"{conductor.name} may be away during {place}: what says so cannot be read in full, or ends before."
            yield Conflict("unknown", agenda.config.conflicts.blocks("unknown"), slot.id, message)
        if not certain:
            continue
        certain.sort(key=lambda absence: absence.start)
        start, end = certain[0].start.astimezone(tz), certain[0].end.astimezone(tz)
        event = Event(certain[0].uid, f"{conductor.name} is away", start, end)
        behind = "during" if any(one.start < slot.end for one in certain) else "soon after"
        said = " and ".join(dict.fromkeys(_told(absence, conductor) for absence in certain))
        instead = find_cover(agenda, slot, conductor, pair)
        could = f"{' or '.join(one.name for one in instead)} could cover" if instead else "nobody is there to cover"
        message = f"{conductor.name} is away ({said}) {behind} {place}; {could}."
        yield Conflict("busy", agenda.config.conflicts.blocks("busy"), slot.id, message, event, instead, conductor.name)


def _told(absence: Absence, conductor: Conductor) -> str:
    theirs = zone(conductor.timezone)
    span = f"{format_span(absence.start.astimezone(theirs), absence.end.astimezone(theirs))} {theirs}"
    return span + (f": {' '.join(absence.note.split())}" if absence.note else "")


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
    before, here = window.on(slot.date - timedelta(weeks=1)), window.on(slot.date)
    if slot.start == slot.end and here.start == here.end:  # people may have moved it to where it has a length
        message = (
            f"{slot.id} has no length: the clocks of {window.timezone} skip its start, and where they go on, at "
            f"{slot.start:%H:%M}, its end is no later."
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
        usual, now = before.start.astimezone(theirs), here.start.astimezone(theirs)
        if usual.time() != now.time() and not _together(
            tz, theirs, before.start - timedelta(days=1), before.start, here.start
        ):
            message = (
                f"{slot.id} starts at {now:%H:%M} for {conductor.name}, not at {usual:%H:%M} as a week before: clocks of "
                f"{window.timezone} and {conductor.timezone} do not change together."
            )
            yield Conflict("dst", blocks, slot.id, message)


def _together(one: BaseTzInfo, other: BaseTzInfo, *moments: datetime) -> bool:
    """Whether the clocks of two timezones are equally far apart at all of these moments (aware)."""
    return len({clock_change(moment, moments[0], one) - clock_change(moment, moments[0], other) for moment in moments}) == 1


def _unplaced(href: str) -> Conflict:
    message = f"{href} on the calendar cannot be read, not even when it takes place; calsync doctor says why."
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
    """Free places for each blocked slot: the day's other train windows, and the nearest spans of its length around it.

    The spans are within the working hours of its conductors. Each place passes the very check that the slot did not.
    """
    blocked = {conflict.slot for conflict in blocking(conflicts)}
    named = {window.name: window for window in agenda.config.train_windows}
    found: list[Alternative] = []
    for slot in plan.slots:
        if slot.id not in blocked:
            continue
        taken = [other for other in plan.slots if other is not slot]

        def is_free(place: Slot, taken: Sequence[Slot] = taken) -> bool:
            against = _of_slot(agenda, place, named.get(place.window), people(place), own=own, train=True, pair=plan.pair)
            return (
                place.start > now
                and not any(place.start < other.end and other.start < place.end for other in taken)
                # The first reason is enough, and most places have many.
                and not any(conflict.blocking for conflict in against)
            )

        windows = (window.on(slot.date, slot.role, slot.stage) for window in named.values())
        elsewhere = [place for place in windows if place.window != slot.window and is_free(place)]
        later = next(filter(is_free, _steps(slot, people(slot), STEP)), None)
        earlier = next(filter(is_free, _steps(slot, people(slot), -STEP)), None)
        places = [*elsewhere, *(place for place in (earlier, later) if place is not None)]
        found += (Alternative(slot.id, place.window, place.start, place.end) for place in places)
    return tuple(sorted(found, key=lambda alternative: (alternative.start, alternative.window)))


def _steps(slot: Slot, conductors: Sequence[Conductor], step: timedelta) -> Iterator[Slot]:
    """The slot moved by ever more steps, up to half a day, as long as it is within everybody's working hours."""
    tz = zone(str(slot.start.tzinfo))
    for n in range(1, timedelta(hours=12) // abs(step)):
        start, end = (edge + n * step for edge in (slot.start, slot.end))
        if all(conductor.works(start, end) for conductor in conductors):
            yield replace(slot, start=start.astimezone(tz), end=end.astimezone(tz))
