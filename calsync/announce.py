"""Announcing: the channel hears when a reserved slot starts (and a while before), who conducts it, and its ticket.

An announcement is put onto the week by a conditional write, so that of any number of announcers one makes it, and one that
starts in mid-window finds it made. What was missed is announced as long as it is true: until the slot starts, or ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from calsync import announcements, courier
from calsync.courier import Courier
from calsync.errors import CalendarError
from calsync.follower import Follower

_log = logging.getLogger("calsync")


def announce(follower: Follower, sender: Courier, now: datetime, before: timedelta) -> None:
    """Put onto the calendar what is to be announced at `now` (aware), each week by itself, as in `Courier.each`."""

    def make(href: str) -> None:
        courier.add(follower, href, lambda entry: list(announcements.due(follower.config, entry, now, before)), now)

    sender.each(_due(follower, now, before), make, now)


def run(
    follower: Follower,
    sender: Courier,
    clock: Callable[[], datetime],
    wait: Callable[[float], bool],
    before: timedelta,
) -> None:
    """Announce, and send what is due, until `wait` (seconds) says to stop; a calendar that is away is waited for.

    `before` of zero announces starts alone. The calendar is asked as often as `calendar.refresh` says, and when something
    is due.
    """
    away: bool | None = None
    ask: datetime | None = None
    while True:
        now = clock()
        try:
            if ask is None or now >= ask or _due(follower, now, before) or sender.is_due(now):
                ask = now + follower.config.calendar.interval
                follower.sync(now)
                announce(follower, sender, now, before)
                sender.settle(now)
                if away is not False:
                    _log.info("announcing; the calendar has %d reservations", len(follower.agenda.reservations))
                away = False
        except CalendarError as error:
            if not away:
                _log.error("the calendar is away: %s", error)
            away = True
        except Exception:  # a defect must not silence the channel for good
            _log.exception("announcing failed")
        starts = [at for entry in follower.agenda.reservations for at in announcements.ahead(entry, now, before)]
        pause = sender.pause(now, [*starts, *([ask] if ask else [])])
        if wait(max(0.0, pause - (clock() - now).total_seconds())):
            return


def _due(follower: Follower, now: datetime, before: timedelta) -> list[str]:
    """The weeks of which something is to be announced at `now`."""
    return [
        entry.href for entry in follower.agenda.reservations if any(announcements.due(follower.config, entry, now, before))
    ]
