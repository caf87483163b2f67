import re
from dataclasses import replace
from datetime import UTC, time, timedelta

import pytest
import recurring_ical_events
from hypothesis import given, settings
from hypothesis import strategies as st
from ical.calendar_stream import IcsCalendarStream
from icalendar import Calendar

from calsync.core.conductors import Pair
from calsync.core.planning import plan
from calsync.core.weeks import Week
from calsync.ical import recurrence
from calsync.ical.merge import apply_edits
from calsync.ical.recurrence import TimeRange
from calsync.ical.reservation import Written, encode_reservation, reservation_href, summary, ticket_link, week_of
from support.samples import EU, PAIR, US, configured, decoded, person, read, reserved, utc
from support.strategies import some

CONFIG = configured()
WITH_TICKETS = configured(train={"ticket_url": "https://example.org/{ticket}"})
HORIZON = TimeRange(utc(2026, 8, 26), utc(2027, 12, 30))


def shown(slots):
    return sorted((slot.start.astimezone(UTC), slot.end.astimezone(UTC)) for slot in slots)


@pytest.mark.heavy
@settings(max_examples=40)
@given(some, st.from_regex(r"[0-9a-f]{32}", fullmatch=True))
def test_what_is_written_on_the_calendar_is_read_back_the_same(reservation, mark):
    assert decoded(encode_reservation(WITH_TICKETS, reservation, mark)) == Written(reservation, mark, cancelled=False)


@pytest.mark.heavy
@settings(max_examples=30)
@given(some.map(lambda reservation: replace(reservation, released=False)))
def test_calsync_itself_reads_exactly_the_slots_without_a_defect(reservation):
    monday = utc(*reservation.week.monday.timetuple()[:3])
    horizon = TimeRange(monday - timedelta(days=9), monday + timedelta(days=16))
    reading = read(encode_reservation(CONFIG, reservation, "m"), reservation_href(reservation.week), horizon)
    assert reading.defects == ()
    assert {found.slot for found in reading.occurrences if found.busy} == {slot.id for slot in reservation.slots}
    assert apply_edits(reservation, reading.occurrences, horizon) == (reservation, ())


def by_recurring_ical_events(ics, monday):
    found = recurring_ical_events.of(Calendar.from_ical(ics)).between(monday, monday + timedelta(days=9))
    return sorted((event.start.astimezone(UTC), event.end.astimezone(UTC), str(event["SUMMARY"])) for event in found)


def by_ical(ics, monday):
    timeline = IcsCalendarStream.calendar_from_ics(ics.decode()).timeline
    found = [event for event in timeline if event.start_datetime < monday + timedelta(days=9)]
    return sorted(
        (event.start_datetime.astimezone(UTC), event.end_datetime.astimezone(UTC), event.summary) for event in found
    )


PAIRS = [PAIR, Pair(US, EU), Pair(EU, person("lagos", "Africa/Lagos")), Pair(person("naïve 火車", "Asia/Tokyo"), US)]


@pytest.mark.parametrize("engine", [by_recurring_ical_events, by_ical])
@pytest.mark.parametrize("week", ["2026-W49", "2026-W44", "2027-W11", "2027-W13", "2026-W43", "2036-W02"])
@pytest.mark.parametrize("pair", PAIRS)
def test_other_calendar_engines_show_exactly_the_slots(engine, week, pair):
    reservation = reserved(pair, week)
    monday = utc(*reservation.week.monday.timetuple()[:3])
    expected = [
        (slot.start.astimezone(UTC), slot.end.astimezone(UTC), summary(reservation, slot)) for slot in reservation.slots
    ]
    assert engine(encode_reservation(CONFIG, reservation, "mark"), monday) == sorted(expected)


@pytest.mark.parametrize("engine", [by_recurring_ical_events, by_ical])
@pytest.mark.parametrize("timezone", ["UTC", "Africa/Abidjan", "Europe/London", "Asia/Kathmandu"])
def test_other_calendar_engines_show_exactly_the_slots_of_a_first_window_in_any_timezone(engine, timezone):
    first = {"title": "E", "timezone": timezone, "start": time(9), "end": time(11)}
    found = plan(configured(windows={"european": first}), PAIR, Week(2026, 49), utc(2020, 1, 1))
    ics = encode_reservation(CONFIG, replace(reserved(), slots=found.slots), "mark")
    assert [span[:2] for span in engine(ics, utc(2026, 11, 30))] == shown(found.slots)


@pytest.mark.parametrize("engine", [by_recurring_ical_events, by_ical])
def test_a_week_with_one_slot_left_is_one_plain_event(engine):
    reservation = reserved()
    reservation = replace(reservation, slots=reservation.slots[-1:])
    ics = encode_reservation(CONFIG, reservation, "mark")
    assert b"RRULE:FREQ=DAILY" not in ics
    assert [span[:2] for span in engine(ics, utc(2026, 11, 30))] == shown(reservation.slots)


@pytest.mark.heavy
@settings(max_examples=30)
@given(some)
def test_the_resource_keeps_to_what_servers_and_clients_agree_on(reservation):
    ics = encode_reservation(CONFIG, reservation, "m")
    slots = len(reservation.slots) + len(reservation.cancelled)
    assert ics.count(b"BEGIN:VEVENT") == (slots + 1 if slots > 1 else 1)
    assert b"\nRDATE" not in ics
    assert all(len(line) <= 75 for line in ics.split(b"\r\n"))
    assert len(set(re.findall(rb"\nUID:(.*)\r\n", ics))) == 1


@pytest.mark.parametrize("line", ["RECURRENCE-ID", "DTSTART"])
def test_times_carry_the_timezone_of_their_window(line):
    ics = encode_reservation(CONFIG, reserved(), "m").decode()
    assert set(re.findall(rf"\r\n{line};TZID=([^:]+):", ics.partition("BEGIN:VEVENT")[2])) >= {"Europe/Paris"}
    assert {"Europe/Paris", "America/Los_Angeles"} == set(re.findall(r"BEGIN:VTIMEZONE\r\nTZID:(.+?)\r\n", ics))


def occurrences(ics):
    return read(ics, "train-2026-W49.ics", HORIZON).occurrences


def test_a_released_week_makes_nobody_busy():
    reservation = reserved()
    released = replace(reservation, slots=(), cancelled=reservation.slots, released=True)
    found = occurrences(encode_reservation(CONFIG, released, "m"))
    assert found
    assert not any(occurrence.busy for occurrence in found)


@pytest.mark.parametrize(
    "damage",
    [
        lambda ics: re.sub(rb"X-CALSYNC-RECORD:.*?\r\n(?! )", b"", ics, flags=re.DOTALL),
        lambda ics: re.sub(rb"X-CALSYNC-RECORD:.", b"X-CALSYNC-RECORD:!", ics),
        lambda ics: re.sub(rb"X-CALSYNC-RECORD:.*?\r\n(?! )", b"X-CALSYNC-RECORD:e30=\r\n", ics, flags=re.DOTALL),
        lambda ics: re.sub(rb"X-CALSYNC-RECORD:.*?\r\n(?! )", b"X-CALSYNC-RECORD:W10=\r\n", ics, flags=re.DOTALL),
        lambda ics: re.sub(rb"X-CALSYNC-RECORD:.*?\r\n(?! )", b"X-CALSYNC-RECORD:bnVsbA==\r\n", ics, flags=re.DOTALL),
    ],
)
def test_a_damaged_record_is_a_value_error(damage):
    ics = encode_reservation(CONFIG, reserved(), "m")
    damaged = damage(ics)
    assert damaged != ics
    with pytest.raises(ValueError, match="X-CALSYNC-RECORD"):
        decoded(damaged)


def test_people_read_who_sits_where_and_why_it_was_reserved():
    reservation = reserved(train="1.46.0-wmf.5", ticket="T400001", override="the freeze was lifted", author="ops")
    assert summary(reservation, reservation.slots[0]) == "Train 1.46.0-wmf.5 – group0 – conductor-eu"
    assert summary(reservation, reservation.slots[1]) == "Train 1.46.0-wmf.5 – group0 – secondary timeslot – conductor-us"
    first = Calendar.from_ical(encode_reservation(WITH_TICKETS, reservation, "m")).events[1]
    for said in (
        "1.46.0-wmf.5",
        "T400001 https://example.org/T400001",
        "the freeze was lifted",
        "Reserved by: ops",
        "America/Denver",
    ):
        assert said in first["DESCRIPTION"]
    assert first["URL"] == "https://example.org/T400001"


def test_a_ticket_cannot_break_out_of_its_link():
    assert ticket_link("T1/../?x=<a>", "https://example.org/{ticket}") == "https://example.org/T1%2F..%2F%3Fx%3D%3Ca%3E"
    assert ticket_link(None, "https://example.org/{ticket}") is ticket_link("T1", None) is None


@pytest.mark.parametrize(
    "name", ["train-2026-W99.ics", "train-9999-W01.ics", "x-train-2026-W49.ics", "train-2026-W49.ics.bak", ""]
)
def test_only_a_weeks_own_href_is_a_reservations(name):
    assert week_of(name) is None
    assert week_of(reservation_href(Week(2026, 49))) == Week(2026, 49)


@pytest.mark.heavy
@settings(max_examples=40)
@given(some, st.integers(-3, 12))
def test_a_week_whose_slots_are_read_as_overrides_is_what_expanding_it_gives(reservation, shift):
    resource = encode_reservation(CONFIG, reservation, "mark")
    monday = utc(*reservation.week.monday.timetuple()[:3]) + timedelta(days=shift)
    horizon = TimeRange(monday - timedelta(days=9), monday + timedelta(days=9))
    quick = read(resource, "w.ics", horizon)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recurrence, "_overrides_of_all", lambda _events: None)
        plain = read(resource, "w.ics", horizon)
    assert sorted(quick.occurrences, key=repr) == sorted(plain.occurrences, key=repr)
    assert replace(quick, occurrences=()) == replace(plain, occurrences=())
