"""Who is away when, and who could cover for them.

Somebody conducts a slot and watches over it for `conflicts.watch_after` behind its end. Whoever is away in that time, by an
absence on the calendar or by their own busy feed, cannot. A feed that cannot be read says nothing, which is never "free".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from calsync.agenda import Agenda
from calsync.occurrences import Occurrence
from calsync.planning import Conductor, Pair, clock_spans, conductor
from calsync.settings import Config
from calsync.windows import Slot

_DAY = timedelta(days=1)
_OWN = re.compile(r".*@calsync|train-\d{4}-W\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Absence:
    """Somebody's absence from `start` to `end` (aware). One that is not `certain` may take place in that time."""

    uid: str
    start: datetime
    end: datetime
    note: str | None = None
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Cover:
    """Somebody who could conduct instead, and why they of all people."""

    name: str
    reason: str


def absences(agenda: Agenda, who: Conductor, start: datetime, end: datetime) -> Iterator[Absence]:
    """Their absences that overlap the span from `start` to `end` (aware): on the calendar, then those of their feed."""
    for away, occurrence in agenda.away.get(who.name, ()):
        if not _is_near(occurrence, start, end):
            continue
        begin, finish = occurrence.span(away.timezone)
        if begin < end and start < finish:
            yield Absence(occurrence.uid, begin, finish, away.note, occurrence.certain)
    busy = agenda.busy.get(who.name)
    for occurrence in busy.occurrences if busy else ():
        if not _is_near(occurrence, start, end):
            continue
        begin, finish = occurrence.span(who.timezone)
        # A calendar into which the slots themselves were put says nothing against them.
        if occurrence.busy and begin < end and start < finish and not _OWN.fullmatch(occurrence.uid):
            yield Absence(occurrence.uid, begin, finish, None, occurrence.certain)


def _is_near(occurrence: Occurrence, start: datetime, end: datetime) -> bool:
    """Whether it can overlap the span, wherever its clock stands: a quick look before the exact one."""
    begin, finish = occurrence.start, occurrence.end
    if begin.tzinfo is None:
        begin, finish = begin.replace(tzinfo=UTC) - _DAY, finish.replace(tzinfo=UTC) + _DAY
    return begin < end and start < finish


def watched(config: Config, slot: Slot) -> tuple[datetime, datetime]:
    """From when until when whoever conducts the slot has to be there (aware)."""
    return slot.start, slot.end + config.conflicts.watch_after


def unknown(agenda: Agenda, who: Conductor) -> str | None:
    """Why it is not known when they are away; None where it is."""
    busy = agenda.busy.get(who.name)
    return busy.unknown if busy else None


def is_free(config: Config, agenda: Agenda, who: Conductor, slot: Slot) -> bool:
    """Whether nothing says, or may hide, that they are away during the slot or soon after it."""
    return unknown(agenda, who) is None and not any(absences(agenda, who, *watched(config, slot)))


def cover(config: Config, agenda: Agenda, slot: Slot, absent: Conductor, pair: Pair | None) -> tuple[Cover, ...]:
    """Who could conduct the slot instead: the partner if they are free, or else those of the roster whose hours fit."""
    partner = None
    if pair is not None and absent.name in (pair.primary.name, pair.backup.name):
        partner = pair.backup if absent.name == pair.primary.name else pair.primary
    if partner is not None and is_free(config, agenda, partner, slot):
        fits = "lies in" if partner.works(slot.start, slot.end) else "is outside"
        where = f"{clock_spans([slot], partner.timezone)} {fits} {partner.hours} {partner.timezone}"
        return (Cover(partner.name, f"{partner.name} is the partner and not away; {where}"),)
    found = []
    for entry in config.conductors:
        who = conductor(config, entry.name)
        taken = (absent.name, partner.name if partner else absent.name)
        if entry.name not in taken and who.works(slot.start, slot.end) and is_free(config, agenda, who, slot):
            spans = clock_spans([slot], who.timezone)
            found.append(Cover(who.name, f"{who.name} is not away, and {spans} lies in {who.hours} {who.timezone}"))
    return tuple(found)
