"""The one conditional write: put, read back, look again, take back.

A write is never trusted until it has been read back (`put`). A check before a write cannot see what another process writes
a moment later. So a reservation is checked again after the write (`look_again`), and the write is taken back if something
that conflicts came in between.
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
from calsync.core.settings import Config
from calsync.core.timezones import utc_seconds
from calsync.ical.delivery import write_deliveries
from calsync.ical.reservation import encode_reservation, reservation_href
from calsync.schedule.conflicts import conflicts_of
from calsync.schedule.objects import CalendarObject
from calsync.schedule.sync import CalendarSync

ATTEMPTS = 8
"""The maximum number of attempts at a write that is overtaken or lost."""

T = TypeVar("T")


class Overtaken(Changed):
    """Somebody else wrote first. Read again to see what that means."""


class Lost(Unreachable):
    """The answer to a write was lost, and so was the write."""


def retry_write(sync: CalendarSync, attempt: Callable[[], T], *, attempts: int = ATTEMPTS) -> T:
    """Return the result of `attempt`, which reads and writes; call it again while it raises `Overtaken` or `Lost`.

    One writer of this process at a time. After `attempts` calls the last error is raised.
    """
    failed: CalendarError
    with sync.turn():
        for _ in range(attempts):
            try:
                return attempt()
            except (Overtaken, Lost) as error:
                failed = error
    raise failed


def put_reservation(
    sync: CalendarSync,
    reservation: Reservation,
    replaced: CalendarObject | None,
    now: datetime,
    deliveries: Sequence[Delivery] = (),
    mark: str | None = None,
) -> CalendarObject:
    """Write the reservation in place of `replaced`, with new or changed `deliveries`, and return the stored week.

    A caller that has to recognise its write later chooses the `mark`. Raises what `put` raises. If the calendar stores
    something else, the write is taken back, and `Refused` is raised.
    """
    href, mark = reservation_href(reservation.week), mark or uuid.uuid4().hex
    earlier = replaced.deliveries if replaced is not None else ()
    merged = merge_deliveries(earlier, deliveries, now) if deliveries else None
    ics = _encode(sync.config, reservation, mark, replaced, merged)
    stored = put(sync, href, ics, replaced, now, lambda written: written.mark == mark)
    current = stored.reservation
    if current is not None and is_same(current, reservation) and not stored.changes:
        return stored
    if current is not None and (current.sequence, current.modified) != (reservation.sequence, reservation.modified):
        raise Overtaken(f"Somebody changed {href} right after calsync wrote it.")
    _take_back(sync, stored, replaced, now, added=deliveries)
    how = " ".join(stored.changes or stored.reading.defects) or "its text differs."
    raise Refused(f"The calendar does not keep {href} as it was written, so calsync took the write back: {how}")


def put_deliveries(
    sync: CalendarSync, week: CalendarObject, deliveries: Sequence[Delivery], now: datetime
) -> CalendarObject:
    """Write new or changed `deliveries` onto a week, and return it as stored; its reservation and mark stay the same.

    Raises what `put` raises.
    """
    ics = write_deliveries(week.ics, merge_deliveries(week.deliveries, deliveries, now))
    return put(sync, week.href, ics, week, now, lambda written: set(deliveries) <= set(written.deliveries))


def put(
    sync: CalendarSync,
    href: str,
    ics: bytes,
    replaced: CalendarObject | None,
    now: datetime,
    is_this_write: Callable[[CalendarObject], bool],
) -> CalendarObject:
    """Write the resource in place of `replaced` (None creates it), read it back, and return what is stored.

    `is_this_write` recognises the write when it is read back. Raises `Overtaken` if somebody else wrote first, `Lost` if
    neither an answer nor the write arrived, `Refused` if the server accepted the write and does not have it, and
    `Unreachable` if the calendar went away before the write was read back.
    """
    lost: Unreachable | None = None
    try:
        sync.calendar.put(href, ics, etag=replaced.etag if replaced is not None else None)
    except Changed as error:
        raise Overtaken(str(error)) from error
    except Unreachable as error:
        lost = error
    try:
        stored = sync.refresh(now).objects.get(href)
    except CalendarError as error:
        name = href.removesuffix(".ics")
        raise Unreachable(
            f"The calendar went away while calsync wrote {name}, so {name} is as before or as requested; ask again.",
            getattr(error, "retry_after", 30),
        ) from error
    if stored is not None and is_this_write(stored):
        return stored
    if lost is not None:
        raise Lost(str(lost), lost.retry_after) from lost
    if stored is None or (replaced is not None and stored.etag == replaced.etag):
        raise Refused(
            f"The server accepted {href}, but the write is missing on read-back: "
            "the server lost it, or someone undid it concurrently."
        )
    raise Overtaken(f"{href} was overwritten by somebody else.")


def look_again(sync: CalendarSync, stored: CalendarObject, replaced: CalendarObject | None, now: datetime) -> None:
    """Check a stored reservation again; if something that blocks it came in between, take the write back.

    Raises `Conflicted` then. If the calendar goes away first, the reservation stays, and the same request finds it.
    """
    assert stored.reservation is not None  # as `put_reservation` returned it
    conflicts = conflicts_of(sync.agenda, stored.reservation, stored.reservation.ahead(now))
    blocked = blocking(conflicts)
    if not blocked or stored.reservation.override:
        return
    if _take_back(sync, stored, replaced, now):
        message = f"Somebody else was faster, so the reservation was taken back: {blocked[0].message}"
    else:
        message = f"Somebody else has changed {stored.reservation.week}, and it conflicts: {blocked[0].message}"
    raise Conflicted(message, conflicts)


def _take_back(
    sync: CalendarSync,
    stored: CalendarObject,
    replaced: CalendarObject | None,
    now: datetime,
    *,
    added: Sequence[Delivery] = (),
) -> bool:
    """Undo a write of this process; return False if somebody else has changed the reservation since.

    The deliveries that the write `added` become what they were before, or are removed. Others stay: what was sent since
    stays sent. Raises `Unreachable` if the calendar goes away; the write then stays.
    """
    former = replaced.reservation if replaced is not None else None
    earlier = {delivery.id: delivery for delivery in replaced.deliveries} if replaced is not None else {}
    for _ in range(ATTEMPTS):
        overtaken = False
        try:
            if former is None:
                sync.calendar.delete(stored.href, etag=stored.etag)
            else:
                # What people did since the write is kept. The sequence moves on, so subscribers see one more change.
                restored = replace(former, sequence=former.sequence + 2, modified=max(former.modified, utc_seconds(now)))
                kept = [earlier.get(delivery.id) if delivery in added else delivery for delivery in stored.deliveries]
                deliveries = [delivery for delivery in kept if delivery is not None] if added else None
                ics = _encode(sync.config, restored, uuid.uuid4().hex, stored, deliveries)
                sync.calendar.put(stored.href, ics, etag=stored.etag)
        except Changed:
            overtaken = True
        except Unreachable:
            pass  # it may be undone nevertheless
        current = sync.refresh(now).objects.get(stored.href)
        if current is None or current.mark != stored.mark:
            return not overtaken
        if overtaken and current.deliveries == stored.deliveries:
            return False  # it was not the outcome of a message that changed it
        stored = current
    raise Unreachable(f"calsync could not take {stored.href} back, so it is still on the calendar; release the week.")


def _encode(
    config: Config,
    reservation: Reservation,
    mark: str,
    replaced: CalendarObject | None,
    deliveries: Sequence[Delivery] | None,
) -> bytes:
    if replaced is None:
        return encode_reservation(config, reservation, mark, deliveries=deliveries)
    return encode_reservation(config, reservation, mark, replaced.ics, replaced.written, deliveries)


def is_same(reservation: Reservation, other: Reservation) -> bool:
    """Return whether two reservations are the same but for who wrote them and when."""
    return other == replace(reservation, modified=other.modified, sequence=other.sequence, author=other.author)
