"""Windows, and the slots that they have on dates.

A window is a time of day on the wall clock of its own timezone. A slot is a window on one date, with its true start and
end; slots are what a train reserves. Start and end are resolved separately. So if the clocks change within a slot, it keeps
its wall-clock times, not its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal

from calsync.core.timezones import resolve, zone
from calsync.core.weeks import WEEKDAYS

Role = Literal["primary", "backup"]
"""The conductor whose slot it is; the backup's is the secondary timeslot."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The window called `window` on one date, which is the day on which it starts in the window's timezone.

    `start` and `end` are aware, in the window's timezone. Only train slots have a `role` and a `stage`. If the pair changed
    after the slot was over, `who` names those who conducted it.
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
        """The slot's unique and stable name on the calendar: `2026-12-01-european`."""
        return f"{self.date}-{self.window}"

    @property
    def uid(self) -> str:
        """The UID of the slot in the feed (RFC 5545, section 3.8.4.7)."""
        return f"{self.id}@calsync"

    @property
    def timezone(self) -> str:
        """The name of the window's timezone."""
        return str(self.start.tzinfo)  # a pytz timezone prints as its name


@dataclass(frozen=True, slots=True)
class Window:
    """A window of windows.toml: from `start` to `end` on the wall clock of `timezone`, on each of `days` (`mon` … `sun`).

    An `end` that is not after `start` is on the next day.
    """

    name: str
    title: str
    timezone: str
    start: time
    end: time
    days: tuple[str, ...]
    category: str | None = None

    def on(self, day: date, role: Role | None = None, stage: str | None = None) -> Slot:
        """Return the slot that starts on `day`, whether or not that is one of the window's days."""
        tz = zone(self.timezone)
        start, end = (resolve(wall, tz)[0] for wall in self.wall(day))
        # A skipped or repeated hour can put the end before the start. Such a slot has no length, not a negative one.
        return Slot(self.name, day, start, max(start, end), role, stage)

    def wall(self, day: date) -> tuple[datetime, datetime]:
        """Return the start and the end of the slot on `day` as wall-clock times (naive)."""
        last = day + timedelta(days=self.end <= self.start)
        return datetime.combine(day, self.start), datetime.combine(last, self.end)

    def between(self, start: datetime, end: datetime) -> Iterator[Slot]:
        """Yield the slots that overlap the span from `start` to `end` (aware), by start."""
        tz = zone(self.timezone)
        day, last = start.astimezone(tz).date() - timedelta(days=2), end.astimezone(tz).date()
        while day <= last:
            if WEEKDAYS[day.weekday()] in self.days:
                slot = self.on(day)
                if slot.start < end and start < slot.end:
                    yield slot
            day += timedelta(days=1)
