"""What people did to a reservation's resource in their calendar clients: shown, and kept when calsync changes it.

Clients move and remove slots, and put alarms, attendees and notes on them. Where slots are is part of the reservation; see
`apply_edits`. Everything else is merged property by property: `three_way` writes what calsync itself changes, and leaves
every other property as people left it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from icalendar import Calendar, Component, Event

from calsync.core.properties import MARK, RECORD, SLOT
from calsync.core.reservation import Reservation
from calsync.core.timezones import zone
from calsync.core.windows import Slot
from calsync.ical.components import values_of
from calsync.ical.occurrences import Occurrence
from calsync.ical.recurrence import TimeRange

_ALWAYS_OURS = {
    "UID", "DTSTAMP", "DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID", "SEQUENCE",
    "LAST-MODIFIED", SLOT, RECORD, MARK,
}  # fmt: skip
"""The properties of a component that calsync always writes, or leaves out, by itself."""
_OF_CALENDAR = {"VERSION", "PRODID", "CALSCALE", "METHOD"}


def apply_edits(
    reservation: Reservation, occurrences: Sequence[Occurrence], horizon: TimeRange, *, cancelled: bool = False
) -> tuple[Reservation, tuple[str, ...]]:
    """Return the reservation as people left it, and what they changed, in sentences.

    `occurrences` are those of its resource within the horizon. Slots outside the horizon count as they were written.
    `cancelled` is whether people cancelled the whole week.
    """
    if cancelled:
        given_up = (*reservation.cancelled, *reservation.slots)
        return replace(reservation, slots=(), cancelled=given_up), ("The whole train was cancelled on the calendar.",)
    by_slot = {occurrence.slot: occurrence for occurrence in occurrences if occurrence.slot and occurrence.busy}
    slots: list[Slot] = []
    removed: list[Slot] = []
    changes: list[str] = []
    for slot in reservation.slots:
        occurrence = by_slot.get(slot.id)
        if occurrence is None and slot.start < horizon.end and horizon.start < slot.end:
            changes.append(f"{slot.id} was removed from the calendar.")
            removed.append(slot)
            continue
        if occurrence is not None and not occurrence.certain:
            changes.append(f"{slot.id} cannot be read any more; it is shown as it was reserved.")
        elif occurrence is not None:
            tz = zone(slot.timezone)
            start, end = (edge.astimezone(tz) for edge in occurrence.span(slot.timezone))
            if (start, end) != (slot.start, slot.end):
                changes.append(f"{slot.id} was moved to {start:%a %d %b %H:%M}–{end:%H:%M} {tz}.")
            slot = replace(slot, start=start, end=end)
        slots.append(slot)
    cancelled_slots = (*reservation.cancelled, *removed)
    return replace(reservation, slots=tuple(slots), cancelled=cancelled_slots), tuple(changes)


def three_way(ours: Calendar, base: Calendar, theirs: Calendar) -> None:
    """Put into `ours` what people changed between `base`, as calsync wrote it, and `theirs`, the current resource."""
    for name, value in theirs.items():
        if name not in _OF_CALENDAR:
            ours[name] = value
    for component in ours.events:
        current, before = _counterpart(component, theirs), _counterpart(component, base)
        if current is not None:
            _merge_component(component, before or Event(), current)
    present = {str(component.get("TZID")) for component in ours.walk("VTIMEZONE")}
    written = ours.to_ical()
    for timezone in theirs.walk("VTIMEZONE"):
        tzid = str(timezone.get("TZID"))
        if tzid not in present and f"TZID={tzid}".encode() in written:
            ours.subcomponents.insert(0, timezone)


def _counterpart(component: Component, calendar: Calendar) -> Event | None:
    """Return the same slot, or the master if the component is the master, in another version of the resource."""
    if SLOT in component:
        slot = str(component[SLOT])
        return next((event for event in calendar.events if str(event.get(SLOT, "")) == slot), None)
    return next((event for event in calendar.events if RECORD in event and SLOT not in event), None)


def _merge_component(ours: Component, base: Component, theirs: Component) -> None:
    for name in {*ours, *theirs} - _ALWAYS_OURS:
        if _encoded(ours, name) != _encoded(base, name):
            continue  # this is what calsync changes
        if name in theirs:
            ours[name] = theirs[name]
        else:
            del ours[name]
    ours.subcomponents = theirs.subcomponents


def _encoded(component: Component, name: str) -> list[bytes]:
    """Return the values of a property with their parameters, as they are written."""
    return [value.params.to_ical() + b":" + value.to_ical() for value in values_of(component, name)]


def keep_servers_silent(calendar: Calendar) -> None:
    """Mark all attendees as people whom no server may write to (RFC 6638, section 7.1)."""
    for event in calendar.events:
        for name in ("ORGANIZER", "ATTENDEE"):
            for value in values_of(event, name):
                value.params["SCHEDULE-AGENT"] = "CLIENT"
