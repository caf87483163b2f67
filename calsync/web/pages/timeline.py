"""The week as a timeline: days down, hours across, in the viewer's timezone.

Everything is measured in steps of five minutes from the start of its day. A day begins and ends where the viewer's clocks
say, each edge resolved by itself, so that the days on which they change have 23 or 25 hours of the right names. A label may
be longer than its bar, so a bar takes the room of its label, and what has no room beside another goes to another lane:
nothing covers anything. The page and the picture of the week are drawn from the same days.
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
"""What the timeline is measured in."""
MOST_STEPS = 28 * 12
"""How many steps a day may have: no clock was ever put back by more than three hours since 2000."""
LABEL = 51
"""How many steps the label of a bar takes."""
_LEAST = 30
"""With fewer steps than these until midnight, a label stands before its bar."""
Kind = Literal["slot", "planned", "free", "open", "recurring", "event", "freeze", "unknown", "cancelled"]
"""What happens: a reserved slot, one that would be reserved, a free alternative, a train window nobody holds, …"""
_UNSEEN = re.compile(rf"[{CONTROLS}\ud800-\udfff\ufffe\uffff]+")  # and what XML has no place for


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """Something in the week. `start` and `end` are aware; `note` says who or what besides the title, `facts` the rest.

    `conflicts` are the sentences that speak against it; `blocked` is whether any of them stands in the way of reserving it,
    rather than only warns. `anchor` is its id on the page, unique in the week, or empty.
    """

    kind: Kind
    title: str
    start: datetime
    end: datetime
    note: str = ""
    facts: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    blocked: bool = False
    role: Role | None = None
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class WorkingDay:
    """A working day of one of the week's conductors, as two aware instants."""

    role: Role
    name: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Bar:
    """What of a happening lies in one day: from the step `first` to `last`, and with its label from `left` to `right`.

    `when` is its time on that day. `begins` is whether the happening starts here, rather than on an earlier day.
    """

    what: TimelineEvent
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
    """What of a shift lies in one day, in steps; `when` is its time on that day."""

    role: Role
    name: str
    first: int
    last: int
    when: str


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the viewer: from `start` to `end` (aware) in `steps`; `hours` are the steps of full hours, named.

    `now` is the step of the present moment where that lies in the day.
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
    def is_odd(self) -> bool:
        """Whether the clocks change on this day."""
        return self.end - self.start != timedelta(days=1)


def week_span(week: Week, timezone: str) -> tuple[datetime, datetime]:
    """The instants at which the week starts and ends in a timezone."""
    return midnight(week.monday, timezone), midnight(week.monday + timedelta(days=7), timezone)


def lay_out(
    week: Week, timezone: str, happenings: Iterable[TimelineEvent], shifts: Sequence[WorkingDay], now: datetime
) -> tuple[Day, ...]:
    """The days of the week in `timezone`, with everything of these that lies in them; `now` is aware.

    A day that the clocks leave out altogether, as Apia's 30 December 2011, is left out here too.
    """
    ordered = sorted(happenings, key=lambda one: (one.start, one.start - one.end, one.title))
    days = (_day(week.monday + timedelta(days=n), timezone, ordered, shifts, now) for n in range(7))
    return tuple(day for day in days if day.steps)


def visible(text: str) -> str:
    """Other people's text in one line, without characters that turn the text around them or that XML has no place for."""
    return " ".join(_UNSEEN.sub(" ", text).split())


def fitted(text: str, width: float, size: float) -> str:
    """As much of the text as fits `width` at the font size `size` (both in pixels), with an ellipsis where it was cut."""
    room = width / size
    for at, character in enumerate(text):
        room -= 1.1 if unicodedata.east_asian_width(character) in "WF" else 0.58
        if room < 0:
            return text[: max(at - 1, 0)].rstrip() + "…"
    return text


def _day(day: date, timezone: str, happenings: Sequence[TimelineEvent], shifts: Sequence[WorkingDay], now: datetime) -> Day:
    start, end = midnight(day, timezone), midnight(day + timedelta(days=1), timezone)
    steps = min(math.ceil((end - start) / STEP), MOST_STEPS)
    within = [one for one in happenings if one.start < end and start < one.end]
    bars = tuple(_stacked([_bar(one, start, end, steps, now) for one in within]))
    bands = tuple(
        Band(shift.role, shift.name, *_cut(shift.start, shift.end, start, end), _when(shift.start, shift.end, start, end))
        for shift in shifts
        if shift.start < end and start < shift.end
    )
    return Day(
        day,
        start,
        end,
        steps,
        tuple(_hours(start, steps, timezone)),
        bands,
        bars,
        lanes=1 + max((bar.lane for bar in bars), default=-1),
        now=int((now - start) / STEP) if start <= now < end else None,
    )


def _hours(start: datetime, steps: int, timezone: str) -> Iterator[tuple[int, str]]:
    hour = timedelta(hours=1) // STEP
    for step in range(0, steps, hour):
        moment = (start + step * STEP).astimezone(zone(timezone))
        yield step, f"{moment:%H}" if moment.minute == 0 else f"{moment:%H:%M}"


def _cut(first: datetime, last: datetime, start: datetime, end: datetime) -> tuple[int, int]:
    """The steps of the day from `start` to `end` that the span from `first` to `last` touches, at least one."""
    begin = int((max(first, start) - start) / STEP)
    return begin, max(begin + 1, math.ceil((min(last, end) - start) / STEP))


def _when(first: datetime, last: datetime, start: datetime, end: datetime) -> str:
    """The span on the clocks of the day from `start` to `end`: `10:00–12:00`, `22:00–24:00`, `all day`."""
    if first <= start and end <= last:
        return "all day"
    begins, ends = (edge.astimezone(start.tzinfo) for edge in (max(first, start), min(last, end)))
    return f"{begins:%H:%M}–" + ("24:00" if ends >= end else f"{ends:%H:%M}")


def _bar(what: TimelineEvent, start: datetime, end: datetime, steps: int, now: datetime) -> Bar:
    first, last = _cut(what.start, what.end, start, end)
    left, right = first, max(last, min(first + LABEL, steps))
    if last - first < LABEL and steps - first < _LEAST:
        left, right = max(0, first - LABEL), last
    return Bar(
        what,
        first,
        last,
        left,
        right,
        lane=0,
        when=_when(what.start, what.end, start, end),
        begins=what.start >= start,
        running=what.start <= now < what.end,
    )


def _stacked(bars: Sequence[Bar]) -> list[Bar]:
    """The bars, each in the first lane that is free where it begins."""
    taken: list[tuple[int, int]] = []  # until which step, and which lane
    free: list[int] = []
    lanes: dict[int, int] = {}
    for at in sorted(range(len(bars)), key=lambda at: bars[at].left):
        while taken and taken[0][0] <= bars[at].left:
            heapq.heappush(free, heapq.heappop(taken)[1])
        lane = heapq.heappop(free) if free else len(taken)
        heapq.heappush(taken, (bars[at].right, lane))
        lanes[at] = lane
    return [replace(bar, lane=lanes[at]) for at, bar in enumerate(bars)]
