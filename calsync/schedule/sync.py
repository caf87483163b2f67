"""Keep the current agenda of a calendar, and let one writer in at a time.

A sync asks the calendar for changes and replaces the whole agenda at once, so readers never wait and never see half of a
change.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta

from calsync.calendars.base import Calendar, Changes
from calsync.calendars.cache import CalendarCache
from calsync.core.errors import CalendarError, Unreachable
from calsync.core.settings import Config
from calsync.schedule.agenda import Agenda, blank, horizon_around
from calsync.schedule.diary import Busy

TURN = timedelta(seconds=30)
"""How long a writer waits for the writers before it."""


class CalendarSync:
    """Keeps the current `agenda` of a calendar; safe to use from several threads.

    One thread at a time syncs, and one at a time has its turn to write. Readers take the current agenda. `last_known` is
    the copy of the calendar on disk.
    """

    def __init__(self, calendar: Calendar, config: Config, now: datetime, last_known: CalendarCache | None = None) -> None:
        self.calendar = calendar
        self.agenda = blank(config, now)
        self.busy: Mapping[str, Busy] = {}
        """What people's own busy feeds say; every sync puts it into the agenda."""
        self._writing = threading.Lock()
        self._last_known = last_known
        self._syncing = threading.Lock()

    @property
    def config(self) -> Config:
        """The configuration, which every agenda carries."""
        return self.agenda.config

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let one writer in at a time, so the others see its write instead of losing a race; `Unreachable` after `TURN`."""
        if not self._writing.acquire(timeout=TURN.total_seconds()):
            raise Unreachable("The calendar is slow, and others are waiting to write; try again later.")
        try:
            yield
        finally:
            self._writing.release()

    def recall(self, now: datetime) -> Agenda:
        """Use the last known calendar from disk, if there is one, until the calendar itself answers; return the agenda."""
        with self._syncing:
            self.agenda = self._with_busy(self._recalled(self.agenda, now))
            return self.agenda

    def refresh(self, now: datetime) -> Agenda:
        """Read what changed on the calendar and return the agenda; raises the calendar's errors and keeps the agenda then.

        On a new day, read everything again for the new horizon.
        """
        with self._syncing:
            agenda = self.agenda
            if horizon_around(self.config, now) != agenda.horizon:
                agenda = self._recalled(blank(self.config, now, changed=agenda.changed + timedelta(seconds=1)), now)
                if agenda.token is not None:  # today's agenda as far as it is known, in case the calendar is away
                    self.agenda = self._with_busy(agenda)
            changes = self.calendar.changes(agenda.token, agenda.objects, agenda.horizon.start, agenda.rotation_hrefs)
            self._save(changes, agenda, now)
            agenda = agenda.after(changes, now)
            self.agenda = self._with_busy(agenda)
            if changes.complete:
                with suppress(CalendarError):  # it only makes the next start quicker
                    self.calendar.mark_ended(self.agenda.ended)
            return self.agenda

    def _save(self, changes: Changes, agenda: Agenda, now: datetime) -> None:
        """Save what changed since `agenda`, or since the copy on disk if that is of another state."""
        if self._last_known is None or self._last_known.save(changes, agenda.token, now):
            return
        copy = self._last_known.load()
        token, resources = (copy[0].token, copy[0].changed) if copy else (None, ())
        by_href = {resource.href: resource for resource in resources}
        with suppress(CalendarError):  # the next refresh tries again
            changes = self.calendar.changes(token, by_href, agenda.horizon.start, agenda.rotation_hrefs)
            self._last_known.save(changes, token, now)

    def _recalled(self, agenda: Agenda, now: datetime) -> Agenda:
        copy = self._last_known.load() if self._last_known is not None else None
        if copy is None:
            return agenda
        changes, synced = copy
        return replace(agenda.after(changes, now), synced=synced)

    def _with_busy(self, agenda: Agenda) -> Agenda:
        return agenda if agenda.busy is self.busy else replace(agenda, busy=self.busy)
