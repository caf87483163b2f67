"""Check a request: plan it, find its conflicts and free alternatives, and see who has the week."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from calsync.core.conductors import Pair
from calsync.core.conflict import Alternative, Conflict
from calsync.core.errors import Changed, Invalid, NotReserved
from calsync.core.planning import Plan, plan
from calsync.core.reservation import Reservation
from calsync.core.weeks import Week
from calsync.ical.reservation import reservation_href
from calsync.schedule.agenda import Agenda
from calsync.schedule.conflicts import alternatives, check
from calsync.schedule.objects import CalendarObject

REMEDY = "repair or remove {href} on the calendar (calsync doctor says what is wrong), then reserve the week again."


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """What somebody asks to reserve; without a `week`, the next week whose train has not begun."""

    pair: Pair
    week: Week | None = None
    train: str | None = None
    ticket: str | None = None
    override: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """The result of checking a request."""

    plan: Plan
    conflicts: tuple[Conflict, ...]
    alternatives: tuple[Alternative, ...]
    """Free places for the slots that are blocked."""
    holder: CalendarObject | None
    """The week's reservation, also an unreadable one; None if the week is free."""

    @property
    def warnings(self) -> tuple[Conflict, ...]:
        """The conflicts that do not block."""
        return tuple(conflict for conflict in self.conflicts if not conflict.blocking)


def check_request(agenda: Agenda, request: ReservationRequest, now: datetime) -> Check:
    """Plan the request at `now` (aware) and check the plan; `Invalid` if it cannot be planned or exceeds the horizon."""
    planned = plan(agenda.config, request.pair, request.week, now)
    if not agenda.covers(planned.slots[0].start, planned.slots[-1].end):
        raise Invalid(
            f"{planned.week} is outside the calendar's horizon, which ends on {agenda.horizon.end:%Y-%m-%d}; "
            "choose a nearer week, or set calendar.horizon.future."
        )
    own = reservation_href(planned.week)
    conflicts = check(agenda, planned.slots, planned.conductors, own=own, pair=planned.pair)
    # Whoever accepts the conflicts needs no other place.
    to_move = () if request.override else conflicts
    free = alternatives(agenda, planned, to_move, planned.conductors, now=now, own=own)
    stored = agenda.reservation(planned.week)
    is_released = stored is not None and stored.reservation is not None and stored.reservation.released
    return Check(planned, conflicts, free, None if is_released else stored)


def require_reservation(agenda: Agenda, week: Week, etags: Collection[str] | None) -> tuple[CalendarObject, Reservation]:
    """Return the week's reservation.

    Raises `NotReserved` if there is none, and `Changed` if `etags` are given and its etag is not among them.
    """
    stored = agenda.reservation(week)
    if stored is not None and stored.reservation is None:
        raise NotReserved(f"The reservation of {week} cannot be read; {REMEDY.format(href=stored.href)}")
    if stored is None or stored.reservation is None or stored.reservation.released:
        raise NotReserved(f"{week} is not reserved.")
    if etags is not None and stored.etag not in etags:
        raise Changed(f"The reservation of {week} was changed since you read it; read it again.")
    return stored, stored.reservation
