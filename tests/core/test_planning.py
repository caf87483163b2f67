from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
import pytz
from hypothesis import given
from hypothesis import strategies as st

from calsync.core.conductors import Pair, conductor
from calsync.core.errors import Invalid, UnknownTimezone
from calsync.core.planning import next_week, plan
from calsync.core.weeks import WEEKDAYS, Week
from calsync.core.working_hours import Hours
from support.samples import EU, PAIR, US, configured, person, utc

EARLY = utc(2020, 1, 1)
zones = st.sampled_from(sorted(pytz.all_timezones))
quarters = st.integers(0, 95).map(lambda n: time(n // 4, n % 4 * 15))


@st.composite
def spans(draw):
    start = draw(quarters)
    return start, draw(quarters.filter(lambda end: end != start))


def minute(day, clock, timezone):
    """Return the minute since 1970 at which zoneinfo's clocks first show `clock`."""
    wall = datetime.combine(day, clock, ZoneInfo(timezone))
    return int(wall.astimezone(UTC).timestamp()) // 60


def minutes(day, start, end, timezone):
    last = day + timedelta(days=end <= start)
    return range(minute(day, start, timezone), minute(last, end, timezone))


def seat_by_minutes(windows, days, who):
    """Return the seat, from counting the working minutes in each slot, or the minutes between if there are none."""
    overlaps, distances = [], []
    for start, end, timezone in windows:
        overlap = distance = 0
        for day in days:
            slot = minutes(day, start, end, timezone)
            work = [minutes(day + timedelta(days=n), who.hours.start, who.hours.end, who.timezone) for n in range(-4, 5)]
            overlap += sum(any(moment in span for span in work) for moment in slot)
            distance += min(max(span.start - slot.stop, slot.start - span.stop, 0) for span in work if len(span))
        overlaps.append(overlap)
        distances.append(distance)
    return overlaps.index(max(overlaps)) if any(overlaps) else distances.index(min(distances))


@given(
    st.lists(st.tuples(spans(), zones), min_size=1, max_size=3),
    st.tuples(zones, spans()),
    st.tuples(zones, spans()),
    st.dates(date(2024, 1, 1), date(2036, 12, 28)).map(Week.containing),
    st.sampled_from([("tue", "wed", "thu"), ("fri", "sat", "sun"), ("sun", "mon")]),
)
def test_everybody_sits_where_a_count_of_minutes_puts_them(places, first, second, week, weekdays):
    windows = {
        f"w{n}": {"title": "W", "timezone": timezone, "start": start, "end": end}
        for n, ((start, end), timezone) in enumerate(places)
    }
    others = {
        name: {"title": "W", "timezone": "UTC", "start": time(1), "end": time(2), "days": ["mon"]}
        for name in ("european", "american")
    }
    train = {"windows": list(windows), "stages": dict.fromkeys(weekdays, "group"), "no_train": []}
    config = configured(windows={**others, **windows}, train=train, conductors=[])
    primary, backup = (
        replace(person(name, tz), hours=Hours(*hours)) for name, (tz, hours) in (("p", first), ("b", second))
    )
    week_plan = plan(config, Pair(primary, backup), week, EARLY)

    plain = [(start, end, timezone) for (start, end), timezone in places]
    days = [week.day(day) for day in WEEKDAYS if day in weekdays]
    seats = [f"w{seat_by_minutes(plain, days, who)}" for who in (primary, backup)]
    assert [week_plan.primary.window, week_plan.backup.window] == seats
    assert week_plan.spans_regions == (seats[0] != seats[1])
    expected = {
        (name, day, "primary" if name == seats[0] else "backup", span.start, max(span.start, span.stop))
        for name in seats
        for day in days
        for span in [minutes(day, *plain[int(name[1:])])]
    }
    assert {
        (s.window, s.date, s.role, int(s.start.timestamp()) // 60, int(s.end.timestamp()) // 60) for s in week_plan.slots
    } == expected
    assert [s.start for s in week_plan.slots] == sorted(s.start for s in week_plan.slots)


def planned(pair, week="2026-W49", now=EARLY, **changes):
    return plan(configured(**changes), pair, Week.parse(week), now)


def test_a_pair_across_regions_gets_both_windows_on_every_train_day():
    week_plan = planned(PAIR)
    assert week_plan.spans_regions
    assert [(slot.id, slot.role, slot.stage) for slot in week_plan.slots] == [
        ("2026-12-01-european", "primary", "group0"),
        ("2026-12-01-american", "backup", "group0"),
        ("2026-12-02-european", "primary", "group1"),
        ("2026-12-02-american", "backup", "group1"),
        ("2026-12-03-european", "primary", "group2"),
        ("2026-12-03-american", "backup", "group2"),
    ]
    assert week_plan.slots[0].start == utc(2026, 12, 1, 9)
    assert week_plan.slots[1].start == utc(2026, 12, 1, 19)


def test_a_pair_in_one_region_gets_only_that_window():
    week_plan = planned(Pair(EU, person("other", "Africa/Lagos")))
    assert not week_plan.spans_regions
    assert [(slot.window, slot.role) for slot in week_plan.slots] == [("european", "primary")] * 3


@pytest.mark.parametrize(
    ("who", "window", "reason"),
    [
        (EU, "european", "10:00–12:00 lies in 09:00-18:00 Europe/Paris"),
        (US, "american", "12:00–14:00 lies in 09:00-18:00 America/Denver"),
        (
            person("a", "Europe/Paris", "09:00-11:00"),
            "european",
            "10:00–12:00 overlaps 09:00-11:00 Europe/Paris for 3 h of 6 h",
        ),
        (
            person("a", "Europe/Paris", "11:15-20:00"),
            "european",
            "10:00–12:00 overlaps 11:15-20:00 Europe/Paris for 2 h 15 min of 6 h",
        ),
        (person("a", "Asia/Tokyo"), "european", "18:00–20:00 is nearest to 09:00-18:00 Asia/Tokyo"),
        (person("a", "Australia/Sydney"), "american", "06:00–08:00 is nearest to 09:00-18:00 Australia/Sydney, 1 h away"),
        (person("a", "Asia/Kathmandu"), "european", "14:45–16:45 lies in 09:00-18:00 Asia/Kathmandu"),
        (person("a", "Europe/Paris", window="american"), "american", "american is set for a"),
    ],
)
def test_the_reason_relates_the_window_to_the_working_hours(who, window, reason):
    seat = planned(Pair(who, person("other", "UTC"))).primary
    assert (seat.window, seat.reason) == (window, reason)


def test_the_reason_names_the_days_where_the_clocks_change_within_the_week():
    train = {"stages": {"sat": "group0", "sun": "group1"}}
    seat = planned(Pair(person("a", "America/Denver", "01:00-06:00"), EU), "2026-W43", train=train).primary
    assert seat.reason == "Sat 02:00–04:00, Sun 03:00–05:00 lies in 01:00-06:00 America/Denver"


@pytest.mark.parametrize("week", ["2026-W44", "2027-W11"])
def test_while_only_one_continent_has_changed_its_clocks_both_windows_keep_their_own_clock(week):
    week_plan = planned(PAIR, week)
    european, american = week_plan.slots[:2]
    assert (european.start.time(), american.start.time()) == (time(10), time(11))
    assert european.start.astimezone(UTC).hour == 9
    assert american.start.astimezone(UTC).hour == 18
    assert american.start.astimezone(pytz.timezone("Europe/Paris")).hour == 19  # 20:00 in most weeks
    assert (week_plan.primary.window, week_plan.backup.window) == ("european", "american")


def test_a_clock_change_moves_somebody_to_the_other_window_for_the_weeks_it_lasts():
    late = person("late", "Europe/Paris", "12:00-20:00")
    pair = Pair(late, US)
    weeks = ("2026-W43", "2026-W44", "2026-W45", "2027-W10", "2027-W11", "2027-W13")
    assert [planned(pair, week).primary.window for week in weeks] == [
        "european", "american", "european", "european", "american", "european",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("week", "hour"), [("2026-W43", 10), ("2026-W44", 9), ("2026-W45", 10), ("2027-W11", 9), ("2027-W13", 10)]
)
def test_a_european_window_pinned_to_los_angeles_begins_an_hour_earlier_for_europeans_between_the_changes(week, hour):
    pinned = {"european": {"title": "E", "timezone": "America/Los_Angeles", "start": time(1), "end": time(3)}}
    slot = planned(PAIR, week, windows=pinned).slots[0]
    assert slot.start.astimezone(pytz.timezone("Europe/Paris")).hour == hour


def test_the_first_listed_window_wins_a_tie():
    twins = {
        name: {"title": "T", "timezone": "Europe/Paris", "start": time(10), "end": time(12)}
        for name in ("european", "american")
    }
    for order in (["european", "american"], ["american", "european"]):
        assert planned(PAIR, windows=twins, train={"windows": order}).primary.window == order[0]


def test_after_primary_leaves_out_the_backups_slots_before_the_primarys_first():
    after = {"train": {"backup_slots": "after-primary"}}
    american_primary = [slot.id for slot in planned(Pair(US, EU), **after).slots]
    assert american_primary == [
        "2026-12-01-american", "2026-12-02-european", "2026-12-02-american", "2026-12-03-european", "2026-12-03-american",
    ]  # fmt: skip
    assert len(planned(Pair(US, EU)).slots) == len(planned(PAIR, **after).slots) == 6


def test_a_week_without_a_train_is_refused_with_its_reason(config, now):
    with pytest.raises(Invalid, match=r"no train in 2026-W52: end-of-year holidays"):
        plan(config, PAIR, Week(2026, 52), now)


def test_slots_that_are_over_are_skipped_and_a_running_one_is_kept():
    week_plan = planned(PAIR, now=utc(2026, 12, 1, 12))
    assert [slot.id for slot in week_plan.skipped] == ["2026-12-01-european"]
    assert len(week_plan.slots) == 5
    assert not planned(PAIR, now=utc(2026, 12, 1, 10, 59)).skipped
    assert len(planned(PAIR, now=utc(2026, 12, 1, 11)).skipped) == 1


def test_a_week_that_is_over_is_refused_with_the_next_one():
    with pytest.raises(Invalid, match="2026-W49 is over; the next one is 2026-W50"):
        planned(PAIR, now=utc(2026, 12, 3, 21))


def test_the_same_person_twice_is_refused():
    with pytest.raises(Invalid, match="both primary and backup"):
        planned(Pair(EU, replace(US, name=EU.name)))


@pytest.mark.parametrize("window", ["backport-night", "nowhere", "x" * 999])
def test_a_window_that_is_not_the_trains_is_refused(config, now, window):
    with pytest.raises(Invalid, match="european, american"):
        plan(config, Pair(EU, replace(US, window=window)), Week(2026, 49), now)


@pytest.mark.parametrize(
    ("moment", "week"),
    [
        (utc(2026, 11, 23, 12), "2026-W48"),
        (utc(2026, 11, 24, 8, 59), "2026-W48"),
        (utc(2026, 11, 24, 9), "2026-W49"),
        (utc(2026, 11, 29, 23, 59), "2026-W49"),
        (utc(2026, 12, 20), "2027-W01"),
    ],
)
def test_the_default_week_is_the_next_whose_train_has_not_begun(config, moment, week):
    assert str(next_week(config, moment)) == week
    assert str(plan(config, PAIR, None, moment).week) == week


def test_the_roster_lists_people_by_name_and_a_request_overrides_it(config):
    assert conductor(config, "conductor-eu") == EU
    given = conductor(config, "conductor-eu", timezone="Asia/Tokyo", hours=Hours.parse("10:00-19:00"), window="american")
    assert given == person("conductor-eu", "Asia/Tokyo", "10:00-19:00", "american")
    assert conductor(config, "anybody", timezone="Asia/Tokyo") == person("anybody", "Asia/Tokyo")


def test_an_unknown_name_is_refused_and_a_misspelt_timezone_recognised(config):
    with pytest.raises(Invalid, match=r"is not in the roster; give a timezone"):
        conductor(config, "somebody")
    with pytest.raises(Invalid, match=r'did you mean the timezone "Europe/Paris"'):
        conductor(config, "europe/paris")
    with pytest.raises(UnknownTimezone, match="Europe/Paris"):
        conductor(config, "somebody", timezone="Europe/Pariss")
