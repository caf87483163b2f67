"""What the rows of one run share: sizes, calendars on disk, and agendas in memory that take long to read."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

from benchmarks import calendars
from benchmarks.calendars import Resource
from calsync.calendars.base import Calendar
from calsync.calendars.sql import SqlCalendar
from calsync.core.config import load
from calsync.core.conflict import Conflict
from calsync.core.planning import Plan, plan
from calsync.core.settings import Config
from calsync.core.weeks import Week
from calsync.schedule.agenda import Agenda, horizon_around
from calsync.schedule.conflicts import check
from calsync.schedule.sync import CalendarSync

T = TypeVar("T")
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Scale:
    """How many events each calendar has, and how often and how long the rows measure.

    `large` and `small` reach `years` back and ahead. A burst of requests lasts `burst` seconds.
    """

    events: int = 10_000
    feed: int = 1_000
    small: int = 1_000
    large: int = 100_000
    years: int = 10
    runs: int = 14
    slow_runs: int = 3
    burst: float = 0.1


FULL = Scale()
QUICK = Scale(events=500, feed=200, small=100, large=500, years=2, runs=6, slow_runs=1, burst=0.05)


@dataclass(frozen=True, slots=True)
class Installation:
    """A folder with a windows.toml and the SQLite calendar that it names."""

    folder: Path
    config: Config
    resources: Sequence[Resource]

    def calendar(self) -> SqlCalendar:
        """Open the calendar."""
        return SqlCalendar.sqlite(self.folder / "deployments.db")


class OtherPerson:
    """Somebody who changes their own event on the calendar again and again, in the week that the rows ask about."""

    def __init__(self, calendar: Calendar, week: Week) -> None:
        self._calendar, self._monday = calendar, datetime.combine(week.monday, time(), UTC)
        self._changes = 0
        self._etag: str | None = None

    def change(self) -> str:
        """Move the event by a minute, away from every slot, and return its new title."""
        self._changes += 1
        title = f"Change {self._changes}"
        start = self._monday + timedelta(minutes=self._changes % 600)
        ics = calendars.single("foreign", start, timedelta(minutes=1), title)
        self._etag = self._calendar.put("foreign.ics", ics, etag=self._etag).etag
        return title


class Memory:
    """The agenda of an installation in this process."""

    def __init__(self, installation: Installation, now: datetime) -> None:
        self.config, self._now = installation.config, now
        self.week = calendars.asked_week(self.config, now)
        self.calendar = installation.calendar()
        self.other = OtherPerson(self.calendar, self.week)
        self._sync = CalendarSync(self.calendar, self.config, now)
        self.refresh()

    @property
    def agenda(self) -> Agenda:
        """The current agenda."""
        return self._sync.agenda

    def refresh(self) -> Agenda:
        """Take in what changed on the calendar."""
        return self._sync.refresh(self._now)

    def plan(self, week: Week) -> Plan:
        """Plan the week for the pair that spans regions."""
        return plan(self.config, calendars.pair(self.config), week, self._now)

    def check(self, plan: Plan) -> Sequence[Conflict]:
        """Check the slots of the plan."""
        return check(self.agenda, plan.slots, plan.conductors)


def in_new_process(call: Callable[..., T], *args: object) -> T:
    """Call a function in a process that has remembered nothing so far."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *args).result()


class Bench:
    """What the rows of one run share. Everything on disk is in `folder`; a context manager closes the calendars."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder, self.scale = folder, scale
        self.now = datetime.now(UTC).replace(microsecond=0)
        self._installations = 0
        self._memories: dict[Path, Memory] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for memory in self._memories.values():
            memory.calendar.close()

    def draw(self, count: int, *, long: bool = False) -> Installation:
        """Make a new installation with `count` events, as `install` does."""
        place = self.install([], long=long)
        span = horizon_around(place.config, self.now)
        resources = calendars.draw(place.config, self.now, count, span.start.date(), span.end.date())
        calendars.fill(place.folder / "deployments.db", resources)
        return replace(place, resources=resources)

    def install(self, resources: Sequence[Resource], *, long: bool = False) -> Installation:
        """Make a new installation with these resources; the horizon of a `long` one reaches years back and ahead."""
        self._installations += 1
        folder = self.folder / f"installation-{self._installations}"
        folder.mkdir()
        text = (ROOT / "windows.toml").read_text(encoding="utf-8")
        if long:
            days = f"{365 * self.scale.years}d"
            text, count = re.subn(r"(?m)^horizon = .*$", f'horizon = {{ past = "{days}", future = "{days}" }}', text)
            assert count, "windows.toml has no line for the horizon"
        (folder / "windows.toml").write_text(text, encoding="utf-8")
        calendars.fill(folder / "deployments.db", resources)
        return Installation(folder, load(folder / "windows.toml", {}), resources)

    @cached_property
    def everyday(self) -> Installation:
        """The calendar that most rows ask about, with the horizon of the shipped windows.toml."""
        return self.draw(self.scale.events)

    @cached_property
    def large(self) -> Installation:
        """A calendar that has grown for years."""
        return self.draw(self.scale.large, long=True)

    @cached_property
    def small(self) -> Installation:
        """The same calendar when it was young: its events nearest to the week that the rows ask about."""
        week = calendars.asked_week(self.large.config, self.now)
        return self.install(calendars.nearest(self.large.resources, week.day("wed"), self.scale.small), long=True)

    @property
    def grown(self) -> str:
        """How many events the small and the large calendar have, in words."""
        return f"{self.scale.small:,} to {self.scale.large:,} events"

    def memory(self, installation: Installation) -> Memory:
        """Read the installation's calendar, once in a run."""
        if installation.folder not in self._memories:
            self._memories[installation.folder] = Memory(installation, self.now)
        return self._memories[installation.folder]
