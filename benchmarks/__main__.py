"""The command: run the rows and print them, as a table or as one JSON object a line."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.rows import ROWS, Row
from benchmarks.stage import FULL, QUICK, Stage
from benchmarks.subscribers import planned
from benchmarks.tables import draw, of_rows

GROUPS = ("feed", "check", "reserve", "process", "subscribers")
"""The modules with rows, in the order of the table; importing them lists their rows."""
for _group in GROUPS:
    import_module(f"benchmarks.rows_{_group}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="What calsync costs beside what people would use instead."
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller calendars and fewer runs: what the rows are, not how much"
    )
    parser.add_argument("--large", type=int, metavar="N", help="events of the largest calendars, instead of 100,000")
    parser.add_argument("--only", action="append", choices=ROWS, metavar="NAME", help=f"only these rows: {', '.join(ROWS)}")
    parser.add_argument("--json", action="store_true", help="one object a row")
    parser.add_argument("--markdown", action="store_true", help="the table as docs/performance.md has it")
    parser.add_argument("--strict", action="store_true", help="fail where a row does not hold")
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    if options.large:
        scale = replace(scale, large=options.large, history=options.large, occurrences=options.large)
    found: list[Row] = []
    wanted = options.only or list(ROWS)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="calsync-bench-") as folder,
        Progress(*columns, console=Console(stderr=True), transient=True) as bar,
    ):
        stage = Stage(Path(folder), scale)
        task = bar.add_task("", total=len(wanted))
        for name in wanted:
            bar.update(task, description=name)
            for row in ROWS[name](stage):
                found.append(row)
                if options.json:
                    print(json.dumps(row.as_json(), ensure_ascii=False), flush=True)
            bar.advance(task)
        stage.close()
    if not options.json:
        draw(of_rows(found), markdown=options.markdown)
        if stage.cost is not None:
            draw(planned(stage.cost), markdown=options.markdown)
    return int(options.strict and any(row.holds is False for row in found))


if __name__ == "__main__":
    raise SystemExit(main())
