"""One conditional write to the calendar, read back: what every change of a week or an absence goes through.

What a calendar says of a write is not believed. One that said yes must have on it what was written, and where the answer
was lost, or said no in a way that may mean yes, reading tells: by a mark, or by what it was to say, a write is known again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from calsync.entries import Entry
from calsync.errors import CalendarError, Changed, Refused, Unreachable
from calsync.follower import Follower

ATTEMPTS = 8
"""How often a write is tried anew when the resource changed under it without standing in its way, or it was lost."""

T = TypeVar("T")


class Overtaken(Changed):
    """Somebody else wrote first; looking anew shows what it means."""


class Lost(Unreachable):
    """The answer to a write was lost, and the write with it."""


def trying(follower: Follower, attempt: Callable[[], T], *, attempts: int = ATTEMPTS) -> T:
    """Try, from reading on, until nobody else came first and no answer was lost; not more often than `attempts`."""
    failed: CalendarError
    with follower.turn():
        for _ in range(attempts):
            try:
                return attempt()
            except (Overtaken, Lost) as error:
                failed = error
    raise failed


def put(
    follower: Follower,
    href: str,
    ics: bytes,
    former: Entry | None,
    now: datetime,
    stands: Callable[[Entry], bool],
    *,
    expected: Entry | None = None,
) -> Entry:
    """Put the resource in the place of `former` and read it back; the entry of which `stands` says that it is this write.

    `expected` is what reading it comes to, where that is known. Raises `Overtaken` if somebody wrote first, `Lost` if the
    write was lost, `Refused` where the calendar took it and has it not, and `Unreachable` where nobody can tell.
    """
    lost: Unreachable | None = None
    try:
        follower.calendar.put(href, ics, etag=former.etag if former is not None else None)
    except Changed as error:
        raise Overtaken(str(error)) from error
    except Unreachable as error:
        lost = error
    try:
        entry = follower.sync(now, expected).entries.get(href)
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
