"""Is the week free? The check in this process beside a recurrence library, and over HTTP beside a bare route."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import recurring_ical_events
from icalendar import Calendar
from recurring_ical_events import CalendarQuery

from benchmarks import calendars, servers
from benchmarks.bench import Bench, Memory
from benchmarks.results import Row, measure_pairs, processor_seconds
from benchmarks.servers import get
from calsync.core.planning import Plan

WEEKS = 12
"""How many weeks are checked in turn, so that no answer repeats the one before."""


def beside_recurring_ical_events(bench: Bench) -> Iterator[Row]:
    """Measure the check of a six-slot plan beside `between` for the same slots, of a new query and of one used before."""
    memory = bench.memory(bench.everyday)
    plans = plan_weeks(memory)
    check_all(memory, plans)
    calendar = Calendar.from_ical(calendars.joined(bench.everyday.resources))

    def find(query: CalendarQuery) -> int:
        return sum(len(list(query.between(slot.start, slot.end))) for slot in plans[0].slots)

    used = recurring_ical_events.of(calendar)
    assert find(used), "recurring_ical_events did not find the event that blocks a slot"
    calls = {"first": lambda: find(recurring_ical_events.of(calendar)), "warm": lambda: find(used)}
    for name, call in calls.items():
        pairs = measure_pairs(bench.scale.slow_runs, partial(processor_seconds, call), lambda: check_all(memory, plans))
        yield Row.of(f"check, {name} call", pairs, f"{bench.scale.events:,} events")


def growth(bench: Bench) -> Iterator[Row]:
    """Measure the same check on a calendar that has grown, beside the calendar when it was young."""
    large, small = bench.memory(bench.large), bench.memory(bench.small)
    assert large.check(large.plan(large.week)) == small.check(small.plan(small.week))
    plans = plan_weeks(large)
    assert plans == plan_weeks(small)
    check_all(large, plans)
    check_all(small, plans)
    pairs = measure_pairs(2 * bench.scale.runs, lambda: check_all(large, plans), lambda: check_all(small, plans))
    yield Row.of("check, growth", pairs, bench.grown)


def over_http(bench: Bench) -> Iterator[Row]:
    """Measure `GET /api/conflicts?week=` beside a bare FastAPI route that returns the same model."""
    place = bench.install(bench.everyday.resources)
    asked = get(f"/api/conflicts?week={calendars.asked_week(place.config, bench.now)}")
    with servers.run("calsync", place.folder) as calsync:
        body = calsync.ask(asked).body
        assert calendars.BLOCKER.encode() in body, body
        (place.folder / "conflicts").write_bytes(body)
        (place.folder / "ics").write_bytes(b"")
        with servers.run("fastapi", place.folder) as bare:
            assert bare.ask(get("/conflicts")).body == body
            pairs = servers.compare(bench.scale, (bare, get("/conflicts")), (calsync, asked))
    yield Row.of("GET /api/conflicts", pairs, f"{bench.scale.events:,} events, {len(body):,} bytes")


def plan_weeks(memory: Memory) -> list[Plan]:
    """Plan the week that the rows ask about and those after it, each with six slots."""
    weeks = (memory.week.shift(n) for n in range(2 * WEEKS))
    plans = [memory.plan(week) for week in weeks if week not in memory.config.declined][:WEEKS]
    assert all(len(plan.slots) == 6 for plan in plans)
    assert memory.check(plans[0]), "the event that blocks a slot was not found"
    return plans


def check_all(memory: Memory, plans: Sequence[Plan]) -> float:
    """Check all plans on an agenda that has just changed; return the mean processor time of a check."""
    memory.other.change()
    memory.refresh()
    return processor_seconds(lambda: [memory.check(plan) for plan in plans]) / len(plans)
