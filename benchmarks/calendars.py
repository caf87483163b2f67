"""Draw calendars of any size from a seed, in the proportions of a Deployments calendar.

Every week up to two months ahead has a train. All other events belong to other people. They keep clear of the train
windows, except for one in five hundred and for the one that blocks the first slot of the week that the rows ask about.
"""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path

from calsync.calendars.sql import SqlCalendar
from calsync.core import planning
from calsync.core.conductors import Pair, conductor
from calsync.core.reservation import Reservation
from calsync.core.settings import Config
from calsync.core.timezones import resolve, zone
from calsync.core.weeks import Week
from calsync.core.windows import Window
from calsync.ical.reservation import encode_reservation, reservation_href
from calsync.ical.vtimezone import vtimezone

PARTS = {"single": 0.70, "day": 0.12, "series": 0.10, "floating": 0.05, "own-zone": 0.03}
"""The kinds of other people's events, with the probability of each."""
ENDLESS = 5
"""Weekly meetings without an end, however large the calendar is."""
BLOCKER = "Switch of the database primary"
"""The title of the event that blocks a slot of the week that the rows ask about."""

ZONES = ("UTC", "Europe/Paris", "Europe/Berlin", "America/New_York", "America/Los_Angeles", "Asia/Kolkata")
_COUNTS = (4, 8, 13, 26)
_HOURS = [hour for hour in range(24) for _ in range(1 if hour < 7 else 4 if hour < 19 else 2)]
"""The hours of the day, as often as events start in them."""
_WORDS = re.findall(
    r"\S+",
    "rollout of the maps service switch of the database primary upgrade reboot of the cache hosts certificate backport "
    "migration of the parser cache on-call handover network maintenance rehearsal dump schema change",
)
_HEAD = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//calsync//benchmark//EN\r\n"
_OFFICE = vtimezone("Europe/Berlin").decode().replace("Europe/Berlin", "Office")
"""A timezone that nobody else knows."""
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a drawn calendar, with the days on which its first and its last occurrence start.

    `kind` is a key of `PARTS`, "train", "endless" or "blocker".
    """

    href: str
    ics: bytes
    kind: str
    first: date
    last: date


def asked_week(config: Config, now: datetime) -> Week:
    """Return the week that the rows ask about: ten weeks ahead, or the next one that has a train."""
    week = Week.containing(now.date()).shift(10)
    while week in config.declined:
        week = week.shift(1)
    return week


def pair(config: Config) -> Pair:
    """Return the pair of the shipped roster, which spans regions."""
    return Pair(conductor(config, "conductor-eu"), conductor(config, "conductor-us"))


def draw(config: Config, now: datetime, count: int, first: date, last: date, *, history: bool = False) -> list[Resource]:
    """Draw `count` resources whose occurrences start from `first` to before `last`, around `now` (aware).

    A calendar's `history` has no endless meetings and nothing in the week that the rows ask about.
    """
    prefix = "past" if history else "event"
    dice = random.Random(f"{prefix} {count}")
    resources = list(_trains(config, now, count // 5, first, last))
    if not history:
        resources += [_blocker(config, now), *(_endless(dice, n, first) for n in range(ENDLESS))]
    kinds = dice.choices(list(PARTS), list(PARTS.values()), k=count - len(resources))
    resources += [_event(config, dice, f"{prefix}-{n}", kind, first, last) for n, kind in enumerate(kinds)]
    return resources


def nearest(resources: Iterable[Resource], day: date, count: int) -> list[Resource]:
    """Return the `count` resources with an occurrence nearest to `day`."""
    return sorted(resources, key=lambda one: (max(one.first - day, day - one.last, timedelta()), one.href))[:count]


def fill(file: Path, resources: Sequence[Resource]) -> None:
    """Write the resources into the SQLite calendar at `file` in one transaction, in the schema that calsync makes."""
    SqlCalendar.sqlite(file).close()
    with closing(sqlite3.connect(file)) as connection, connection:
        (head,) = connection.execute("SELECT revision FROM calendar").fetchone()
        rows = [(one.href, head + n, one.ics) for n, one in enumerate(resources, start=1)]
        connection.executemany("INSERT INTO resources (href, revision, ics) VALUES (?, ?, ?)", rows)
        connection.execute("UPDATE calendar SET revision = ?", [head + len(rows)])


def joined(resources: Iterable[Resource]) -> bytes:
    """Return all resources as one VCALENDAR, which is how other libraries read a calendar."""
    text = b"".join(one.ics for one in resources)
    timezones = dict.fromkeys(re.findall(rb"(?s)BEGIN:VTIMEZONE.*?END:VTIMEZONE\r\n", text))
    events = re.findall(rb"(?s)BEGIN:VEVENT.*?END:VEVENT\r\n", text)
    return b"".join([_HEAD.encode(), *timezones, *events, b"END:VCALENDAR\r\n"])


def single(uid: str, start: datetime, length: timedelta, title: str) -> bytes:
    """Return a resource with one event; `start` is in UTC."""
    return _ics(uid, [*_times("UTC", start, length), f"SUMMARY:{title}"])


def reservation(config: Config, week: Week, now: datetime) -> bytes:
    """Return the resource by which the pair reserves the week at `now` (aware)."""
    plan = planning.plan(config, pair(config), week, now)
    seats = (plan.pair, plan.primary, plan.backup, plan.slots)
    train, modified = f"1.46.0-wmf.{week.number}", now.replace(microsecond=0)
    reserved = Reservation(
        week, config.train.title, *seats, modified=modified, train=train, ticket="T400001", author="bench"
    )
    return encode_reservation(config, reserved, f"{week}".ljust(32, "0"))


def _trains(config: Config, now: datetime, most: int, first: date, last: date) -> Iterator[Resource]:
    """Reserve every week from two months ahead back to `first`, but not more than `most`."""
    week = Week.containing(min(now.date() + timedelta(weeks=8), last - timedelta(weeks=1)))
    for _ in range(most):
        if week.monday < first:
            return
        if week not in config.declined:
            ics = reservation(config, week, datetime.combine(week.monday - timedelta(weeks=2), time(9), UTC))
            yield Resource(reservation_href(week), ics, "train", week.day("tue"), week.day("thu"))
        week = week.shift(-1)


def _blocker(config: Config, now: datetime) -> Resource:
    """Block the first slot of the week that the rows ask about."""
    day = asked_week(config, now).day("tue")
    start = min(window.on(day).start for window in config.train_windows).astimezone(UTC)
    return Resource("blocker.ics", single("blocker", start + _HOUR / 2, _HOUR, BLOCKER), "blocker", day, day)


def _endless(dice: random.Random, n: int, first: date) -> Resource:
    start = datetime.combine(first + timedelta(days=n), time(18, 15 * (n % 4)))
    lines = [*_times("Europe/Paris", start, _HOUR / 2), "RRULE:FREQ=WEEKLY", *_text(dice)]
    ics = _ics(f"endless-{n}", lines, _timezone("Europe/Paris"))
    return Resource(f"endless-{n}.ics", ics, "endless", start.date(), date.max)


def _event(config: Config, dice: random.Random, uid: str, kind: str, first: date, last: date) -> Resource:
    """Draw somebody's event."""
    count = dice.choice(_COUNTS) if kind == "series" else 1
    day = first + timedelta(days=dice.randrange(max(1, (last - first).days - 7 * (count - 1))))
    if kind == "day":
        return _whole_days(dice, uid, day)
    timezone = {"floating": "", "own-zone": "Office"}.get(kind, dice.choice(ZONES))
    length = dice.choice((_HOUR / 4, _HOUR / 2, _HOUR, _HOUR, 2 * _HOUR))
    careless = dice.randrange(500) == 0
    while True:
        start = datetime.combine(day, time(dice.choice(_HOURS), dice.randrange(0, 60, 15)))
        if careless or not _near_a_train(config, timezone, start, length):
            break
    lines, after = [*_times(timezone, start, length), *_text(dice)], ""
    if kind == "series":
        if dice.randrange(3) == 0:  # the second instance is moved to Friday
            second = start + timedelta(weeks=1)
            instance = _times(timezone, second, length)[0].replace("DTSTART", "RECURRENCE-ID", 1)
            friday = second + timedelta(days=4 - second.weekday())
            after = _vevent(uid, [instance, *_times(timezone, friday, length), *_text(dice)])
        if dice.randrange(5) == 0:  # the third one is skipped
            lines.append(_times(timezone, start + timedelta(weeks=2), length)[0].replace("DTSTART", "EXDATE", 1))
        lines.append(f"RRULE:FREQ=WEEKLY;COUNT={count}")
    ics = _ics(uid, lines, _timezone(timezone), after)
    return Resource(f"{uid}.ics", ics, kind, day, day + timedelta(weeks=count - 1))


def _whole_days(dice: random.Random, uid: str, day: date) -> Resource:
    """Draw a holiday, which blocks nothing; one in ten is a freeze of a weekend instead."""
    freeze = dice.randrange(10) == 0
    if freeze:
        day -= timedelta(days=(day.weekday() - 5) % 7)
    end = day + timedelta(days=2 if freeze else dice.choice((1, 1, 1, 2, 5)))
    lines = [f"DTSTART;VALUE=DATE:{day:%Y%m%d}", f"DTEND;VALUE=DATE:{end:%Y%m%d}", *_text(dice)]
    lines.append("CATEGORIES:freeze" if freeze else "TRANSP:TRANSPARENT")
    return Resource(f"{uid}.ics", _ics(uid, lines), "day", day, day)


def _near_a_train(config: Config, timezone: str, start: datetime, length: timedelta) -> bool:
    """Tell whether the event comes within an hour of a train window, which keeps a series clear when clocks change.

    A floating event must keep clear in the timezone of every window.
    """
    windows = config.train_windows
    places = [{"Office": "Europe/Berlin"}.get(timezone, timezone)] if timezone else [one.timezone for one in windows]
    starts = [resolve(start, zone(place))[0].astimezone(UTC) for place in places]
    slots = _train_slots(windows, start.date())
    return any(low - _HOUR < begin + length and begin < high + _HOUR for begin in starts for low, high in slots)


@cache
def _train_slots(windows: tuple[Window, ...], day: date) -> list[tuple[datetime, datetime]]:
    """Return the train windows of the day and of the days beside it, in UTC."""
    days = [one for one in (day + timedelta(days=n) for n in (-1, 0, 1)) if one.weekday() in (1, 2, 3)]
    slots = [window.on(one) for window in windows for one in days]
    return [(slot.start.astimezone(UTC), slot.end.astimezone(UTC)) for slot in slots]


def _times(timezone: str, start: datetime, length: timedelta) -> list[str]:
    parameter = f";TZID={timezone}" if timezone not in ("", "UTC") else ""
    mark = "Z" if timezone == "UTC" else ""
    moments = {"DTSTART": start, "DTEND": start + length}
    return [f"{name}{parameter}:{moment:%Y%m%dT%H%M%S}{mark}" for name, moment in moments.items()]


def _text(dice: random.Random) -> list[str]:
    """Draw a title; six in ten also have a description, of up to a page."""
    lines = [f"SUMMARY:{' '.join(dice.choices(_WORDS, k=dice.randint(2, 6))).capitalize()}"]
    if words := dice.choices((0, 12, 60, 250), weights=(40, 40, 15, 5))[0]:
        lines.append(f"DESCRIPTION:{' '.join(dice.choices(_WORDS, k=words))}")
    return lines


@cache
def _timezone(name: str) -> str:
    return _OFFICE if name == "Office" else vtimezone(name).decode() if name not in ("", "UTC") else ""


def _ics(uid: str, lines: Sequence[str], before: str = "", after: str = "") -> bytes:
    return f"{_HEAD}{before}{_vevent(uid, lines)}{after}END:VCALENDAR\r\n".encode()


def _vevent(uid: str, lines: Sequence[str]) -> str:
    whole = ["BEGIN:VEVENT", f"UID:{uid}", "DTSTAMP:20260101T000000Z", *lines, "END:VEVENT"]
    return "".join(f"{_fold(line)}\r\n" for line in whole)


def _fold(line: str) -> str:
    return "\r\n ".join(line[at : at + 73] for at in range(0, len(line), 73))
