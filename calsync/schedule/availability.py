"""Who is away when, and who could cover for them.

Somebody conducts a slot, and watches over it for `conflicts.watch_after` afterwards. An absence on the calendar or in their
own busy feed keeps them from it. A feed that cannot be read leaves their availability unknown, never "free".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from calsync.core.conductors import Conductor, Pair, conductor
from calsync.core.conflict import Cover
from calsync.core.planning import clock_spans
from calsync.core.settings import Config
from calsync.core.windows import Slot
from calsync.schedule.agenda import Agenda
from calsync.schedule.diary import Diary


@dataclass(frozen=True, slots=True)
class Absence:
    """Somebody's absence from `start` to `end` (aware)."""

    uid: str | None
    """The UID of the event on the calendar; None for a busy feed, which is private."""
    start: datetime
    end: datetime
    note: str | None = None
    certain: bool = True
    """False if the absence cannot be read in full, and may take place at any time from `start` to `end`."""


def absences(agenda: Agenda, who: Conductor, start: datetime, end: datetime, *, feed: bool = True) -> Iterator[Absence]:
    """Yield their absences that overlap the span from `start` to `end` (aware): on the calendar, then from their feed.

    An absence without a length does not count, and neither do times of the feed that are shorter than
    `conflicts.shortest_busy`. Without `feed`, only the calendar counts.
    """
    diary, busy = agenda.absences.get(who.name), agenda.busy.get(who.name) if feed else None
    for occurrence, record in diary.near(start, end) if diary else ():
        begin, finish = occurrence.span(record.timezone if record else who.timezone)
        if begin < end and start < finish and occurrence.start != occurrence.end:
            yield Absence(occurrence.uid, begin, finish, record.note if record else None, occurrence.certain)
    for absence in _busy_times(busy.diary, who, agenda.config.conflicts.shortest_busy, start, end) if busy else ():
        if absence.start < end and start < absence.end:
            yield absence


def _busy_times(diary: Diary, who: Conductor, shortest: timedelta, start: datetime, end: datetime) -> Iterator[Absence]:
    """Yield what their own feed says around the span; meetings without a break between them count as one.

    A time that is not `certain` may be longer than it can be read, so it always counts.
    """
    near = [(*occurrence.span(who.timezone), occurrence) for occurrence, _ in diary.near(start - shortest, end + shortest)]
    unbroken: list[Absence] = []
    until = None
    for begin, finish, occurrence in sorted(near, key=lambda spanned: spanned[:2]):
        if occurrence.start == occurrence.end:
            continue
        absence = Absence(None, begin, finish, certain=occurrence.certain)
        if not absence.certain:
            yield absence
            continue
        if until is not None and begin > until:
            yield from unbroken if until - unbroken[0].start >= shortest else ()
            unbroken, until = [], None
        unbroken.append(absence)
        until = finish if until is None else max(until, finish)
    if until is not None and until - unbroken[0].start >= shortest:
        yield from unbroken


def watch_span(config: Config, slot: Slot) -> tuple[datetime, datetime]:
    """Return the span (aware) in which whoever conducts the slot must be available."""
    return slot.start, slot.end + config.conflicts.watch_after


def why_unknown(agenda: Agenda, who: Conductor) -> str | None:
    """Return why their busy feed cannot be relied on; None if it can, or if they have none."""
    busy = agenda.busy.get(who.name)
    return busy.unknown if busy else None


def is_free(agenda: Agenda, who: Conductor, slot: Slot) -> bool:
    """Return whether they are available during the slot and while it is watched; False if that is not certain."""
    return why_unknown(agenda, who) is None and not any(absences(agenda, who, *watch_span(agenda.config, slot)))


def find_cover(agenda: Agenda, slot: Slot, absent: Conductor, pair: Pair | None) -> tuple[Cover, ...]:
    """Return who could conduct the slot instead: the partner if free, otherwise those of the roster whose hours fit."""
    partner = None
    if pair is not None and absent.name in (pair.primary.name, pair.backup.name):
        partner = pair.backup if absent.name == pair.primary.name else pair.primary
    if partner is not None and is_free(agenda, partner, slot):
        where = f"{clock_spans([slot], partner.timezone)} {partner.hours_text(slot.start, slot.end)}"
        return (Cover(partner.name, f"{partner.name} is the partner and not away; {where}"),)
    excluded = {absent.name, *([partner.name] if partner else [])}
    cover = []
    for who in (conductor(agenda.config, entry.name) for entry in agenda.config.conductors):
        if who.name not in excluded and who.works(slot.start, slot.end) and is_free(agenda, who, slot):
            spans = clock_spans([slot], who.timezone)
            cover.append(Cover(who.name, f"{who.name} is not away, and {spans} {who.hours_text(slot.start, slot.end)}"))
    return tuple(cover)
