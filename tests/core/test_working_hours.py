from datetime import date, datetime, time, timedelta

import pytest
import pytz
from hypothesis import given
from hypothesis import strategies as st

from calsync.core.errors import Invalid
from calsync.core.timezones import zone
from calsync.core.weeks import WEEKDAYS
from calsync.core.working_hours import DEFAULT_HOURS, Hours
from support.samples import utc

clock = st.times().map(lambda moment: moment.replace(second=0, microsecond=0))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("09:00-18:00", "09:00-18:00"),
        ("9:00–18:00", "09:00-18:00"),
        (" 22:00 - 06:00 ", "22:00-06:00"),
        ("16:00-24:00", "16:00-24:00"),
        ("16:00-00:00", "16:00-24:00"),
        ("00:00-24:00", "00:00-24:00"),
        ("mon-fri 09:00-18:00", "09:00-18:00"),
        ("Sun–Thu 9:00-18:00", "mon-thu,sun 09:00-18:00"),
        ("wed, mon , sun-sun 09:00-13:00", "mon,wed,sun 09:00-13:00"),
        ("sat-mon 22:00-06:00", "mon,sat-sun 22:00-06:00"),
        ("mon-sun 00:00-24:00", "mon-sun 00:00-24:00"),
    ],
)
def test_hours_are_read_and_written(text, written):
    assert str(Hours.parse(text)) == written
    assert Hours.parse(written) == Hours.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9-18",
        "09:00",
        "25:00-26:00",
        "09:00-24:30",
        "09:60-18:00",
        "09:00-09:00",
        "9.00-18.00",
        "x" * 999,
        "monday 09:00-18:00",
        "mon- 09:00-18:00x",
        ", 09:00-18:00",
        "mon-tue-wed 09:00-18:00",
    ],
)
def test_what_are_no_hours_is_refused_with_an_example(text):
    with pytest.raises(Invalid, match=r"09:00-18:00|00:00-24:00"):
        Hours.parse(text)


def test_the_default_is_nine_to_six():
    assert str(DEFAULT_HOURS) == "09:00-18:00"


week_days = st.sets(st.sampled_from(WEEKDAYS), min_size=1).map(lambda days: tuple(sorted(days, key=WEEKDAYS.index)))


@given(clock, clock, week_days)
def test_writing_and_reading_is_the_identity(start, end, days):
    if start == end and start != time():
        return
    assert Hours.parse(str(Hours(start, end, days))) == Hours(start, end, days)


def test_hours_over_midnight_end_on_the_next_day():
    opens, closes = Hours.parse("22:00-06:00").on(date(2026, 12, 1), zone("Asia/Tokyo"))
    assert (opens, closes) == (utc(2026, 12, 1, 13), utc(2026, 12, 1, 21))


def test_a_working_day_on_which_the_clocks_change_is_an_hour_longer_or_shorter():
    whole = Hours.parse("00:00-24:00")
    lengths = [
        closes - opens
        for opens, closes in (whole.on(day, zone("Europe/Paris")) for day in (date(2026, 3, 29), date(2026, 10, 25)))
    ]
    assert lengths == [timedelta(hours=23), timedelta(hours=25)]


@given(
    st.sampled_from(pytz.common_timezones),
    st.datetimes(datetime(2024, 1, 1), datetime(2036, 12, 1)),
    st.integers(1, 40 * 4),
)
def test_round_the_clock_hours_cover_everything(name, start, quarters):
    tz = zone(name)
    start = pytz.utc.localize(start.replace(second=0, microsecond=0))
    assert Hours.parse("mon-sun 00:00-24:00").cover(start, start + timedelta(minutes=15 * quarters), tz)


@pytest.mark.parametrize(
    ("start", "end", "covered"),
    [((8,), (17,), True), ((7, 59), (9,), False), ((16,), (17, 1), False), ((8,), (8, 1), True), ((18,), (19,), False)],
)
def test_hours_cover_what_lies_whole_within_them(start, end, covered):
    span = utc(2026, 12, 1, *start), utc(2026, 12, 1, *end)
    assert DEFAULT_HOURS.cover(*span, zone("Europe/Paris")) is covered


@pytest.mark.parametrize(
    ("hours", "day", "works"),
    [
        ("09:00-18:00", 4, True),  # Friday
        ("09:00-18:00", 5, False),
        ("09:00-18:00", 6, False),
        ("09:00-18:00", 7, True),
        ("sun-thu 09:00-18:00", 4, False),
        ("sun-thu 09:00-18:00", 6, True),
        ("fri 00:00-24:00", 4, True),
    ],
)
def test_working_hours_are_on_working_days(hours, day, works):
    span = utc(2026, 12, day, 10), utc(2026, 12, day, 12)
    assert Hours.parse(hours).cover(*span, zone("Europe/Paris")) is works


def test_a_working_day_over_midnight_belongs_to_the_day_on_which_it_begins():
    night = Hours.parse("22:00-06:00")
    assert night.cover(utc(2026, 12, 4, 23), utc(2026, 12, 5, 4), zone("Europe/Paris"))  # Friday night
    assert not night.cover(utc(2026, 12, 6, 23), utc(2026, 12, 7, 4), zone("Europe/Paris"))
