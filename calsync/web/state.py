"""The state of one calsync process, which every route works with: configuration, agenda, clock and counters."""

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
"""How many writes may wait at the same time, each in a thread."""
Clock = Callable[[], datetime]
"""Returns the time (aware)."""


@dataclass
class AppState:
    """One calsync process; nothing in it reads another clock than `clock`."""

    config: Config
    sync: CalendarSync
    clock: Clock
    metrics: Metrics = field(default_factory=Metrics)
    destinations: Destinations = field(default_factory=Destinations)
    failure: CalendarError | None = None
    """The error of the last sync, or None if it succeeded."""

    def __post_init__(self) -> None:
        self._unread = Unreachable("The calendar has not been read since the start.", retry_after=5)
        self._counted: tuple[object, object] = (None, None)
        self.dispatcher = Dispatcher(self.sync, self.destinations)
        self.writers = CapacityLimiter(WRITERS)

    @property
    def agenda(self) -> Agenda:
        """The current agenda, without waiting.

        Raises `Unreachable` until the calendar has been read once, because an empty agenda would call every week free.
        """
        agenda = self.sync.agenda
        if agenda.token is None:
            raise self.failure or Unreachable("The calendar has not been read yet; try again in a moment.", retry_after=1)
        return agenda

    def start(self) -> bool:
        """Load the last known agenda, or else read the calendar; return whether the calendar was read."""
        recalled = self.sync.recall(self.clock()).token is not None
        if recalled:
            self.failure = self._unread
        else:
            self.refresh()
        malloc_trim()
        return not recalled

    def age(self) -> int | None:
        """Return how many seconds ago the agenda was last confirmed, or None while the calendar answers."""
        if self.failure is None or self.sync.agenda.token is None:
            return None
        return max(0, round((self.clock() - self.sync.agenda.synced).total_seconds()))

    def refresh(self) -> None:
        """Take in what changed on the calendar. A failure is kept, counted, and logged once."""
        horizon, was_away = self.sync.agenda.horizon, self.failure not in (None, self._unread)
        try:
            with self.metrics.sync_seconds.time():
                agenda = self.sync.refresh(self.clock())
        except CalendarError as error:
            if not was_away:
                _log.error("the calendar is away: %s", error)
            self.failure = error
            self.metrics.sync_failures.inc()
            return
        except Exception:  # a defect: answers tell that the agenda is old
            self.failure = Unreachable("The calendar could not be processed; the server's log says more.")
            self.metrics.sync_failures.inc()
            raise
        if was_away:
            _log.info("the calendar is back")
        self.failure = None
        if self._counted[0] is not agenda.objects or self._counted[1] is not agenda.busy:
            # Only events on the calendar and in busy feeds add or remove conflicts of reserved slots.
            self._counted = (agenda.objects, agenda.busy)
            reserved = conflicts_of_reservations(agenda, self.clock())
            self.metrics.count_agenda(agenda, sum(len(blocking(conflicts)) for _, conflicts in reserved))
        self.metrics.synced.set(agenda.synced.timestamp())
        if agenda.horizon is not horizon:  # on a new day, sync reads the whole calendar
            malloc_trim()


def malloc_trim() -> None:
    """Return freed memory to the system, if the C library can (glibc).

    While a whole calendar is read, it takes twice the memory that it takes afterwards.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def app_state(request: Request) -> AppState:  # async, because FastAPI would run a plain function in a thread
    """Return the state of the app that received the request."""
    state: AppState = request.app.state.calsync
    return state


State = Annotated[AppState, Depends(app_state)]
