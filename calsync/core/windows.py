"""Windows and slots: when a window falls on a date.

A window is a place on the wall clock of its own timezone. A slot is one dated place of a window, with its true start and
end, and it is what gets reserved. Start and end are resolved each by itself, so that a window whose clocks change in
between keeps its wall-clock times rather than its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal

from calsync.core.timezones import resolve, zone
from calsync.core.weeks import WEEKDAYS

Role = Literal["primary", "backup"]
"""Whose slot it is: the primary conductor's, or the backup's (the secondary timeslot)."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One dated place of the window called `window`; `date` is the day on which it starts in the window's timezone.

    `start` and `end` are aware, in the window's timezone. Train slots have a `role` and a `stage`, others have neither.
    `who` names those who conducted it, where it was over when the pair changed.
    """

    window: str
    date: date
    start: datetime
    end: datetime
    role: Role | None = None
    stage: str | None = None
    who: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The slot's name on the calendar, unique and stable: `2026-12-01-european`."""
        return f"{self.date}-{self.window}"

    @property
    def uid(self) -> str:
        """The UID under which the feed publishes it (RFC 5545, section 3.8.4.7)."""
        return f"{self.id}@calsync"


@dataclass(frozen=True, slots=True)
class Window:
    """A window of windows.toml: `start` to `end` on the wall clock of `timezone`, on each of `days` (`mon` … `sun`)."""

    name: str
    title: str
    timezone: str
    start: time
    end: time
    days: tuple[str, ...]
    category: str | None = None

    def on(self, day: date, role: Role | None = None, stage: str | None = None) -> Slot:
        """The slot that starts on `day`, whatever weekday that is."""
        tz = zone(self.timezone)
        begin, finish = self.wall(day)
        start, end = resolve(begin, tz)[0], resolve(finish, tz)[0]
        # A gap or a repeated hour can bring the end before the start; such a slot has no length rather than a negative one.
        return Slot(self.name, day, start, max(start, end), role, stage)

    def wall(self, day: date) -> tuple[datetime, datetime]:
        """Start and end of the slot on `day` as the clocks on the wall show them (naive)."""
        last = day + timedelta(days=self.end <= self.start)
        return datetime.combine(day, self.start), datetime.combine(last, self.end)

    def between(self, start: datetime, end: datetime) -> Iterator[Slot]:
        """The slots that overlap the span from `start` to `end` (aware), by start."""
        tz = zone(self.timezone)
        day, last = start.astimezone(tz).date() - timedelta(days=2), end.astimezone(tz).date()
        while day <= last:
            if WEEKDAYS[day.weekday()] in self.days:
                slot = self.on(day)
                if slot.start < end and start < slot.end:
                    yield slot
            day += timedelta(days=1)
