"""Reserve, change, release: the one place that writes to the calendar.

A write is: read the agenda, check, one conditional write marked as ours, read it back, sync, check once more. If somebody
else's event came in between and conflicts, the write is taken back, and the answer is the conflict. A condition that fails
because somebody else wrote first is looked at anew: the same reservation by another hand is a success, all else is not.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from calsync import deliveries, events
from calsync.agenda import Agenda, Entry, Follower, expected_entry
from calsync.conflicts import Alternative, Conflict, alternatives, blocking, check
from calsync.deliveries import Delivery
from calsync.errors import Changed, Conflicted, Invalid, NotReserved, Refused, ReservedByAnother, Unreachable
from calsync.planning import Pair, Plan, plan
from calsync.records import Reservation
from calsync.settings import Config
from calsync.weeks import Week
from calsync.windows import Slot
from calsync.writes import ATTEMPTS, Overtaken, put, trying

_MEND = "mend or remove {href} on the calendar (calsync doctor says what is wrong with it), then reserve the week anew."


@dataclass(frozen=True, slots=True)
class Request:
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
    holder: Entry | None

    @property
    def warnings(self) -> tuple[Conflict, ...]:
        """The conflicts that do not block."""
        return tuple(conflict for conflict in self.conflicts if not conflict.blocking)


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


def inspect(config: Config, agenda: Agenda, request: Request, now: datetime) -> Check:
    """Plan the request and check it against the agenda; writes nothing. Raises `Invalid` as `plan` does."""
    planned = plan(config, request.pair, request.week, now)
    if not agenda.covers(planned.slots[0].start, planned.slots[-1].end):
        raise Invalid(
            f"{planned.week} is outside the calendar's horizon, which ends on {agenda.horizon.end:%Y-%m-%d}; "
            "choose a nearer week, or set calendar.horizon.future."
        )
    own = events.href(planned.week)
    conflicts = check(config, agenda, planned.slots, planned.conductors, own=own, pair=planned.pair)
    # Whoever accepts the conflicts looks for no other place.
    wanted = () if request.override else conflicts
    free = alternatives(config, agenda, planned, wanted, planned.conductors, now=now, own=own)
    entry = agenda.reservation(planned.week)
    holder = entry if entry is not None and not (entry.reservation and entry.reservation.released) else None
    return Check(planned, conflicts, free, holder)


def reserve(
    follower: Follower, request: Request, now: datetime, *, author: str | None = None, dry_run: bool = False
) -> Outcome:
    """Reserve the week for the pair, whole or not at all, durably once this returns.

    The very same reservation again is a success that writes nothing. Raises `Invalid`, `Conflicted` (with alternatives),
    `ReservedByAnother`, and the calendar's errors; nothing stands on the calendar for any of them.
    """
    mark = uuid.uuid4().hex
    replaced: Entry | None = None

    def attempt() -> Outcome:
        nonlocal replaced
        agenda = follower.sync(now)
        found = inspect(follower.config, agenda, request, now)
        if found.holder is not None and found.holder.mark == mark and found.holder.reservation is not None:
            # An earlier attempt of this call put it there, and the answer was lost.
            _settle(follower, found.holder.reservation, found.holder, replaced, now)
            return Outcome(found.holder.reservation, found.holder.etag, True, found.plan.skipped, found.conflicts)
        if found.holder is not None:
            return _held(follower.config, found, request, agenda)
        entry = replaced = agenda.reservation(found.plan.week)
        former = entry.reservation if entry is not None else None
        reservation = _reservation(follower.config, found.plan, request, now, author, former)
        _refuse(found, request.override)
        if dry_run:
            return Outcome(reservation, "", skipped=found.plan.skipped, warnings=found.conflicts)
        written = _write(follower, reservation, entry, now, mark)
        return Outcome(reservation, written.etag, True, found.plan.skipped, found.conflicts)

    return trying(follower, attempt)


def _refuse(found: Check, override: str | None) -> None:
    blocked = blocking(found.conflicts)
    if blocked and not override:
        count = "A conflict stands" if len(blocked) == 1 else f"{len(blocked)} conflicts stand"
        raise Conflicted(
            f"{count} in the way of {found.plan.week}: {blocked[0].message}", found.conflicts, found.alternatives
        )


def _held(config: Config, found: Check, request: Request, agenda: Agenda) -> Outcome:
    """The answer where the week is held already: the very same reservation, or a refusal."""
    assert found.holder is not None  # the caller has looked
    week, standing = found.plan.week, found.holder.reservation
    if standing is None:
        conflict = Conflict("reserved", True, None, f"{week} is reserved, but its reservation cannot be read.")
        raise ReservedByAnother(f"{conflict.message[:-1]}; {_MEND.format(href=found.holder.href)}", [conflict])
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
    conflicts = check(config, agenda, standing.slots, standing.on_duty, own=found.holder.href, pair=standing.pair)
    return Outcome(standing, found.holder.etag, False, found.plan.skipped, conflicts, found.holder.changes)


def _reserved(standing: Reservation, week: Week, whose: str) -> Conflict:
    return Conflict("reserved", True, standing.slots[0].id if standing.slots else None, f"{week} is reserved for {whose}.")


def change(
    follower: Follower,
    week: Week,
    asked: Callable[[Reservation], Request],
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
        agenda = follower.sync(now)
        entry, standing = held(agenda, week, etags)
        request = replace(asked(standing), week=week)
        found = inspect(follower.config, agenda, request, now)
        reservation = _reservation(follower.config, found.plan, request, now, author, standing)
        # Slots may stand elsewhere than planned: people move them.
        ahead = [slot for slot in reservation.slots if slot.end > now]
        conflicts = check(follower.config, agenda, ahead, reservation.on_duty, own=entry.href, pair=reservation.pair)
        found = replace(found, conflicts=conflicts)
        if _same(reservation, standing):
            return Outcome(standing, entry.etag, False, found.plan.skipped, found.conflicts, entry.changes)
        _refuse(found, request.override)
        if dry_run:
            return Outcome(reservation, entry.etag, False, found.plan.skipped, found.conflicts)
        written = _write(follower, reservation, entry, now)
        return Outcome(reservation, written.etag, False, found.plan.skipped, found.conflicts)

    return trying(follower, attempt)


def _same(reservation: Reservation, standing: Reservation) -> bool:
    return standing == replace(reservation, modified=standing.modified, sequence=standing.sequence, author=standing.author)


def release(
    follower: Follower,
    week: Week,
    now: datetime,
    *,
    etags: Collection[str] | None = None,
    author: str | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Give the week up: its slots that are not over are cancelled, and subscribers see that they are.

    A week that is released already stays as it is. Raises `NotReserved`, `Changed`, and the calendar's errors.
    """

    def attempt() -> Outcome:
        agenda = follower.sync(now)
        entry = agenda.reservation(week)
        if etags is None and entry is not None and entry.reservation is not None and entry.reservation.released:
            return Outcome(entry.reservation, entry.etag)
        entry, standing = held(agenda, week, etags)
        released = replace(
            standing,
            slots=tuple(slot for slot in standing.slots if slot.end <= now),
            cancelled=_given_up(standing, {slot.id for slot in standing.slots if slot.end <= now}),
            modified=_stamp(now),
            sequence=standing.sequence + 1,
            author=author,
            released=True,
        )
        if dry_run:
            return Outcome(released, entry.etag)
        return Outcome(released, store(follower, released, entry, now).etag)

    return trying(follower, attempt)


def held(agenda: Agenda, week: Week, etags: Collection[str] | None) -> tuple[Entry, Reservation]:
    """The week's standing reservation; `NotReserved` if there is none, `Changed` if `etags` are given and it has none."""
    entry = agenda.reservation(week)
    if entry is not None and entry.reservation is None:
        raise NotReserved(f"{week} is held by a reservation that cannot be read; {_MEND.format(href=entry.href)}")
    if entry is None or entry.reservation is None or entry.reservation.released:
        raise NotReserved(f"{week} is not reserved.")
    if etags is not None and entry.etag not in etags:
        raise Changed(f"The reservation of {week} was changed since you read it; read it again.")
    return entry, entry.reservation


def _reservation(
    config: Config, planned: Plan, request: Request, now: datetime, author: str | None, former: Reservation | None
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
        same = former.pair == planned.pair
        slots |= {slot.id: slot if same else replace(slot, who=former.names(slot)) for slot in over}
    return Reservation(
        week=planned.week,
        title=config.train.title,
        pair=planned.pair,
        primary=planned.primary,
        backup=planned.backup,
        slots=tuple(sorted(slots.values(), key=lambda slot: (slot.start, slot.window))),
        cancelled=_given_up(former, slots) if former is not None else (),
        modified=_stamp(now),
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


def _stamp(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0)


def _write(
    follower: Follower, reservation: Reservation, former: Entry | None, now: datetime, mark: str | None = None
) -> Entry:
    """Put the reservation in the place of `former`, look again, and take it back if something came in between.

    Raises `Overtaken` if somebody wrote first, `Lost` if the write was lost, and `Conflicted` once it is taken back. A
    calendar that goes away after the write leaves it standing: asking again finds it, as the very same reservation.
    """
    entry = store(follower, reservation, former, now, mark=mark)
    _settle(follower, reservation, entry, former, now)
    return entry


def _settle(follower: Follower, reservation: Reservation, entry: Entry, former: Entry | None, now: datetime) -> None:
    """Take the write that stands as `entry` back if something came in between, and raise `Conflicted` then."""
    ahead = [slot for slot in reservation.slots if slot.end > now]
    agenda, pair = follower.agenda, reservation.pair
    after = check(follower.config, agenda, ahead, reservation.on_duty, own=entry.href, pair=pair)
    if not blocking(after) or reservation.override:
        return
    message = f"Somebody else was quicker, and the reservation was taken back: {blocking(after)[0].message}"
    if not _take_back(follower, entry, former, now):
        message = f"Somebody else changed {reservation.week} meanwhile, and it conflicts: {blocking(after)[0].message}"
    raise Conflicted(message, after)


def store(
    follower: Follower,
    reservation: Reservation,
    former: Entry | None,
    now: datetime,
    more: Sequence[Delivery] = (),
    mark: str | None = None,
) -> Entry:
    """Put the reservation in the place of `former`, with `more` deliveries on it; what stands then is that, or it raises.

    `mark` is by which the caller knows its write again.

    Raises `Overtaken`, `Lost`, and the calendar's errors; `Refused` where the calendar keeps it otherwise, once it is taken
    back.
    """
    href, mark = events.href(reservation.week), mark or uuid.uuid4().hex
    ics = events.encode(follower.config, reservation, mark, former.ics if former is not None else b"")
    if more:
        known = former.deliveries if former is not None else ()
        ics = deliveries.write(ics, deliveries.merged(known, more, now))
    expected = None if former is not None or more else expected_entry(reservation, mark, ics, follower.agenda.horizon)
    entry = put(follower, href, ics, former, now, lambda found: found.mark == mark, expected=expected)
    standing = entry.reservation
    if standing is not None and _same(standing, reservation) and not entry.changes:
        return entry
    if standing is not None and (standing.sequence, standing.modified) != (reservation.sequence, reservation.modified):
        raise Overtaken(f"Somebody changed {href} as soon as it was written.")
    _take_back(follower, entry, former, now, untold=more)
    how = " ".join(entry.changes or entry.reading.defects) or "its text is another."
    raise Refused(f"The calendar does not keep {href} as it was written, so it was taken back: {how}")


def attach(follower: Follower, entry: Entry, more: Sequence[Delivery], now: datetime) -> Entry:
    """Put `more` deliveries onto the week of `entry`, whose reservation and mark stay; read back like `store`."""
    ics = deliveries.write(entry.ics, deliveries.merged(entry.deliveries, more, now))
    return put(follower, entry.href, ics, entry, now, lambda found: set(more) <= set(found.deliveries))


def _take_back(
    follower: Follower, entry: Entry, former: Entry | None, now: datetime, *, untold: Sequence[Delivery] = ()
) -> bool:
    """Undo the write that stands as `entry`; False where somebody else has changed it meanwhile.

    What was sent meanwhile stays sent; `untold` deliveries came with the write, and go with it. An answer that is lost is
    looked for; a calendar that stays away raises `Unreachable`, and leaves the write standing.
    """
    before = former.reservation if former is not None else None
    for _ in range(ATTEMPTS):
        try:
            if before is None:
                follower.calendar.delete(entry.href, etag=entry.etag)
            else:
                # What people put on it since the write is kept, and subscribers see that it was changed once more.
                again = replace(before, sequence=before.sequence + 2, modified=max(before.modified, _stamp(now)))
                restored = events.encode(follower.config, again, uuid.uuid4().hex, entry.ics)
                if untold:
                    restored = deliveries.write(restored, [one for one in entry.deliveries if one not in untold])
                follower.calendar.put(entry.href, restored, etag=entry.etag)
        except Changed:
            standing = follower.sync(now).entries.get(entry.href)
            # Whoever settled a message has changed nothing that stands in the way.
            if standing is None or standing.mark != entry.mark or standing.deliveries == entry.deliveries:
                return False
            entry = standing
            continue
        except Unreachable:
            pass  # it may be undone all the same
        standing = follower.sync(now).entries.get(entry.href)
        if standing is None or standing.mark != entry.mark:
            return True
        entry = standing
    raise Unreachable(f"{entry.href} conflicts with what came in between and is not taken back yet; release the week.")
