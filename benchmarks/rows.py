"""Rows of the table: what one is, how its ratio is measured, and the list of all that can be run.

A ratio is the median over several runs in each of which both sides are measured, one directly after the other, so that
what else the machine does meets both of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.stage import Stage


@dataclass(frozen=True, slots=True)
class Bound:
    """What a ratio must reach: `least` or `most`, in words `of` what."""

    of: str
    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        sign, limit = ("≥", self.least) if self.least is not None else ("≤", self.most)
        return f"{sign} {limit:,g} {self.of}"

    def holds(self, ratio: float) -> bool:
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `holds` is None where nothing was promised and the figure is there to know."""

    name: str
    ratio: float
    reach: str
    holds: bool | None
    detail: str

    @classmethod
    def of(cls, name: str, ratio: float, bound: Bound | None, detail: str) -> Row:
        if bound is None:
            return cls(name, significant(ratio), "to know", None, detail)
        return cls(name, significant(ratio), str(bound), bound.holds(ratio), detail)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


Measure = Callable[["Stage"], Iterator[Row]]

ROWS: dict[str, Measure] = {}
"""Every group of rows that are measured together, by the name that `--only` knows it by."""


def rows(name: str) -> Callable[[Measure], Measure]:
    """List a function among the groups of rows; they run in the order in which they are listed."""

    def listed(measure: Measure) -> Measure:
        ROWS[name] = measure
        return measure

    return listed


@dataclass(frozen=True, slots=True)
class Paired:
    """What both sides of a ratio came to in each run, in one unit."""

    runs: tuple[tuple[float, float], ...]

    @property
    def ratio(self) -> float:
        """The median of the runs' ratios of what is above to what is below."""
        return statistics.median(above / below for above, below in self.runs)

    @property
    def above(self) -> float:
        return statistics.median(above for above, _ in self.runs)

    @property
    def below(self) -> float:
        return statistics.median(below for _, below in self.runs)

    @property
    def spread(self) -> str:
        """How many runs there were, and their lowest and highest ratio."""
        ratios = sorted(above / below for above, below in self.runs)
        return f"{len(ratios)} runs from {significant(ratios[0]):,g} to {significant(ratios[-1]):,g}"


def paired(runs: int, above: Callable[[], float], below: Callable[[], float]) -> Paired:
    """Measure both sides of a ratio `runs` times; which of them goes first takes turns."""
    found = []
    for n in range(runs):
        if n % 2:
            lower = below()
            found.append((above(), lower))
        else:
            upper = above()
            found.append((upper, below()))
    return Paired(tuple(found))


def seconds(call: Callable[[], object], times: int = 1) -> float:
    """How long the call takes, as the mean of so many times in a row."""
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def spoken(value: float) -> str:
    """Seconds as a person says them."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} µs"


def significant(value: float) -> float:
    return float(f"{value:.3g}")
