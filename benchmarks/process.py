"""What a process costs when it takes in a change, when it starts, and in memory."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import calendars, servers
from benchmarks.bench import Bench, Installation, Memory, in_new_process
from benchmarks.results import Row, measure_pairs, processor_seconds
from calsync.calendars.open import open_calendar
from calsync.core.config import load
from calsync.schedule.agenda import horizon_around
from calsync.schedule.sync import CalendarSync

PER_RESOURCE = 2.18
"""How many occurrences a resource has on average, with the proportions of `calendars.PARTS`."""


def foreign_change(bench: Bench) -> Iterator[Row]:
    """Measure from the sync that takes in somebody's change to the answer of a check, as the calendar grows."""

    def take_in(memory: Memory) -> float:
        plan = memory.plan(memory.week)
        memory.other.change()
        return processor_seconds(lambda: (memory.refresh(), memory.check(plan)))

    large, small = bench.memory(bench.large), bench.memory(bench.small)
    for memory in (large, small):
        take_in(memory)
    pairs = measure_pairs(3 * bench.scale.runs, lambda: take_in(large), lambda: take_in(small))
    yield Row.of("foreign change, growth", pairs, bench.grown)


def start(bench: Bench) -> Iterator[Row]:
    """Measure the start of the service until it is ready, with years of history before the horizon and without."""
    recent = bench.everyday
    horizon = horizon_around(recent.config, bench.now).start.date()
    first, last = (horizon - timedelta(days=days) for days in (365 * bench.scale.years, 40))
    history = calendars.draw(recent.config, bench.now, bench.scale.large, first, last, history=True)
    old, young = bench.install([*history, *recent.resources]), bench.install(recent.resources)

    def ready(place: Installation) -> float:
        with servers.run("calsync", place.folder) as server:
            return server.started

    for place in (old, young):
        ready(place)  # the first start notes which events are over
    pairs = measure_pairs(bench.scale.slow_runs, lambda: ready(old), lambda: ready(young))
    yield Row.of("start with history", pairs, f"{len(history):,} events of history")


def memory(bench: Bench) -> Iterator[Row]:
    """Measure what the occurrences of a calendar add to the resident memory of a process that has asked for all of them."""
    place, empty = bench.draw(round(bench.scale.large / PER_RESOURCE)), bench.install([])
    sizes = []
    for _ in range(min(2, bench.scale.slow_runs)):
        (full, occurrences), (bare, others) = (in_new_process(read, one.folder) for one in (place, empty))
        sizes.append((full - bare) / (occurrences - others))
    detail = f"{occurrences - others:,} occurrences of {len(place.resources):,} resources; the lower of {len(sizes)} runs"
    yield Row("memory", min(sizes) / 1000, detail)


def read(folder: Path) -> tuple[int, int]:
    """Read the calendar; return the resident bytes of this process, and how many occurrences the calendar has."""
    config, now = load(folder / "windows.toml", {}), datetime.now(UTC)
    with closing(open_calendar(config)) as calendar:
        agenda = CalendarSync(calendar, config, now).refresh(now)
        gc.collect()
        with suppress(AttributeError):  # calsync does the same after it has read a calendar, where there is glibc
            ctypes.CDLL(None).malloc_trim(0)
        occurrences = sum(1 for _ in agenda.overlapping(agenda.horizon.start, agenda.horizon.end, "UTC"))
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return 1024 * int(resident.split()[1]), occurrences
