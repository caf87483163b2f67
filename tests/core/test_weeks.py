from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calsync.core.errors import Invalid
from calsync.core.weeks import WEEKDAYS, Week

days = st.dates(date(2000, 1, 3), date(2037, 12, 27))


@pytest.mark.parametrize("text", ["2026-W49", "2026w49", " 2026-w49 ", "2026-11-30", "2026-12-02", "2026-12-06"])
def test_a_week_is_named_by_its_number_or_any_date_in_it(text):
    assert Week.parse(text) == Week(2026, 49)


@pytest.mark.parametrize(
    "text", ["", "49", "2026-49", "2026-W5", "26-W49", "next", "2026-W49-1", "２０２６-W49", "2026-12-2", "W49"]
)
def test_what_is_no_week_is_refused_with_an_example(text):
    with pytest.raises(Invalid, match="2026-W49"):
        Week.parse(text)


def test_a_week_that_does_not_exist_is_refused_with_the_last_one_of_the_year():
    with pytest.raises(Invalid, match="2025 has the weeks W01 to W52"):
        Week.parse("2025-W53")
    with pytest.raises(Invalid, match="does not exist"):
        Week.parse("2026-W00")
    assert str(Week.parse("2026-W53")) == "2026-W53"


def test_a_date_that_does_not_exist_is_refused():
    with pytest.raises(Invalid, match="is not a date"):
        Week.parse("2026-02-30")


@pytest.mark.parametrize("text", ["1999-W01", "2038-W01", "9999-W01", "0000-W01", "2038-06-01", "0001-01-01"])
def test_years_without_known_clock_changes_are_refused(text):
    with pytest.raises(Invalid):
        Week.parse(text)


@pytest.mark.parametrize(
    ("day", "week"), [("2021-01-03", "2020-W53"), ("2024-12-30", "2025-W01"), ("2027-01-01", "2026-W53")]
)
def test_the_turn_of_the_year_belongs_to_the_iso_year(day, week):
    assert str(Week.parse(day)) == week


@given(days)
def test_a_week_holds_the_date_it_was_named_by(day):
    week = Week.containing(day)
    assert week.day(WEEKDAYS[day.weekday()]) == day
    assert Week.parse(str(week)) == week == Week.parse(str(day))
    assert week.monday.weekday() == 0


@given(days, st.integers(-50, 50))
def test_shifting_moves_by_whole_weeks_and_keeps_the_order(day, weeks):
    week = Week.containing(day)
    target = week.monday + timedelta(weeks=weeks)
    if not date(2000, 1, 3) <= target <= date(2037, 12, 21):
        return
    shifted = week.shift(weeks)
    assert shifted.monday == target
    assert shifted.shift(-weeks) == week
    assert (shifted > week) == (weeks > 0)
