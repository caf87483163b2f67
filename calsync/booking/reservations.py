"""Reserve, change or release a week.

A reservation that conflicts is refused with free alternatives. If somebody else writes first, calsync reads again and
decides again: the same reservation by another hand is a success.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime

from calsync.booking.store import is_same, look_again, put_reservation, retry_write
from calsync.core.conflict import Conflict, Conflicted, ReservedByAnother, blocking
from calsync.core.delivery import Delivery
from calsync.core.errors import Invalid
from calsync.core.planning import Plan
from calsync.core.reservation import Reservation
from calsync.core.settings import Config, is_task
from calsync.core.text import SENTENCE, WORD, check_line
from calsync.core.timezones import utc_seconds
from calsync.core.weeks import Week
from calsync.core.windows import Slot
from calsync.schedule.agenda import Agenda
from calsync.schedule.check import REMEDY, Check, ReservationRequest, check_request, require_reservation
from calsync.schedule.conflicts import conflicts_of
from calsync.schedule.objects import CalendarObject
from calsync.schedule.sync import CalendarSync


@dataclass(frozen=True, slots=True)
class Outcome:
    """The reservation after a call, or after a dry run as it would be."""

    reservation: Reservation
    etag: str
    """The etag of the week's resource; empty if the week is not on the calendar."""
    created: bool = False
    """Whether this call reserved the week."""
    skipped: tuple[Slot, ...] = ()
    """The week's slots that had already begun, so they are not reserved."""
    warnings: tuple[Conflict, ...] = ()
    changes: tuple[str, ...] = ()
    """What people did to the reservation on the calendar, in sentences."""


def reserve(
    sync: CalendarSync, request: ReservationRequest, now: datetime, *, author: str | None = None, dry_run: bool = False
) -> Outcome:
    """Reserve all slots of the week for the pair, or none; once this returns, they are on the calendar.

    The same reservation again is a success and writes nothing. Raises `Invalid`, `Conflicted` (with alternatives),
    `ReservedByAnother`, and the calendar's errors; after any of them nothing is reserved.
    """
    mark = uuid.uuid4().hex
    replaced: CalendarObject | None = None

    def attempt() -> Outcome:
        nonlocal replaced
        agenda = sync.refresh(now)
        check = check_request(agenda, request, now)
        existing = check.holder
        if existing is not None and existing.mark == mark and existing.reservation is not None:
            # An earlier attempt of this call wrote it, and the answer was lost.
            look_again(sync, existing, replaced, now)
            return Outcome(existing.reservation, existing.etag, True, check.plan.skipped, check.conflicts)
        if existing is not None:
            return _already_reserved(agenda, existing, check, request)
        _check_texts(sync.config, request, None)
        replaced = agenda.reservation(check.plan.week)
        former = replaced.reservation if replaced is not None else None
        reservation = _reservation(sync.config, check.plan, request, now, author, former)
        _refuse_conflicts(check, request.override)
        if dry_run:
            return Outcome(reservation, "", skipped=check.plan.skipped, warnings=check.conflicts)
        settled = _settle_messages(replaced, f"{reservation.week} was released meanwhile", claimed=True)
        stored = put_reservation(sync, reservation, replaced, now, settled, mark)
        look_again(sync, stored, replaced, now)
        return Outcome(reservation, stored.etag, True, check.plan.skipped, check.conflicts)

    return retry_write(sync, attempt)


def change(
    sync: CalendarSync,
    week: Week,
    edit: Callable[[Reservation], ReservationRequest],
    now: datetime,
    *,
    etags: Collection[str] | None = None,
    author: str | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Change the week's reservation to what `edit` returns for the current one; slots that are over stay as they are.

    Raises `Changed` if the resource has none of the `etags`, `NotReserved`, and what `reserve` raises.
    """

    def attempt() -> Outcome:
        agenda = sync.refresh(now)
        stored, current = require_reservation(agenda, week, etags)
        request = replace(edit(current), week=week)
        _check_texts(sync.config, request, current)
        check = check_request(agenda, request, now)
        reservation = _reservation(sync.config, check.plan, request, now, author, current)
        # People move slots, so the slots to check are those of the reservation, not of the plan.
        check = replace(check, conflicts=conflicts_of(agenda, reservation, reservation.ahead(now)))
        if is_same(reservation, current):
            return Outcome(current, stored.etag, False, check.plan.skipped, check.conflicts, stored.changes)
        # Conflicts do not block a new ticket or version, which changes neither people nor times.
        moves = (reservation.pair, reservation.slots) != (current.pair, current.slots)
        if moves:
            _refuse_conflicts(check, request.override)
        if dry_run:
            return Outcome(reservation, stored.etag, False, check.plan.skipped, check.conflicts)
        written = put_reservation(sync, reservation, stored, now)
        if moves:
            look_again(sync, written, stored, now)
        return Outcome(reservation, written.etag, False, check.plan.skipped, check.conflicts)

    return retry_write(sync, attempt)


def release(
    sync: CalendarSync,
    week: Week,
    now: datetime,
    *,
    etags: Collection[str] | None = None,
    author: str | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Release the week: slots that are not over are cancelled, and subscribers see the cancellation.

    A week that is released already stays as it is. Raises `Invalid` if the train is over, `NotReserved`, `Changed` if the
    resource has none of the `etags`, and the calendar's errors.
    """

    def attempt() -> Outcome:
        agenda = sync.refresh(now)
        existing = agenda.reservation(week)
        if etags is None and existing is not None and existing.reservation is not None and existing.reservation.released:
            return Outcome(existing.reservation, existing.etag)
        stored, current = require_reservation(agenda, week, etags)
        over = tuple(slot for slot in current.slots if slot.end <= now)
        if current.slots and over == current.slots:
            raise Invalid(f"The train of {week} is over; there is nothing to release.")
        released = replace(
            current,
            slots=over,
            cancelled=_given_up(current, {slot.id for slot in over}),
            modified=utc_seconds(now),
            sequence=current.sequence + 1,
            author=author,
            released=True,
        )
        if dry_run:
            return Outcome(released, stored.etag)
        settled = _settle_messages(stored, f"{week} was released meanwhile")
        return Outcome(released, put_reservation(sync, released, stored, now, settled).etag)

    return retry_write(sync, attempt)


def _check_texts(config: Config, request: ReservationRequest, current: Reservation | None) -> None:
    """Raise `Invalid` for a text that is not a line, or a ticket that is not a task; what is stored already is accepted."""
    for name, most in (("train", WORD), ("ticket", WORD), ("override", SENTENCE)):
        text = getattr(request, name)
        if current is None or text != getattr(current, name):
            check_line(name, text, most)
    ticket, url = request.ticket, config.tickets.url
    is_new = current is None or ticket != current.ticket
    if is_new and ticket is not None and url is not None and not is_task(ticket):
        raise Invalid(f'"{ticket}" is not a task of {url}; write its number as T123.')


def _refuse_conflicts(check: Check, override: str | None) -> None:
    blocked = blocking(check.conflicts)
    if blocked and not override:
        count = "A conflict blocks" if len(blocked) == 1 else f"{len(blocked)} conflicts block"
        raise Conflicted(f"{count} {check.plan.week}: {blocked[0].message}", check.conflicts, check.alternatives)


def _already_reserved(agenda: Agenda, existing: CalendarObject, check: Check, request: ReservationRequest) -> Outcome:
    """Return the existing reservation if it is what the request asks for; otherwise raise `ReservedByAnother`."""
    week, current = check.plan.week, existing.reservation
    if current is None:
        conflict = Conflict("reserved", True, None, f"{week} is reserved, but its reservation cannot be read.")
        raise ReservedByAnother(f"{conflict.message[:-1]}; {REMEDY.format(href=existing.href)}", [conflict])
    if current.pair != request.pair:
        pair = f"{current.pair.primary.name} and {current.pair.backup.name}"
        raise ReservedByAnother(f"{week} is reserved for {pair} already.", [_reserved(current, pair)])
    differing = [
        f"{name} {getattr(current, name) or 'unset'}"
        for name in ("train", "ticket")
        if getattr(request, name) not in (None, getattr(current, name))
    ]
    if differing:
        raise ReservedByAnother(
            f"{week} is reserved for this pair already, with {' and '.join(differing)}; change the reservation instead.",
            [_reserved(current, "this pair")],
        )
    conflicts = conflicts_of(agenda, current, current.slots)
    return Outcome(current, existing.etag, False, check.plan.skipped, conflicts, existing.changes)


def _reserved(current: Reservation, whose: str) -> Conflict:
    slot = current.slots[0].id if current.slots else None
    return Conflict("reserved", True, slot, f"{current.week} is reserved for {whose}.")


def _settle_messages(stored: CalendarObject | None, why: str, *, claimed: bool = False) -> list[Delivery]:
    """Return the pending messages of a reservation that ends, settled so that nobody sends them.

    With `claimed`, messages that are being sent are settled too. Otherwise the process that sends them records the outcome.
    """
    deliveries = stored.deliveries if stored is not None else ()
    skipped = [delivery.settle("skipped", why) for delivery in deliveries if delivery.state == "pending"]
    sending = [delivery for delivery in deliveries if claimed and delivery.state == "claimed"]
    return [*skipped, *(delivery.settle("unknown", f"it may have arrived: {why}") for delivery in sending)]


def _reservation(
    config: Config,
    plan: Plan,
    request: ReservationRequest,
    now: datetime,
    author: str | None,
    former: Reservation | None,
) -> Reservation:
    """Return the reservation to write in place of the `former` one.

    Slots that are over stay, with who conducted them. A slot that people moved stays where they put it. One that they
    removed stays away while the pair is the same. Slots that the pair no longer needs are cancelled.
    """
    slots = {slot.id: slot for slot in plan.slots}
    same_pair = former is not None and former.pair == plan.pair
    continues = same_pair and former is not None and not former.released
    if former is not None:
        kept = [slot for slot in former.slots if slot.id in slots]
        if continues and not kept:
            raise Invalid(
                f"Every slot of {plan.week} was removed from the calendar; release the week and reserve it again."
            )
        if continues:
            slots = {slot.id: slots[slot.id] for slot in kept}
        slots |= {slot.id: replace(slots[slot.id], start=slot.start, end=slot.end) for slot in kept}
        over = [slot for slot in former.slots if slot.end <= now]
        slots |= {slot.id: slot if same_pair else replace(slot, who=former.names(slot)) for slot in over}
    return Reservation(
        week=plan.week,
        title=config.train.title,
        pair=plan.pair,
        primary=plan.primary,
        backup=plan.backup,
        slots=tuple(sorted(slots.values(), key=lambda slot: (slot.start, slot.window))),
        cancelled=_given_up(former, slots) if former is not None else (),
        modified=utc_seconds(now),
        train=request.train,
        ticket=request.ticket,
        override=request.override,
        author=author,
        sequence=former.sequence + 1 if former is not None else 0,
        responsible=former.responsible if former is not None and continues else None,
    )


def _given_up(former: Reservation, kept: Collection[str]) -> tuple[Slot, ...]:
    """Return the slots that `former` had, or had cancelled, and whose ids are not in `kept`."""
    return tuple(slot for slot in (*former.slots, *former.cancelled) if slot.id not in kept)
