"""Add absences to the calendar, and remove them.

An absence's name is derived from who is away and when, so adding it twice changes nothing. If people move it in their
calendar, it counts where it is, and adding the original again makes a second one. Removing an absence rewrites it as
cancelled, because servers with a trash bin refuse the UID of a deleted resource.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from itertools import count

from calsync.booking.store import put, retry_write
from calsync.core.absence import AbsenceRecord
from calsync.core.conductors import Conductor
from calsync.core.errors import Invalid, NotAway
from calsync.core.text import SENTENCE, check_line
from calsync.core.timezones import midnight
from calsync.core.weeks import FIRST_YEAR, LAST_YEAR
from calsync.ical.absence import absence_href, encode_absence
from calsync.schedule.absences import (
    AbsenceView,
    absence_conflicts,
    known_person,
    span_of_absence,
    view_of_absence,
)
from calsync.schedule.agenda import Agenda
from calsync.schedule.objects import CalendarObject
from calsync.schedule.sync import CalendarSync

LONGEST = timedelta(days=366)


def add_absence(
    sync: CalendarSync,
    who: str,
    start: date,
    end: date,
    now: datetime,
    *,
    note: str | None = None,
    author: str | None = None,
) -> AbsenceView:
    """Add an absence of `who` from `start` to `end`: two dates, both included, or two aware datetimes in whole seconds.

    Raises `Invalid` for an unknown person, an invalid span or a note that is not a line, and the calendar's errors.
    """
    if isinstance(start, datetime) and isinstance(end, datetime):
        start, end = start.replace(microsecond=0), end.replace(microsecond=0)

    check_line("note", note, SENTENCE)

    def attempt() -> AbsenceView:
        agenda = sync.refresh(now)
        person = known_person(agenda, who)
        _check_span(agenda, person, start, end, now)
        name, stored = _find_place(agenda, who, start, end)
        exists = stored is not None and span_of_absence(stored) is not None
        if exists and stored is not None and stored.absence is not None and stored.absence.note == note:
            return view_of_absence(sync.config, absence_conflicts(agenda, now), stored)
        record = AbsenceRecord(who, person.timezone, note, author)
        ics = encode_absence(record, name, start, end, now)

        def is_this_write(written: CalendarObject) -> bool:
            return written.absence == record and span_of_absence(written) == (start, end)

        written = put(sync, absence_href(name), ics, stored, now, is_this_write)
        return view_of_absence(sync.config, absence_conflicts(sync.agenda, now), written, created=not exists)

    return retry_write(sync, attempt)


def remove_absence(sync: CalendarSync, name: str, now: datetime) -> None:
    """Remove the absence called `name`; raises `NotAway` if there is none, and the calendar's errors."""

    def attempt() -> None:
        stored = sync.refresh(now).objects.get(absence_href(name))
        span = span_of_absence(stored) if stored is not None else None
        if stored is None or stored.absence is None or span is None:
            raise NotAway(f'There is no absence called "{name[:60]}"; GET /api/away and calsync away list them.')
        ics = encode_absence(stored.absence, name, *span, now, cancelled=True)
        put(sync, stored.href, ics, stored, now, lambda written: written.absence is None)

    retry_write(sync, attempt)


def _name(who: str, start: date, end: date) -> str:
    digest = hashlib.sha256("\n".join([who, start.isoformat(), end.isoformat()]).encode()).hexdigest()[:10]
    return f"{start:%Y%m%d}-{digest}"


def _check_span(agenda: Agenda, who: Conductor, start: date, end: date, now: datetime) -> None:
    if isinstance(start, datetime) != isinstance(end, datetime):
        raise Invalid("Give start and end in the same form: two dates, or two times with their offsets.")
    if not FIRST_YEAR <= min(start.year, end.year) <= max(start.year, end.year) <= LAST_YEAR:
        raise Invalid(f"Choose days from {FIRST_YEAR} to {LAST_YEAR}; clock changes are known for these years only.")
    if end < start:
        raise Invalid("end is before start; swap them.")
    if end == start and isinstance(start, datetime):
        raise Invalid("end is the same as start; choose a later end.")
    if end - start > LONGEST:
        raise Invalid(f"An absence may last at most {LONGEST.days} days; add a longer one as several.")
    if isinstance(start, datetime) and isinstance(end, datetime):
        first, last = start, end
    else:
        first, last = midnight(start, who.timezone), midnight(end + timedelta(days=1), who.timezone)
    if last <= now:
        raise Invalid("This absence is over already.")
    if last.astimezone(UTC) > agenda.horizon.end or first.astimezone(UTC) < agenda.horizon.start:
        raise Invalid(
            f"The absence is outside the calendar's horizon, which ends on {agenda.horizon.end:%Y-%m-%d}; "
            "add it when it is nearer."
        )


def _find_place(agenda: Agenda, who: str, start: date, end: date) -> tuple[str, CalendarObject | None]:
    """Return a name for the absence, and what is stored under it: the same absence, a cancelled one, or nothing."""
    first = _name(who, start, end)
    for n in count(1):
        name = first if n == 1 else f"{first}-{n}"
        stored = agenda.objects.get(absence_href(name))
        if stored is None or span_of_absence(stored) in (None, (start, end)):
            break
    return name, stored
