"""Render the rotation as text/calendar: the slots of reserved weeks, and TENTATIVE slots of planned weeks.

A slot has the same UID as in the Deployments feed, so a planned slot becomes the reserved one in calendar clients.
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
    """Render the rotation's next `weeks` weeks at `now` (aware).

    When it last changed is unknown: an absence that is removed leaves no date, neither on the calendar nor in a busy feed.
    """
    today = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    name = f"{agenda.config.calendar.name} rotation"  # clients show it beside the calendar's own feed
    body = b"".join([head(name), *_events(agenda, now, weeks), b"END:VCALENDAR\r\n"])
    return Feed(body, etag_of(body), None, today + _DAY)


def _events(agenda: Agenda, now: datetime, weeks: int) -> Iterator[bytes]:
    # The DTSTAMP of planned slots is the last change of a reservation, from which they are planned. It is the same in every
    # process, and older than the reservation that replaces them.
    stamp = max((stored.reservation.modified for stored in agenda.reservations if stored.reservation), default=_NEVER)
    for turn in rotation(agenda, now, weeks).turns:
        stored = agenda.reservation(turn.week)
        if turn.state == "reserved" and stored is not None and stored.reservation is not None:
            for slot in stored.reservation.slots:
                yield slot_event(agenda.config, stored.reservation, slot)
        elif turn.state == "planned":
            try:
                planned = plan(agenda.config, pair_of(agenda.config, turn), turn.week, turn.week.eve)
            except Invalid:  # no slot is left, because of a clock change and `train.backup_slots`
                continue
            proposal = Reservation(
                week=turn.week,
                title=agenda.config.train.title,
                pair=planned.pair,
                primary=planned.primary,
                backup=planned.backup,
                slots=planned.slots,
                modified=stamp,
            )
            for slot in proposal.slots:
                yield slot_event(agenda.config, proposal, slot, "TENTATIVE")
