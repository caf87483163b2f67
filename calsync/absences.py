"""Putting an absence on the calendar, taking it away again, and who is away by the calendar and by people's own busy feeds.

The same absence has the same place on the calendar, so that telling it twice changes nothing, whoever tells it. One that
people moved from there counts where it is, and what is told anew stands beside it. One that is taken away is rewritten as
cancelled, as servers with a trash bin refuse a deleted UID's return.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from typing import Literal

from calsync import away
from calsync.agenda import Agenda
from calsync.away import Away
from calsync.conflicts import Conflict, standing
from calsync.cover import absences, watched
from calsync.entries import Entry
from calsync.errors import Invalid, NotAway
from calsync.follower import Follower
from calsync.planning import Conductor, conductor
from calsync.settings import Config
from calsync.texts import SENTENCE, check_line
from calsync.weeks import FIRST_YEAR, LAST_YEAR
from calsync.windows import Slot
from calsync.writes import put, trying
from calsync.zones import resolve, zone

LONGEST = timedelta(days=366)

Source = Literal["calendar", "feed"]
"""What says that somebody is away: an absence on the Deployments calendar, or their own busy feed."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An absence as it stands: `all_day` ones from one date to another, both included.

    One of a busy feed has no `name` by which it could be taken away, and no `etag`. `conflicts` are those that it makes
    with slots that are reserved and not over, with who could cover.
    """

    name: str | None
    away: Away
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


def absent(
    follower: Follower,
    who: str,
    start: date,
    end: date,
    now: datetime,
    *,
    note: str | None = None,
    author: str | None = None,
) -> Standing:
    """Write down that somebody is away from `start` to `end`: two dates, both included, or two aware instants.

    Instants count in whole seconds. Raises `Invalid` for somebody nobody knows, for spans that make no sense and for a note
    that is no line, and the calendar's errors.
    """
    if isinstance(start, datetime) and isinstance(end, datetime):
        start, end = start.replace(microsecond=0), end.replace(microsecond=0)

    check_line("note", note, SENTENCE)

    def attempt() -> Standing:
        agenda = follower.sync(now)
        person = known(follower.config, agenda, who)
        _check_span(agenda, person, start, end, now)
        name, found = _place(agenda, who, start, end)
        stands = found is not None and _span(found) is not None
        if found is not None and found.away is not None and found.away.note == note and stands:
            return _standing(follower.config, _against(follower.config, agenda, now), found)
        record = Away(who, person.timezone, note, author)
        ics = away.encode(record, name, start, end, now)

        def is_this(entry: Entry) -> bool:
            return entry.away == record and _span(entry) == (start, end)

        written = put(follower, away.href(name), ics, found, now, is_this)
        against = _against(follower.config, follower.agenda, now)
        return _standing(follower.config, against, written, created=not stands)

    return trying(follower, attempt)


def present(follower: Follower, name: str, now: datetime) -> None:
    """Take the absence called `name` away; `NotAway` where there is none."""

    def attempt() -> None:
        entry = follower.sync(now).entries.get(away.href(name))
        span = _span(entry) if entry is not None else None
        if entry is None or entry.away is None or span is None:
            raise NotAway(f'There is no absence called "{name[:60]}"; GET /api/away and calsync away list them.')
        ics = away.encode(entry.away, name, *span, now, cancelled=True)
        put(follower, entry.href, ics, entry, now, lambda found: found.away is None)

    trying(follower, attempt)


def listed(config: Config, agenda: Agenda, after: datetime) -> list[Standing]:
    """The absences that end after `after` (aware), by start: each on the calendar, and what of people's own feeds counts.

    That is what they call busy during a reserved slot of theirs that is not over, or soon after it.
    """
    against = _against(config, agenda, after)
    found = list(_of_feeds(config, agenda, against, after))
    for entry in agenda.special.values():
        if entry.away is None or not entry.reading.occurrences:
            continue
        if max(one.span(entry.away.timezone)[1] for one in entry.reading.occurrences) > after:
            found.append(_standing(config, against, entry))
    return sorted(found, key=lambda one: (_begin(one), one.away.conductor, one.name or ""))


def doubts(config: Config, agenda: Agenda, after: datetime, who: str | None = None) -> tuple[str, ...]:
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
        near = [one.certain for one in absences(config, agenda, person, *watched(config, slot))]
        if near and not any(near):
            found.setdefault(person.name, f"what says so around {slot.id} cannot be read in full, or ends before")
    return tuple(f"Whether {name} is away is not known: {why}." for name, why in found.items() if who in (None, name))


def known(config: Config, agenda: Agenda, who: str) -> Conductor:
    """The person of that name: one of the roster, or of a pair on the calendar."""
    if who in config.roster:
        return conductor(config, who)
    for entry in reversed(agenda.reservations):
        pair = entry.reservation.pair if entry.reservation else None
        for person in (pair.primary, pair.backup) if pair else ():
            if person.name == who and who not in ("primary", "backup"):
                return person
    names = ", ".join(config.roster) or "nobody"
    raise Invalid(
        f'"{who[:60]}" is neither in the roster ({names}) nor in the pair of any week; add them as [[conductors]].'
    )


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
        first, last = _midnight(start, who.timezone), _midnight(end + timedelta(days=1), who.timezone)
    if last <= now:
        raise Invalid("This absence is over already.")
    if last.astimezone(UTC) > agenda.horizon.end or first.astimezone(UTC) < agenda.horizon.start:
        raise Invalid(
            f"The absence is outside the calendar's horizon, which ends on {agenda.horizon.end:%Y-%m-%d}; "
            "write it down when it is nearer."
        )


def _place(agenda: Agenda, who: str, start: date, end: date) -> tuple[str, Entry | None]:
    """The name of the absence, and what stands there: the very same one, or nothing that is one."""
    first = _name(who, start, end)
    for n in count(1):
        name = first if n == 1 else f"{first}-{n}"
        entry = agenda.entries.get(away.href(name))
        if entry is None or _span(entry) in (None, (start, end)):
            break
    return name, entry


def _span(entry: Entry) -> tuple[date, date] | None:
    """From when until when the absence is, as `absent` takes it; None where there is none, or none any more."""
    if entry.away is None or not entry.reading.occurrences:
        return None
    first, last = entry.reading.occurrences[0], entry.reading.occurrences[-1]
    if first.start.tzinfo is None:
        return first.start.date(), (last.end - timedelta(days=1)).date()
    tz = zone(entry.away.timezone)
    return first.start.astimezone(tz), last.end.astimezone(tz)


def _midnight(day: date, timezone: str) -> datetime:
    """The instant at which the day begins on the clocks of `timezone`."""
    return resolve(datetime.combine(day, time()), zone(timezone))[0]


def _begin(found: Standing) -> datetime:
    return found.start if isinstance(found.start, datetime) else _midnight(found.start, found.away.timezone)


Against = tuple[Slot, Conductor, Conflict]
"""A reserved slot, who of those on duty there is away, and the conflict that this is."""


def _against(config: Config, agenda: Agenda, after: datetime) -> list[Against]:
    """What stands against the reserved slots that end after `after` (aware) because somebody is away."""
    found = []
    for _, reservation, conflicts in standing(config, agenda, after):
        slots = {slot.id: slot for slot in reservation.slots}
        for conflict in conflicts:
            slot = slots.get(conflict.slot or "")
            on_duty = reservation.on_duty(slot) if slot is not None else ()
            found += [(slot, who, conflict) for who in on_duty if slot is not None and who.name == conflict.absent]
    return found


def _hit(
    config: Config, against: Iterable[Against], name: str, spans: Sequence[tuple[datetime, datetime]]
) -> tuple[Conflict, ...]:
    """Those conflicts about somebody's being away that are about these spans of it."""

    def touches(slot: Slot) -> bool:
        start, end = watched(config, slot)
        return any(begin < end and start < finish for begin, finish in spans)

    return tuple(conflict for slot, who, conflict in against if who.name == name and touches(slot))


def _of_feeds(config: Config, agenda: Agenda, against: Iterable[Against], after: datetime) -> Iterator[Standing]:
    """What people's own feeds call busy in or soon after those slots, each span once."""
    spans = {
        (one.start, one.end, who.name, who.timezone)
        for slot, who, _ in against
        for one in absences(config, agenda, who, *watched(config, slot))
        if one.uid is None and one.certain and one.end > after
    }
    for begin, finish, name, timezone in spans:
        start, end = (edge.astimezone(zone(timezone)) for edge in (begin, finish))
        shown: tuple[date, date] = (start, end)
        all_day = start.time() == end.time() == time()
        if all_day:
            shown = (start.date(), end.date() - timedelta(days=1))
        conflicts = _hit(config, against, name, [(begin, finish)])
        yield Standing(None, Away(name, timezone), *shown, all_day, conflicts=conflicts)


def _standing(config: Config, against: Iterable[Against], entry: Entry, *, created: bool = False) -> Standing:
    name, span = away.name_of(entry.href), _span(entry)
    assert entry.away is not None  # the caller's choice of entry
    assert name is not None
    assert span is not None
    spans = [one.span(entry.away.timezone) for one in entry.reading.occurrences]
    conflicts = _hit(config, against, entry.away.conductor, spans)
    return Standing(name, entry.away, *span, not isinstance(span[0], datetime), entry.etag, created, conflicts)
