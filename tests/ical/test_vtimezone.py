import io
import re
from datetime import UTC, datetime, timedelta

import pytest
import pytz
from dateutil import tz as dateutil_tz
from icalendar import Calendar

from calsync.ical.vtimezone import vtimezone

INTERESTING = [
    "Africa/Cairo", "Asia/Gaza", "Africa/Casablanca", "America/Scoresbysund", "Europe/Dublin", "Australia/Lord_Howe",
    "America/Mexico_City",
]  # fmt: skip
SAMPLE = [
    "Europe/Paris", "America/Los_Angeles", "America/Denver", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Apia",
    "Pacific/Chatham",
    "America/Sao_Paulo", "America/Santiago", "Asia/Jerusalem", "Asia/Tehran", "Asia/Pyongyang", "America/Havana",
    "America/Nuuk", "Antarctica/Troll", "Europe/Istanbul", "Europe/Volgograd", "Asia/Beirut", "America/Asuncion",
    "Africa/Juba", "Africa/Khartoum", "America/Caracas", "Asia/Amman", "Europe/Moscow", "UTC", "Etc/GMT+12", "Pacific/Fiji",
]  # fmt: skip


def changes(tz):
    transitions = getattr(tz, "_utc_transition_times", [])
    return [moment.replace(tzinfo=UTC) for moment in transitions if 2016 <= moment.year <= 2037]


def moments(tz):
    """Noon of every fifth day, and what lies close to every clock change without lying in a repeated hour."""
    day = datetime(2016, 1, 1, 12, tzinfo=UTC)
    while day.year <= 2037:
        yield day
        day += timedelta(days=5)
    for change in changes(tz):
        yield from (change + timedelta(hours=hours) for hours in (-25, -4, 4, 25))


@pytest.mark.parametrize("name", [*INTERESTING, *SAMPLE])
def test_a_reader_of_the_vtimezone_sees_the_offsets_of_pytz(name):
    text = vtimezone(name).decode()
    read = dateutil_tz.tzical(io.StringIO(f"BEGIN:VCALENDAR\r\n{text}END:VCALENDAR\r\n")).get(name)
    tz = pytz.timezone(name)
    wrong = [
        (moment, local.utcoffset(), seen)
        for moment in moments(tz)
        for local in [moment.astimezone(tz)]
        for seen in [local.replace(tzinfo=None).replace(tzinfo=read).utcoffset()]
        if seen != local.utcoffset()
    ]
    assert wrong == []


@pytest.mark.heavy
def test_no_vtimezone_of_any_timezone_has_an_rdate_or_lacks_what_rfc_5545_asks_for():
    for name in pytz.common_timezones[::25] + INTERESTING:
        text = vtimezone(name).decode()
        assert "RDATE" not in text
        assert text.startswith(f"BEGIN:VTIMEZONE\r\nTZID:{name}\r\nBEGIN:")
        assert text.endswith("END:VTIMEZONE\r\n")
        observances = re.findall(r"BEGIN:(STANDARD|DAYLIGHT)\r\n(.*?)END:\1\r\n", text, re.DOTALL)
        assert observances
        for _, body in observances:
            assert all(body.count(f"{prop}:") == 1 for prop in ("DTSTART", "TZOFFSETFROM", "TZOFFSETTO", "TZNAME"))


@pytest.mark.parametrize(
    ("name", "rules"), [("Europe/Paris", 2), ("America/Los_Angeles", 2), ("Asia/Tokyo", 0), ("Europe/Dublin", 2)]
)
def test_yearly_rules_stand_as_rrules_for_outlook(name, rules):
    text = vtimezone(name).decode()
    assert text.count("RRULE:FREQ=YEARLY") == rules
    assert text.count("BEGIN:STANDARD") + text.count("BEGIN:DAYLIGHT") == max(rules, 1)


@pytest.mark.heavy
def test_icalendar_reads_every_vtimezone():
    for name in [*INTERESTING, *SAMPLE]:
        (component,) = Calendar.from_ical(b"BEGIN:VCALENDAR\r\n" + vtimezone(name) + b"END:VCALENDAR\r\n").walk("VTIMEZONE")
        assert str(component["TZID"]) == name
        assert not component.errors
