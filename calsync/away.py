"""Absences: who is away, and when, as an event on the Deployments calendar or as a person's own busy feed says.

An absence is a VEVENT of its own, `away-….ics`, which people may move or remove like any other; its times count as they
stand. It is TRANSPARENT, since somebody's absence keeps nobody else from deploying. Who is meant stands in
`X-CALSYNC-AWAY`, base64url of JSON, a plain token that no server rewrites.
"""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import accumulate

from icalendar import Calendar, Event

from calsync.contentlines import vcalendar
from calsync.occurrences import Occurrence
from calsync.zones import stamp, zone

RECORD = "X-CALSYNC-AWAY"

_PREFIX, _SUFFIX = "away-", ".ics"
_DAY = timedelta(days=1)
_OWN = re.compile(r".*@calsync|train-\d{4}-W\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Away:
    """Whose absence a resource is. All-day ones are seen in `timezone`; `author` is who wrote it down."""

    conductor: str
    timezone: str
    note: str | None = None
    author: str | None = None


class Diary:
    """When somebody is away: occurrences, each with the absence it is of, or None where a busy feed says so."""

    def __init__(self, absences: Iterable[tuple[Occurrence, Away | None]] = ()) -> None:
        self._absences = sorted(absences, key=lambda absence: _widest(absence[0])[0])
        spans = [_widest(occurrence) for occurrence, _ in self._absences]
        self._starts = [start for start, _ in spans]
        self._ends = list(accumulate((end for _, end in spans), max))

    def near(self, start: datetime, end: datetime) -> Iterator[tuple[Occurrence, Away | None]]:
        """Those that may overlap the span from `start` to `end` (aware), wherever their clocks stand; and perhaps more."""
        last = bisect_left(self._starts, end)
        while last > 0 and self._ends[last - 1] > start:  # the latest end of all that started before
            last -= 1
            yield self._absences[last]


def _widest(occurrence: Occurrence) -> tuple[datetime, datetime]:
    start, end = occurrence.start, occurrence.end
    if start.tzinfo is None:
        return start.replace(tzinfo=UTC) - _DAY, end.replace(tzinfo=UTC) + _DAY
    return start, end


@dataclass(frozen=True)
class Busy:
    """What a person's own feed says: its `occurrences`, and why it cannot be relied upon, if it cannot."""

    occurrences: tuple[Occurrence, ...] = ()
    unknown: str | None = None

    @cached_property
    def diary(self) -> Diary:
        """When the feed says that they are away; slots that were put into it say nothing against themselves."""
        return Diary((one, None) for one in self.occurrences if one.busy and not _OWN.fullmatch(one.uid))


def href(name: str) -> str:
    """Where the absence called `name` stands on the calendar."""
    return f"{_PREFIX}{name}{_SUFFIX}"


def name_of(href: str) -> str | None:
    """The name of the absence at `href`; None for what is none."""
    if href.startswith(_PREFIX) and href.endswith(_SUFFIX):
        return href.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return None


def encode(away: Away, name: str, start: date, end: date, now: datetime, *, cancelled: bool = False) -> bytes:
    """The absence as a resource (CRLF lines). Dates are both included; instants are aware; `start` is not after `end`.

    One that is `cancelled` is none any more.
    """
    event = Event()
    event.add("UID", f"{_PREFIX}{name}")
    event.add("DTSTAMP", stamp(now))
    event.add("LAST-MODIFIED", stamp(now))
    if isinstance(start, datetime) and isinstance(end, datetime):
        event.add("DTSTART", start.astimezone(UTC))
        event.add("DTEND", end.astimezone(UTC))
    else:
        event.add("DTSTART", start)
        event.add("DTEND", end + timedelta(days=1))  # RFC 5545, section 3.6.1: the end is not included
    event.add("SUMMARY", f"{away.conductor} is away")
    if away.note:
        event.add("DESCRIPTION", away.note)
    event.add("CATEGORIES", ["away"])
    event.add("TRANSP", "TRANSPARENT")
    if cancelled:
        event.add("STATUS", "CANCELLED")
    record = {
        "version": 1,
        "conductor": away.conductor,
        "timezone": away.timezone,
        "note": away.note,
        "author": away.author,
    }
    event.add(RECORD, base64.urlsafe_b64encode(json.dumps(record, separators=(",", ":")).encode()).decode())
    return vcalendar(event.to_ical())


def decode(ics: bytes) -> Away | None:
    """Whose absence the resource is; None where it is none, was cancelled, or can be read no more."""
    try:
        calendar = Calendar.from_ical(ics)
        events = calendar.events if isinstance(calendar, Calendar) else []
        event = next(event for event in events if RECORD in event)
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            return None
        record = json.loads(base64.urlsafe_b64decode(str(event[RECORD])))
        zone(record["timezone"])
        return Away(str(record["conductor"]), record["timezone"], record.get("note"), record.get("author"))
    except Exception:  # it stood where anybody may write; what cannot be read is shown like any event
        return None
