"""What a process costs as it starts, as it takes in a change, and in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

from benchmarks import calendars, serving
from benchmarks.rows import Bound, Row, paired, rows, seconds, spoken
from benchmarks.stage import Place, Stage
from calsync.schedule.agenda import horizon_around
from calsync.schedule.conflicts import check

PER_OCCURRENCE = 2.18
"""How many occurrences a resource has in the mean, with the proportions of `calendars.PARTS`."""


@rows("change-growth")
def foreign_change(stage: Stage) -> Iterator[Row]:
    """From the sync that takes in somebody else's change to the answer of a check, as the calendar grows."""
    count = iter(range(2_000_000))

    def one(place: Place) -> float:
        state, plan = stage.state(place), stage.plan(place)
        etag = stage.put_change(place, next(count))

        def answer() -> None:
            state.refresh()
            assert check(place.config, state.agenda, plan.slots, plan.conductors)

        took = seconds(answer)
        assert state.agenda.entries["foreign.ics"].etag == etag
        return took

    for place in (stage.large, stage.small):
        one(place)
    measured = paired(6 * stage.scale.runs, lambda: one(stage.large), lambda: one(stage.small))
    large, small = (len(place.resources) for place in (stage.large, stage.small))
    yield Row.of(
        f"taking in one foreign change (sync to answer), its growth from {small:,} to {large:,} events",
        measured.ratio,
        Bound("times", most=2),
        f"{spoken(measured.above)} to {spoken(measured.below)}; {measured.spread}",
    )


@rows("start")
def start(stage: Stage) -> Iterator[Row]:
    """`calsync serve` from its start to `readyz`, with years of history before the horizon and with none."""
    recent = stage.everyday
    first = horizon_around(recent.config, stage.now).start.date()
    days = [first - timedelta(days=days) for days in (365 * stage.scale.years, 40)]
    history = calendars.made(recent.config, stage.now, stage.scale.history, days[0], days[1], seed=7, history=True)
    old, young = stage.place([*history, *recent.resources]), stage.copy(recent)

    def one(place: Place) -> float:
        with serving.calsync(place.folder) as server:
            return server.started

    for place in (old, young):
        one(place)  # as any other start finds it: a calendar that calsync has had open before
    measured = paired(stage.scale.few, lambda: one(old), lambda: one(young))
    yield Row.of(
        f"start to readyz with {len(history):,} events of history outside the horizon",
        measured.ratio,
        Bound("times that with none", most=1.3),
        f"{len(recent.resources):,} events in the horizon: {spoken(measured.above)} to {spoken(measured.below)}; "
        f"{measured.spread}",
    )


@rows("memory")
def memory(stage: Stage) -> Iterator[Row]:
    """The resident memory of a process that holds so many occurrences, over that of the same process without any event."""
    place, empty = stage.drawn(round(stage.scale.occurrences / PER_OCCURRENCE)), stage.place([])
    runs = []
    for _ in range(2):
        full, bare = footprint(place), footprint(empty)
        runs.append(tuple(full[what] - bare[what] for what in ("asked", "read", "occurrences")))
    asked, read, occurrences = min(runs)
    size = sum(len(one.ics) for one in place.resources)
    yield Row.of(
        f"memory for {occurrences:,} occurrences in the horizon, kB each",
        asked / occurrences / 1000,
        Bound("kB over the same process on an empty calendar", most=1),
        f"{len(place.resources):,} resources of {size / 1e6:.1f} MB: {asked / 1e6:.1f} MB "
        f"once everything was asked for, {read / 1e6:.1f} MB before; the lower of {len(runs)} runs",
    )


def footprint(place: Place) -> dict[str, int]:
    """What `benchmarks.footprint` says of itself with this calendar."""
    command = [sys.executable, "-m", "benchmarks.footprint", str(place.folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=serving.ROOT).stdout
    found: dict[str, int] = json.loads(said)
    return found
