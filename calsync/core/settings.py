"""The settings of windows.toml as types: one immutable model for each table. Each value is checked by itself.

`core/config.py` reads the file and checks settings against each other; everything else takes a `Config`.
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
"""The kinds of conflict; `docs/configuration.md` describes them."""
KINDS: tuple[Kind, ...] = get_args(Kind)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)


def parse_duration(text: object) -> timedelta:
    """Parse `30s`, `15m`, `2h`, `90d` or `8w`, limited to a hundred years; raises `ValueError` with the remedy."""
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
        raise ValueError(f'list weekdays such as ["tue", "wed"]; they are {", ".join(WEEKDAYS)}')
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
    """Check the address of a busy feed, with https:// for webcal:// and webcals://; raises `ValueError` with the remedy."""
    if isinstance(value, str):
        value = re.sub(r"^webcals?://", "https://", value, flags=re.IGNORECASE)
    return _web_address(value)


def _calendar_url(value: object) -> str:
    url = value if isinstance(value, str) else ""
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return url
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in ("http", "https", "postgresql"):
        raise ValueError(
            "write sqlite:///FILE.db, postgresql://HOST/DATABASE, or the https:// address of a CalDAV calendar or principal"
        )
    if parts.password is not None:
        raise ValueError("remove the password from the address and set CALSYNC_CALENDAR_PASSWORD instead")
    if parts.scheme != "postgresql" and (parts.query or parts.fragment):
        raise ValueError("remove ? and # from the address; a CalDAV calendar has neither")
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
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
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
    """A table of windows.toml: immutable, without unknown settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class HorizonSettings(Section):
    """How far back and ahead of now calsync reads the calendar."""

    past: Duration = timedelta(days=90)
    future: Duration = timedelta(days=400)


class CalendarSection(Section):
    """`[calendar]`: where the Deployments calendar is, and how calsync reads it."""

    url: Annotated[str, BeforeValidator(_calendar_url)] = "sqlite:///deployments.db"
    name: Text = "Deployments"
    refresh: Duration | None = None
    """How often to look for changes by others; see `interval`."""
    timeout: Duration = timedelta(seconds=10)
    """How long a server may take to answer."""
    cache: Text = "deployments.cache"
    """The file with the last known calendar, which outlives a restart."""
    invite: bool = False
    """Whether the slots have the conductors as attendees."""
    organizer: Email | None = None
    horizon: HorizonSettings = HorizonSettings()

    @property
    def is_embedded(self) -> bool:
        """Whether the calendar is a local file, which is never unreachable or slow."""
        return self.url.startswith("sqlite:")

    @property
    def interval(self) -> timedelta:
        """How often to look for changes by others: `refresh`, or by default 30 s with CalDAV and 1 s with a database."""
        if self.refresh is not None:
            return self.refresh
        return timedelta(seconds=30 if self.url.startswith("http") else 1)


class NoTrain(Section):
    """A week without a train, and the reason."""

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
    """`[windows.NAME]`: a time of day in `timezone`; an `end` that is not after `start` is on the next day."""

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
    """`[[conductors]]`: one person of the roster. The address of a busy feed is often a secret."""

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
        """Their working hours on their working days."""
        return self.hours if self.days is None else replace(self.hours, days=self.days)


class ConflictsSection(Section):
    """`[conflicts]`: which kinds block a reservation and which only warn. A kind in neither list keeps its default."""

    block: tuple[Kind, ...] = ("overlap", "freeze", "reserved", "busy", "unknown")
    warn: tuple[Kind, ...] = ("hours", "dst")
    ignore_categories: tuple[str, ...] = ()
    buffer: Duration = timedelta(0)
    """The distance that slots keep from everything else."""
    watch_after: Duration = timedelta(hours=2)
    """How long a conductor must stay available after a slot."""
    shortest_busy: Duration = timedelta(0)
    """A shorter busy time in somebody's own feed is no absence."""

    def blocks(self, kind: Kind) -> bool:
        """Whether a conflict of this kind blocks a reservation."""
        for name, verdict in (("block", True), ("warn", False)):
            if name in self.model_fields_set and kind in getattr(self, name):
                return verdict
        return kind not in ("hours", "dst")


class RotationSection(Section):
    """`[rotation]`: the `order` in which people take turns, starting in the week `start`."""

    order: tuple[Text, ...] = ()
    start: IsoWeek | None = None


class ServerSection(Section):
    """`[server]`: the host names that requests may have; `*` leaves the check of the Host header to a proxy."""

    hosts: tuple[str, ...] = ()


ELSEWHERE = "environment"
"""Written instead of a channel's address: processes that send messages get the address from their environment."""


def is_elsewhere(address: SecretStr | None) -> bool:
    """Whether the channel exists, but this process does not have its address."""
    return address is not None and address.get_secret_value() == ELSEWHERE


class NotifySection(Section):
    """`[notify]`: the channels that people read. Addresses with secrets come from the environment."""

    operations: SecretStr | None = None
    updates: SecretStr | None = None


_TASK = re.compile(r"T[1-9]\d{0,11}", re.ASCII)


def is_task(ticket: str) -> bool:
    """Whether a ticket is a Phabricator task such as `T123`."""
    return _TASK.fullmatch(ticket) is not None


class TicketsSection(Section):
    """`[tickets]`: the address of the ticket system, Phabricator or Phorge."""

    url: WebAddress | None = None


class Config(BaseModel):
    """The checked configuration from windows.toml and the environment."""

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
    """The account on the calendar's server, like `password`."""
    password: SecretStr | None = None
    folder: Path = Path()
    """The folder of windows.toml, which relative paths start from."""

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
        """Return the IRC nick of somebody in the roster, if it is set."""
        return self.roster[name].irc if name in self.roster else None

    @cached_property
    def declined(self) -> dict[Week, str]:
        """The weeks without a train, with the reasons."""
        return {entry.week: entry.reason for entry in self.train.no_train}


def freeze_span(freeze: Freeze) -> tuple[datetime, datetime]:
    """Return when a freeze with `start` and `end` begins and ends (UTC); raises `OverflowError` for impossible times."""
    tz = zone(freeze.timezone)

    def instant(moment: datetime | date | None, *, days: int) -> datetime:
        assert moment is not None
        if not isinstance(moment, datetime):
            moment = datetime.combine(moment + timedelta(days=days), time())
        return moment if moment.tzinfo is not None else resolve(moment, tz)[0]

    return instant(freeze.start, days=0).astimezone(UTC), instant(freeze.end, days=1).astimezone(UTC)
