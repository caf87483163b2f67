"""What rows share: how large everything is, calendars on disk, and agendas that take long to read and are read once."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from pathlib import Path

from benchmarks import calendars
from benchmarks.calendars import Made
from benchmarks.subscribers import Cost
from calsync.calendars.sql import SqlCalendar
from calsync.core.config import load
from calsync.core.conflict import blocking
from calsync.core.errors import Invalid
from calsync.core.planning import Plan, plan
from calsync.core.settings import Config
from calsync.core.weeks import Week
from calsync.schedule.agenda import Agenda, horizon_around
from calsync.schedule.check import ReservationRequest, check_request
from calsync.schedule.conflicts import check
from calsync.schedule.sync import CalendarSync
from calsync.web.state import AppState

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Scale:
    """How many events there are, how many years back and ahead those calendars reach that have grown for long, how often
    is measured, and how many seconds a burst of requests lasts.
    """

    events: int = 10_000
    feed: int = 1_000
    small: int = 1_000
    large: int = 100_000
    history: int = 100_000
    occurrences: int = 100_000
    years: int = 10
    runs: int = 7
    burst: float = 0.3

    @property
    def few(self) -> int:
        """How often is measured what takes seconds."""
        return max(1, self.runs // 2)


FULL = Scale()
QUICK = Scale(events=1_000, feed=300, small=100, large=1_000, history=1_000, occurrences=2_000, years=2, runs=3, burst=0.1)


@dataclass(frozen=True, slots=True)
class Place:
    """A calendar on disk: a folder with a windows.toml and the SQLite file that it names, and what is in it."""

    folder: Path
    config: Config
    resources: tuple[Made, ...]

    def calendar(self) -> SqlCalendar:
        return SqlCalendar.sqlite(self.folder / "deployments.db")


class Stage:
    """Where the rows of one run play; everything is in `folder`, and gone with it."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder, self.scale = folder, scale
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.cost: Cost | None = None
        self._places = 0
        self._services: dict[Path, AppState] = {}

    def place(self, resources: Sequence[Made], config: Config | None = None, *, long: bool = False) -> Place:
        """A new calendar with these resources."""
        folder, config = self.configured(long=long)
        calendars.fill(folder / "deployments.db", resources)
        return Place(folder, config, tuple(resources))

    def configured(self, *, long: bool = False) -> tuple[Path, Config]:
        """A new folder with the shipped windows.toml in it, and that as it is read."""
        self._places += 1
        folder = self.folder / f"place-{self._places}"
        folder.mkdir()
        text = (ROOT / "windows.toml").read_text(encoding="utf-8")
        if long:
            days = f"{365 * self.scale.years}d"
            text, found = re.subn(r"(?m)^horizon = .*$", f'horizon = {{ past = "{days}", future = "{days}" }}', text)
            assert found, "windows.toml has no line for the horizon"
        (folder / "windows.toml").write_text(text, encoding="utf-8")
        return folder, load(folder / "windows.toml", {})

    def copy(self, place: Place) -> Place:
        """The same calendar once more, for a server that writes to it."""
        self._places += 1
        folder = self.folder / f"place-{self._places}"
        folder.mkdir()
        with closing(sqlite3.connect(place.folder / "deployments.db")) as connection:
            connection.execute("VACUUM INTO ?", [str(folder / "deployments.db")])
        shutil.copy(place.folder / "windows.toml", folder)
        return Place(folder, load(folder / "windows.toml", {}), place.resources)

    def drawn(self, count: int, *, long: bool = False) -> Place:
        """A calendar of so many events all over its horizon."""
        _, config = self.configured(long=long)
        span = horizon_around(config, self.now)
        return self.place(calendars.made(config, self.now, count, span.start.date(), span.end.date()), long=long)

    @cached_property
    def everyday(self) -> Place:
        """The calendar that most rows ask about, with the horizon of the shipped windows.toml."""
        return self.drawn(self.scale.events)

    @cached_property
    def thousand(self) -> Place:
        """The calendar whose feed is served."""
        return self.drawn(self.scale.feed)

    @cached_property
    def large(self) -> Place:
        """A calendar that has grown for ten years each way."""
        return self.drawn(self.scale.large, long=True)

    @cached_property
    def small(self) -> Place:
        """The same in its youth: what of it is nearest to the week that is asked about, which therefore looks the same."""
        week = self.week(self.large.config)
        return self.place(calendars.nearest(self.large.resources, week.day("wed"), self.scale.small), long=True)

    def state(self, place: Place) -> AppState:
        """The service of a process that has read the calendar, made once for each; its clock is the wall's."""
        if place.folder not in self._services:
            self._services[place.folder] = self.fresh(place)
        return self._services[place.folder]

    def fresh(self, place: Place) -> AppState:
        """A service that has just read the calendar for the first time."""
        state = AppState(place.config, CalendarSync(place.calendar(), place.config, self.now), lambda: datetime.now(UTC))
        state.refresh()
        if state.failure is not None:
            raise state.failure
        return state

    def week(self, config: Config) -> Week:
        return calendars.asked_week(config, self.now)

    def plan(self, place: Place, week: Week | None = None) -> Plan:
        """What the shipped pair, which spans regions, would reserve in the week."""
        return plan(place.config, calendars.pair(place.config), week or self.week(place.config), self.now)

    def free_weeks(self, place: Place, agenda: Agenda, count: int, first: int = -1) -> list[Week]:
        """Up to `count` weeks that the pair could reserve, from `first` weeks after the week that is asked about."""
        return list(self._free_weeks(place, agenda, count, first))

    def _free_weeks(self, place: Place, agenda: Agenda, count: int, first: int) -> Iterator[Week]:
        found = 0
        for n in range(first, first + 2 * count + 8):
            week = self.week(place.config).shift(n)
            try:
                seen = check_request(place.config, agenda, ReservationRequest(calendars.pair(place.config), week), self.now)
            except Invalid:  # a week without a train, or beyond the horizon
                continue
            if seen.holder is None and not blocking(seen.conflicts):
                yield week
                found += 1
            if found == count:
                return

    def put_change(self, place: Place, n: int) -> str:
        """Somebody else changes their event in the week that is asked about, in the way of nothing; its new etag."""
        start = datetime.combine(self.week(place.config).day("mon"), time(), UTC) + timedelta(minutes=n % 600)
        ics = (
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//calsync//benchmark//EN\r\nBEGIN:VEVENT\r\nUID:foreign\r\n"
            f"DTSTAMP:20260101T000000Z\r\nDTSTART:{start:%Y%m%dT%H%M%SZ}\r\nDURATION:PT1M\r\nSUMMARY:Change {n}\r\n"
            "END:VEVENT\r\nEND:VCALENDAR\r\n"
        )
        state = self.state(place)
        known = state.agenda.entries.get("foreign.ics")
        return state.sync.calendar.put("foreign.ics", ics.encode(), etag=known.etag if known else None).etag

    def changed(self, place: Place, n: int) -> Agenda:
        """The agenda that has just taken in a change, so that no answer is remembered from before."""
        etag, state = self.put_change(place, n), self.state(place)
        state.refresh()
        assert state.agenda.entries["foreign.ics"].etag == etag
        return state.agenda

    def assure_same(self) -> None:
        """Make sure that the week that is asked about has the same conflicts in the small calendar as in the large one."""
        found = [check(p.config, self.changed(p, 0), self.plan(p).slots) for p in (self.large, self.small)]
        assert found[0], "nothing is in the way of the week"
        assert found[0] == found[1], found

    def close(self) -> None:
        for state in self._services.values():
            state.sync.calendar.close()
