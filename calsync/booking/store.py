"""A week's reservation onto the calendar, whole or not at all: written, read back, checked once more, or taken back.

A check before a write cannot see what another process writes a moment later, so the agenda is looked at again after it. If
somebody else's event came in between and conflicts, the write is taken back.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from calsync.core.conflict import Conflicted, blocking
from calsync.core.delivery import Delivery, merge_deliveries
from calsync.core.errors import CalendarError, Changed, Refused, Unreachable
from calsync.core.reservation import Reservation
from calsync.core.timezones import utc_seconds
from calsync.ical.delivery import write_deliveries
from calsync.ical.reservation import encode_reservation, reservation_href
from calsync.schedule.conflicts import conflicts_of
from calsync.schedule.objects import CalendarObject
from calsync.schedule.sync import CalendarSync

ATTEMPTS = 8
"""How often a write is tried anew when the resource changed under it without standing in its way, or it was lost."""

T = TypeVar("T")


class Overtaken(Changed):
    """Somebody else wrote first; looking anew shows what it means."""


class Lost(Unreachable):
    """The answer to a write was lost, and the write with it."""


def store(
    sync: CalendarSync,
    reservation: Reservation,
    former: CalendarObject | None,
    now: datetime,
    more: Sequence[Delivery] = (),
    mark: str | None = None,
) -> CalendarObject:
    """Put the reservation in the place of `former`, with `more` deliveries on it; what stands then is that, or it raises.

    `mark` is by which the caller knows its write again.

    Raises `Overtaken`, `Lost`, and the calendar's errors; `Refused` where the calendar keeps it otherwise, once it is taken
    back.
    """
    href, mark = reservation_href(reservation.week), mark or uuid.uuid4().hex
    earlier = former.deliveries if former is not None else ()
    deliveries = merge_deliveries(earlier, more, now) if more else None
    entry = put(
        sync, href, _encoded(sync, reservation, mark, former, deliveries), former, now, lambda found: found.mark == mark
    )
    standing = entry.reservation
    if standing is not None and is_same(standing, reservation) and not entry.changes:
        return entry
    if standing is not None and (standing.sequence, standing.modified) != (reservation.sequence, reservation.modified):
        raise Overtaken(f"Somebody changed {href} as soon as it was written.")
    _take_back(sync, entry, former, now, untold=more)
    how = " ".join(entry.changes or entry.reading.defects) or "its text is another."
    raise Refused(f"The calendar does not keep {href} as it was written, so it was taken back: {how}")


def look_again(
    sync: CalendarSync, reservation: Reservation, entry: CalendarObject, former: CalendarObject | None, now: datetime
) -> None:
    """Take the write that stands as `entry` back if something came in between, and raise `Conflicted` then.

    A calendar that goes away after the write leaves it standing: asking again finds it, as the very same reservation.
    """
    after = conflicts_of(sync.agenda, reservation, reservation.ahead(now))
    if not blocking(after) or reservation.override:
        return
    message = f"Somebody else was quicker, and the reservation was taken back: {blocking(after)[0].message}"
    if not _take_back(sync, entry, former, now):
        message = f"Somebody else changed {reservation.week} meanwhile, and it conflicts: {blocking(after)[0].message}"
    raise Conflicted(message, after)


def attach(sync: CalendarSync, entry: CalendarObject, more: Sequence[Delivery], now: datetime) -> CalendarObject:
    """Put `more` deliveries onto the week of `entry`, whose reservation and mark stay; read back like `store`."""
    ics = write_deliveries(entry.ics, merge_deliveries(entry.deliveries, more, now))
    return put(sync, entry.href, ics, entry, now, lambda found: set(more) <= set(found.deliveries))


def _take_back(
    sync: CalendarSync,
    entry: CalendarObject,
    former: CalendarObject | None,
    now: datetime,
    *,
    untold: Sequence[Delivery] = (),
) -> bool:
    """Undo the write that stands as `entry`; False where somebody else has changed it meanwhile.

    What was sent meanwhile stays sent; `untold` deliveries came with the write, and are what they were before, or go with
    it. An answer that is lost is looked for; a calendar that stays away raises `Unreachable`, and leaves it standing.
    """
    before = former.reservation if former is not None else None
    known = {one.id: one for one in former.deliveries} if former is not None else {}
    for _ in range(ATTEMPTS):
        try:
            if before is None:
                sync.calendar.delete(entry.href, etag=entry.etag)
            else:
                # What people put on it since the write is kept, and subscribers see that it was changed once more.
                again = replace(before, sequence=before.sequence + 2, modified=max(before.modified, utc_seconds(now)))
                kept = [known.get(one.id) if one in untold else one for one in entry.deliveries]
                deliveries = [one for one in kept if one is not None] if untold else None
                sync.calendar.put(entry.href, _encoded(sync, again, uuid.uuid4().hex, entry, deliveries), etag=entry.etag)
        except Changed:
            standing = sync.refresh(now).objects.get(entry.href)
            # Whoever settled a message has changed nothing that stands in the way.
            if standing is None or standing.mark != entry.mark or standing.deliveries == entry.deliveries:
                return False
            entry = standing
            continue
        except Unreachable:
            pass  # it may be undone all the same
        standing = sync.refresh(now).objects.get(entry.href)
        if standing is None or standing.mark != entry.mark:
            return True
        entry = standing
    raise Unreachable(f"{entry.href} conflicts with what came in between and is not taken back yet; release the week.")


def _encoded(
    sync: CalendarSync,
    reservation: Reservation,
    mark: str,
    former: CalendarObject | None,
    deliveries: Sequence[Delivery] | None,
) -> bytes:
    """Encode the reservation in the place of `former`; see `encode_reservation`."""
    if former is None:
        return encode_reservation(sync.config, reservation, mark, deliveries=deliveries)
    return encode_reservation(sync.config, reservation, mark, former.ics, former.written, deliveries)


def is_same(reservation: Reservation, standing: Reservation) -> bool:
    """Whether they are one reservation, whoever wrote it when."""
    return standing == replace(reservation, modified=standing.modified, sequence=standing.sequence, author=standing.author)


def trying(sync: CalendarSync, attempt: Callable[[], T], *, attempts: int = ATTEMPTS) -> T:
    """Try, from reading on, until nobody else came first and no answer was lost; not more often than `attempts`."""
    failed: CalendarError
    with sync.turn():
        for _ in range(attempts):
            try:
                return attempt()
            except (Overtaken, Lost) as error:
                failed = error
    raise failed


def put(
    sync: CalendarSync,
    href: str,
    ics: bytes,
    former: CalendarObject | None,
    now: datetime,
    stands: Callable[[CalendarObject], bool],
) -> CalendarObject:
    """Put the resource in the place of `former` and read it back; the entry of which `stands` says that it is this write.

    Raises `Overtaken` if somebody wrote first, `Lost` if the
    write was lost, `Refused` where the calendar took it and has it not, and `Unreachable` where nobody can tell.
    """
    lost: Unreachable | None = None
    try:
        sync.calendar.put(href, ics, etag=former.etag if former is not None else None)
    except Changed as error:
        raise Overtaken(str(error)) from error
    except Unreachable as error:
        lost = error
    try:
        entry = sync.refresh(now).objects.get(href)
    except CalendarError as error:
        name = href.removesuffix(".ics")
        raise Unreachable(
            f"The calendar went away while {name} was written; it stands as asked or as before, so ask again.",
            getattr(error, "retry_after", 30),
        ) from error
    if entry is not None and stands(entry):
        return entry
    if lost is not None:
        raise Lost(str(lost), lost.retry_after) from lost
    if entry is None or (former is not None and entry.etag == former.etag):
        raise Refused(f"The calendar took {href} and does not have it: it lost it, or somebody removed it at once.")
    raise Overtaken(f"{href} was overwritten by somebody else.")
