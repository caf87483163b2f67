"""The benchmarks measure what they say: the calendars are as stated, and every row comes to a sound figure."""

import json
import math
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar

from benchmarks import calendars
from benchmarks.__main__ import ROWS
from benchmarks.rows import Bound, Paired, Row, paired
from benchmarks.stage import FULL, Scale, Stage
from benchmarks.subscribers import Cost
from benchmarks.tables import draw, of_rows
from calsync.calendars.sql import SqlCalendar
from calsync.core.planning import plan, train_slots
from calsync.schedule.agenda import horizon_around
from calsync.schedule.conflicts import check
from calsync.schedule.sync import CalendarSync

TINY = Scale(events=60, feed=40, small=30, large=60, history=40, occurrences=100, years=1, runs=1, burst=0.05)


@pytest.fixture
def drawn(config, now):
    span = horizon_around(config, now)
    return calendars.made(config, now, 2000, span.start.date(), span.end.date())


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("bench"), TINY)
    stage.cost = Cost(hot=0.001, unchanged=0.0005, size=50_000)
    yield stage
    stage.close()


def test_the_same_seed_draws_the_same_calendar(config, now, drawn):
    span = horizon_around(config, now)
    first, last = span.start.date(), span.end.date()
    assert calendars.made(config, now, 2000, first, last) == drawn
    assert calendars.made(config, now, 2000, first, last, seed=50) != drawn


def test_a_calendar_has_the_stated_number_of_events_in_the_stated_proportions(drawn):
    count = Counter(one.kind for one in drawn)
    assert sum(count.values()) == len({one.href for one in drawn}) == 2000
    assert (count["clash"], count["ever"], count["train"]) == (1, calendars.EVER, 19)
    others = 2000 - 1 - calendars.EVER - 19
    for kind, part in calendars.PARTS.items():
        assert count[kind] == pytest.approx(others * part, abs=1), kind


def test_calsync_reads_all_of_it_and_finds_what_stands_in_the_way_of_the_week(config, now, drawn, tmp_path):
    calendars.fill(tmp_path / "deployments.db", drawn[:300])
    calendar = SqlCalendar.sqlite(tmp_path / "deployments.db")
    agenda = CalendarSync(calendar, config, now).refresh(now)
    calendar.close()
    assert len(agenda.entries) == 300
    assert not agenda.defects
    week = calendars.asked_week(config, now)
    planned = plan(config, calendars.pair(config), week, now)
    assert planned.spans_regions
    assert "clash" in {found.event.uid for found in check(config, agenda, planned.slots)}


def test_people_keep_clear_of_the_train(config, now, drawn):
    span = horizon_around(config, now)
    first, last = calendars.Week.containing(span.start.date()), calendars.Week.containing(span.end.date())
    weeks = (first.shift(n) for n in range((last.monday - first.monday).days // 7))
    slots = [slot for week in weeks for slot in train_slots(config, week)]
    singles = [Calendar.from_ical(one.ics).events[0] for one in drawn if one.kind == "single"]
    spans = [(event.start.astimezone(UTC), event.end.astimezone(UTC)) for event in singles]
    days = Counter()
    for start, end in spans:
        days[start.date()] += any(slot.start < end and start < slot.end for slot in slots)
    assert sum(days.values()) < len(spans) / 100


def test_a_calendar_in_its_youth_has_the_same_events_around_the_week_that_is_asked_about(config, now, drawn):
    day = calendars.asked_week(config, now).day("wed")
    young = calendars.nearest(drawn, day, 500)
    near = [one for one in drawn if one.first <= day + timedelta(days=5) and day - timedelta(days=5) <= one.last]
    assert len(young) == 500
    assert set(near) < set(young) < set(drawn)


def test_history_is_over_before_the_horizon_begins(config, now):
    first = horizon_around(config, now).start.date()
    history = calendars.made(
        config, now, 300, first - timedelta(days=900), first - timedelta(days=40), seed=7, history=True
    )
    assert len(history) == 300
    assert max(one.last for one in history) < first


def test_other_libraries_get_the_whole_calendar_as_one(drawn):
    whole = Calendar.from_ical(calendars.joined(drawn[:300]))
    assert len({str(event["UID"]) for event in whole.events}) == 300
    assert {str(zone["TZID"]) for zone in whole.walk("VTIMEZONE")} >= {"Europe/Paris", "America/Los_Angeles", "Office"}


@given(st.lists(st.tuples(st.floats(0.1, 1e3), st.floats(0.1, 1e3)), min_size=1))
def test_a_ratio_is_the_median_of_the_runs(runs):
    ratios = [above / below for above, below in runs]
    assert min(ratios) <= Paired(tuple(runs)).ratio <= max(ratios)
    below = sum(ratio < Paired(tuple(runs)).ratio for ratio in ratios)
    assert below <= len(runs) / 2


def test_both_sides_of_a_ratio_are_measured_in_turns():
    calls = []
    measured = paired(3, lambda: calls.append("above") or 6.0, lambda: calls.append("below") or 2.0)
    assert calls == ["above", "below", "below", "above", "above", "below"]
    assert measured.ratio == 3


def test_a_bound_holds_on_its_own_side_only():
    assert str(Bound("of it", least=0.9)) == "≥ 0.9 of it"
    assert str(Bound("times", most=2)) == "≤ 2 times"
    assert [Bound("of it", least=0.9).holds(ratio) for ratio in (0.89, 0.9, 2)] == [False, True, True]
    assert [Bound("times", most=2).holds(ratio) for ratio in (1, 2, 2.01)] == [True, True, False]


@pytest.mark.heavy
@pytest.mark.parametrize("name", ROWS)
def test_every_row_comes_to_a_sound_figure(stage, name):
    found = list(ROWS[name](stage))
    assert found
    for row in found:
        assert math.isfinite(row.ratio), row
        assert row.ratio > 0 or row.holds is None, row
        assert row.detail
        assert (row.holds is None) == (row.reach == "to know")
        assert set(json.loads(json.dumps(row.as_json()))) == {"name", "ratio", "reach", "holds", "detail"}


def test_the_table_shows_every_row(capsys):
    cells = of_rows([Row("one", 2.0, "≤ 1 times", False, "why"), Row("two", 1.0, "to know", None, "so")])
    draw(cells, markdown=True)
    assert capsys.readouterr().out.splitlines()[2:4] == [
        "| one | 2 | ≤ 1 times | no | why |",
        "| two | 1 | to know | – | so |",
    ]
    draw(cells)
    assert "to know" in capsys.readouterr().out


def test_the_calendars_are_as_large_as_was_promised():
    assert (FULL.events, FULL.feed, FULL.small, FULL.large) == (10_000, 1_000, 1_000, 100_000)
    assert (FULL.history, FULL.occurrences) == (100_000, 100_000)
    assert datetime.now(UTC) - Stage(None, FULL).now < timedelta(minutes=1)
