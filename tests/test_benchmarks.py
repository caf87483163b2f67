"""The benchmarks measure what docs/performance.md says: the drawn calendars, the ratios, and rows that run at any size."""

from collections import Counter
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar

from benchmarks import calendars
from benchmarks.__main__ import GROUPS
from benchmarks.bench import FULL, Bench, Scale
from benchmarks.results import REACHES, Bound, Pairs, measure_pairs
from calsync.core.planning import train_slots
from calsync.core.weeks import Week
from calsync.schedule.agenda import horizon_around

TINY = Scale(events=60, feed=40, small=30, large=60, years=1, runs=1, slow_runs=1, burst=0.02)


@pytest.fixture
def days(config, now):
    horizon = horizon_around(config, now)
    return horizon.start.date(), horizon.end.date()


@pytest.fixture
def drawn(config, now, days):
    return calendars.draw(config, now, 400, *days)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with Bench(tmp_path_factory.mktemp("bench"), TINY) as bench:
        yield bench


def test_a_calendar_is_drawn_the_same_each_time_in_the_stated_proportions(config, now, days, drawn):
    assert calendars.draw(config, now, 400, *days) == drawn
    count = Counter(one.kind for one in drawn)
    assert sum(count.values()) == len({one.href for one in drawn}) == 400
    assert (count["blocker"], count["endless"], count["train"]) == (1, calendars.ENDLESS, 19)
    for kind, part in calendars.PARTS.items():
        assert count[kind] == pytest.approx(400 * part, abs=40), kind


def test_calsync_reads_all_of_it_and_finds_the_event_that_blocks_a_slot(bench):
    memory = bench.memory(bench.everyday)
    assert len(memory.agenda.objects) == TINY.events
    assert not memory.agenda.defects
    plan = memory.plan(memory.week)
    assert plan.spans_regions
    assert "blocker" in {conflict.event.uid for conflict in memory.check(plan)}


def test_other_libraries_read_the_whole_calendar_as_one(drawn):
    whole = Calendar.from_ical(calendars.joined(drawn))
    assert len({str(event["UID"]) for event in whole.events}) == 400
    assert {str(zone["TZID"]) for zone in whole.walk("VTIMEZONE")} >= {"Europe/Paris", "America/Los_Angeles", "Office"}


def test_people_keep_clear_of_the_train(config, days, drawn):
    weeks = [Week.containing(days[0]).shift(n) for n in range((days[1] - days[0]).days // 7)]
    slots = [slot for week in weeks for slot in train_slots(config, week)]
    events = [Calendar.from_ical(one.ics).events[0] for one in drawn if one.kind == "single"]
    spans = [(event["DTSTART"].dt.astimezone(UTC), event["DTEND"].dt.astimezone(UTC)) for event in events]
    in_the_way = [span for span in spans if any(slot.start < span[1] and span[0] < slot.end for slot in slots)]
    assert len(in_the_way) < len(spans) / 100


def test_the_young_calendar_has_the_same_events_around_the_week_that_the_rows_ask_about(config, now, drawn):
    day = calendars.asked_week(config, now).day("wed")
    young = calendars.nearest(drawn, day, 200)
    near = [one for one in drawn if one.first <= day + timedelta(days=5) and day - timedelta(days=5) <= one.last]
    assert len(young) == 200
    assert set(near) < set(young) < set(drawn)


def test_history_is_over_before_the_horizon_begins(config, now, days):
    first, last = (days[0] - timedelta(days=n) for n in (900, 40))
    history = calendars.draw(config, now, 100, first, last, history=True)
    assert len(history) == 100
    assert max(one.last for one in history) < days[0]


@given(st.lists(st.tuples(st.floats(0.1, 1e3), st.floats(0.1, 1e3)), min_size=1))
def test_a_ratio_is_the_median_of_the_runs(runs):
    ratios = [left / right for left, right in runs]
    ratio = Pairs(runs).ratio
    assert min(ratios) <= ratio <= max(ratios)
    assert sum(one < ratio for one in ratios) <= len(runs) / 2


def test_the_sides_of_a_ratio_take_turns_in_going_first():
    calls = []

    def side(name, seconds):
        calls.append(name)
        return seconds

    pairs = measure_pairs(3, lambda: side("left", 6.0), lambda: side("right", 2.0))
    assert calls == ["left", "right", "right", "left", "left", "right"]
    assert pairs.ratio == 3


def test_a_bound_holds_on_its_own_side():
    assert [Bound("≥", 0.9, "of it").holds(ratio) for ratio in (0.89, 0.9, 2)] == [False, True, True]
    assert [Bound("≤", 2, "times").holds(ratio) for ratio in (1, 2, 2.01)] == [True, True, False]


def test_the_documentation_names_every_reach_and_the_sizes():
    page = (Path(__file__).parent.parent / "docs/performance.md").read_text(encoding="utf-8")
    for name, bound in REACHES.items():
        assert f"| {name} | {bound} |" in page
    for size in (FULL.events, FULL.feed, FULL.large):
        assert f"{size:,} events" in page


@pytest.mark.heavy
@pytest.mark.parametrize("name", GROUPS)
def test_every_row_runs(bench, name):
    rows = list(GROUPS[name](bench))
    assert rows
    for row in rows:
        assert row.as_json()["detail"]
        assert row.name == "memory" or row.ratio > 0
