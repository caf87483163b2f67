"""Reserve, change, release a week: what people ask for, checked, and what becomes of it.

A reservation that conflicts is refused with places that are free. A condition that fails because somebody else wrote first
is looked at anew: the same reservation by another hand is a success, all else is not.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime

from calsync.booking.store import is_same, look_again, store, trying
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
    """A reservation as it stands after a call. `created` is whether this call put it there, `etag` that of its resource
    (empty where nothing was written), `changes` what people did to it since.
    """

    reservation: Reservation
    etag: str
    created: bool = False
    skipped: tuple[Slot, ...] = ()
    warnings: tuple[Conflict, ...] = ()
    changes: tuple[str, ...] = ()


def _check_texts(config: Config, request: ReservationRequest, standing: Reservation | None) -> None:
    """Raise `Invalid` for texts and tickets that are none; what stands already is not questioned."""
    for what, most in (("train", WORD), ("ticket", WORD), ("override", SENTENCE)):
        text = getattr(request, what)
        if standing is None or text != getattr(standing, what):
            check_line(what, text, most)
    ticket, url = request.ticket, config.tickets.url
    is_new = standing is None or ticket != standing.ticket
    if is_new and ticket is not None and url is not None and not is_task(ticket):
        raise Invalid(f'"{ticket}" is no task of {url}; write its number as T123.')


def reserve(
    sync: CalendarSync, request: ReservationRequest, now: datetime, *, author: str | None = None, dry_run: bool = False
) -> Outcome:
    """Reserve the week for the pair, whole or not at all, durably once this returns.

    The very same reservation again is a success that writes nothing. Raises `Invalid`, `Conflicted` (with alternatives),
    `ReservedByAnother`, and the calendar's errors; nothing stands on the calendar for any of them.
    """
    mark = uuid.uuid4().hex
    replaced: CalendarObject | None = None

    def attempt() -> Outcome:
        nonlocal replaced
        agenda = sync.refresh(now)
        found = check_request(agenda, request, now)
        if found.holder is not None and found.holder.mark == mark and found.holder.reservation is not None:
            # An earlier attempt of this call put it there, and the answer was lost.
            look_again(sync, found.holder.reservation, found.holder, replaced, now)
            return Outcome(found.holder.reservation, found.holder.etag, True, found.plan.skipped, found.conflicts)
        if found.holder is not None:
            return _held(found, request, agenda)
        _check_texts(sync.config, request, None)
        entry = replaced = agenda.reservation(found.plan.week)
        former = entry.reservation if entry is not None else None
        reservation = _reservation(sync.config, found.plan, request, now, author, former)
        _refuse(found, request.override)
        if dry_run:
            return Outcome(reservation, "", skipped=found.plan.skipped, warnings=found.conflicts)
        untold = _untold(entry, f"{reservation.week} was released meanwhile", anew=True)
        written = store(sync, reservation, entry, now, untold, mark)
        look_again(sync, reservation, written, entry, now)
        return Outcome(reservation, written.etag, True, found.plan.skipped, found.conflicts)

    return trying(sync, attempt)


def _refuse(found: Check, override: str | None) -> None:
    blocked = blocking(found.conflicts)
    if blocked and not override:
        count = "A conflict stands" if len(blocked) == 1 else f"{len(blocked)} conflicts stand"
        raise Conflicted(
            f"{count} in the way of {found.plan.week}: {blocked[0].message}", found.conflicts, found.alternatives
        )


def _held(found: Check, request: ReservationRequest, agenda: Agenda) -> Outcome:
    """The answer where the week is held already: the very same reservation, or a refusal."""
    assert found.holder is not None  # the caller has looked
    week, standing = found.plan.week, found.holder.reservation
    if standing is None:
        conflict = Conflict("reserved", True, None, f"{week} is reserved, but its reservation cannot be read.")
        raise ReservedByAnother(f"{conflict.message[:-1]}; {REMEDY.format(href=found.holder.href)}", [conflict])
    if standing.pair != request.pair:
        pair = f"{standing.pair.primary.name} and {standing.pair.backup.name}"
        raise ReservedByAnother(f"{week} is reserved for {pair} already.", [_reserved(standing, week, pair)])
    differing = [
        f"{name} {getattr(standing, name) or 'unset'}"
        for name in ("train", "ticket")
        if getattr(request, name) not in (None, getattr(standing, name))
    ]
    if differing:
        raise ReservedByAnother(
            f"{week} is reserved for this pair already, with {' and '.join(differing)}; change the reservation instead.",
            [_reserved(standing, week, "this pair")],
        )
    conflicts = conflicts_of(agenda, standing, standing.slots)
    return Outcome(standing, found.holder.etag, False, found.plan.skipped, conflicts, found.holder.changes)


def _reserved(standing: Reservation, week: Week, whose: str) -> Conflict:
    return Conflict("reserved", True, standing.slots[0].id if standing.slots else None, f"{week} is reserved for {whose}.")


def change(
    sync: CalendarSync,
    week: Week,
    asked: Callable[[Reservation], ReservationRequest],
    now: datetime,
    *,
    etags: Collection[str] | None = None,
    author: str | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Make the week's reservation what `asked` says of the one that stands, for the slots that are not over yet.

    Raises `Changed` where `etags` are given and the resource has none of them, `NotReserved`, and what `reserve` raises.
    """

    def attempt() -> Outcome:
        agenda = sync.refresh(now)
        entry, standing = require_reservation(agenda, week, etags)
        request = replace(asked(standing), week=week)
        _check_texts(sync.config, request, standing)
        found = check_request(agenda, request, now)
        reservation = _reservation(sync.config, found.plan, request, now, author, standing)
        # Slots may stand elsewhere than planned: people move them.
        found = replace(found, conflicts=conflicts_of(agenda, reservation, reservation.ahead(now)))
        if is_same(reservation, standing):
            return Outcome(standing, entry.etag, False, found.plan.skipped, found.conflicts, entry.changes)
        # What stands already is not refused for its new ticket.
        moves = (reservation.pair, reservation.slots) != (standing.pair, standing.slots)
        if moves:
            _refuse(found, request.override)
        if dry_run:
            return Outcome(reservation, entry.etag, False, found.plan.skipped, found.conflicts)
        written = store(sync, reservation, entry, now)
        if moves:
            look_again(sync, reservation, written, entry, now)
        return Outcome(reservation, written.etag, False, found.plan.skipped, found.conflicts)

    return trying(sync, attempt)


def release(
    sync: CalendarSync,
    week: Week,
    now: datetime,
    *,
    etags: Collection[str] | None = None,
    author: str | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Give the week up: its slots that are not over are cancelled, and subscribers see that they are.

    A week that is released already stays as it is. Raises `Invalid` for a train that is over, `NotReserved`, `Changed`, and
    the calendar's errors.
    """

    def attempt() -> Outcome:
        agenda = sync.refresh(now)
        entry = agenda.reservation(week)
        if etags is None and entry is not None and entry.reservation is not None and entry.reservation.released:
            return Outcome(entry.reservation, entry.etag)
        entry, standing = require_reservation(agenda, week, etags)
        if standing.slots and all(slot.end <= now for slot in standing.slots):
            raise Invalid(f"The train of {week} is over; there is nothing to release.")
        released = replace(
            standing,
            slots=tuple(slot for slot in standing.slots if slot.end <= now),
            cancelled=_given_up(standing, {slot.id for slot in standing.slots if slot.end <= now}),
            modified=utc_seconds(now),
            sequence=standing.sequence + 1,
            author=author,
            released=True,
        )
        if dry_run:
            return Outcome(released, entry.etag)
        untold = _untold(entry, f"{week} was released meanwhile")
        return Outcome(released, store(sync, released, entry, now, untold).etag)

    return trying(sync, attempt)


def _untold(entry: CalendarObject | None, why: str, *, anew: bool = False) -> list[Delivery]:
    """The messages of a reservation that is no more, which nobody is to hear of any more.

    Those that are just being sent are left to who sends them, until the week is reserved `anew`.
    """
    known = entry.deliveries if entry is not None else ()
    dropped = [one.settle("skipped", why) for one in known if one.state == "pending"]
    claimed = [one for one in known if one.state == "claimed"] if anew else []
    return [*dropped, *(one.settle("unknown", f"it may have arrived: {why}") for one in claimed)]


def _reservation(
    config: Config,
    planned: Plan,
    request: ReservationRequest,
    now: datetime,
    author: str | None,
    former: Reservation | None,
) -> Reservation:
    """What is to stand on the calendar.

    Slots that are over stay as they were, with who conducted them. Slots that are kept stay where people moved them, and
    those that people removed stay away as long as the pair is the same. Slots given up stay as cancelled.
    """
    slots = {slot.id: slot for slot in planned.slots}
    if former is not None:
        kept = [slot for slot in former.slots if slot.id in slots]
        if former.pair == planned.pair and not former.released and not kept:
            raise Invalid(f"Every slot of {planned.week} was taken off the calendar; release the week and reserve anew.")
        if former.pair == planned.pair and not former.released:
            slots = {slot.id: slots[slot.id] for slot in kept}
        slots |= {slot.id: replace(slots[slot.id], start=slot.start, end=slot.end) for slot in kept}
    if former is not None:
        over = (slot for slot in former.slots if slot.end <= now)
        is_same = former.pair == planned.pair
        slots |= {slot.id: slot if is_same else replace(slot, who=former.names(slot)) for slot in over}
    return Reservation(
        week=planned.week,
        title=config.train.title,
        pair=planned.pair,
        primary=planned.primary,
        backup=planned.backup,
        slots=tuple(sorted(slots.values(), key=lambda slot: (slot.start, slot.window))),
        cancelled=_given_up(former, slots) if former is not None else (),
        modified=utc_seconds(now),
        train=request.train,
        ticket=request.ticket,
        override=request.override,
        author=author,
        sequence=former.sequence + 1 if former is not None else 0,
        responsible=former.responsible
        if former is not None and former.pair == planned.pair and not former.released
        else None,
    )


def _given_up(former: Reservation, kept: Collection[str]) -> tuple[Slot, ...]:
    """The slots that `former` held, or had given up before, and whose ids are not among `kept`."""
    return tuple(slot for slot in (*former.slots, *former.cancelled) if slot.id not in kept)
