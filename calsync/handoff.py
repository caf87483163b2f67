"""Hand-off: the responsibility for a train goes to somebody else.

The calendar is written first and is the truth: in one write the slots from now on name the new responsible person, past
ones keep theirs, and what is to be told stands beside them. Only then is it told: the ticket is assigned with the note as
a comment, and the note goes to the operations channel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from calsync import deliveries, events
from calsync.conflicts import Conflict, check
from calsync.courier import Courier
from calsync.deliveries import Delivery
from calsync.entries import Entry
from calsync.errors import Invalid
from calsync.follower import Follower
from calsync.planning import Conductor
from calsync.ports import Ports
from calsync.records import Reservation
from calsync.reservations import Outcome, held
from calsync.storing import store
from calsync.texts import SENTENCE, check_line
from calsync.weeks import Week
from calsync.writes import trying
from calsync.zones import stamp


@dataclass(frozen=True, slots=True)
class HandedOff:
    """What a hand-off made of the week: `about` names its deliveries, `outcome` has what stands against the new person."""

    outcome: Outcome
    href: str
    about: str
    former: str


def hand_off(
    follower: Follower,
    ports: Ports,
    week: Week,
    to: Conductor,
    note: str,
    now: datetime,
    *,
    etags: Collection[str] | None = None,
    author: str | None = None,
) -> HandedOff:
    """Hand the week's train to `to`, from `now` (aware) on; the same hand-off again changes and tells nothing.

    Raises `Invalid` where the train is over or theirs already and for a note that is no line, `NotReserved`, `Changed`, and
    the calendar's errors.
    """
    check_line("note", note, SENTENCE)
    digest = hashlib.sha256(f"{to.name}\n{note}".encode()).hexdigest()[:10]

    def attempt() -> HandedOff:
        agenda = follower.sync(now)
        entry, standing = held(agenda, week, etags)
        former = standing.in_charge
        if former.name == to.name:
            return _again(entry, standing, digest)
        if not any(slot.end > now for slot in standing.slots):
            raise Invalid(f"The train of {week} is over; there is nothing to hand off.")
        handed = _handed(standing, to, now, author)
        about = f"handoff-{handed.sequence}-{digest}"
        more = _deliveries(ports, handed, former, about, note, now)
        written = store(follower, handed, entry, now, more)
        against = _against(follower, handed, to, now)
        return HandedOff(Outcome(handed, written.etag, warnings=against), entry.href, about, former.name)

    return trying(follower, attempt)


def pass_on(
    courier: Courier, follower: Follower, found: HandedOff, now: datetime
) -> tuple[HandedOff, tuple[Delivery, ...]]:
    """Send what a hand-off has to tell at `now` (aware); returns it with the etag that its week has then, and its messages.

    The etag stays where somebody else has changed the reservation meanwhile. Raises the calendar's errors.
    """
    sent = courier.deliver(found.href, found.about, now)
    entry = follower.agenda.entries.get(found.href)
    if entry is None or entry.reservation != found.outcome.reservation:
        return found, sent
    return replace(found, outcome=replace(found.outcome, etag=entry.etag)), sent


def _again(entry: Entry, standing: Reservation, digest: str) -> HandedOff:
    """The same hand-off as the last one, or a mistake."""
    told = [delivery for delivery in entry.deliveries if delivery.about.startswith("handoff-")]
    if standing.responsible is None or not told or not told[-1].about.endswith(f"-{digest}"):
        raise Invalid(f"{standing.in_charge.name} is responsible for {standing.week} already; send an update instead.")
    outcome = Outcome(standing, entry.etag, changes=entry.changes)
    return HandedOff(outcome, entry.href, told[-1].about, standing.in_charge.name)


def _handed(standing: Reservation, to: Conductor, now: datetime, author: str | None) -> Reservation:
    """The reservation with `to` responsible for the slots that are not over."""
    return replace(
        standing,
        slots=tuple(slot if slot.end > now else replace(slot, who=standing.names(slot)) for slot in standing.slots),
        responsible=to,
        modified=stamp(now),
        sequence=standing.sequence + 1,
        author=author,
    )


def _deliveries(
    ports: Ports, handed: Reservation, former: Conductor, about: str, note: str, now: datetime
) -> Sequence[Delivery]:
    to, train = handed.in_charge, handed.train_title
    whose = f"{former.name} → {to.name}"
    comment = f"{note}\n\n{former.name} hands {train} ({handed.week}) to {to.name}."
    skipped = ports.missing("ticket", handed)
    ticket = deliveries.make(about, "ticket", comment, now, ticket=handed.ticket, to=to.name, skipped=skipped)
    place = ", ".join(part for part in (train, handed.ticket) if part)
    line = f"!log {note} ({place}: {whose})"
    log = deliveries.make(about, "log", line, now, to=to.name, skipped=ports.missing("log", handed))
    return (ticket, log)


def _against(follower: Follower, standing: Reservation, to: Conductor, now: datetime) -> tuple[Conflict, ...]:
    """What speaks against the new responsible person in the slots ahead: that they are away, or may be, or do not work."""
    ahead = [slot for slot in standing.slots if slot.end > now]
    href = events.href(standing.week)
    found = check(follower.config, follower.agenda, ahead, lambda _slot: (to,), own=href, pair=standing.pair)
    return tuple(conflict for conflict in found if conflict.kind in ("busy", "unknown", "hours"))
