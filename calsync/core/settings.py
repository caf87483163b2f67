"""The settings of windows.toml, typed: one model a table, immutable, each value checked by itself.

What contradicts what is `config`'s business, which reads the file; everything else in calsync takes a `Config`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from calsync.core.errors import Invalid, UnknownTimezone
from calsync.core.text import WORD, check_line
from calsync.core.timezones import resolve, zone
from calsync.core.weeks import WEEKDAYS, Week
from calsync.core.windows import Window
from calsync.core.working_hours import DEFAULT_HOURS, Hours

Kind = Literal["overlap", "freeze", "reserved", "busy", "hours", "dst", "unknown"]
"""The kinds of conflict; `docs/configuration.md` says what each means."""


KINDS: tuple[Kind, ...] = get_args(Kind)


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


_DURATION = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)


def duration(text: object) -> timedelta:
    """`30s`, `15m`, `2h`, `90d` or `8w` as a span of time; `ValueError` with the remedy otherwise."""
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('write a whole number and a unit, such as "30s", "15m", "2h" or "90d"')
    return min(timedelta(**{_UNITS[match[2]]: int(match[1])}), timedelta(days=36_600))


def _timezone(name: object) -> str:
    if not isinstance(name, str):
        raise ValueError('write a timezone in quotes, such as "Europe/Paris"')
    try:
        zone(name)
    except UnknownTimezone as unknown:
        raise ValueError(str(unknown)) from None
    return name


def _wall_clock(value: object) -> time:
    if isinstance(value, time) and value.tzinfo is None:
        return value
    try:
        wall = time.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("write a wall-clock time such as 10:00:00") from None
    if wall.tzinfo is not None:
        raise ValueError("write a wall-clock time without an offset, such as 10:00:00")
    return wall


def _weekdays(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(day in WEEKDAYS for day in value):
        raise ValueError(f'list weekdays out of {", ".join(WEEKDAYS)}, such as ["tue", "wed"]')
    return tuple(sorted(set(value), key=WEEKDAYS.index))


def _week(value: object) -> Week:
    try:
        return Week.parse(value if isinstance(value, str) else str(value))
    except Invalid as error:
        raise ValueError(str(error)) from None


def _hours(value: object) -> Hours:
    try:
        return value if isinstance(value, Hours) else Hours.parse(str(value))
    except Invalid as error:
        raise ValueError(str(error)) from None


def _web_address(value: object) -> str:
    if isinstance(value, str) and re.match(r"https?://[^/\s]+", value) and not re.search(r"\s", value):
        return value
    raise ValueError('write a web address such as "https://calendar.example.org/ana.ics"')


def feed_address(value: object) -> str:
    """The address of a busy feed; webcal:// and webcals:// stand for https://. `ValueError` with the remedy otherwise."""
    return _web_address(
        re.sub(r"^webcals?://", "https://", value, flags=re.IGNORECASE) if isinstance(value, str) else value
    )


def _calendar_url(value: object) -> str:
    url = value if isinstance(value, str) else ""
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return url
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named or parts.scheme not in ("http", "https", "postgresql"):
        raise ValueError(
            "write sqlite:///FILE.db, postgresql://HOST/DATABASE, or the https:// address of a CalDAV calendar or principal"
        )
    if parts.password is not None:
        raise ValueError("take the password out of the address; it comes from CALSYNC_CALENDAR_PASSWORD")
    if parts.scheme != "postgresql" and (parts.query or parts.fragment):
        raise ValueError("an address of a CalDAV calendar has neither ? nor #")
    return url


def _email(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[!-?A-~]+@[!-?A-~]+", value, re.ASCII):
        return value
    raise ValueError("write a mail address, such as ana@example.org")


def _line(text: str) -> str:
    try:
        check_line("the text", text, 200)
    except Invalid as error:
        raise ValueError(str(error).removesuffix(".")) from None
    return text


Timezone = Annotated[str, BeforeValidator(_timezone)]


Duration = Annotated[timedelta, BeforeValidator(duration)]


WallClock = Annotated[time, BeforeValidator(_wall_clock)]


Weekdays = Annotated[tuple[str, ...], BeforeValidator(_weekdays)]


Email = Annotated[str, BeforeValidator(_email)]


WorkingHours = Annotated[Hours, BeforeValidator(_hours)]


IsoWeek = Annotated[Week, BeforeValidator(_week)]


WebAddress = Annotated[str, BeforeValidator(_web_address)]


FeedAddress = Annotated[SecretStr, BeforeValidator(feed_address)]


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_line)]


Name = Annotated[str, Field(min_length=1, max_length=WORD), AfterValidator(_line)]


class Section(BaseModel):
    """A table of windows.toml: immutable, and nothing in it goes unread."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class HorizonSettings(Section):
    """How far back and ahead of now the calendar is looked at."""

    past: Duration = timedelta(days=90)
    future: Duration = timedelta(days=400)


class CalendarSection(Section):
    """`[calendar]`: where the Deployments calendar is kept, and how it is followed.

    `refresh` is how often changes by others are taken in, `timeout` how long a server may take to answer. `cache` is the
    file in which the last known calendar outlives a restart. With `invite` the slots have the conductors as attendees.
    """

    url: Annotated[str, BeforeValidator(_calendar_url)] = "sqlite:///deployments.db"
    name: Text = "Deployments"
    refresh: Duration | None = None
    timeout: Duration = timedelta(seconds=10)
    cache: Text = "deployments.cache"
    invite: bool = False
    organizer: Email | None = None
    horizon: HorizonSettings = HorizonSettings()

    @property
    def is_embedded(self) -> bool:
        """Whether the calendar is a file beside calsync, which can neither be away nor slow."""
        return self.url.startswith("sqlite:")

    @property
    def interval(self) -> timedelta:
        """How often changes by others are taken in: what `refresh` says, or as often as costs next to nothing."""
        if self.refresh is not None:
            return self.refresh
        return timedelta(seconds=30 if self.url.startswith("http") else 1)


class NoTrain(Section):
    """A week without a train, and why."""

    week: IsoWeek
    reason: Text


class TrainSection(Section):
    """`[train]`: what is deployed each week, and in which windows."""

    windows: tuple[str, ...] = ("european", "american")
    title: Text = "Train"
    stages: dict[str, Text] = {"tue": "group0", "wed": "group1", "thu": "group2"}
    backup_slots: Literal["all", "after-primary"] = "all"
    ticket_url: str | None = None
    video_url: str | None = None
    no_train: tuple[NoTrain, ...] = ()

    @property
    def days(self) -> tuple[str, ...]:
        """The weekdays on which the train moves, in order."""
        return tuple(day for day in WEEKDAYS if day in self.stages)


class WindowSection(Section):
    """`[windows.NAME]`: a place on the wall clock of `timezone`; an `end` not after `start` is on the next day."""

    title: Text
    timezone: Timezone
    start: WallClock
    end: WallClock
    days: Weekdays | None = None
    category: Text | None = None


class Freeze(Section):
    """`[[freezes]]`: no deploys from `start` to `end` (dates: both included), or on `days` of every week."""

    start: datetime | date | None = None
    end: datetime | date | None = None
    days: Weekdays | None = None
    timezone: Timezone = "UTC"
    reason: Text
    scope: Literal["all", "train"] = "all"


class ConductorSection(Section):
    """`[[conductors]]`: one person of the roster; the address of their busy feed is often a secret by itself."""

    name: Name
    timezone: Timezone
    hours: WorkingHours = DEFAULT_HOURS
    days: Weekdays | None = None
    window: str | None = None
    email: Email | None = None
    irc: Text | None = None
    ticket_user: Text | None = None
    calendar: FeedAddress | None = None
    video: WebAddress | None = None

    @property
    def working(self) -> Hours:
        """Their working hours, on their working days."""
        return self.hours if self.days is None else replace(self.hours, days=self.days)


class ConflictsSection(Section):
    """`[conflicts]`: which kinds block a reservation and which only warn; a kind in neither list does as by default.

    What a person's own feed calls busy for a shorter time than `shortest_busy` is no absence.
    """

    block: tuple[Kind, ...] = ("overlap", "freeze", "reserved", "busy", "unknown")
    warn: tuple[Kind, ...] = ("hours", "dst")
    ignore_categories: tuple[str, ...] = ()
    buffer: Duration = timedelta(0)
    watch_after: Duration = timedelta(hours=2)
    shortest_busy: Duration = timedelta(0)

    def blocks(self, kind: Kind) -> bool:
        """Whether a conflict of this kind stands in the way of a reservation."""
        for name, verdict in (("block", True), ("warn", False)):
            if name in self.model_fields_set and kind in getattr(self, name):
                return verdict
        return kind not in ("hours", "dst")


class RotationSection(Section):
    """`[rotation]`: the `order` in which the roster takes turns, from the week `start` on."""

    order: tuple[Text, ...] = ()
    start: IsoWeek | None = None


class ServerSection(Section):
    """`[server]`: the names under which calsync is reached; `*` leaves the check of the Host header to a proxy."""

    hosts: tuple[str, ...] = ()


ELSEWHERE = "environment"
"""What stands for an address that processes which send messages have in their environment."""


def is_elsewhere(address: SecretStr | None) -> bool:
    """Whether there is such a channel, and its address is not known here."""
    return address is not None and address.get_secret_value() == ELSEWHERE


class NotifySection(Section):
    """`[notify]`: the channels that people read; an address that holds a secret comes from the environment."""

    operations: SecretStr | None = None
    updates: SecretStr | None = None


_TASK = re.compile(r"T[1-9]\d{0,11}", re.ASCII)


def is_task(ticket: str) -> bool:
    """Whether a ticket is a task such as `T123`: `[tickets]` has Phabricator alone."""
    return _TASK.fullmatch(ticket) is not None


class TicketsSection(Section):
    """`[tickets]`: where the ticket system is."""

    url: WebAddress | None = None


class Config(BaseModel):
    """Everything windows.toml and the environment say, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    calendar: CalendarSection
    train: TrainSection
    windows: dict[str, WindowSection]
    freezes: tuple[Freeze, ...] = ()
    conductors: tuple[ConductorSection, ...] = ()
    conflicts: ConflictsSection
    server: ServerSection
    rotation: RotationSection = RotationSection()
    notify: NotifySection = NotifySection()
    tickets: TicketsSection = TicketsSection()
    tokens: dict[str, SecretStr] = {}
    ticket_token: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    """Who calsync is on the calendar's server."""
    folder: Path = Path()
    """Where windows.toml stands; relative files are found from here."""

    @cached_property
    def train_windows(self) -> tuple[Window, ...]:
        """The windows that the train may use, in the order of `train.windows`."""
        return tuple(self._window(name) for name in self.train.windows)

    @cached_property
    def recurring_windows(self) -> tuple[Window, ...]:
        """The windows that recur every week and are not the train's."""
        return tuple(self._window(name) for name in self.windows if name not in self.train.windows)

    def _window(self, name: str) -> Window:
        section = self.windows[name]
        days = section.days if section.days is not None else self.train.days
        return Window(name, section.title, section.timezone, section.start, section.end, days, section.category)

    @cached_property
    def roster(self) -> dict[str, ConductorSection]:
        """The people of the roster, by name."""
        return {entry.name: entry for entry in self.conductors}

    def nick(self, name: str) -> str | None:
        """The IRC nick of somebody of the roster, if it is known."""
        return self.roster[name].irc if name in self.roster else None

    @cached_property
    def declined(self) -> dict[Week, str]:
        """The weeks without a train, and why."""
        return {entry.week: entry.reason for entry in self.train.no_train}


def freeze_span(freeze: Freeze) -> tuple[datetime, datetime]:
    """The instants (aware) from which and until which a freeze with `start` and `end` lasts."""
    tz = zone(freeze.timezone)

    def instant(moment: datetime | date | None, *, days: int) -> datetime:
        assert moment is not None  # only freezes with start and end are asked
        if not isinstance(moment, datetime):
            moment = datetime.combine(moment + timedelta(days=days), time())
        return moment if moment.tzinfo is not None else resolve(moment, tz)[0]

    return instant(freeze.start, days=0).astimezone(UTC), instant(freeze.end, days=1).astimezone(UTC)
