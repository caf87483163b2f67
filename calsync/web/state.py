"""What every route works with: the configuration, the agenda, the clock and the counters of one calsync process."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from calsync.core.conflict import blocking
from calsync.core.errors import CalendarError, Unreachable
from calsync.core.settings import Config
from calsync.notifications.destinations import Destinations
from calsync.notifications.dispatcher import Dispatcher
from calsync.schedule.agenda import Agenda
from calsync.schedule.conflicts import conflicts_of_reservations
from calsync.schedule.sync import CalendarSync
from calsync.web.metrics import Metrics

_log = logging.getLogger("calsync")
WRITERS = 64
"""How many calls may wait to write at a time, in threads of their own."""
Clock = Callable[[], datetime]
"""Tells the time, aware."""


@dataclass
class AppState:
    """One calsync process; `clock` is the only one in it."""

    config: Config
    sync: CalendarSync
    clock: Clock
    metrics: Metrics = field(default_factory=Metrics)
    destinations: Destinations = field(default_factory=Destinations)
    failure: CalendarError | None = None
    """Why the last sync failed; None when it did not."""

    def __post_init__(self) -> None:
        self._unread = Unreachable("The calendar has not been read since the start.", retry_after=5)
        self._counted: tuple[object, object] = (None, None)
        self.dispatcher = Dispatcher(self.sync, self.destinations)
        self.writers = CapacityLimiter(WRITERS)

    @property
    def agenda(self) -> Agenda:
        """The agenda of this moment; asking for it waits for nothing.

        Raises `Unreachable` as long as the calendar was never read: an empty agenda would call every week free.
        """
        agenda = self.sync.agenda
        if agenda.token is None:
            raise self.failure or Unreachable("The calendar has not been read yet; try again in a moment.", retry_after=1)
        return agenda

    def start(self) -> bool:
        """Have an agenda to serve: the last known one, or else the calendar's own. Whether the calendar was asked."""
        recalled = self.sync.recall(self.clock()).token is not None
        if recalled:
            self.failure = self._unread
        else:
            self.refresh()
        malloc_trim()
        return not recalled

    def age(self) -> int | None:
        """How many seconds ago the agenda was last confirmed, while the calendar is away; None while it is here."""
        if self.failure is None or self.sync.agenda.token is None:
            return None
        return max(0, round((self.clock() - self.sync.agenda.synced).total_seconds()))

    def refresh(self) -> None:
        """Take in what changed on the calendar; a calendar that is away is remembered, counted and logged once."""
        known, was_away = self.sync.agenda.horizon, self.failure not in (None, self._unread)
        try:
            with self.metrics.sync_seconds.time():
                agenda = self.sync.refresh(self.clock())
        except CalendarError as error:
            if not was_away:
                _log.error("the calendar is away: %s", error)
            self.failure = error
            self.metrics.sync_failures.inc()
            return
        except Exception:  # a defect: what is served is old, and everybody may know
            self.failure = Unreachable("The calendar was not taken in; the log of the server says more.")
            self.metrics.sync_failures.inc()
            raise
        if was_away:
            _log.info("the calendar is back")
        self.failure = None
        if self._counted[0] is not agenda.objects or self._counted[1] is not agenda.busy:
            # Conflicts of reserved slots come and go with what stands on the calendar and in people's own feeds.
            self._counted = (agenda.objects, agenda.busy)
            held = conflicts_of_reservations(agenda, self.clock())
            self.metrics.count(agenda, sum(len(blocking(found)) for _, found in held))
        self.metrics.synced.set(agenda.synced.timestamp())
        if agenda.horizon is not known:  # a new day, for which everything was read anew
            malloc_trim()


def malloc_trim() -> None:
    """Return to the system what was freed but lies below what is in use, where the C library can (glibc: malloc_trim).

    Reading a whole calendar takes as much memory for a moment as keeping it takes for good.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def app_state(request: Request) -> AppState:  # one that is not async would be sent through a thread
    """The service of the app that the request came to."""
    found: AppState = request.app.state.calsync
    return found


State = Annotated[AppState, Depends(app_state)]
