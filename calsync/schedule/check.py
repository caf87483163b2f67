"""A request checked: its plan, its conflicts, free alternatives, and who holds the week."""

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

REMEDY = "mend or remove {href} on the calendar (calsync doctor says what is wrong with it), then reserve the week anew."


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """What somebody asks to reserve; without a `week`, the next one whose train has not begun."""

    pair: Pair
    week: Week | None = None
    train: str | None = None
    ticket: str | None = None
    override: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """What a request comes to: the plan, its conflicts, free alternatives for what is blocked, and who holds the week."""

    plan: Plan
    conflicts: tuple[Conflict, ...]
    alternatives: tuple[Alternative, ...]
    holder: CalendarObject | None

    @property
    def warnings(self) -> tuple[Conflict, ...]:
        """The conflicts that do not block."""
        return tuple(conflict for conflict in self.conflicts if not conflict.blocking)


def check_request(agenda: Agenda, request: ReservationRequest, now: datetime) -> Check:
    """Plan the request and check it against the agenda; writes nothing. Raises `Invalid` as `plan` does."""
    planned = plan(agenda.config, request.pair, request.week, now)
    if not agenda.covers(planned.slots[0].start, planned.slots[-1].end):
        raise Invalid(
            f"{planned.week} is outside the calendar's horizon, which ends on {agenda.horizon.end:%Y-%m-%d}; "
            "choose a nearer week, or set calendar.horizon.future."
        )
    own = reservation_href(planned.week)
    conflicts = check(agenda, planned.slots, planned.conductors, own=own, pair=planned.pair)
    # Whoever accepts the conflicts looks for no other place.
    wanted = () if request.override else conflicts
    free = alternatives(agenda, planned, wanted, planned.conductors, now=now, own=own)
    entry = agenda.reservation(planned.week)
    holder = entry if entry is not None and not (entry.reservation and entry.reservation.released) else None
    return Check(planned, conflicts, free, holder)


def require_reservation(agenda: Agenda, week: Week, etags: Collection[str] | None) -> tuple[CalendarObject, Reservation]:
    """The week's standing reservation; `NotReserved` if there is none, `Changed` if `etags` are given and it has none."""
    entry = agenda.reservation(week)
    if entry is not None and entry.reservation is None:
        raise NotReserved(f"{week} is held by a reservation that cannot be read; {REMEDY.format(href=entry.href)}")
    if entry is None or entry.reservation is None or entry.reservation.released:
        raise NotReserved(f"{week} is not reserved.")
    if etags is not None and entry.etag not in etags:
        raise Changed(f"The reservation of {week} was changed since you read it; read it again.")
    return entry, entry.reservation
