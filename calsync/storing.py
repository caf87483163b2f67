"""A week's reservation onto the calendar, whole or not at all: written, read back, checked once more, or taken back.

A check before a write cannot see what another process writes a moment later, so the agenda is looked at again after it. If
somebody else's event came in between and conflicts, the write is taken back.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from calsync import deliveries, events
from calsync.conflicts import blocking, check
from calsync.deliveries import Delivery
from calsync.entries import Entry, expected_entry
from calsync.errors import Changed, Conflicted, Refused, Unreachable
from calsync.follower import Follower
from calsync.records import Reservation
from calsync.writes import ATTEMPTS, Overtaken, put
from calsync.zones import stamp


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
    if standing is not None and same(standing, reservation) and not entry.changes:
        return entry
    if standing is not None and (standing.sequence, standing.modified) != (reservation.sequence, reservation.modified):
        raise Overtaken(f"Somebody changed {href} as soon as it was written.")
    _take_back(follower, entry, former, now, untold=more)
    how = " ".join(entry.changes or entry.reading.defects) or "its text is another."
    raise Refused(f"The calendar does not keep {href} as it was written, so it was taken back: {how}")


def look_again(follower: Follower, reservation: Reservation, entry: Entry, former: Entry | None, now: datetime) -> None:
    """Take the write that stands as `entry` back if something came in between, and raise `Conflicted` then.

    A calendar that goes away after the write leaves it standing: asking again finds it, as the very same reservation.
    """
    ahead = [slot for slot in reservation.slots if slot.end > now]
    agenda, pair = follower.agenda, reservation.pair
    after = check(follower.config, agenda, ahead, reservation.on_duty, own=entry.href, pair=pair)
    if not blocking(after) or reservation.override:
        return
    message = f"Somebody else was quicker, and the reservation was taken back: {blocking(after)[0].message}"
    if not _take_back(follower, entry, former, now):
        message = f"Somebody else changed {reservation.week} meanwhile, and it conflicts: {blocking(after)[0].message}"
    raise Conflicted(message, after)


def attach(follower: Follower, entry: Entry, more: Sequence[Delivery], now: datetime) -> Entry:
    """Put `more` deliveries onto the week of `entry`, whose reservation and mark stay; read back like `store`."""
    ics = deliveries.write(entry.ics, deliveries.merged(entry.deliveries, more, now))
    return put(follower, entry.href, ics, entry, now, lambda found: set(more) <= set(found.deliveries))


def _take_back(
    follower: Follower, entry: Entry, former: Entry | None, now: datetime, *, untold: Sequence[Delivery] = ()
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
                follower.calendar.delete(entry.href, etag=entry.etag)
            else:
                # What people put on it since the write is kept, and subscribers see that it was changed once more.
                again = replace(before, sequence=before.sequence + 2, modified=max(before.modified, stamp(now)))
                restored = events.encode(follower.config, again, uuid.uuid4().hex, entry.ics)
                if untold:
                    kept = [known.get(one.id) if one in untold else one for one in entry.deliveries]
                    restored = deliveries.write(restored, [one for one in kept if one is not None])
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


def same(reservation: Reservation, standing: Reservation) -> bool:
    """Whether they are one reservation, whoever wrote it when."""
    return standing == replace(reservation, modified=standing.modified, sequence=standing.sequence, author=standing.author)
