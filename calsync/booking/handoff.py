"""Hand a train to somebody else.

The calendar is written first. One write names the new responsible person in the slots from now on (past ones keep theirs)
and adds the messages to send. Then the dispatcher sends them: the ticket is assigned with the note as a comment, and the
note goes to the operations channel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from calsync.booking.reservations import Outcome
from calsync.booking.store import put_reservation, retry_write
from calsync.core.conductors import Conductor
from calsync.core.conflict import Conflict
from calsync.core.delivery import Delivery, Target, new_delivery
from calsync.core.errors import Invalid
from calsync.core.reservation import Reservation
from calsync.core.text import SENTENCE, check_line
from calsync.core.timezones import utc_seconds
from calsync.core.weeks import Week
from calsync.schedule.check import require_reservation
from calsync.schedule.conflicts import conflicts_of
from calsync.schedule.objects import CalendarObject
from calsync.schedule.sync import CalendarSync

Missing = Callable[[Target, Reservation], str | None]
"""Returns why no process can send a message about the week to the target; None if one can."""


@dataclass(frozen=True, slots=True)
class Handoff:
    """A hand-off that is on the calendar, in the week at `href`."""

    outcome: Outcome
    """The reservation; its warnings are the conflicts of the new responsible person."""
    href: str
    correlation_id: str
    """The correlation id of its deliveries."""
    former: str
    """The name of who was responsible before."""


def hand_off(
    sync: CalendarSync,
    missing: Missing,
    week: Week,
    to: Conductor,
    note: str,
    now: datetime,
    *,
    etags: Collection[str] | None = None,
    author: str | None = None,
) -> Handoff:
    """Hand the week's train to `to` from `now` (aware) on; the same hand-off again changes and sends nothing.

    Messages that no process can send are recorded as skipped, with the reason that `missing` returns. Raises `Invalid` if
    the train is over, `to` is responsible already or the note is not a line, `NotReserved`, `Changed` if the resource has
    none of the `etags`, and the calendar's errors.
    """
    check_line("note", note, SENTENCE)
    digest = hashlib.sha256(f"{to.name}\n{note}".encode()).hexdigest()[:10]

    def attempt() -> Handoff:
        agenda = sync.refresh(now)
        stored, current = require_reservation(agenda, week, etags)
        former = current.in_charge
        if former.name == to.name:
            return _repeated(stored, current, digest)
        if not current.ahead(now):
            raise Invalid(f"The train of {week} is over; there is nothing to hand off.")
        handed = _handed_to(to, current, now, author)
        correlation_id = f"handoff-{handed.sequence}-{digest}"
        deliveries = _deliveries(missing, handed, former, correlation_id, note, now)
        written = put_reservation(sync, handed, stored, now, deliveries)
        outcome = Outcome(handed, written.etag, warnings=_warnings(sync, handed, now))
        return Handoff(outcome, stored.href, correlation_id, former.name)

    return retry_write(sync, attempt)


def _repeated(stored: CalendarObject, current: Reservation, digest: str) -> Handoff:
    """Return the last hand-off if it is the same one; otherwise raise `Invalid`."""
    ids = [delivery.correlation_id for delivery in stored.deliveries if delivery.correlation_id.startswith("handoff-")]
    if current.responsible is None or not ids or not ids[-1].endswith(f"-{digest}"):
        raise Invalid(f"{current.in_charge.name} is responsible for {current.week} already; send an update instead.")
    outcome = Outcome(current, stored.etag, changes=stored.changes)
    return Handoff(outcome, stored.href, ids[-1], current.in_charge.name)


def _handed_to(to: Conductor, current: Reservation, now: datetime, author: str | None) -> Reservation:
    """Return the reservation with `to` responsible for the slots that are not over."""
    return replace(
        current,
        slots=tuple(slot if slot.end > now else replace(slot, who=current.names(slot)) for slot in current.slots),
        responsible=to,
        modified=utc_seconds(now),
        sequence=current.sequence + 1,
        author=author,
    )


def _deliveries(
    missing: Missing, handed: Reservation, former: Conductor, correlation_id: str, note: str, now: datetime
) -> Sequence[Delivery]:
    to, train = handed.in_charge, handed.train_title
    comment = f"{note}\n\n{former.name} hands {train} ({handed.week}) to {to.name}."
    skipped = missing("ticket", handed)
    ticket = new_delivery(correlation_id, "ticket", comment, now, ticket=handed.ticket, to=to.name, skipped=skipped)
    place = ", ".join(part for part in (train, handed.ticket) if part)
    line = f"!log {note} ({place}: {former.name} → {to.name})"
    log = new_delivery(correlation_id, "log", line, now, to=to.name, skipped=missing("log", handed))
    return (ticket, log)


def _warnings(sync: CalendarSync, handed: Reservation, now: datetime) -> tuple[Conflict, ...]:
    """Return the conflicts of the new responsible person in the slots ahead: absences, unknown ones, working hours."""
    conflicts = conflicts_of(sync.agenda, handed, handed.ahead(now))
    return tuple(conflict for conflict in conflicts if conflict.kind in ("busy", "unknown", "hours"))
