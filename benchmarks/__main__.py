"""The command line of `scripts/bench`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import check, feed, process, reserve
from benchmarks.bench import FULL, QUICK, Bench
from benchmarks.results import Row, print_table

GROUPS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "feed": feed.hot,
    "feed-again": feed.after_one_change,
    "api-conflicts": check.over_http,
    "check": check.beside_recurring_ical_events,
    "check-growth": check.growth,
    "reserve": reserve.beside_a_transaction,
    "reserve-growth": reserve.growth,
    "change-growth": process.foreign_change,
    "start": process.start,
    "memory": process.memory,
}
"""The rows that are measured together, by the name for `--only`, in the order of the table."""


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure calsync beside the barest code.")
    parser.add_argument("--quick", action="store_true", help="small calendars and few runs, in under two minutes")
    parser.add_argument("--only", action="append", choices=GROUPS, metavar="NAME", help=f"one of {', '.join(GROUPS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a row does not hold")
    options = parser.parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="calsync-bench-") as folder,
        Bench(Path(folder), QUICK if options.quick else FULL) as bench,
    ):
        for name in options.only or GROUPS:
            print(name, file=sys.stderr)
            for row in GROUPS[name](bench):
                rows.append(row)
                if options.json:
                    print(json.dumps(row.as_json(), ensure_ascii=False), flush=True)
    if not options.json:
        print_table(rows)
    return int(options.strict and not all(row.holds for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
