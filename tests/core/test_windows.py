from dataclasses import replace
from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calsync.core.weeks import WEEKDAYS
from calsync.core.windows import Window
from support.samples import utc

EUROPEAN = Window("european", "European", "Europe/Paris", time(10), time(12), ("tue", "wed", "thu"))


def test_a_slot_has_its_wall_clock_times_in_summer_and_winter():
    winter, summer = EUROPEAN.on(date(2026, 12, 1)), EUROPEAN.on(date(2026, 7, 1))
    assert (winter.start, winter.end) == (utc(2026, 12, 1, 9), utc(2026, 12, 1, 11))
    assert (summer.start, summer.end) == (utc(2026, 7, 1, 8), utc(2026, 7, 1, 10))
    assert winter.start.isoformat() == "2026-12-01T10:00:00+01:00"


def test_a_slot_is_named_by_date_and_window():
    slot = EUROPEAN.on(date(2026, 12, 1), "primary", "group0")
    assert (slot.id, slot.uid, slot.role, slot.stage) == (
        "2026-12-01-european",
        "2026-12-01-european@calsync",
        "primary",
        "group0",
    )


@pytest.mark.parametrize("end", [time(2), time(22), time(0)])
def test_an_end_that_is_not_after_the_start_lies_on_the_next_day(end):
    slot = replace(EUROPEAN, start=time(22), end=end).on(date(2026, 12, 1))
    assert slot.start == utc(2026, 12, 1, 21)
    assert slot.end == datetime.combine(date(2026, 12, 2), end, slot.end.tzinfo)
    assert slot.start < slot.end <= slot.start + timedelta(days=1)


@pytest.mark.parametrize(
    ("start", "end", "length"),
    [(time(1, 30), time(3, 30), 1), (time(2, 15), time(2, 45), 0.5), (time(2, 30), time(3), 0), (time(0), time(0), 23)],
)
def test_a_window_in_the_skipped_hour_never_has_a_negative_length(start, end, length):
    slot = replace(EUROPEAN, start=start, end=end).on(date(2026, 3, 29))
    assert slot.end - slot.start == timedelta(hours=length)


def test_a_window_over_the_repeated_hour_keeps_its_wall_clock_times():
    slot = replace(EUROPEAN, start=time(1), end=time(4)).on(date(2026, 10, 25))
    assert slot.end - slot.start == timedelta(hours=4)


def test_the_shipped_windows_are_the_trains_and_the_recurring_ones(config):
    assert [window.name for window in config.train_windows] == ["european", "american"]
    assert config.train_windows[0].days == ("tue", "wed", "thu")
    assert "backport-night" in {window.name for window in config.recurring_windows}
    assert not {window.name for window in config.recurring_windows} & {"european", "american"}


@given(
    st.sampled_from(["Europe/Paris", "Pacific/Kiritimati", "Etc/GMT+12", "Australia/Lord_Howe"]),
    st.times(), st.times(),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    st.integers(1, 200),
)  # fmt: skip
def test_between_finds_every_slot_that_overlaps_and_no_other(timezone, start, end, begin, hours):
    window = Window("w", "W", timezone, start.replace(microsecond=0), end.replace(microsecond=0), ("mon", "tue", "sun"))
    first = utc(begin.year, begin.month, begin.day, begin.hour)
    last = first + timedelta(hours=hours)
    everything = [window.on(first.date() + timedelta(days=n)) for n in range(-4, hours // 24 + 5)]
    expected = [s for s in everything if s.start < last and first < s.end and WEEKDAYS[s.date.weekday()] in window.days]
    assert list(window.between(first, last)) == expected
