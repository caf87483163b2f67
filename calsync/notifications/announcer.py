"""Announcing: the channel hears when a reserved slot starts (and a while before), who conducts it, and its ticket.

An announcement is put onto the week by a conditional write, so that of any number of announcers one makes it, and one that
starts in mid-window finds it made. What was missed is announced as long as it is true: until the slot starts, or ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from calsync.core.errors import CalendarError
from calsync.notifications.announcements import announcement_times, due_announcements
from calsync.notifications.dispatcher import Dispatcher, add_deliveries
from calsync.schedule.sync import CalendarSync

_log = logging.getLogger("calsync")


def announce(sync: CalendarSync, sender: Dispatcher, now: datetime, before: timedelta) -> None:
    """Put onto the calendar what is to be announced at `now` (aware), each week by itself, as in `Courier.each`."""

    def make(href: str) -> None:
        add_deliveries(sync, href, lambda entry: list(due_announcements(sync.config, entry, now, before)), now)

    sender.each(_due(sync, now, before), make, now)


def run(
    sync: CalendarSync,
    sender: Dispatcher,
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
            if ask is None or now >= ask or _due(sync, now, before) or sender.is_due(now):
                ask = now + sync.config.calendar.interval
                sync.refresh(now)
                announce(sync, sender, now, before)
                sender.settle(now)
                if away is not False:
                    _log.info("announcing; the calendar has %d reservations", len(sync.agenda.reservations))
                away = False
        except CalendarError as error:
            if not away:
                _log.error("the calendar is away: %s", error)
            away = True
        except Exception:  # a defect must not silence the channel for good
            _log.exception("announcing failed")
        starts = [at for entry in sync.agenda.reservations for at in announcement_times(entry, now, before)]
        pause = sender.pause(now, [*starts, *([ask] if ask else [])])
        if wait(max(0.0, pause - (clock() - now).total_seconds())):
            return


def _due(sync: CalendarSync, now: datetime, before: timedelta) -> list[str]:
    """The weeks of which something is to be announced at `now`."""
    return [entry.href for entry in sync.agenda.reservations if any(due_announcements(sync.config, entry, now, before))]
