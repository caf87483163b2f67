"""The places of a timeline's days in its picture, in pixels.

The picture is for other places than calsync's page, such as a wiki or a ticket. It has a fixed size and no style sheet,
because neither they nor calsync's Content-Security-Policy allow one in a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calsync.web.pages.timeline import Band, Bar, Day

LEFT, TRACK, TOP = 84, 1296, 66
"""The width of the days' names, the width of a day's hours, and the space above the first day."""
LANE, BAND, MARGIN, AXIS = 36, 14, 8, 16
"""The heights of a lane, of a conductor's band, of the margin around them, and of the axis of a day that has its own."""


@dataclass(frozen=True, slots=True)
class BarBox:
    """A bar's place in its day: a box at `x` and `y` that has room for the bar and its label."""

    bar: Bar
    x: float
    y: float
    width: float
    begin: float
    """The left edge of the bar itself, from `x`."""
    end: float
    """The right edge of the bar itself, from `x`."""
    precedes: bool
    """Whether the label is before the bar."""
    text: float
    """Where the label begins, or ends if it precedes the bar, from `x`."""
    space: float
    """How wide the label may be."""


@dataclass(frozen=True, slots=True)
class DayBox:
    """A day's place in the picture; everything in it is measured from its top."""

    day: Day
    y: float
    height: float
    hours: tuple[tuple[float, str], ...]
    bands: tuple[tuple[Band, float, float, float], ...]
    """Each with its left edge, its top and its width."""
    bars: tuple[BarBox, ...]
    now: float | None


def day_boxes(days: Sequence[Day]) -> tuple[DayBox, ...]:
    """Place the days one below the other."""
    boxes: list[DayBox] = []
    for day in days:
        boxes.append(_day_box(day, boxes[-1].y + boxes[-1].height if boxes else TOP))
    return tuple(boxes)


def _day_box(day: Day, y: float) -> DayBox:
    scale = TRACK / day.steps
    top = MARGIN + (AXIS if day.clocks_change else 0)
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
        bars=tuple(_bar_box(bar, scale, lanes) for bar in day.bars),
        now=None if day.now is None else LEFT + day.now * scale,
    )


def _bar_box(bar: Bar, scale: float, lanes: float) -> BarBox:
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
