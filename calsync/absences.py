"""Putting an absence on the calendar, and taking it away again.

The same absence has the same place on the calendar, so that telling it twice changes nothing, whoever tells it. One that is
taken away is rewritten as cancelled, as servers with a trash bin refuse a deleted UID's return.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from calsync import away
from calsync.agenda import Agenda, Entry, Follower
from calsync.away import Away
from calsync.conflicts import Conflict, standing
from calsync.errors import Invalid, NotReserved
from calsync.planning import Conductor, conductor
from calsync.settings import Config
from calsync.writes import put, trying
from calsync.zones import resolve, zone

LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Standing:
    """An absence as it stands on the calendar: `all_day` ones from one date to another, both included.

    `conflicts` are those that it makes with slots that are reserved and not over, with who could cover.
    """

    name: str
    away: Away
    start: date
    end: date
    all_day: bool
    etag: str
    created: bool = False
    conflicts: tuple[Conflict, ...] = ()


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

    Raises `Invalid` for somebody nobody knows and for spans that make no sense, and the calendar's errors.
    """

    def attempt() -> Standing:
        agenda = follower.sync(now)
        person = known(follower.config, agenda, who)
        _check_span(agenda, person, start, end, now)
        name = _name(who, start, end)
        found = agenda.entries.get(away.href(name))
        if found is not None and found.away is not None and found.away.note == note and found.reading.occurrences:
            return _standing(_against(follower.config, agenda, now), found)
        record = Away(who, person.timezone, note, author)
        ics = away.encode(record, name, start, end, now)
        written = put(follower, away.href(name), ics, found, now, lambda entry: entry.away == record)
        against = _against(follower.config, follower.agenda, now)
        return _standing(against, written, created=found is None or found.away is None)

    return trying(follower, attempt)


def present(follower: Follower, name: str, now: datetime) -> None:
    """Take the absence called `name` away; `NotReserved` where there is none."""

    def attempt() -> None:
        entry = follower.sync(now).entries.get(away.href(name))
        if entry is None or entry.away is None or not entry.reading.occurrences:
            raise NotReserved(f'There is no absence called "{name[:60]}"; GET /api/away and calsync away list them.')
        shown = _standing((), entry)
        ics = away.encode(entry.away, name, shown.start, shown.end, now).replace(
            b"TRANSP:TRANSPARENT\r\n", b"TRANSP:TRANSPARENT\r\nSTATUS:CANCELLED\r\n"
        )
        put(follower, entry.href, ics, entry, now, lambda found: found.away is None)

    trying(follower, attempt)


def listed(config: Config, agenda: Agenda, after: datetime) -> list[Standing]:
    """The absences on the calendar that end after `after` (aware), by start."""
    against = _against(config, agenda, after)
    found = []
    for entry in agenda.special.values():
        if entry.away is None or not entry.reading.occurrences:
            continue
        if max(one.span(entry.away.timezone)[1] for one in entry.reading.occurrences) > after:
            found.append(_standing(against, entry))
    return sorted(found, key=lambda one: (str(one.start), one.name))


def known(config: Config, agenda: Agenda, who: str) -> Conductor:
    """The person of that name: one of the roster, or of a pair on the calendar."""
    if who in {entry.name for entry in config.conductors}:
        return conductor(config, who)
    for entry in reversed(agenda.reservations):
        pair = entry.reservation.pair if entry.reservation else None
        for person in (pair.primary, pair.backup) if pair else ():
            if person.name == who and who not in ("primary", "backup"):
                return person
    names = ", ".join(entry.name for entry in config.conductors) or "nobody"
    raise Invalid(
        f'"{who[:60]}" is neither in the roster ({names}) nor in the pair of any week; add them as [[conductors]].'
    )


def _name(who: str, start: date, end: date) -> str:
    digest = hashlib.sha256("\n".join([who, start.isoformat(), end.isoformat()]).encode()).hexdigest()[:10]
    return f"{start:%Y%m%d}-{digest}"


def _check_span(agenda: Agenda, who: Conductor, start: date, end: date, now: datetime) -> None:
    if isinstance(start, datetime) != isinstance(end, datetime):
        raise Invalid("Give start and end in the same form: two dates, or two times with their offsets.")
    if end < start or (isinstance(start, datetime) and end == start):
        raise Invalid("end is before start; swap them.")
    if end - start > LONGEST:
        raise Invalid(f"An absence has at most {LONGEST.days} days; write a longer one as several.")
    if isinstance(start, datetime) and isinstance(end, datetime):
        first, last = start, end
    else:
        try:
            midnights = (datetime.combine(day, time()) for day in (start, end + timedelta(days=1)))
        except OverflowError:
            raise Invalid("end is too far away; choose an earlier day.") from None
        first, last = (resolve(midnight, zone(who.timezone))[0] for midnight in midnights)
    if last <= now:
        raise Invalid("This absence is over already.")
    if last.astimezone(UTC) > agenda.horizon.end or first.astimezone(UTC) < agenda.horizon.start:
        raise Invalid(
            f"The absence is outside the calendar's horizon, which ends on {agenda.horizon.end:%Y-%m-%d}; "
            "write it down when it is nearer."
        )


def _against(config: Config, agenda: Agenda, after: datetime) -> tuple[Conflict, ...]:
    """What stands against the reserved slots that end after `after` (aware)."""
    return tuple(conflict for _, _, found in standing(config, agenda, after) for conflict in found)


def _standing(against: Iterable[Conflict], entry: Entry, *, created: bool = False) -> Standing:
    assert entry.away is not None  # the caller's choice of entry
    name = away.name_of(entry.href)
    assert name is not None  # as every absence has
    first, last = entry.reading.occurrences[0], entry.reading.occurrences[-1]
    start: date
    end: date
    if first.start.tzinfo is None:
        start, end = first.start.date(), (last.end - timedelta(days=1)).date()
    else:
        tz = zone(entry.away.timezone)
        start, end = first.start.astimezone(tz), last.end.astimezone(tz)
    said = f"{entry.away.conductor} is away"
    spans = [one.span(entry.away.timezone) for one in entry.reading.occurrences]
    hit = tuple(
        conflict
        for conflict in against
        if conflict.event is not None
        and conflict.event.summary == said
        and any(begin < conflict.event.end and conflict.event.start < finish for begin, finish in spans)
    )
    return Standing(name, entry.away, start, end, first.start.tzinfo is None, entry.etag, created, hit)
