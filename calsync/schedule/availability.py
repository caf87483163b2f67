"""Who is away when, and who could cover for them.

Somebody conducts a slot and watches over it for `conflicts.watch_after` behind its end. Whoever is away in that time, by an
absence on the calendar or by their own busy feed, cannot. A feed that cannot be read says nothing, which is never "free".
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
    """Somebody's absence from `start` to `end` (aware). One that is not `certain` may take place in that time.

    `uid` is that of the event on the calendar; what stands in somebody's own feed is private, and has None.
    """

    uid: str | None
    start: datetime
    end: datetime
    note: str | None = None
    certain: bool = True


def absences(agenda: Agenda, who: Conductor, start: datetime, end: datetime, *, feed: bool = True) -> Iterator[Absence]:
    """Their absences that overlap the span from `start` to `end` (aware): on the calendar, then those of their `feed`.

    What has no length is none, and neither is what the feed calls busy for less than `conflicts.shortest_busy`.
    """
    written, busy = agenda.away.get(who.name), agenda.busy.get(who.name) if feed else None
    for occurrence, away in written.near(start, end) if written else ():
        begin, finish = occurrence.span(away.timezone if away else who.timezone)
        if begin < end and start < finish and occurrence.start != occurrence.end:
            yield Absence(occurrence.uid, begin, finish, away.note if away else None, occurrence.certain)
    for one in _busy(busy.diary, who, agenda.config.conflicts.shortest_busy, start, end) if busy else ():
        if one.start < end and start < one.end:
            yield one


def _busy(diary: Diary, who: Conductor, shortest: timedelta, start: datetime, end: datetime) -> Iterator[Absence]:
    """What their own feed says around the span; meetings without a break between them are as long as all of them.

    What is not `certain` may be longer than can be read, and so always counts.
    """
    near = [(*occurrence.span(who.timezone), occurrence) for occurrence, _ in diary.near(start - shortest, end + shortest)]
    unbroken: list[Absence] = []
    until = None
    for begin, finish, occurrence in sorted(near, key=lambda found: found[:2]):
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


def watched(config: Config, slot: Slot) -> tuple[datetime, datetime]:
    """From when until when whoever conducts the slot has to be there (aware)."""
    return slot.start, slot.end + config.conflicts.watch_after


def unknown(agenda: Agenda, who: Conductor) -> str | None:
    """Why it is not known when they are away; None where it is."""
    busy = agenda.busy.get(who.name)
    return busy.unknown if busy else None


def is_free(agenda: Agenda, who: Conductor, slot: Slot) -> bool:
    """Whether nothing says, or may hide, that they are away during the slot or soon after it."""
    return unknown(agenda, who) is None and not any(absences(agenda, who, *watched(agenda.config, slot)))


def find_cover(agenda: Agenda, slot: Slot, absent: Conductor, pair: Pair | None) -> tuple[Cover, ...]:
    """Who could conduct the slot instead: the partner if they are free, or else those of the roster whose hours fit."""
    partner = None
    if pair is not None and absent.name in (pair.primary.name, pair.backup.name):
        partner = pair.backup if absent.name == pair.primary.name else pair.primary
    if partner is not None and is_free(agenda, partner, slot):
        where = f"{clock_spans([slot], partner.timezone)} {partner.hours_text(slot.start, slot.end)}"
        return (Cover(partner.name, f"{partner.name} is the partner and not away; {where}"),)
    found = []
    for entry in agenda.config.conductors:
        who = conductor(agenda.config, entry.name)
        taken = (absent.name, partner.name if partner else absent.name)
        if entry.name not in taken and who.works(slot.start, slot.end) and is_free(agenda, who, slot):
            spans = clock_spans([slot], who.timezone)
            found.append(Cover(who.name, f"{who.name} is not away, and {spans} {who.hours_text(slot.start, slot.end)}"))
    return tuple(found)
