"""Hand-off: the responsibility for a train goes to somebody else.

The calendar is written first and is the truth: in one write the slots from now on name the new responsible person, past
ones keep theirs, and what is to be told stands beside them. Only then is it told: the ticket is assigned with the note as
a comment, and the note goes to the operations channel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from calsync.booking.reservations import Outcome
from calsync.booking.store import store, trying
from calsync.core.conductors import Conductor
from calsync.core.conflict import Conflict
from calsync.core.delivery import Delivery, Target, new_delivery
from calsync.core.errors import Invalid
from calsync.core.reservation import Reservation
from calsync.core.text import SENTENCE, check_line
from calsync.core.timezones import utc_seconds
from calsync.core.weeks import Week
from calsync.ical.reservation import reservation_href
from calsync.schedule.check import require_reservation
from calsync.schedule.conflicts import check
from calsync.schedule.objects import CalendarObject
from calsync.schedule.sync import CalendarSync

Missing = Callable[[Target, Reservation], str | None]
"""Returns why no process can send what is about a week to a target, or None where one can."""


@dataclass(frozen=True, slots=True)
class HandedOff:
    """What a hand-off made of the week: `about` names its deliveries, `outcome` has what stands against the new person."""

    outcome: Outcome
    href: str
    correlation_id: str
    former: str


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
) -> HandedOff:
    """Hand the week's train to `to`, from `now` (aware) on; the same hand-off again changes and tells nothing.

    `missing` says which of its messages no process can send; those are recorded as skipped, with the reason.

    Raises `Invalid` where the train is over or theirs already and for a note that is no line, `NotReserved`, `Changed`, and
    the calendar's errors.
    """
    check_line("note", note, SENTENCE)
    digest = hashlib.sha256(f"{to.name}\n{note}".encode()).hexdigest()[:10]

    def attempt() -> HandedOff:
        agenda = sync.refresh(now)
        entry, standing = require_reservation(agenda, week, etags)
        former = standing.in_charge
        if former.name == to.name:
            return _again(entry, standing, digest)
        if not standing.ahead(now):
            raise Invalid(f"The train of {week} is over; there is nothing to hand off.")
        handed = _handed(standing, to, now, author)
        correlation_id = f"handoff-{handed.sequence}-{digest}"
        more = _deliveries(missing, handed, former, correlation_id, note, now)
        written = store(sync, handed, entry, now, more)
        against = _against(sync, handed, to, now)
        return HandedOff(Outcome(handed, written.etag, warnings=against), entry.href, correlation_id, former.name)

    return trying(sync, attempt)


def _again(entry: CalendarObject, standing: Reservation, digest: str) -> HandedOff:
    """The same hand-off as the last one, or a mistake."""
    told = [delivery for delivery in entry.deliveries if delivery.correlation_id.startswith("handoff-")]
    if standing.responsible is None or not told or not told[-1].correlation_id.endswith(f"-{digest}"):
        raise Invalid(f"{standing.in_charge.name} is responsible for {standing.week} already; send an update instead.")
    outcome = Outcome(standing, entry.etag, changes=entry.changes)
    return HandedOff(outcome, entry.href, told[-1].correlation_id, standing.in_charge.name)


def _handed(standing: Reservation, to: Conductor, now: datetime, author: str | None) -> Reservation:
    """The reservation with `to` responsible for the slots that are not over."""
    return replace(
        standing,
        slots=tuple(slot if slot.end > now else replace(slot, who=standing.names(slot)) for slot in standing.slots),
        responsible=to,
        modified=utc_seconds(now),
        sequence=standing.sequence + 1,
        author=author,
    )


def _deliveries(
    missing: Missing, handed: Reservation, former: Conductor, correlation_id: str, note: str, now: datetime
) -> Sequence[Delivery]:
    to, train = handed.in_charge, handed.train_title
    whose = f"{former.name} → {to.name}"
    comment = f"{note}\n\n{former.name} hands {train} ({handed.week}) to {to.name}."
    skipped = missing("ticket", handed)
    ticket = new_delivery(correlation_id, "ticket", comment, now, ticket=handed.ticket, to=to.name, skipped=skipped)
    place = ", ".join(part for part in (train, handed.ticket) if part)
    line = f"!log {note} ({place}: {whose})"
    log = new_delivery(correlation_id, "log", line, now, to=to.name, skipped=missing("log", handed))
    return (ticket, log)


def _against(sync: CalendarSync, standing: Reservation, to: Conductor, now: datetime) -> tuple[Conflict, ...]:
    """What speaks against the new responsible person in the slots ahead: that they are away, or may be, or do not work."""
    href = reservation_href(standing.week)
    found = check(sync.agenda, standing.ahead(now), lambda _slot: (to,), own=href, pair=standing.pair)
    return tuple(conflict for conflict in found if conflict.kind in ("busy", "unknown", "hours"))
