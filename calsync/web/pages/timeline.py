"""The week as a timeline: days down, hours across, in the viewer's timezone.

Places are steps of five minutes from the start of the day. The start and the end of a day are resolved separately, so a
day on which the clocks change has 23 or 25 hours with the right names. A label may be longer than its bar, so a bar takes
the space of its label. Bars that have no space side by side go to different lanes, so that nothing is covered. The page and
the picture of the week are drawn from the same days.
"""

from __future__ import annotations

import heapq
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Literal

from calsync.core.text import CONTROLS
from calsync.core.timezones import midnight, zone
from calsync.core.weeks import Week
from calsync.core.windows import Role

STEP = timedelta(minutes=5)
"""The unit of the timeline."""
MOST_STEPS = 28 * 12
"""How many steps a day may have. Since 2000, no clock was put back by more than three hours."""
LABEL = 51
"""How many steps the label of a bar takes."""
_LEAST = 30
"""With fewer steps than this until midnight, a label goes before its bar."""
Kind = Literal["slot", "planned", "free", "open", "recurring", "event", "freeze", "unknown", "cancelled"]
"""What an event is: a reserved slot, a planned one, a free alternative, a train window that nobody reserved, …"""
_UNSEEN = re.compile(rf"[{CONTROLS}\ud800-\udfff\ufffe\uffff]+")  # control characters, and what XML does not allow


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """Something that happens in the week; `start` and `end` are aware."""

    kind: Kind
    title: str
    start: datetime
    end: datetime
    note: str = ""
    """Goes beside the title: who conducts, or why it is shown."""
    facts: tuple[str, ...] = ()
    """Further lines for those who look closer."""
    conflicts: tuple[str, ...] = ()
    """Its conflicts, in sentences."""
    blocked: bool = False
    """Whether any of the conflicts blocks."""
    role: Role | None = None
    anchor: str = ""
    """Its id on the page, unique in the week; may be empty."""


@dataclass(frozen=True, slots=True)
class WorkingDay:
    """A working day of one of the week's conductors; `start` and `end` are aware."""

    role: Role
    name: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Bar:
    """The part of an event that is in one day: from the step `first` to `last`, and with its label from `left` to `right`.

    `when` is its time on that day. `begins` is whether the event starts on this day, not on an earlier one.
    """

    event: TimelineEvent
    first: int
    last: int
    left: int
    right: int
    lane: int
    when: str
    begins: bool
    running: bool


@dataclass(frozen=True, slots=True)
class Band:
    """The part of a working day that is in one day of the viewer, in steps; `when` is its time on that day."""

    role: Role
    name: str
    first: int
    last: int
    when: str


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the viewer, from `start` to `end` (aware); `hours` are the steps of the full hours, with their names.

    `now` is the step of the present, or None on another day.
    """

    date: date
    start: datetime
    end: datetime
    steps: int
    hours: tuple[tuple[int, str], ...]
    bands: tuple[Band, ...]
    bars: tuple[Bar, ...]
    lanes: int
    now: int | None

    @property
    def clocks_change(self) -> bool:
        """Whether the clocks change on this day."""
        return self.end - self.start != timedelta(days=1)


def week_span(week: Week, timezone: str) -> tuple[datetime, datetime]:
    """Return the start and the end of the week in a timezone (aware)."""
    return midnight(week.monday, timezone), midnight(week.monday + timedelta(days=7), timezone)


def lay_out(
    week: Week, timezone: str, events: Iterable[TimelineEvent], working: Sequence[WorkingDay], now: datetime
) -> tuple[Day, ...]:
    """Return the days of the week in `timezone`, with the events and the working days in them; `now` is aware.

    A day that the clocks skip altogether, such as Apia's 30 December 2011, is left out.
    """
    ordered = sorted(events, key=lambda event: (event.start, event.start - event.end, event.title))
    days = (_day(week.monday + timedelta(days=n), timezone, ordered, working, now) for n in range(7))
    return tuple(day for day in days if day.steps)


def visible(text: str) -> str:
    """Return other people's text as one line, without control characters, bidi marks, or what XML does not allow."""
    return " ".join(_UNSEEN.sub(" ", text).split())


def fitted(text: str, width: float, size: float) -> str:
    """Return as much of the text as fits `width` at the font size `size` (both in pixels), with an ellipsis if cut."""
    room = width / size
    for at, character in enumerate(text):
        room -= 1.1 if unicodedata.east_asian_width(character) in "WF" else 0.58
        if room < 0:
            return text[: max(at - 1, 0)].rstrip() + "…"
    return text


def _day(day: date, timezone: str, events: Sequence[TimelineEvent], working: Sequence[WorkingDay], now: datetime) -> Day:
    start, end = midnight(day, timezone), midnight(day + timedelta(days=1), timezone)
    steps = min(math.ceil((end - start) / STEP), MOST_STEPS)
    bars = [_bar(event, start, end, steps, now) for event in events if event.start < end and start < event.end]
    bands = tuple(
        Band(work.role, work.name, *_steps(work.start, work.end, start, end), _when(work.start, work.end, start, end))
        for work in working
        if work.start < end and start < work.end
    )
    bars = _in_lanes(bars)
    return Day(
        day,
        start,
        end,
        steps,
        tuple(_hours(start, steps, timezone)),
        bands,
        tuple(bars),
        lanes=1 + max((bar.lane for bar in bars), default=-1),
        now=int((now - start) / STEP) if start <= now < end else None,
    )


def _hours(start: datetime, steps: int, timezone: str) -> Iterator[tuple[int, str]]:
    hour = timedelta(hours=1) // STEP
    for step in range(0, steps, hour):
        moment = (start + step * STEP).astimezone(zone(timezone))
        yield step, f"{moment:%H}" if moment.minute == 0 else f"{moment:%H:%M}"


def _steps(first: datetime, last: datetime, start: datetime, end: datetime) -> tuple[int, int]:
    """Return the steps, at least one, that the span from `first` to `last` has in the day from `start` to `end`."""
    begin = int((max(first, start) - start) / STEP)
    return begin, max(begin + 1, math.ceil((min(last, end) - start) / STEP))


def _when(first: datetime, last: datetime, start: datetime, end: datetime) -> str:
    """Return the span on the clocks of the day from `start` to `end`: `10:00–12:00`, `22:00–24:00`, `all day`."""
    if first <= start and end <= last:
        return "all day"
    begins, ends = (edge.astimezone(start.tzinfo) for edge in (max(first, start), min(last, end)))
    return f"{begins:%H:%M}–" + ("24:00" if ends >= end else f"{ends:%H:%M}")


def _bar(event: TimelineEvent, start: datetime, end: datetime, steps: int, now: datetime) -> Bar:
    first, last = _steps(event.start, event.end, start, end)
    left, right = first, max(last, min(first + LABEL, steps))
    if last - first < LABEL and steps - first < _LEAST:
        left, right = max(0, first - LABEL), last
    return Bar(
        event,
        first,
        last,
        left,
        right,
        lane=0,
        when=_when(event.start, event.end, start, end),
        begins=event.start >= start,
        running=event.start <= now < event.end,
    )


def _in_lanes(bars: Sequence[Bar]) -> list[Bar]:
    """Return the bars, each in the first lane that is free where it begins."""
    taken: list[tuple[int, int]] = []  # the step after the bar, and its lane
    free: list[int] = []
    lanes: dict[int, int] = {}
    for at in sorted(range(len(bars)), key=lambda at: bars[at].left):
        while taken and taken[0][0] <= bars[at].left:
            heapq.heappush(free, heapq.heappop(taken)[1])
        lane = heapq.heappop(free) if free else len(taken)
        heapq.heappush(taken, (bars[at].right, lane))
        lanes[at] = lane
    return [replace(bar, lane=lanes[at]) for at, bar in enumerate(bars)]
