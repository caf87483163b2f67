"""Where the days of a timeline lie in its picture, in pixels.

The picture is for places where calsync's page is not: a wiki, a ticket. Its size is its own, and it has no style sheet,
since neither they nor the page's own policy would take one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calsync.web.pages.timeline import Band, Bar, Day

LEFT, TRACK, TOP = 84, 1296, 66
"""The room for the names of the days, the width of a day's hours, and the room above the first day."""
LANE, BAND, MARGIN, AXIS = 36, 14, 8, 16
"""The height of a lane and of a conductor's band; the room around them; that of the hours of a day that has its own."""


@dataclass(frozen=True, slots=True)
class BarBox:
    """A bar's place in its day: the room of its label from `x` on, `width` wide, where the bar goes from `begin` to `end`.

    `text` is where its text begins, or ends where it `precedes` the bar, and `space` how wide that may be.
    """

    bar: Bar
    x: float
    y: float
    width: float
    begin: float
    end: float
    precedes: bool
    text: float
    space: float


@dataclass(frozen=True, slots=True)
class DayBox:
    """A day's place in the picture. All else in it is measured from its own top."""

    day: Day
    y: float
    height: float
    hours: tuple[tuple[float, str], ...]
    bands: tuple[tuple[Band, float, float, float], ...]
    """Each with its left edge, its top and its width."""
    bars: tuple[BarBox, ...]
    now: float | None


def day_boxes(days: Sequence[Day]) -> tuple[DayBox, ...]:
    """The days one below the other."""
    found: list[DayBox] = []
    for day in days:
        found.append(_frame(day, found[-1].y + found[-1].height if found else TOP))
    return tuple(found)


def _frame(day: Day, y: float) -> DayBox:
    scale = TRACK / day.steps
    top = MARGIN + (AXIS if day.is_odd else 0)
    bands = tuple(
        (band, LEFT + band.first * scale, top + (BAND if band.role == "backup" else 0), (band.last - band.first) * scale)
        for band in day.bands
    )
    lanes = top + (2 * BAND + 2 if bands else 0)
    return DayBox(
        day,
        y,
        height=lanes + max(day.lanes, 1) * LANE + MARGIN,
        hours=tuple((LEFT + step * scale, hour) for step, hour in day.hours),
        bands=bands,
        bars=tuple(_sketch(bar, scale, lanes) for bar in day.bars),
        now=None if day.now is None else LEFT + day.now * scale,
    )


def _sketch(bar: Bar, scale: float, lanes: float) -> BarBox:
    width, begin, end = ((step - bar.left) * scale for step in (bar.right, bar.first, bar.last))
    precedes = bar.left < bar.first
    return BarBox(
        bar,
        x=LEFT + bar.left * scale,
        y=lanes + bar.lane * LANE,
        width=width,
        begin=begin,
        end=max(end, begin + 4),
        precedes=precedes,
        text=begin - 7 if precedes else 9,
        space=(begin if precedes else width) - 14,
    )
