"""What runs now and what comes next, who is responsible, and who of the pair is at work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from calsync.schedule.availability import absences, unknown

_INSTANT = timedelta(microseconds=1)
LOOK_AHEAD = timedelta(weeks=5)
"""How far ahead the next slot is looked for."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A reserved slot or a slot of a recurring window; `responsible` names who conducts it, nobody for the latter."""

    slot: Slot
    summary: str
    responsible: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OnCallStatus:
    """Whether a conductor is within their working hours, and `until` when that is so (aware, in their timezone).

    `away` is until when they are away, whatever their hours say, and `unknown` why nobody can tell whether they are; `irc`
    and `video` are how to reach them.
    """

    conductor: Conductor
    working: bool
    until: datetime
    away: datetime | None = None
    unknown: str | None = None
    irc: str | None = None
    video: str | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """The duties that run at `at`, those that start next (all at one time), and the pair of the running or coming train."""

    at: datetime
    running: tuple[Shift, ...]
    next: tuple[Shift, ...]
    reservation: Reservation | None
    pair: tuple[OnCallStatus, ...]


def status_at(agenda: Agenda, at: datetime) -> Status:
    """Look at the agenda at the instant `at` (aware)."""
    duties = sorted(_duties(agenda, at), key=lambda duty: (duty.slot.start, duty.slot.window))
    running = tuple(duty for duty in duties if duty.slot.start <= at < duty.slot.end)
    ahead = [duty for duty in duties if duty.slot.start > at]
    coming = tuple(duty for duty in ahead if duty.slot.start == ahead[0].slot.start)
    reservation = _current(agenda, at)
    pair: tuple[OnCallStatus, ...] = ()
    if reservation is not None:
        room = video_room(reservation.week, agenda.config.train.video_url)
        pair = tuple(
            replace(found, role=role, video=found.video or room)
            for role, who in _people(reservation)
            for found in (on_call_status(agenda, who, at),)
        )
    return Status(at, running, coming, reservation, pair)


def _duties(agenda: Agenda, at: datetime) -> Iterator[Shift]:
    until = at + LOOK_AHEAD
    for reservation in _reservations(agenda):
        for slot in reservation.slots:
            if slot.end > at and slot.start < until:
                yield Shift(slot, summary(reservation, slot), reservation.names(slot))
    for window in agenda.config.recurring_windows:
        for slot in window.between(at, at + timedelta(weeks=1)):
            yield Shift(slot, window.title, ())


def _reservations(agenda: Agenda) -> Iterable[Reservation]:
    return (entry.reservation for entry in agenda.reservations if entry.reservation is not None)


def _current(agenda: Agenda, at: datetime) -> Reservation | None:
    """The reservation of the week that `at` lies in, or else the next one."""
    week = Week.containing(at.date())
    standing = [found for found in _reservations(agenda) if not found.released and found.slots]
    return next((found for found in standing if found.week == week or found.slots[-1].end > at), None)


def _people(reservation: Reservation) -> Iterator[tuple[Role | None, Conductor]]:
    """The pair, and who the train was handed to, if that is neither of them."""
    pair, responsible = reservation.pair, reservation.responsible
    yield "primary", pair.primary
    yield "backup", pair.backup
    if responsible is not None and responsible.name not in (pair.primary.name, pair.backup.name):
        yield None, responsible


def on_call_status(agenda: Agenda, conductor: Conductor, at: datetime) -> OnCallStatus:
    """Whether the conductor is at work at `at` (aware), until when that is so, and how to reach them."""
    tz = zone(conductor.timezone)
    until = worked_until(at, conductor.hours.around(at, at + timedelta(days=2), tz))
    working = until > at
    if not working:  # nobody has more than a week off between two working days
        until = min(opens for opens, _ in conductor.hours.around(at, at + timedelta(days=8), tz) if opens > at)
    gone = [one.end.astimezone(tz) for one in absences(agenda, conductor, at, at + _INSTANT) if one.certain]
    known = agenda.config.roster.get(conductor.name)
    return OnCallStatus(
        conductor,
        working,
        until.astimezone(tz),
        away=max(gone, default=None),
        unknown=unknown(agenda, conductor),
        irc=agenda.config.nick(conductor.name),
        video=known.video if known else None,
    )
