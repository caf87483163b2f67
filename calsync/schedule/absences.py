"""List who is away, by the calendar and by people's own busy feeds, and which reserved slots that affects."""

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
from calsync.schedule.availability import absences, watch_span
from calsync.schedule.conflicts import conflicts_of_reservations
from calsync.schedule.objects import CalendarObject

Source = Literal["calendar", "feed"]
"""Where an absence comes from: the Deployments calendar, or somebody's own busy feed."""
AbsenceConflict = tuple[Slot, Conductor, Conflict]
"""A reserved slot, the conductor on duty there who is away, and the conflict about it."""


@dataclass(frozen=True, slots=True)
class AbsenceView:
    """An absence as it is listed."""

    name: str | None
    """The name by which it can be removed; None if it comes from a busy feed."""
    record: AbsenceRecord
    start: date
    end: date
    """Dates, both included, if the absence is `all_day`; otherwise aware instants."""
    all_day: bool
    etag: str | None = None
    created: bool = False
    """Whether this call added it."""
    conflicts: tuple[Conflict, ...] = ()
    """Its conflicts with reserved slots that are not over."""

    @property
    def source(self) -> Source:
        """Where it comes from."""
        return "calendar" if self.name is not None else "feed"


def list_absences(agenda: Agenda, after: datetime) -> list[AbsenceView]:
    """Return the absences that end after `after` (aware), by start: those on the calendar, and those of busy feeds.

    Of a busy feed, only the times within or soon after a reserved slot of its owner count, if that slot is not over.
    """
    conflicts = absence_conflicts(agenda, after)
    views = list(_absences_of_feeds(agenda, conflicts, after))
    for stored in agenda.managed.values():
        if stored.absence is None or not stored.reading.occurrences:
            continue
        if max(occurrence.span(stored.absence.timezone)[1] for occurrence in stored.reading.occurrences) > after:
            views.append(view_of_absence(agenda.config, conflicts, stored))
    return sorted(views, key=lambda view: (_begin(view), view.record.conductor, view.name or ""))


def unknown_absences(agenda: Agenda, after: datetime, who: str | None = None) -> tuple[str, ...]:
    """Return a sentence for everybody, or for `who` alone, whose availability after `after` (aware) is unknown.

    Either their busy feed cannot be relied on, or something that cannot be read in full may affect a slot of theirs.
    """
    reasons = {name: busy.unknown for name, busy in agenda.busy.items() if busy.unknown is not None}
    ahead = (
        (slot, person)
        for _, reservation in agenda.reserved
        for slot in reservation.ahead(after)
        for person in reservation.on_duty(slot)
    )
    for slot, person in ahead:
        certain = [absence.certain for absence in absences(agenda, person, *watch_span(agenda.config, slot))]
        if certain and not any(certain):
            reasons.setdefault(person.name, f"an event near {slot.id} cannot be read in full, or their feed ends earlier")
    return tuple(
        f"Cannot tell whether {name} is away: {reason}." for name, reason in reasons.items() if who in (None, name)
    )


def known_person(agenda: Agenda, who: str) -> Conductor:
    """Return the person of that name, from the roster or from a pair on the calendar; `Invalid` if there is none."""
    if who in agenda.config.roster:
        return conductor(agenda.config, who)
    for stored in reversed(agenda.reservations):
        pair = stored.reservation.pair if stored.reservation else None
        for person in (pair.primary, pair.backup) if pair else ():
            if person.name == who and who not in ("primary", "backup"):
                return person
    names = ", ".join(agenda.config.roster) or "nobody"
    raise Invalid(
        f'"{who[:60]}" is neither in the roster ({names}) nor in the pair of any week; add them as [[conductors]].'
    )


def span_of_absence(stored: CalendarObject) -> tuple[date, date] | None:
    """Return start and end of an absence as `AbsenceView` has them; None if the object is not an absence (any more)."""
    if stored.absence is None or not stored.reading.occurrences:
        return None
    first, last = stored.reading.occurrences[0], stored.reading.occurrences[-1]
    if first.start.tzinfo is None:
        return first.start.date(), (last.end - timedelta(days=1)).date()
    tz = zone(stored.absence.timezone)
    return first.start.astimezone(tz), last.end.astimezone(tz)


def absence_conflicts(agenda: Agenda, after: datetime) -> list[AbsenceConflict]:
    """Return the conflicts of reserved slots that end after `after` (aware) because somebody is away."""
    because_away: list[AbsenceConflict] = []
    for reservation, conflicts in conflicts_of_reservations(agenda, after):
        slots = {slot.id: slot for slot in reservation.slots}
        for conflict in conflicts:
            slot = slots.get(conflict.slot or "")
            if slot is not None:
                on_duty = reservation.on_duty(slot)
                because_away += ((slot, who, conflict) for who in on_duty if who.name == conflict.absent)
    return because_away


def view_of_absence(
    config: Config, conflicts: Iterable[AbsenceConflict], stored: CalendarObject, *, created: bool = False
) -> AbsenceView:
    """Return the view of an absence on the calendar; `conflicts` are those of all absences."""
    name, span = absence_name(stored.href), span_of_absence(stored)
    assert stored.absence is not None  # the caller's choice of object
    assert name is not None
    assert span is not None
    spans = [occurrence.span(stored.absence.timezone) for occurrence in stored.reading.occurrences]
    own = _conflicts_of_absence(config, conflicts, stored.absence.conductor, spans)
    return AbsenceView(name, stored.absence, *span, not isinstance(span[0], datetime), stored.etag, created, own)


def _absences_of_feeds(agenda: Agenda, conflicts: Iterable[AbsenceConflict], after: datetime) -> Iterator[AbsenceView]:
    """Yield the times of busy feeds that make these conflicts, each once."""
    spans = {
        (absence.start, absence.end, who.name, who.timezone)
        for slot, who, _ in conflicts
        for absence in absences(agenda, who, *watch_span(agenda.config, slot))
        if absence.uid is None and absence.certain and absence.end > after
    }
    for begin, finish, name, timezone in spans:
        start, end = (edge.astimezone(zone(timezone)) for edge in (begin, finish))
        shown: tuple[date, date] = (start, end)
        all_day = start.time() == end.time() == time()
        if all_day:
            shown = (start.date(), end.date() - timedelta(days=1))
        own = _conflicts_of_absence(agenda.config, conflicts, name, [(begin, finish)])
        yield AbsenceView(None, AbsenceRecord(name, timezone), *shown, all_day, conflicts=own)


def _conflicts_of_absence(
    config: Config, conflicts: Iterable[AbsenceConflict], name: str, spans: Sequence[tuple[datetime, datetime]]
) -> tuple[Conflict, ...]:
    """Return those conflicts of `name` whose slot is watched during one of these spans."""

    def is_affected(slot: Slot) -> bool:
        start, end = watch_span(config, slot)
        return any(begin < end and start < finish for begin, finish in spans)

    return tuple(conflict for slot, who, conflict in conflicts if who.name == name and is_affected(slot))


def _begin(view: AbsenceView) -> datetime:
    return view.start if isinstance(view.start, datetime) else midnight(view.start, view.record.timezone)
