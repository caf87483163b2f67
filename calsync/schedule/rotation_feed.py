"""The rotation as text/calendar: reserved weeks as they stand, and those not reserved yet as TENTATIVE slots.

A slot has the same UID here as in the Deployments feed, so that a planned one becomes the reserved one in the same place.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta

from calsync.core.errors import Invalid
from calsync.core.planning import plan
from calsync.core.reservation import Reservation
from calsync.core.weeks import FIRST_YEAR
from calsync.schedule.agenda import Agenda
from calsync.schedule.feed import Feed, etag_of, head, slot_event
from calsync.schedule.rotation import pair_of, rotation

_DAY = timedelta(days=1)
_NEVER = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)


def render(agenda: Agenda, now: datetime, weeks: int) -> Feed:
    """The next `weeks` weeks of the rotation at `now` (aware); it reads the clock only to know which weeks those are.

    When it changed nobody can tell: an absence that is taken away leaves no date behind, on the calendar or in people's own
    feeds.
    """
    today = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    name = f"{agenda.config.calendar.name} rotation"  # told apart from the calendar's own feed in a client
    body = b"".join([head(name), *_events(agenda, now, weeks), b"END:VCALENDAR\r\n"])
    return Feed(body, etag_of(body), None, today + _DAY)


def _events(agenda: Agenda, now: datetime, weeks: int) -> Iterator[bytes]:
    # Planned slots have the time of the last reservation, from which they are planned: it is the same in every process,
    # and older than the reservation that takes their place.
    stamp = max((entry.reservation.modified for entry in agenda.reservations if entry.reservation), default=_NEVER)
    for turn in rotation(agenda, now, weeks).turns:
        entry = agenda.reservation(turn.week)
        if turn.state == "reserved" and entry is not None and entry.reservation is not None:
            for slot in entry.reservation.slots:
                yield slot_event(agenda.config, entry.reservation, slot)
        elif turn.state == "planned":
            try:
                planned = plan(agenda.config, pair_of(agenda.config, turn), turn.week, turn.week.eve)
            except Invalid:  # a window that both clocks and settings leave without a slot
                continue
            wished = Reservation(
                week=turn.week,
                title=agenda.config.train.title,
                pair=planned.pair,
                primary=planned.primary,
                backup=planned.backup,
                slots=planned.slots,
                modified=stamp,
            )
            for slot in wished.slots:
                yield slot_event(agenda.config, wished, slot, tentative=True)
