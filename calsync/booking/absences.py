"""Putting an absence on the calendar, taking it away again, and who is away by the calendar and by people's own busy feeds.

The same absence has the same place on the calendar, so that telling it twice changes nothing, whoever tells it. One that
people moved from there counts where it is, and what is told anew stands beside it. One that is taken away is rewritten as
cancelled, as servers with a trash bin refuse a deleted UID's return.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from itertools import count

from calsync.booking.store import put, trying
from calsync.core.absence import AbsenceRecord
from calsync.core.conductors import Conductor
from calsync.core.errors import Invalid, NotAway
from calsync.core.text import SENTENCE, check_line
from calsync.core.timezones import midnight
from calsync.core.weeks import FIRST_YEAR, LAST_YEAR
from calsync.ical.absence import absence_href, encode_absence
from calsync.schedule.absences import (
    AbsenceView,
    conflicts_by_absence,
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
    """Write down that somebody is away from `start` to `end`: two dates, both included, or two aware instants.

    Instants count in whole seconds. Raises `Invalid` for somebody nobody knows, for spans that make no sense and for a note
    that is no line, and the calendar's errors.
    """
    if isinstance(start, datetime) and isinstance(end, datetime):
        start, end = start.replace(microsecond=0), end.replace(microsecond=0)

    check_line("note", note, SENTENCE)

    def attempt() -> AbsenceView:
        agenda = sync.refresh(now)
        person = known_person(agenda, who)
        _check_span(agenda, person, start, end, now)
        name, found = _place(agenda, who, start, end)
        stands = found is not None and span_of_absence(found) is not None
        if found is not None and found.away is not None and found.away.note == note and stands:
            return view_of_absence(sync.config, conflicts_by_absence(agenda, now), found)
        record = AbsenceRecord(who, person.timezone, note, author)
        ics = encode_absence(record, name, start, end, now)

        def is_this(entry: CalendarObject) -> bool:
            return entry.away == record and span_of_absence(entry) == (start, end)

        written = put(sync, absence_href(name), ics, found, now, is_this)
        against = conflicts_by_absence(sync.agenda, now)
        return view_of_absence(sync.config, against, written, created=not stands)

    return trying(sync, attempt)


def remove_absence(sync: CalendarSync, name: str, now: datetime) -> None:
    """Take the absence called `name` away; `NotAway` where there is none."""

    def attempt() -> None:
        entry = sync.refresh(now).objects.get(absence_href(name))
        span = span_of_absence(entry) if entry is not None else None
        if entry is None or entry.away is None or span is None:
            raise NotAway(f'There is no absence called "{name[:60]}"; GET /api/away and calsync away list them.')
        ics = encode_absence(entry.away, name, *span, now, cancelled=True)
        put(sync, entry.href, ics, entry, now, lambda found: found.away is None)

    trying(sync, attempt)


def _name(who: str, start: date, end: date) -> str:
    digest = hashlib.sha256("\n".join([who, start.isoformat(), end.isoformat()]).encode()).hexdigest()[:10]
    return f"{start:%Y%m%d}-{digest}"


def _check_span(agenda: Agenda, who: Conductor, start: date, end: date, now: datetime) -> None:
    if isinstance(start, datetime) != isinstance(end, datetime):
        raise Invalid("Give start and end in the same form: two dates, or two times with their offsets.")
    if not FIRST_YEAR <= min(start.year, end.year) <= max(start.year, end.year) <= LAST_YEAR:
        raise Invalid(f"Choose days of {FIRST_YEAR} to {LAST_YEAR}, for which clock changes are known.")
    if end < start:
        raise Invalid("end is before start; swap them.")
    if end == start and isinstance(start, datetime):
        raise Invalid("end is the same as start; choose a later end.")
    if end - start > LONGEST:
        raise Invalid(f"An absence has at most {LONGEST.days} days; write a longer one as several.")
    if isinstance(start, datetime) and isinstance(end, datetime):
        first, last = start, end
    else:
        first, last = midnight(start, who.timezone), midnight(end + timedelta(days=1), who.timezone)
    if last <= now:
        raise Invalid("This absence is over already.")
    if last.astimezone(UTC) > agenda.horizon.end or first.astimezone(UTC) < agenda.horizon.start:
        raise Invalid(
            f"The absence is outside the calendar's horizon, which ends on {agenda.horizon.end:%Y-%m-%d}; "
            "write it down when it is nearer."
        )


def _place(agenda: Agenda, who: str, start: date, end: date) -> tuple[str, CalendarObject | None]:
    """The name of the absence, and what stands there: the very same one, or nothing that is one."""
    first = _name(who, start, end)
    for n in count(1):
        name = first if n == 1 else f"{first}-{n}"
        entry = agenda.objects.get(absence_href(name))
        if entry is None or span_of_absence(entry) in (None, (start, end)):
            break
    return name, entry
