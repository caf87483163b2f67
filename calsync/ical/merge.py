"""What people did to a reservation's resource in their calendar clients: shown, and kept when calsync changes it.

Clients move and remove slots, and put alarms, attendees and notes on them. Where slots are is part of the reservation, see
`as_it_stands`; all else is kept property by property: what calsync would write as it did before is left as it is found, and
only what calsync itself changes is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from icalendar import Calendar, Component, Event

from calsync.core.properties import MARK, RECORD, SLOT
from calsync.core.reservation import Reservation
from calsync.core.timezones import zone
from calsync.core.windows import Slot
from calsync.ical.occurrences import Occurrence
from calsync.ical.recurrence import TimeRange

_OURS = {
    "UID", "DTSTAMP", "DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID", "SEQUENCE",
    "LAST-MODIFIED", SLOT, RECORD, MARK,
}  # fmt: skip
"""The properties of a component that calsync always writes itself, or leaves out."""
_OF_CALENDAR = {"VERSION", "PRODID", "CALSCALE", "METHOD"}


def apply_edits(
    reservation: Reservation, occurrences: Sequence[Occurrence], horizon: TimeRange, *, cancelled: bool = False
) -> tuple[Reservation, tuple[str, ...]]:
    """The reservation with what people did to its resource, as the occurrences show, and that in sentences, if anything.

    Slots outside the horizon, in which alone occurrences are known, count as they were written. `cancelled` is whether
    people cancelled the whole of it.
    """
    if cancelled:
        given_up = (*reservation.cancelled, *reservation.slots)
        return replace(reservation, slots=(), cancelled=given_up), ("The whole train was cancelled on the calendar.",)
    standing = {found.slot: found for found in occurrences if found.slot and found.busy}
    slots: list[Slot] = []
    removed: list[Slot] = []
    changes: list[str] = []
    for slot in reservation.slots:
        found = standing.pop(slot.id, None)
        if found is None and slot.start < horizon.end and horizon.start < slot.end:
            changes.append(f"{slot.id} was removed from the calendar.")
            removed.append(slot)
            continue
        if found is not None and not found.certain:
            changes.append(f"{slot.id} cannot be read any more; it is shown as it was reserved.")
        elif found is not None:
            tz = zone(slot.timezone)
            start, end = (moment.astimezone(tz) for moment in found.span(slot.timezone))
            if (start, end) != (slot.start, slot.end):
                changes.append(f"{slot.id} was moved to {start:%a %d %b %H:%M}–{end:%H:%M} {tz}.")
            slot = replace(slot, start=start, end=end)
        slots.append(slot)
    cancelled_slots = (*reservation.cancelled, *removed)
    return replace(reservation, slots=tuple(slots), cancelled=cancelled_slots), tuple(changes)


def three_way(ours: Calendar, base: Calendar, theirs: Calendar, *, schedule: bool) -> None:
    """Put into `ours` what `theirs`, the resource as it stands, has beyond `base`, which is how calsync wrote it.

    Unless mails may be sent (`schedule`), attendees are kept as people whom no server writes to (RFC 6638, section 7.1).
    """
    for name, value in theirs.items():
        if name not in _OF_CALENDAR:
            ours[name] = value
    for component in ours.events:
        found, before = _counterpart(component, theirs), _counterpart(component, base)
        if found is not None:
            _keep_component(component, before or Event(), found)
            if not schedule:
                _silence(component)
    present = {str(component.get("TZID")) for component in ours.walk("VTIMEZONE")}
    wanted = ours.to_ical()
    for timezone in theirs.walk("VTIMEZONE"):
        tzid = str(timezone.get("TZID"))
        if tzid not in present and f"TZID={tzid}".encode() in wanted:
            ours.subcomponents.insert(0, timezone)


def _counterpart(component: Component, calendar: Calendar) -> Event | None:
    """The same slot, or the same master, in another version of the resource."""
    if SLOT in component:
        slot = str(component[SLOT])
        return next((event for event in calendar.events if str(event.get(SLOT, "")) == slot), None)
    return next((event for event in calendar.events if RECORD in event and SLOT not in event), None)


def _keep_component(ours: Component, base: Component, theirs: Component) -> None:
    for name in {*ours, *theirs} - _OURS:
        if _lines(ours, name) != _lines(base, name):
            continue  # this is what calsync changes
        if name in theirs:
            ours[name] = theirs[name]
        else:
            del ours[name]
    ours.subcomponents = theirs.subcomponents


def _lines(component: Component, name: str) -> list[bytes]:
    """The values of a property as they are written, with their parameters."""
    if name not in component:
        return []
    found: Any = component[name]
    values = found if isinstance(found, list) else [found]
    return [value.params.to_ical() + b":" + value.to_ical() for value in values]


def _silence(component: Component) -> None:
    for name in ("ORGANIZER", "ATTENDEE"):
        values: Any = component.get(name, [])
        for value in values if isinstance(values, list) else [values]:
            value.params["SCHEDULE-AGENT"] = "CLIENT"
