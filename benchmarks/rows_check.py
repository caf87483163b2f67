"""Is the week free? The check in process beside a recurrence library, and over HTTP beside a bare route."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import recurring_ical_events
from icalendar import Calendar

from benchmarks import calendars, serving
from benchmarks.load import Load, request
from benchmarks.rows import Bound, Paired, Row, paired, rows, seconds, spoken
from benchmarks.stage import Place, Stage
from calsync.core.planning import Plan
from calsync.schedule.agenda import Agenda
from calsync.schedule.conflicts import check

WEEKS = 12
"""How many weeks are checked in turn, so that no answer is one that was given before."""


@rows("check")
def against_recurring_ical_events(stage: Stage) -> Iterator[Row]:
    """The check of a six-slot plan, and what `between` takes for the same six slots, the first time and the second."""
    place = stage.everyday
    whole = Calendar.from_ical(calendars.joined(place.resources))
    plans = _plans(stage, place)
    cold, warm, found = [], [], 0
    for n in range(stage.scale.few):
        plan = plans[n % len(plans)]
        queries: list[recurring_ical_events.CalendarQuery] = []
        first, second = (seconds(lambda: _ask(_query(whole, queries), plan)) for _ in range(2))  # noqa: B023 — at once
        cold.append((first, each(place, stage.changed(place, 2 * n), plans)))
        warm.append((second, each(place, stage.changed(place, 2 * n + 1), plans)))
        found += _ask(queries[0], plans[0])
    assert found, "the event that stands in the way was not found"
    for which, runs, least in (("first call", cold, 5_000), ("second, warm call", warm, 1_000)):
        measured = Paired(tuple(runs))
        yield Row.of(
            f"conflict check of a six-slot plan, in process ({which})",
            measured.ratio,
            Bound(f"times faster than the {which} of recurring_ical_events", least=least),
            f"{len(place.resources):,} events: {spoken(measured.above)} for its six between(), {spoken(measured.below)} "
            f"for check(), the mean of {len(plans)} weeks on an agenda that has just changed; {measured.spread}",
        )


@rows("check-growth")
def growth(stage: Stage) -> Iterator[Row]:
    """The same check when the calendar has grown in time, and when more happens in each week of it."""
    stage.assure_same()
    large, small = (len(place.resources) for place in (stage.large, stage.small))
    measured = _growth(stage, stage.large, stage.small)
    yield Row.of(
        f"conflict check of a six-slot plan, its growth from {small:,} to {large:,} events",
        measured.ratio,
        Bound("times", most=2),
        f"{spoken(measured.above)} to {spoken(measured.below)} a check, with the same events in the weeks "
        f"that are asked about; {measured.spread}",
    )
    dense, sparse = (len(place.resources) for place in (stage.everyday, stage.thousand))
    measured = _growth(stage, stage.everyday, stage.thousand)
    yield Row.of(
        f"conflict check of a six-slot plan, where every week has {dense / sparse:,.0f} times as many events",
        measured.ratio,
        None,
        f"{sparse:,} to {dense:,} events in the same {_weeks(stage.everyday)} weeks: {spoken(measured.above)} to "
        f"{spoken(measured.below)}; {measured.spread}",
    )


def _growth(stage: Stage, large: Place, small: Place) -> Paired:
    plans = {place.folder: _plans(stage, place) for place in (large, small)}
    count = iter(range(1, 1_000_000))

    def one(place: Place) -> float:
        return each(place, stage.changed(place, next(count)), plans[place.folder])

    for place in (large, small):
        one(place)
    return paired(4 * stage.scale.runs, lambda: one(large), lambda: one(small))


def _weeks(place: Place) -> int:
    return (place.config.calendar.horizon.past + place.config.calendar.horizon.future).days // 7


@rows("api-conflicts")
def over_http(stage: Stage) -> Iterator[Row]:
    """`GET /api/conflicts?week=` and a bare FastAPI route that returns the same JSON model."""
    place = stage.copy(stage.everyday)
    asked = request("GET", f"/api/conflicts?week={stage.week(place.config)}")
    with Load() as load, serving.app("calsync", place.folder) as calsync:
        with calsync.line() as line:
            status, body = line.ask(asked)
        assert status == 200, body
        assert b"Switch of the database primary" in body
        (place.folder / "conflicts").write_bytes(body)
        (place.folder / "ics").write_bytes(b"")
        with serving.app("fastapi", place.folder) as bare:
            at_once, threaded = request("GET", "/conflicts"), request("GET", "/conflicts-in-a-thread")
            with bare.line() as line:
                assert line.ask(at_once) == (200, body), "the bare route returns something else"
            compared = serving.Compared(load, stage.scale)
            beside = compared.run(calsync, asked, bare, threaded, runs=3)
            measured = compared.run(calsync, asked, bare, at_once)
    yield Row.of(
        "GET /api/conflicts?week=",
        measured.ratio,
        Bound("of a bare FastAPI route that returns the same model", least=0.7),
        f"{len(place.resources):,} events, {len(body):,} bytes: {compared.said(measured)}; beside a bare route that "
        f"runs in a thread, as a plain def does, {beside.ratio:.2f}",
    )


def each(place: Place, agenda: Agenda, plans: Sequence[Plan]) -> float:
    """The seconds that a check takes, as the mean of one for each plan."""
    return seconds(lambda: [check(place.config, agenda, plan.slots, plan.conductors) for plan in plans]) / len(plans)


def _plans(stage: Stage, place: Place) -> list[Plan]:
    """The plan of the week that is asked about, and of others that are free."""
    weeks = stage.free_weeks(place, stage.state(place).agenda, WEEKS - 1)
    plans = [stage.plan(place, week) for week in [stage.week(place.config), *weeks]]
    assert all(len(plan.slots) == 6 for plan in plans)
    assert check(place.config, stage.state(place).agenda, plans[0].slots), "nothing is in the way of the week"
    return plans


def _ask(query: recurring_ical_events.CalendarQuery, plan: Plan) -> int:
    return sum(len(list(query.between(slot.start, slot.end))) for slot in plan.slots)


def _query(whole: Calendar, kept: list[recurring_ical_events.CalendarQuery]) -> recurring_ical_events.CalendarQuery:
    """The query that was made the first time."""
    if not kept:
        kept.append(recurring_ical_events.of(whole))
    return kept[0]
