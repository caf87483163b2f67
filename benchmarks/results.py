"""Ratios, what each must reach, and the rows of the table.

A ratio is the median over several runs. Each run measures both sides one directly after the other, so that whatever else
the machine does slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Bound:
    """The least ("≥") or the most ("≤") that a ratio may be, and `of` what."""

    sign: Literal["≥", "≤"]
    limit: float
    of: str

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:,g} {self.of}"

    def holds(self, ratio: float) -> bool:
        """Return whether the ratio is within the bound."""
        return ratio >= self.limit if self.sign == "≥" else ratio <= self.limit


REACHES = {
    "hot feed": Bound("≥", 0.75, "of a bare Starlette route, per processor second"),
    "unchanged feed (304)": Bound("≥", 0.75, "of a bare Starlette 304, per processor second"),
    "feed after one change": Bound("≤", 0.3, "of building it"),
    "GET /api/conflicts": Bound("≥", 0.5, "of a bare FastAPI route, per processor second"),
    "check, first call": Bound("≥", 5_000, "times faster than the first call of recurring_ical_events"),
    "check, warm call": Bound("≥", 1_000, "times faster than a repeated call of recurring_ical_events"),
    "check, growth": Bound("≤", 2, "times on the grown calendar"),
    "reserving": Bound("≤", 7, "times a bare transaction behind a bare FastAPI route"),
    "reserving, growth": Bound("≤", 1.5, "times on the grown calendar"),
    "foreign change, growth": Bound("≤", 2, "times on the grown calendar"),
    "start with history": Bound("≤", 1.3, "times the start without history"),
    "memory": Bound("≤", 1, "kB per occurrence"),
}
"""What each row must reach, by its name."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Both sides of a ratio in each run, in seconds."""

    runs: Sequence[tuple[float, float]]

    @property
    def ratio(self) -> float:
        """The median of the runs' ratios of the left side to the right side."""
        return statistics.median(left / right for left, right in self.runs)

    def __str__(self) -> str:
        ratios = [significant(left / right) for left, right in self.runs]
        left, right = (format_seconds(statistics.median(side)) for side in zip(*self.runs, strict=True))
        return f"{left} against {right}; {len(ratios)} runs from {min(ratios):,g} to {max(ratios):,g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `name` is a key of `REACHES`."""

    name: str
    ratio: float
    detail: str

    @classmethod
    def of(cls, name: str, pairs: Pairs, about: str) -> Row:
        """Make the row of a measured ratio."""
        return cls(name, pairs.ratio, f"{about}: {pairs}")

    @property
    def holds(self) -> bool:
        """Whether the ratio is within its bound."""
        return REACHES[self.name].holds(self.ratio)

    def as_json(self) -> dict[str, Any]:
        """Return the row as one JSON object."""
        figures = {"ratio": significant(self.ratio), "reach": str(REACHES[self.name]), "holds": self.holds}
        return {"name": self.name, **figures, "detail": self.detail}


def measure_pairs(runs: int, left: Callable[[], float], right: Callable[[], float]) -> Pairs:
    """Measure both sides `runs` times; they take turns in going first."""
    pairs = []
    for n in range(runs):
        if n % 2:
            second = right()
            pairs.append((left(), second))
        else:
            pairs.append((left(), right()))
    return Pairs(pairs)


def processor_seconds(call: Callable[[], object]) -> float:
    """Return the processor time of the call in this process, which does not grow when the machine is busy."""
    started = time.process_time()
    call()
    return time.process_time() - started


def format_seconds(value: float) -> str:
    """Write a duration with three significant digits."""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def significant(value: float) -> float:
    """Round to three significant digits."""
    return float(f"{value:.3g}")


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows for a person."""
    table = Table("row", "ratio", "reach", "holds", "measured", show_lines=True)
    for row in rows:
        holds = "yes" if row.holds else "[bold]no[/]"
        table.add_row(row.name, f"{significant(row.ratio):,g}", str(REACHES[row.name]), holds, row.detail)
    Console().print(table)
