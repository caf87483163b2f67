import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytz
from hypothesis import given
from hypothesis import strategies as st

from calsync.core.errors import UnknownTimezone
from calsync.core.timezones import clock_change, resolve, suggestions, zone
from support.samples import utc

zones = st.sampled_from(sorted(pytz.all_timezones))
changing = st.sampled_from(
    sorted(name for name in pytz.common_timezones if getattr(pytz.timezone(name), "_utc_transition_times", None))
)


def by_zoneinfo(wall, name):
    return wall.replace(tzinfo=zoneinfo.ZoneInfo(name), fold=0).astimezone(UTC)


@given(zones, st.datetimes(datetime(2000, 1, 1), datetime(2037, 12, 31)))
def test_a_wall_clock_time_is_the_instant_that_zoneinfo_says(name, wall):
    wall = wall.replace(microsecond=0)
    assert resolve(wall, zone(name))[0].astimezone(UTC) == by_zoneinfo(wall, name)


@given(changing, st.data(), st.integers(-300, 300))
def test_around_a_clock_change_it_is_the_instant_that_zoneinfo_says(name, data, minutes):
    tz: Any = zone(name)
    recent = [when for when in tz._utc_transition_times if datetime(2000, 1, 2) < when < datetime(2037, 12, 30)]
    if not recent:
        return
    change = data.draw(st.sampled_from(recent)).replace(tzinfo=UTC)
    wall = (change.astimezone(tz) + timedelta(minutes=minutes)).replace(tzinfo=None)
    moment, oddity = resolve(wall, tz)
    assert moment.astimezone(UTC) == by_zoneinfo(wall, name)
    shown = moment.astimezone(tz).replace(tzinfo=None)
    assert (shown != wall) == (oddity == "skipped")
    second = wall.replace(tzinfo=zoneinfo.ZoneInfo(name), fold=1).astimezone(UTC)
    assert (second != moment.astimezone(UTC)) == (oddity is not None)


@pytest.mark.parametrize(
    ("wall", "expected", "oddity"),
    [
        (datetime(2026, 3, 29, 2, 30), utc(2026, 3, 29, 1, 30), "skipped"),
        (datetime(2026, 10, 25, 2, 30), utc(2026, 10, 25, 0, 30), "repeated"),
        (datetime(2026, 3, 29, 3, 0), utc(2026, 3, 29, 1, 0), None),
    ],
)
def test_a_skipped_time_takes_the_offset_before_and_a_repeated_one_is_the_first(wall, expected, oddity):
    assert resolve(wall, zone("Europe/Paris")) == (expected, oddity)


def test_a_whole_day_that_the_clocks_skip_resolves_to_the_next():
    moment, oddity = resolve(datetime(2011, 12, 30, 10), zone("Pacific/Apia"))
    assert (moment, oddity) == (utc(2011, 12, 30, 20), "skipped")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("Europe/Pariss", "Europe/Paris"),
        ("europe/paris", "Europe/Paris"),
        ("Paris", "Europe/Paris"),
        ("America/New York", "America/New_York"),
        ("US/Berlin", "Europe/Berlin"),
    ],
)
def test_an_unknown_timezone_is_answered_with_the_one_that_was_meant(wrong, right):
    with pytest.raises(UnknownTimezone, match=f'did you mean .*"{right}"'):
        zone(wrong)


@pytest.mark.parametrize("name", ["", "/", "../../etc/passwd", "x" * 100_000, "Zürich\0", "no such place at all"])
def test_any_text_is_refused_as_a_timezone_without_harm(name):
    with pytest.raises(UnknownTimezone) as refusal:
        zone(name)
    assert len(str(refusal.value)) < 250
    assert len(suggestions(name)) <= 3


def test_every_timezone_of_pytz_works_and_zoneinfo_reads_the_same_files():
    for name in pytz.all_timezones:
        assert zone(name).zone == name
        assert zoneinfo.ZoneInfo(name).key == name


def test_a_clock_change_is_the_hour_that_the_clocks_move_by():
    paris = zone("Europe/Paris")
    assert clock_change(utc(2026, 3, 28), utc(2026, 3, 30), paris) == timedelta(hours=1)
    assert clock_change(utc(2026, 10, 24), utc(2026, 10, 26), paris) == timedelta(hours=-1)
    assert clock_change(utc(2026, 6, 1), utc(2026, 7, 1), paris) == timedelta()
