"""Putting an absence on the calendar, and taking it away again.

The same absence has the same place on the calendar, so that telling it twice changes nothing, whoever tells it. One that
people moved from there counts where it is, and what is told anew stands beside it. One that is taken away is rewritten as
cancelled, as servers with a trash bin refuse a deleted UID's return.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import count

from calsync import away
from calsync.agenda import Agenda
from calsync.away import Away
from calsync.conflicts import Conflict, standing
from calsync.cover import watched
from calsync.entries import Entry
from calsync.errors import Invalid, NotReserved
from calsync.follower import Follower
from calsync.planning import Conductor, conductor
from calsync.settings import Config
from calsync.texts import SENTENCE, check_line
from calsync.windows import Slot
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
    """Take the absence called `name` away; `NotReserved` where there is none."""

    def attempt() -> None:
        entry = follower.sync(now).entries.get(away.href(name))
        span = _span(entry) if entry is not None else None
        if entry is None or entry.away is None or span is None:
            raise NotReserved(f'There is no absence called "{name[:60]}"; GET /api/away and calsync away list them.')
        ics = away.encode(entry.away, name, *span, now, cancelled=True)
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
            found.append(_standing(config, against, entry))
    return sorted(found, key=lambda one: (str(one.start), one.name))


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


def _against(config: Config, agenda: Agenda, after: datetime) -> list[tuple[Slot, Conflict]]:
    """What stands against the reserved slots that end after `after` (aware) because somebody is away."""
    found = []
    for _, reservation, conflicts in standing(config, agenda, after):
        slots = {slot.id: slot for slot in reservation.slots}
        found += [(slots[conflict.slot], conflict) for conflict in conflicts if conflict.absent and conflict.slot]
    return found


def _standing(config: Config, against: Iterable[tuple[Slot, Conflict]], entry: Entry, *, created: bool = False) -> Standing:
    name, span = away.name_of(entry.href), _span(entry)
    assert entry.away is not None  # the caller's choice of entry
    assert name is not None
    assert span is not None
    spans = [one.span(entry.away.timezone) for one in entry.reading.occurrences]

    def touches(slot: Slot) -> bool:
        start, end = watched(config, slot)
        return any(begin < end and start < finish for begin, finish in spans)

    hit = tuple(conflict for slot, conflict in against if conflict.absent == entry.away.conductor and touches(slot))
    return Standing(name, entry.away, *span, not isinstance(span[0], datetime), entry.etag, created, hit)
