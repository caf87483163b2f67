"""Tables on a terminal, and the same as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.rows import Row

Cells = Sequence[Sequence[str]]
"""A heading and lines, all of one length."""


def of_rows(found: Sequence[Row]) -> Cells:
    """The rows as cells."""
    holds = {True: "yes", False: "no", None: "–"}
    lines = [[row.name, f"{row.ratio:,g}", row.reach, holds[row.holds], row.detail] for row in found]
    return [["what", "ratio", "reach", "holds", "detail"], *lines]


def draw(cells: Cells, *, markdown: bool = False) -> None:
    """Print a table."""
    if markdown:
        heading, *lines = cells
        for line in (heading, ["---"] * len(heading), *lines):
            print(f"| {' | '.join(line)} |")
        print()
        return
    drawn = Table(*cells[0], show_lines=True)
    for line in cells[1:]:
        drawn.add_row(*line)
    Console().print(drawn)
