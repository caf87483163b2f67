"""Calendars to measure with: any number of events, drawn from a seed, in the proportions of a Deployments calendar.

There is a train in every week up to two months ahead. All else is other people's: single events with and without a
timezone, weekly series with moved and skipped instances, holidays and freezes of whole days, and events whose timezone
nobody else has. People keep clear of the train windows, as they do, but for one event in five hundred, and for one that
stands in the way of the week that is asked about.
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

SEED = 49
PARTS = {"single": 0.70, "day": 0.12, "series": 0.10, "floating": 0.05, "own-zone": 0.03}
"""What other people's events are, in parts of one."""
EVER = 5
"""Weekly meetings without an end, however large the calendar is."""

_ZONES = ("UTC", "Europe/Paris", "Europe/Berlin", "America/New_York", "America/Los_Angeles", "Asia/Kolkata")
_COUNTS = (4, 8, 13, 26)
_TEXT = (
    "rollout of the maps service, switch of the database primary, upgrade, reboot of the cache hosts, certificate, "
    "backport, migration of the parser cache, on-call handover, network maintenance, rehearsal, dump, schema change"
)
_WORDS = re.findall(r"\S+", _TEXT)
_CLOCK = [hour for hour in range(24) for _ in range(1 if hour < 7 else 4 if hour < 19 else 2)]
"""The hours of the day, as often as events start in them."""
_OWN_ZONE = """BEGIN:VTIMEZONE
TZID:Office
BEGIN:DAYLIGHT
DTSTART:20070325T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
END:DAYLIGHT
BEGIN:STANDARD
DTSTART:20071028T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
END:VTIMEZONE
""".replace("\n", "\r\n")
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Made:
    """One resource: its href, its bytes, what it is (a part of `PARTS`, "train", "ever" or "clash"), and on which days
    its first and its last occurrence start.
    """

    href: str
    ics: bytes
    kind: str
    first: date
    last: date


def asked_week(config: Config, today: datetime) -> Week:
    """The week that the rows ask about: ten weeks ahead, or the first one after it that has a train and no freeze."""
    week = Week.containing(today.date()).shift(10)
    frozen = [freeze for freeze in config.freezes if freeze.days is None]
    while week in config.declined or any(_touches(freeze.start, freeze.end, week) for freeze in frozen):
        week = week.shift(1)
    return week


def _touches(start: date | None, end: date | None, week: Week) -> bool:
    assert start is not None  # a freeze that is not weekly has both
    assert end is not None
    days = [moment.date() if isinstance(moment, datetime) else moment for moment in (start, end)]
    return days[0] <= week.monday + timedelta(days=6) and week.monday <= days[1]


def pair(config: Config) -> Pair:
    """The pair of the shipped roster, which spans regions."""
    return Pair(conductor(config, "conductor-eu"), conductor(config, "conductor-us"))


def made(
    config: Config, today: datetime, count: int, first: date, last: date, *, seed: int = SEED, history: bool = False
) -> list[Made]:
    """`count` resources whose occurrences start on the days from `first` to before `last`, `today` (aware) among them.

    The `history` of a calendar has no train ahead, no meetings without end, and nothing to ask about.
    """
    dice = random.Random(f"{seed} {count}")
    found = list(_trains(config, today, count // 5, first, last))
    if not history:
        found += [_clash(config, today), *_ever(dice, first)]
    rest = count - len(found)
    kinds = [kind for kind, part in PARTS.items() for _ in range(round(rest * part))]
    kinds = (kinds + ["single"] * rest)[:rest]
    dice.shuffle(kinds)
    found += (_event(config, dice, f"{seed}-{n}", kind, first, last) for n, kind in enumerate(kinds))
    return found


def nearest(resources: Iterable[Made], day: date, count: int) -> list[Made]:
    """The `count` resources with an occurrence nearest to `day`: the same calendar, when it had run for less long."""

    def distance(one: Made) -> tuple[timedelta, str]:
        return max(one.first - day, day - one.last, timedelta()), one.href

    return sorted(resources, key=distance)[:count]


def fill(file: Path, resources: Sequence[Made]) -> None:
    """Write the resources into the SQLite calendar at `file`, in one transaction and in the schema that calsync makes."""
    SqlCalendar.sqlite(file).close()
    with closing(sqlite3.connect(file)) as connection, connection:
        (head,) = connection.execute("SELECT revision FROM calendar").fetchone()
        rows = [(one.href, head + n, one.ics) for n, one in enumerate(resources, start=1)]
        connection.executemany("INSERT INTO resources (href, revision, ics) VALUES (?, ?, ?)", rows)
        connection.execute("UPDATE calendar SET revision = ?", [head + len(rows)])


def joined(resources: Iterable[Made]) -> bytes:
    """All of them as one VCALENDAR, as other libraries read a calendar."""
    timezones: dict[bytes, None] = {}
    bodies = []
    for one in resources:
        head, mark, rest = one.ics.partition(b"BEGIN:VEVENT")
        before, zoned, _ = head.partition(b"BEGIN:VTIMEZONE")
        if zoned:
            for text in head.removeprefix(before).split(b"END:VTIMEZONE\r\n")[:-1]:
                timezones[text + b"END:VTIMEZONE\r\n"] = None
        bodies.append(mark + rest.removesuffix(b"END:VCALENDAR\r\n"))
    return b"".join([_HEAD.encode(), *timezones, *bodies, b"END:VCALENDAR\r\n"])


_HEAD = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//calsync//benchmark//EN\r\n"


def reservation(config: Config, week: Week, now: datetime) -> Reservation:
    """The pair's reservation of the week, as a person would have made it at `now`."""
    plan = planning.plan(config, pair(config), week, now)
    return Reservation(
        week, config.train.title, plan.pair, plan.primary, plan.backup, plan.slots, modified=now.replace(microsecond=0),
        train=f"1.46.0-wmf.{week.monday.isocalendar().week}", ticket="T400001", author="bench",
    )  # fmt: skip


def _trains(config: Config, today: datetime, most: int, first: date, last: date) -> Iterator[Made]:
    week = Week.containing(min(today.date() + timedelta(weeks=8), last - timedelta(days=7)))
    for _ in range(most):
        if week.monday < first:
            return
        if week not in config.declined:
            written = datetime.combine(week.monday - timedelta(days=14), time(9), UTC)
            ics = encode_reservation(config, reservation(config, week, written), f"{week}")
            yield Made(
                reservation_href(week), ics, "train", week.monday + timedelta(days=1), week.monday + timedelta(days=3)
            )
        week = week.shift(-1)


def _clash(config: Config, today: datetime) -> Made:
    """An event that stands in the way of the first slot of the week that is asked about."""
    week = asked_week(config, today)
    start = min(window.on(week.day("tue")).start for window in config.train_windows).astimezone(UTC) + _HOUR / 2
    lines = [f"DTSTART:{start:%Y%m%dT%H%M%SZ}", "DURATION:PT1H", "SUMMARY:Switch of the database primary"]
    return Made("clash.ics", _ics("clash", lines), "clash", start.date(), start.date())


def _ever(dice: random.Random, first: date) -> Iterator[Made]:
    for n in range(EVER):
        start = datetime.combine(first + timedelta(days=n), time(18, 15 * (n % 4)))
        lines = [*_span("Europe/Paris", start, _HOUR / 2), "RRULE:FREQ=WEEKLY", *_text(dice)]
        ics = _ics(f"ever-{n}", lines, vtimezone("Europe/Paris").decode())
        yield Made(f"ever-{n}.ics", ics, "ever", first, date.max)


def _event(config: Config, dice: random.Random, name: str, kind: str, first: date, last: date) -> Made:
    uid, href = f"event-{name}", f"event-{name}.ics"
    count = dice.choice(_COUNTS) if kind == "series" else 1
    day = first + timedelta(days=dice.randrange(max(1, (last - first).days - 7 * (count - 1))))
    if kind == "day":
        return _day(dice, uid, day)
    tz = {"floating": "", "own-zone": "Office"}.get(kind, dice.choice(_ZONES))
    length = dice.choice((_HOUR / 4, _HOUR / 2, _HOUR, _HOUR, 2 * _HOUR))
    ignores_preconditions = dice.randrange(500) == 0
    while True:
        start = datetime.combine(day, time(dice.choice(_CLOCK), dice.randrange(0, 60, 15)))
        if ignores_preconditions or not _in_a_train_window(config, tz, start, length):
            break
    lines = [*_span(tz, start, length), *_text(dice)]
    before = _OWN_ZONE if kind == "own-zone" else vtimezone(tz).decode() if tz not in ("", "UTC") else ""
    if kind != "series":
        return Made(href, _ics(uid, lines, before), kind, day, day)
    after = ""
    if dice.randrange(3) == 0:  # one instance is moved
        moved = start + timedelta(weeks=1)
        instance = _span(tz, moved, length)[0].replace("DTSTART", "RECURRENCE-ID", 1)
        after = _vevent(uid, [instance, *_span(tz, moved - timedelta(days=moved.weekday() - 4), length), *_text(dice)])
    if dice.randrange(5) == 0:
        lines.append(_span(tz, start + timedelta(weeks=2), length)[0].replace("DTSTART", "EXDATE", 1))
    lines.append(f"RRULE:FREQ=WEEKLY;COUNT={count}")
    return Made(href, _ics(uid, lines, before, after), kind, day, day + timedelta(weeks=count - 1))


def _day(dice: random.Random, uid: str, day: date) -> Made:
    """A holiday, which makes nobody busy, or for one in ten a freeze of a weekend, which does."""
    freeze = dice.randrange(10) == 0
    if freeze:
        day -= timedelta(days=(day.weekday() - 5) % 7)
    until = day + timedelta(days=2 if freeze else dice.choice((1, 1, 1, 2, 5)))
    lines = [f"DTSTART;VALUE=DATE:{day:%Y%m%d}", f"DTEND;VALUE=DATE:{until:%Y%m%d}", *_text(dice)]
    lines += ["CATEGORIES:freeze"] if freeze else ["TRANSP:TRANSPARENT"]
    return Made(f"{uid}.ics", _ics(uid, lines), "day", day, day)


def _in_a_train_window(config: Config, tz: str, start: datetime, length: timedelta) -> bool:
    """Whether it comes within an hour of one, so that a series also keeps clear when clocks do not change together."""
    if not tz:  # it is then wherever it is looked at from
        return start.weekday() in (1, 2, 3) and start.hour < 14 and start + length > start.replace(hour=9, minute=0)
    begin = resolve(start, zone({"Office": "Europe/Berlin"}.get(tz, tz)))[0].astimezone(UTC)
    spans = _train_spans(config.train_windows, start.date())
    return any(low - _HOUR < begin + length and begin < high + _HOUR for low, high in spans)


@cache
def _train_spans(windows: tuple[Window, ...], day: date) -> list[tuple[datetime, datetime]]:
    """When the train's windows are on that day, the one before and the one after it, in UTC."""
    days = [day + timedelta(days=n) for n in (-1, 0, 1)]
    slots = [window.on(one) for window in windows for one in days if one.weekday() in (1, 2, 3)]
    return [(slot.start.astimezone(UTC), slot.end.astimezone(UTC)) for slot in slots]


def _span(tz: str, start: datetime, length: timedelta) -> list[str]:
    param, mark = (f";TZID={tz}" if tz not in ("", "UTC") else "", "Z" if tz == "UTC" else "")
    return [
        f"{name}{param}:{moment:%Y%m%dT%H%M%S}{mark}" for name, moment in (("DTSTART", start), ("DTEND", start + length))
    ]


def _text(dice: random.Random) -> list[str]:
    """A title, and for most a description of anything between a line and a page."""
    title = " ".join(dice.choices(_WORDS, k=dice.randint(2, 6))).strip(",").capitalize()
    words = dice.choices((0, 12, 60, 250), weights=(40, 40, 15, 5))[0]
    said = " ".join(dice.choices(_WORDS, k=words)).replace(",", "\\,")
    return [f"SUMMARY:{title}".replace(",", "\\,"), *([f"DESCRIPTION:{said}"] if said else [])]


def _ics(uid: str, lines: Sequence[str], before: str = "", after: str = "") -> bytes:
    return f"{_HEAD}{before}{_vevent(uid, lines)}{after}END:VCALENDAR\r\n".encode()


def _vevent(uid: str, lines: Sequence[str]) -> str:
    whole = ["BEGIN:VEVENT", f"UID:{uid}", "DTSTAMP:20260101T000000Z", *lines, "END:VEVENT"]
    return "".join(f"{_folded(line)}\r\n" for line in whole)


def _folded(line: str) -> str:
    return "\r\n ".join(line[at : at + 73] for at in range(0, len(line), 73))
