"""Tell what runs now and what comes next, who is responsible, and who of the pair is at work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from calsync.core.conductors import Conductor
from calsync.core.reservation import Reservation
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.core.windows import Role, Slot
from calsync.core.working_hours import worked_until
from calsync.ical.reservation import summary, video_room
from calsync.schedule.agenda import Agenda
from calsync.schedule.availability import absences, why_unknown

_INSTANT = timedelta(microseconds=1)
LOOK_AHEAD = timedelta(weeks=5)
"""How far ahead `status_at` looks for the next slot."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A reserved slot, or a slot of a recurring window."""

    slot: Slot
    summary: str
    responsible: tuple[str, ...]
    """Who conducts it; nobody for a recurring window."""


@dataclass(frozen=True, slots=True)
class OnCallStatus:
    """Whether a conductor is at work, and how to reach them. Times are in the conductor's timezone."""

    conductor: Conductor
    working: bool
    """Whether it is within their working hours."""
    until: datetime
    """When that changes."""
    away_until: datetime | None = None
    """When their absence ends; None if they are not away."""
    unknown: str | None = None
    """Why it is unknown whether they are away; None if it is known."""
    irc: str | None = None
    video: str | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """The status of the trains at one instant."""

    at: datetime
    running: tuple[Shift, ...]
    next: tuple[Shift, ...]
    """The shifts that start next, all at the same time."""
    reservation: Reservation | None
    """The running train, or the next one."""
    pair: tuple[OnCallStatus, ...]
    """Its pair, and whoever the train was handed to."""


def status_at(agenda: Agenda, at: datetime) -> Status:
    """Return the status at the instant `at` (aware)."""
    shifts = sorted(_shifts(agenda, at), key=lambda shift: (shift.slot.start, shift.slot.window))
    running = tuple(shift for shift in shifts if shift.slot.start <= at < shift.slot.end)
    ahead = [shift for shift in shifts if shift.slot.start > at]
    coming = tuple(shift for shift in ahead if shift.slot.start == ahead[0].slot.start)
    reservation = _current_reservation(agenda, at)
    pair = _pair_status(agenda, reservation, at) if reservation is not None else ()
    return Status(at, running, coming, reservation, tuple(pair))


def _shifts(agenda: Agenda, at: datetime) -> Iterator[Shift]:
    until = at + LOOK_AHEAD
    for stored in agenda.reservations:
        if (reservation := stored.reservation) is None:
            continue
        for slot in reservation.ahead(at):
            if slot.start < until:
                yield Shift(slot, summary(reservation, slot), reservation.names(slot))
    for window in agenda.config.recurring_windows:
        for slot in window.between(at, at + timedelta(weeks=1)):
            yield Shift(slot, window.title, ())


def _current_reservation(agenda: Agenda, at: datetime) -> Reservation | None:
    """Return the reservation of the week of `at`, or the next one."""
    week = Week.containing(at.date())
    reservations = (reservation for _, reservation in agenda.reserved if reservation.slots)
    return next((train for train in reservations if train.week == week or train.slots[-1].end > at), None)


def _pair_status(agenda: Agenda, reservation: Reservation, at: datetime) -> Iterator[OnCallStatus]:
    """Yield the status of the pair, and of who the train was handed to if that is neither of them."""
    pair, responsible = reservation.pair, reservation.responsible
    people: list[tuple[Role | None, Conductor]] = [("primary", pair.primary), ("backup", pair.backup)]
    if responsible is not None and responsible.name not in (pair.primary.name, pair.backup.name):
        people.append((None, responsible))
    for role, conductor in people:
        status = on_call_status(agenda, conductor, at)
        video = status.video or video_room(reservation.week, agenda.config.train.video_url)
        yield replace(status, role=role, video=video)


def on_call_status(agenda: Agenda, conductor: Conductor, at: datetime) -> OnCallStatus:
    """Return whether the conductor is at work at `at` (aware), and how to reach them; `role` is left out."""
    tz = zone(conductor.timezone)
    until = worked_until(at, conductor.hours.around(at, at + timedelta(days=2), tz))
    working = until > at
    if not working:  # nobody has more than a week off between two working days
        until = min(opens for opens, _ in conductor.hours.around(at, at + timedelta(days=8), tz) if opens > at)
    current = [absence for absence in absences(agenda, conductor, at, at + _INSTANT) if absence.certain]
    settings = agenda.config.roster.get(conductor.name)
    return OnCallStatus(
        conductor,
        working,
        until.astimezone(tz),
        away_until=max((absence.end.astimezone(tz) for absence in current), default=None),
        unknown=why_unknown(agenda, conductor),
        irc=agenda.config.nick(conductor.name),
        video=settings.video if settings else None,
    )
