"""Who is away, by the calendar and by people's own busy feeds, and which reserved slots that concerns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal

from calsync.core.absence import AbsenceRecord
from calsync.core.conductors import Conductor, conductor
from calsync.core.conflict import Conflict
from calsync.core.errors import Invalid
from calsync.core.settings import Config
from calsync.core.timezones import midnight, zone
from calsync.core.windows import Slot
from calsync.ical.absence import absence_name
from calsync.schedule.agenda import Agenda
from calsync.schedule.availability import absences, watched
from calsync.schedule.conflicts import conflicts_of_reservations
from calsync.schedule.objects import CalendarObject

Source = Literal["calendar", "feed"]
"""What says that somebody is away: an absence on the Deployments calendar, or their own busy feed."""


@dataclass(frozen=True, slots=True)
class AbsenceView:
    """An absence as it stands: `all_day` ones from one date to another, both included.

    One of a busy feed has no `name` by which it could be taken away, and no `etag`. `conflicts` are those that it makes
    with slots that are reserved and not over, with who could cover.
    """

    name: str | None
    away: AbsenceRecord
    start: date
    end: date
    all_day: bool
    etag: str | None = None
    created: bool = False
    conflicts: tuple[Conflict, ...] = ()

    @property
    def source(self) -> Source:
        """What says so."""
        return "calendar" if self.name is not None else "feed"


def list_absences(agenda: Agenda, after: datetime) -> list[AbsenceView]:
    """The absences that end after `after` (aware), by start: each on the calendar, and what of people's own feeds counts.

    That is what they call busy during a reserved slot of theirs that is not over, or soon after it.
    """
    against = conflicts_by_absence(agenda, after)
    found = list(_of_feeds(agenda, against, after))
    for entry in agenda.managed.values():
        if entry.away is None or not entry.reading.occurrences:
            continue
        if max(one.span(entry.away.timezone)[1] for one in entry.reading.occurrences) > after:
            found.append(view_of_absence(agenda.config, against, entry))
    return sorted(found, key=lambda one: (_begin(one), one.away.conductor, one.name or ""))


def unknown_absences(agenda: Agenda, after: datetime, who: str | None = None) -> tuple[str, ...]:
    """A sentence for everybody, or for `who`, of whom it is not known whether they are away after `after` (aware).

    Either their busy feed cannot be relied upon, or something that cannot be read in full may concern a slot of theirs.
    """
    found = {name: busy.unknown for name, busy in agenda.busy.items() if busy.unknown is not None}
    ahead = (
        (slot, person)
        for entry in agenda.reservations
        if entry.reservation is not None and not entry.reservation.released
        for slot in entry.reservation.slots
        if slot.end > after
        for person in entry.reservation.on_duty(slot)
    )
    for slot, person in ahead:
        near = [one.certain for one in absences(agenda, person, *watched(agenda.config, slot))]
        if near and not any(near):
            found.setdefault(person.name, f"what says so around {slot.id} cannot be read in full, or ends before")
    return tuple(f"Whether {name} is away is not known: {why}." for name, why in found.items() if who in (None, name))


def known_person(agenda: Agenda, who: str) -> Conductor:
    """The person of that name: one of the roster, or of a pair on the calendar."""
    if who in agenda.config.roster:
        return conductor(agenda.config, who)
    for entry in reversed(agenda.reservations):
        pair = entry.reservation.pair if entry.reservation else None
        for person in (pair.primary, pair.backup) if pair else ():
            if person.name == who and who not in ("primary", "backup"):
                return person
    names = ", ".join(agenda.config.roster) or "nobody"
    raise Invalid(
        f'"{who[:60]}" is neither in the roster ({names}) nor in the pair of any week; add them as [[conductors]].'
    )


def span_of_absence(entry: CalendarObject) -> tuple[date, date] | None:
    """From when until when the absence is, as `absent` takes it; None where there is none, or none any more."""
    if entry.away is None or not entry.reading.occurrences:
        return None
    first, last = entry.reading.occurrences[0], entry.reading.occurrences[-1]
    if first.start.tzinfo is None:
        return first.start.date(), (last.end - timedelta(days=1)).date()
    tz = zone(entry.away.timezone)
    return first.start.astimezone(tz), last.end.astimezone(tz)


def _begin(found: AbsenceView) -> datetime:
    return found.start if isinstance(found.start, datetime) else midnight(found.start, found.away.timezone)


SlotConflict = tuple[Slot, Conductor, Conflict]
"""A reserved slot, who of those on duty there is away, and the conflict that this is."""


def conflicts_by_absence(agenda: Agenda, after: datetime) -> list[SlotConflict]:
    """What stands against the reserved slots that end after `after` (aware) because somebody is away."""
    found = []
    for reservation, conflicts in conflicts_of_reservations(agenda, after):
        slots = {slot.id: slot for slot in reservation.slots}
        for conflict in conflicts:
            slot = slots.get(conflict.slot or "")
            on_duty = reservation.on_duty(slot) if slot is not None else ()
            found += [(slot, who, conflict) for who in on_duty if slot is not None and who.name == conflict.absent]
    return found


def _hit(
    config: Config, against: Iterable[SlotConflict], name: str, spans: Sequence[tuple[datetime, datetime]]
) -> tuple[Conflict, ...]:
    """Those conflicts about somebody's being away that are about these spans of it."""

    def touches(slot: Slot) -> bool:
        start, end = watched(config, slot)
        return any(begin < end and start < finish for begin, finish in spans)

    return tuple(conflict for slot, who, conflict in against if who.name == name and touches(slot))


def _of_feeds(agenda: Agenda, against: Iterable[SlotConflict], after: datetime) -> Iterator[AbsenceView]:
    """What people's own feeds call busy in or soon after those slots, each span once."""
    spans = {
        (one.start, one.end, who.name, who.timezone)
        for slot, who, _ in against
        for one in absences(agenda, who, *watched(agenda.config, slot))
        if one.uid is None and one.certain and one.end > after
    }
    for begin, finish, name, timezone in spans:
        start, end = (edge.astimezone(zone(timezone)) for edge in (begin, finish))
        shown: tuple[date, date] = (start, end)
        all_day = start.time() == end.time() == time()
        if all_day:
            shown = (start.date(), end.date() - timedelta(days=1))
        conflicts = _hit(agenda.config, against, name, [(begin, finish)])
        yield AbsenceView(None, AbsenceRecord(name, timezone), *shown, all_day, conflicts=conflicts)


def view_of_absence(
    config: Config, against: Iterable[SlotConflict], entry: CalendarObject, *, created: bool = False
) -> AbsenceView:
    """Return the view of an absence on the calendar; `against` are the conflicts of all reserved slots."""
    name, span = absence_name(entry.href), span_of_absence(entry)
    assert entry.away is not None  # the caller's choice of entry
    assert name is not None
    assert span is not None
    spans = [one.span(entry.away.timezone) for one in entry.reading.occurrences]
    conflicts = _hit(config, against, entry.away.conductor, spans)
    return AbsenceView(name, entry.away, *span, not isinstance(span[0], datetime), entry.etag, created, conflicts)
