import time
from datetime import UTC, date, datetime, timedelta

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import vRecur

from calsync.ical import recurrence
from calsync.ical.recurrence import TimeRange, last_start
from calsync.ical.vtimezone import vtimezone
from support.samples import event, ics, own_zone, read, utc

HORIZON = TimeRange(utc(2026, 8, 26), utc(2027, 12, 30))
START, END = "DTSTART:20261201T100000Z", "DTEND:20261201T120000Z"
BEGINS = utc(2026, 12, 1, 10)
ALWAYS = HORIZON.end - timedelta(days=2)


def zoned(name, clock="20261201T100000"):
    return f"{name};TZID=Own:{clock}"


def seen(ics, horizon=HORIZON):
    """The spans of a resource that reads without a defect."""
    reading = read(ics, "e.ics", horizon)
    assert reading.defects == ()
    assert all(found.certain for found in reading.occurrences)
    return sorted((found.start, found.end) for found in reading.occurrences)


# What is broken, but of which a start is known: (resource, what its defect says, a moment at which it may take place).
PLACED = {
    "DTEND before DTSTART": (
        ics(START, "DTEND:20261201T090000Z"),
        "DTEND is before DTSTART",
        BEGINS - timedelta(minutes=30),
    ),
    "negative DURATION": (ics(START, "DURATION:-PT1H"), "DURATION", BEGINS - timedelta(minutes=30)),
    "DTEND that cannot be read": (ics(START, "DTEND:later"), "DTEND cannot be read", BEGINS + timedelta(minutes=1)),
    "date and date-time mixed": (
        ics(START, "DTEND;VALUE=DATE:20261202"),
        "not of the same type",
        BEGINS + timedelta(minutes=1),
    ),
    "FREQ=SECONDLY without end": (ics(START, "RRULE:FREQ=SECONDLY"), "recurs more than 5,000 times", ALWAYS),
    "FREQ=SECONDLY;INTERVAL=0": (ics(START, "RRULE:FREQ=SECONDLY;INTERVAL=0"), "", ALWAYS),
    "FREQ=SECONDLY for two hours": (
        ics(START, END, "RRULE:FREQ=SECONDLY;UNTIL=20261201T120000Z"),
        "recur",
        utc(2026, 12, 1, 11),
    ),
    "hourly rule that never matches": (
        ics(START, END, "RRULE:FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30"),
        "takes longer",
        ALWAYS,
    ),
    "daily rule that never matches": (ics(START, END, "RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"), "takes longer", ALWAYS),
    "INTERVAL=0": (ics(START, END, "RRULE:FREQ=DAILY;INTERVAL=0"), "longer", ALWAYS),
    "INTERVAL=-1": (ics(START, END, "RRULE:FREQ=DAILY;INTERVAL=-1"), "recurrence", ALWAYS),
    "COUNT beyond all numbers": (ics(START, END, "RRULE:FREQ=DAILY;COUNT=99999999999999999999"), "RRULE", ALWAYS),
    "unknown FREQ": (ics(START, END, "RRULE:FREQ=SOMETIMES"), "RRULE cannot be read", ALWAYS),
    "unknown BYDAY": (ics(START, END, "RRULE:FREQ=DAILY;BYDAY=XX"), "RRULE cannot be read", ALWAYS),
    "RRULE without a FREQ": (ics(START, END, "RRULE:garbage"), "RRULE", ALWAYS),
    "invalid RECURRENCE-ID": (ics(START, END, "RECURRENCE-ID:garbage"), "RECURRENCE-ID cannot be read", BEGINS),
    "invalid EXDATE": (ics(START, END, "RRULE:FREQ=DAILY;COUNT=3", "EXDATE:garbage"), "EXDATE cannot be read", BEGINS),
    "invalid RDATE": (ics(START, END, "RDATE:garbage"), "RDATE cannot be read", ALWAYS),
    "unknown TZID": (
        ics("DTSTART;TZID=Moon/Tycho:20261201T100000", "DTEND;TZID=Moon/Tycho:20261201T120000"),
        'unknown timezone "Moon/Tycho"',
        utc(2026, 12, 1, 22),
    ),
    "broken VTIMEZONE": (
        ics(
            zoned("DTSTART"),
            zoned("DTEND"),
            before="BEGIN:VTIMEZONE\nTZID:Own\nBEGIN:STANDARD\nDTSTART:x\nEND:STANDARD\nEND:VTIMEZONE",
        ),
        'unknown timezone "Own"',
        utc(2026, 11, 30, 21),
    ),
    "empty VTIMEZONE": (
        ics(zoned("DTSTART"), zoned("DTEND"), before="BEGIN:VTIMEZONE\nTZID:Own\nEND:VTIMEZONE"),
        'unknown timezone "Own"',
        utc(2026, 11, 30, 21),
    ),
}

# What is so broken that not even a time is known.
UNPLACED = {
    "garbage bytes": b"\x00\xff\xfe garbage",
    "empty bytes": b"",
    "half a resource": ics(START, END)[:-30],
    "a VEVENT alone": b"BEGIN:VEVENT\r\nUID:1\r\nDTSTART:20261201T100000Z\r\nEND:VEVENT\r\n",
    "two calendars": ics(START, END) * 2,
    "no DTSTART": ics("SUMMARY:x"),
    "DTSTART that cannot be read": ics("DTSTART:tomorrow", "DTEND:later"),
    "DTSTART twice": ics(START, START, END),
    "year 9999 beyond UTC": ics("DTSTART;TZID=America/Denver:99991231T230000", "DTEND;TZID=America/Denver:99991231T235959"),
    "year 1 before UTC": ics("DTSTART;TZID=Asia/Tokyo:00010101T000000", "DTEND;TZID=Asia/Tokyo:00010101T010000"),
}


@pytest.mark.parametrize("case", ["broken VTIMEZONE", "empty VTIMEZONE"])
def test_a_timezone_that_nobody_knows_is_nowhere_whatever_another_resource_called_so(case):
    resource = PLACED[case][0].replace(b"TZID:Own", b"TZID:Theirs").replace(b"TZID=Own", b"TZID=Theirs")
    alone = read(resource, "e.ics", HORIZON)
    another = ics("DTSTART;TZID=Theirs:20261201T100000", "DURATION:PT2H", before=own_zone("+1100", "Theirs"))
    assert read(another, "f.ics", HORIZON).defects == ()
    assert read(resource, "e.ics", HORIZON) == alone


@pytest.mark.parametrize("case", PLACED)
def test_a_broken_event_is_named_unpublished_and_busy_wherever_it_may_be(case):
    resource, defect, moment = PLACED[case]
    reading = read(resource, "e.ics", HORIZON)
    assert defect in " ".join(reading.defects)
    assert reading.defects
    assert reading.published == b""
    assert any(found.busy and not found.certain and found.start <= moment < found.end for found in reading.occurrences)


@pytest.mark.parametrize("case", UNPLACED)
def test_a_resource_without_any_time_is_a_defect_and_no_error(case):
    reading = read(UNPLACED[case], "e.ics", HORIZON)
    assert reading.defects
    assert reading.published == b""
    assert reading.occurrences == ()


@pytest.mark.parametrize(
    "lines",
    [
        ("DTSTART:99991231T230000Z", "DTEND:99991231T235959Z"),
        ("DTSTART:99991231T230000Z", "DTEND:99991231T235959Z", "RRULE:FREQ=DAILY"),
        ("DTSTART:00010101T000000Z", "DTEND:00010101T010000Z"),
        ("DTSTART;VALUE=DATE:99991231",),
        ("DTSTART;VALUE=DATE:00010101",),
        ("DTSTART:00010101T000000", "DTEND:00010101T010000"),
    ],
)
def test_the_first_and_the_last_year_there_are_hold_no_surprise(lines):
    assert read(ics(*lines), "e.ics", HORIZON).occurrences == ()


@pytest.mark.parametrize(
    ("start", "rule"),
    [
        ("20261201", "FREQ=SECONDLY;UNTIL=20261202T040000Z"),
        ("20150101", "FREQ=SECONDLY;INTERVAL=10000"),
        ("16000101", "FREQ=DAILY;COUNT=400000"),
        ("20200101", "FREQ=MINUTELY;INTERVAL=180;COUNT=30000"),
    ],
)
def test_no_rule_however_long_or_old_runs_on_and_on(start, rule):
    began = time.thread_time()
    read(ics(f"DTSTART:{start}T100000Z", f"RRULE:{rule}"), "e.ics", HORIZON)
    assert time.thread_time() - began < 20 * recurrence.MAX_SECONDS  # unbounded, each takes minutes


def test_one_broken_event_does_not_hide_the_sound_one_beside_it():
    reading = read(ics(START, END, before=event(START, "DTEND:20261201T090000Z", uid="broken")), "e.ics", HORIZON)
    assert {(found.uid, found.certain) for found in reading.occurrences} == {("event@example.org", True), ("broken", False)}
    assert b"UID:event@example.org" in reading.published
    assert b"UID:broken" not in reading.published


def test_a_description_of_a_megabyte_is_left_out_and_named_while_the_event_counts():
    reading = read(ics(START, END, "DESCRIPTION:" + "x" * 1_000_000), "e.ics", HORIZON)
    assert "DESCRIPTION has 1,000,012 bytes" in reading.defects[0]
    assert [(found.start, found.busy) for found in reading.occurrences] == [(BEGINS, True)]
    assert len(reading.published) < 1_000


def test_an_event_is_read_with_title_categories_and_place():
    (found,) = read(ics(START, END, "SUMMARY: Deploy ", "CATEGORIES:train,services"), "e.ics", HORIZON).occurrences
    assert (found.start, found.end, found.uid, found.href) == (BEGINS, utc(2026, 12, 1, 12), "event@example.org", "e.ics")
    assert (found.summary, found.categories, found.busy, found.kind) == ("Deploy", ("train", "services"), True, "event")


def test_an_event_across_midnight_is_one_occurrence():
    assert seen(ics("DTSTART:20261201T230000Z", "DURATION:PT3H")) == [(utc(2026, 12, 1, 23), utc(2026, 12, 2, 2))]


@pytest.mark.parametrize(
    ("lines", "span"),
    [
        (["DTSTART;VALUE=DATE:20261201"], (datetime(2026, 12, 1), datetime(2026, 12, 2))),
        (["DTSTART;VALUE=DATE:20261201", "DTEND;VALUE=DATE:20261204"], (datetime(2026, 12, 1), datetime(2026, 12, 4))),
        (["DTSTART:20261201T100000", "DTEND:20261201T110000"], (datetime(2026, 12, 1, 10), datetime(2026, 12, 1, 11))),
    ],
)
def test_all_day_and_floating_events_are_on_the_clock_of_whoever_looks(lines, span):
    assert seen(ics(*lines)) == [span]
    (found,) = read(ics(*lines), "e.ics", HORIZON).occurrences
    assert found.span("Asia/Tokyo")[0] == utc(*span[0].timetuple()[:5]) - timedelta(hours=9)


def test_a_series_with_exceptions_additions_and_moved_instances_is_expanded():
    series = ics(
        "DTSTART;TZID=Europe/Paris:20261023T100000", "DTEND;TZID=Europe/Paris:20261023T110000", "RRULE:FREQ=DAILY;COUNT=5",
        "EXDATE;TZID=Europe/Paris:20261024T100000", "RDATE;TZID=Europe/Paris:20261101T100000",
        before=event(
            "RECURRENCE-ID;TZID=Europe/Paris:20261026T100000", "DTSTART;TZID=Europe/Paris:20261026T150000",
            "DTEND;TZID=Europe/Paris:20261026T153000", "SUMMARY:moved",
        ),
    )  # fmt: skip
    assert seen(series) == [
        (utc(2026, 10, 23, 8), utc(2026, 10, 23, 9)),
        (utc(2026, 10, 25, 9), utc(2026, 10, 25, 10)),
        (utc(2026, 10, 26, 14), utc(2026, 10, 26, 14, 30)),
        (utc(2026, 10, 27, 9), utc(2026, 10, 27, 10)),
        (utc(2026, 11, 1, 9), utc(2026, 11, 1, 10)),
    ]


def test_two_resources_with_the_same_tzid_each_mean_their_own_timezone():
    for offset, hours in (("+0300", 3), ("-0730", -7.5), ("+0300", 3)):
        resource = ics(zoned("DTSTART"), zoned("DTEND", "20261201T120000"), before=own_zone(offset))
        start = BEGINS - timedelta(hours=hours)
        assert seen(resource) == [(start, start + timedelta(hours=2))]
        recurring = ics(
            zoned("DTSTART"), zoned("DTEND", "20261201T120000"), "RRULE:FREQ=DAILY;COUNT=2", before=own_zone(offset)
        )
        assert [begin for begin, _ in seen(recurring)] == [start, start + timedelta(days=1)]


def test_the_feed_gets_each_own_timezone_under_a_name_of_its_own():
    first, second = (
        read(ics(zoned("DTSTART"), before=own_zone(offset)), "e.ics", HORIZON) for offset in ("+0300", "-0730")
    )
    assert len(first.timezones) == 1
    assert not first.timezones.keys() & second.timezones.keys()
    (name,) = first.timezones
    assert f"TZID={name}".encode() in first.published
    assert f"TZID:{name}".encode() in first.timezones[name]


@pytest.mark.parametrize(
    "tzid", ["Europe/Paris", "W. Europe Standard Time", "/freeassociation.sourceforge.net/Europe/Paris"]
)
def test_the_names_that_outlook_and_others_give_timezones_are_understood(tzid):
    found = seen(ics(f"DTSTART;TZID={tzid}:20261201T100000", f"DTEND;TZID={tzid}:20261201T110000"))
    assert found == [(utc(2026, 12, 1, 9), utc(2026, 12, 1, 10))]


def test_a_vtimezone_of_a_known_timezone_changes_nothing():
    before = vtimezone("America/Denver").decode().replace("\r\n", "\n").strip()
    assert seen(ics("DTSTART;TZID=America/Denver:20261201T100000", before=before))[0][0] == utc(2026, 12, 1, 17)


@pytest.mark.parametrize("line", ["STATUS:CANCELLED", "TRANSP:TRANSPARENT", "status:cancelled"])
def test_cancelled_and_transparent_events_make_nobody_busy(line):
    (found,) = read(ics(START, END, line), "e.ics", HORIZON).occurrences
    assert not found.busy


@pytest.mark.parametrize("secrecy", ["PRIVATE", "CONFIDENTIAL", "private"])
def test_a_private_event_says_no_more_than_busy(secrecy):
    secret = [
        "SUMMARY:secret",
        "DESCRIPTION:secret",
        "LOCATION:secret",
        "CATEGORIES:secret",
        "X-NOTE:secret",
        "ATTENDEE:mailto:secret@x.org",
    ]
    reading = read(ics(START, END, f"CLASS:{secrecy}", *secret), "e.ics", HORIZON)
    assert [(found.summary, found.categories, found.busy) for found in reading.occurrences] == [("busy", (), True)]
    assert b"secret" not in reading.published
    assert b"SUMMARY:busy" in reading.published


def test_alarms_of_other_people_are_not_published():
    reading = read(ics(START, END, "BEGIN:VALARM", "ACTION:AUDIO", "TRIGGER:-PT5M", "END:VALARM"), "e.ics", HORIZON)
    assert b"VALARM" not in reading.published


def test_a_series_keeps_its_exact_duration_over_a_clock_change():
    nights = ics(
        "DTSTART;TZID=Europe/Paris:20261023T230000", "DTEND;TZID=Europe/Paris:20261024T070000", "RRULE:FREQ=DAILY;COUNT=3"
    )
    assert {end - start for start, end in seen(nights)} == {timedelta(hours=8)}


@pytest.mark.parametrize("rule", ["FREQ=HOURLY;COUNT=4000", "FREQ=DAILY", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"])
def test_an_ordinary_long_series_is_read_in_full(rule):
    assert len(seen(ics(START, "DURATION:PT30M", f"RRULE:{rule}"))) > 200


old_rules = st.builds(
    lambda freq, interval, extra, until: f"FREQ={freq};INTERVAL={interval}{extra}{until}",
    st.sampled_from(["DAILY", "WEEKLY"]),
    st.integers(1, 9),
    st.sampled_from(["", ";BYDAY=MO,TH", ";BYDAY=SU;WKST=SU", ";BYDAY=TU,WE,SA;WKST=TU", ";BYMONTH=11,12"]),
    st.sampled_from(["", ";UNTIL=20261220T100000Z", ";UNTIL=20240101T000000Z"]),
)


@pytest.mark.heavy
@settings(max_examples=40)
@given(
    old_rules,
    st.datetimes(datetime(2021, 1, 1), datetime(2026, 11, 20)),
    st.sampled_from(["UTC", "Europe/Paris", "America/Denver"]),
)
def test_an_old_series_is_where_it_would_be_if_every_instance_had_been_counted(rule, start, tzid):
    start = start.replace(second=0, microsecond=0)
    horizon = TimeRange(utc(2026, 11, 1), utc(2027, 1, 10))
    stamp = f"{start:%Y%m%dT%H%M%S}"
    resource = ics(
        f"DTSTART:{stamp}Z" if tzid == "UTC" else f"DTSTART;TZID={tzid}:{stamp}", "DURATION:PT1H", f"RRULE:{rule}"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recurrence, "MAX_SECONDS", 60)
        quick = seen(resource, horizon)
        patch.setattr(recurrence, "_skip_past", lambda master, start: None)
        assert seen(resource, horizon) == quick
    if tzid == "UTC" and "BYDAY" in rule:  # dateutil starts with the rule, RFC 5545 with DTSTART; compare what both say
        first = horizon.start - timedelta(hours=1)  # what ends as the horizon begins is in it
        dates = rrulestr(f"RRULE:{rule}", dtstart=start.replace(tzinfo=UTC)).between(first, horizon.end, inc=True)
        assert [moment for moment, _ in quick if moment != start.replace(tzinfo=UTC)] == [
            moment for moment in dates if moment < horizon.end and moment != start.replace(tzinfo=UTC)
        ]


@pytest.mark.heavy
@settings(max_examples=30)
@given(
    st.integers(5, 50), st.datetimes(datetime(2026, 1, 1), datetime(2026, 8, 1)), st.sampled_from(["UTC", "Europe/Paris"])
)
def test_an_old_series_of_every_few_hours_is_where_it_would_be_if_every_instance_had_been_counted(interval, start, tzid):
    horizon = TimeRange(utc(2026, 10, 20), utc(2026, 12, 1))
    stamp = f"{start:%Y%m%dT%H%M%S}"
    resource = ics(
        f"DTSTART:{stamp}Z" if tzid == "UTC" else f"DTSTART;TZID={tzid}:{stamp}",
        "DURATION:PT1H",
        f"RRULE:FREQ=HOURLY;INTERVAL={interval}",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recurrence, "MAX_SECONDS", 60)
        quick = seen(resource, horizon)
        patch.setattr(recurrence, "_skip_past", lambda master, start: None)
        assert seen(resource, horizon) == quick


SEEDS = [
    PLACED["unknown TZID"][0],
    ics(START, END, "RRULE:FREQ=DAILY;COUNT=3", "EXDATE:20261202T100000Z", "SUMMARY:x"),
    ics(zoned("DTSTART"), zoned("DTEND"), before=own_zone("+0300")),
    ics("DTSTART;VALUE=DATE:20261201", "DURATION:P2D", "CLASS:PRIVATE", "CATEGORIES:a,b"),
]
TOKENS = [
    b"\r\n",
    b":",
    b";",
    b"=",
    b",",
    b'"',
    b"\\",
    b"\x00",
    b"\xff",
    b"-",
    b"9999",
    b"0",
    b"P",
    b"T",
    b"Z",
    b" ",
    b"BEGIN:VEVENT\r\n",
    b"TZID=x",
]


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_reading_fail(noise):
    read(noise, "e.ics", HORIZON)


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 12), st.sampled_from(TOKENS)), max_size=4),
)
def test_no_damaged_resource_makes_reading_fail_and_what_is_damaged_is_not_published(resource, cuts):
    for place, length, token in cuts:
        resource = resource[:place] + token + resource[place + length :]
    reading = read(resource, "e.ics", HORIZON)
    assert all(found.certain for found in reading.occurrences) or reading.defects
    assert all((found.start.tzinfo is None) == (found.end.tzinfo is None) for found in reading.occurrences)


def test_a_floating_span_that_the_clocks_turn_round_is_one_all_the_same():
    (night,) = read(ics("DTSTART:20270328T023000", "DTEND:20270328T031500"), "e.ics", HORIZON).occurrences
    start, end = (edge.astimezone(UTC) for edge in night.span("Europe/Berlin"))
    assert (start, end) == (utc(2027, 3, 28, 1, 15), utc(2027, 3, 28, 1, 30))


def test_what_lies_outside_the_horizon_is_left_out():
    assert seen(ics("DTSTART:20250101T100000Z", "DTEND:20250101T110000Z")) == []
    assert date(2026, 12, 1) in {
        start.date() for start, _ in seen(ics("DTSTART:20201201T100000Z", "DURATION:PT1H", "RRULE:FREQ=YEARLY"))
    }


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["Own", "Other"]), st.none() | st.integers(-11, 12)), min_size=1, max_size=8))
def test_a_timezone_that_was_met_before_means_in_each_resource_what_that_says(resources):
    horizon = TimeRange(utc(2026, 11, 24), utc(2026, 12, 24))
    for tzid, hours in resources:
        before = own_zone(f"{hours:+03}00", tzid) if hours is not None else ""
        clock = [f"{name};TZID={tzid}:20261201T{hour}0000" for name, hour in (("DTSTART", 10), ("DTEND", 12))]
        (found,) = read(ics(*clock, before=before), "e.ics", horizon).occurrences
        assert found.certain == (hours is not None)
        if hours is not None:
            assert found.start == utc(2026, 12, 1, 10) - timedelta(hours=hours)
            assert found.end - found.start == timedelta(hours=2)


@given(
    st.sampled_from(["HOURLY", "DAILY", "WEEKLY"]),
    st.integers(1, 60),
    st.integers(1, 5),
    st.sets(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"])),
    st.datetimes(utc(2020, 1, 1).replace(tzinfo=None), utc(2030, 1, 1).replace(tzinfo=None)),
)
def test_a_counted_rule_starts_nothing_after_it_is_said_to_be_over(frequency, instances, interval, days, first):
    by = f";BYDAY={','.join(sorted(days))}" if days and frequency == "WEEKLY" else ""
    rule = f"FREQ={frequency};COUNT={instances};INTERVAL={interval}{by}"
    every = list(rrulestr(rule, dtstart=first))
    assert len(every) == instances
    assert every[-1].replace(tzinfo=UTC) <= last_start(vRecur.from_ical(rule), first.replace(tzinfo=UTC))
