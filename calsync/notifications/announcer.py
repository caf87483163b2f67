"""The loop of `calsync announce`: put announcements onto the calendar when they are due, and send them.

An announcement is added to the week by a conditional write. So one of any number of announcers makes it, and an announcer
that starts in the middle of a slot finds it. A missed announcement is made up for while it is still true: until the slot
starts, or until it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from calsync.core.errors import CalendarError
from calsync.notifications.announcements import announcement_times, due_announcements
from calsync.notifications.dispatcher import Dispatcher
from calsync.schedule.sync import CalendarSync

_log = logging.getLogger("calsync")


def run(
    dispatcher: Dispatcher,
    clock: Callable[[], datetime],
    wait: Callable[[float], bool],
    before: timedelta,
) -> None:
    """Announce and send what is due, until `wait` (called with seconds) returns True; survives a calendar that is away.

    Slots are announced `before` they start and when they start; zero announces starts alone. The calendar is read every
    `calendar.refresh`, and whenever something is due.
    """
    sync = dispatcher.sync
    is_away: bool | None = None
    next_read: datetime | None = None
    while True:
        now = clock()
        try:
            if next_read is None or now >= next_read or _due_weeks(sync, now, before) or dispatcher.is_due(now):
                next_read = now + sync.config.calendar.interval
                sync.refresh(now)
                announce(dispatcher, now, before)
                dispatcher.send_due(now)
                if is_away is not False:
                    _log.info("announcing; the calendar has %d reservations", len(sync.agenda.reservations))
                is_away = False
        except CalendarError as error:
            if not is_away:
                _log.error("the calendar is away: %s", error)
            is_away = True
        except Exception:  # a defect must not end all announcements
            _log.exception("announcing failed")
        due = [time for week in sync.agenda.reservations for time in announcement_times(week, now, before)]
        pause = dispatcher.pause(now, [*due, *([next_read] if next_read else [])])
        if wait(max(0.0, pause - (clock() - now).total_seconds())):
            return


def announce(dispatcher: Dispatcher, now: datetime, before: timedelta) -> None:
    """Add what is to be announced at `now` (aware) to the weeks on the calendar; see `Dispatcher.for_each`."""
    sync = dispatcher.sync

    def add(href: str) -> None:
        dispatcher.add(href, lambda week: list(due_announcements(sync.config, week, now, before)), now)

    dispatcher.for_each(_due_weeks(sync, now, before), add, now)


def _due_weeks(sync: CalendarSync, now: datetime, before: timedelta) -> list[str]:
    """Return the hrefs of the weeks with something to announce at `now`."""
    return [week.href for week in sync.agenda.reservations if any(due_announcements(sync.config, week, now, before))]
