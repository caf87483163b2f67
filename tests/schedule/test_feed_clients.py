"""Calendar clients import what calsync writes and show what it means."""

import atexit
import json
import subprocess
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from threading import Timer

import pytest
import recurring_ical_events
from ical.calendar_stream import IcsCalendarStream
from icalendar import Calendar

from calsync.core.conductors import Pair
from calsync.core.delivery import new_delivery
from calsync.ical.delivery import write_deliveries
from calsync.ical.reservation import encode_reservation, reservation_href, summary
from calsync.schedule.feed import AHEAD, render
from support.clients import libical
from support.feeds import OFFICE, TOGETHER, agenda_of, events_of_week, released, reservation
from support.samples import EU, TESTS, US, configured, event, ics, person, utc

CLIENTS = TESTS / "support/clients"
NOW = utc(2026, 10, 20)
"""Europe's clocks change on 25 October, America's on 1 November."""


@cache
def expander():
    """A process of ical.js, which expands one feed after the other."""
    process = subprocess.Popen(["node", CLIENTS / "expand.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.communicate)  # at the end of its input it ends
    return process


def ical_js(text, start, end):
    process = expander()
    span = {name: f"{moment:%Y-%m-%dT%H:%M:%SZ}" for name, moment in (("start", start), ("end", end))}
    late = Timer(60, process.kill)
    late.start()
    process.stdin.write(json.dumps({"text": text.decode(), **span}) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    late.cancel()
    assert line, "ical.js gave up; what it says stands above"

    def moment(shown):
        return datetime.fromisoformat(shown) if "T" in shown else date.fromisoformat(shown)

    return [(one["uid"], one["summary"], moment(one["start"]), moment(one["end"])) for one in json.loads(line)]


def ical(text, start, end):
    timeline = IcsCalendarStream.calendar_from_ics(text.decode()).timeline_tz(UTC)
    return [(one.uid, one.summary, one.start, one.end) for one in timeline.overlapping(start, end)]


def icalendar(text, start, end):
    found = recurring_ical_events.of(Calendar.from_ical(text)).between(start, end)
    return [(str(one["UID"]), str(one["SUMMARY"]), one["DTSTART"].dt, one["DTEND"].dt) for one in found]


def libical_3(text, start, end):
    return libical.read(text, start, end)


every_client = pytest.mark.parametrize(
    "client",
    [
        pytest.param(ical_js, id="ical_js", marks=pytest.mark.heavy),
        pytest.param(ical, id="ical"),
        pytest.param(icalendar, id="icalendar"),
        pytest.param(libical_3, id="libical_3", marks=pytest.mark.heavy),
    ],
)


def shown(found, start, end):
    """What overlaps the span, with instants in UTC; floating times are naive, and days are their midnights."""
    alike = [(uid, summary, moment(begin), moment(finish)) for uid, summary, begin, finish in found]
    return Counter(one for one in alike if absolute(one[2]) < end and start < absolute(one[3]))


def moment(value):
    if not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value.astimezone(UTC) if value.tzinfo else value


def absolute(value):
    return value if value.tzinfo else value.replace(tzinfo=UTC)


# Other people's events: what stands on the calendar, and when that is, worked out by hand.

DAYLIGHT = """BEGIN:VTIMEZONE
TZID:Customized Time Zone
BEGIN:DAYLIGHT
DTSTART:20000402T020000
RRULE:FREQ=YEARLY;BYMONTH=4;BYDAY=1SU
TZOFFSETFROM:-0330
TZOFFSETTO:-0230
END:DAYLIGHT
BEGIN:STANDARD
DTSTART:20001105T020000
RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=2SU
TZOFFSETFROM:-0230
TZOFFSETTO:-0330
END:STANDARD
END:VTIMEZONE"""

# With a rule, since `ical` 14.3.1 passes over an onset that has none, and reads the times as UTC.
OFFSET = OFFICE.format("+0345").replace("TZOFFSETFROM", "RRULE:FREQ=YEARLY;BYMONTH=1;BYDAY=1SU\nTZOFFSETFROM")

LONG = "Café 🚂🚃🚄 ünïcödé 停電 " * 8 + "end"

WEEKLY = ics(
    "SUMMARY:Weekly",
    "DTSTART;TZID=Europe/Paris:20260929T090000",
    "DTEND;TZID=Europe/Paris:20260929T100000",
    "RRULE:FREQ=WEEKLY;UNTIL=20261124T080000Z",
    "EXDATE;TZID=Europe/Paris:20261103T090000",
    uid="weekly",
    before=event(
        "SUMMARY:Weekly\\, moved",
        "RECURRENCE-ID;TZID=Europe/Paris:20261027T090000",
        "DTSTART;TZID=America/Los_Angeles:20261028T090000",
        "DTEND;TZID=America/Los_Angeles:20261028T103000",
        uid="weekly",
    ),
)
DAILY = ics(
    "SUMMARY:Daily",
    "DTSTART;TZID=America/Los_Angeles:20261030T150000",
    "DURATION:PT45M",
    "RRULE:FREQ=DAILY;COUNT=4",
    "EXDATE;TZID=America/Los_Angeles:20261031T150000",
    uid="daily",
)
OTHERS = {
    "weekly.ics": WEEKLY,
    "daily.ics": DAILY,
    "day.ics": ics("SUMMARY:One day", "DTSTART;VALUE=DATE:20261025", uid="day"),
    "days.ics": ics(
        "SUMMARY:Days",
        "DTSTART;VALUE=DATE:20261024",
        "DTEND;VALUE=DATE:20261026",
        "RRULE:FREQ=WEEKLY;COUNT=3",
        "EXDATE;VALUE=DATE:20261031",
        uid="days",
    ),
    "floating.ics": ics("SUMMARY:Floating", "DTSTART:20261025T080000", "DTEND:20261025T090000", uid="floating"),
    "east.ics": ics(
        "SUMMARY:East",
        "DTSTART;TZID=Customized Time Zone:20261028T090000",
        "DTEND;TZID=Customized Time Zone:20261028T100000",
        uid="east",
        before=OFFSET,
    ),
    "west.ics": ics(
        "SUMMARY:West",
        "DTSTART;TZID=Customized Time Zone:20261104T090000",
        "DTEND;TZID=Customized Time Zone:20261104T100000",
        "RRULE:FREQ=WEEKLY;COUNT=2",
        uid="west",
        before=DAYLIGHT,
    ),
    "exchange.ics": ics(
        "SUMMARY:Exchange",
        "DTSTART;TZID=W. Europe Standard Time:20261026T090000",
        "DTEND;TZID=W. Europe Standard Time:20261026T093000",
        uid="exchange",
    ),
    "utc.ics": ics(f"SUMMARY:{LONG}", "DTSTART:20261022T080000Z", "DTEND:20261022T090000Z", uid="utc"),
    "signs.ics": ics(
        r'SUMMARY:one\, two\; three\nfour \\n: "five"',
        r"DESCRIPTION:a\, b\; c\nd",
        "DTSTART:20261023T080000Z",
        "DTEND:20261023T090000Z",
        uid="signs",
    ),
    "private.ics": ics(
        "SUMMARY:secret", "CLASS:PRIVATE", "DTSTART:20261023T100000Z", "DTEND:20261023T110000Z", uid="private"
    ),
}


def hours(uid, summary, *start, minutes=60):
    return uid, summary, utc(*start), utc(*start) + timedelta(minutes=minutes)


def days(uid, summary, *start, count=1):
    return uid, summary, datetime(*start), datetime(*start) + timedelta(days=count)


BY_HAND = [
    hours("weekly", "Weekly", 2026, 10, 20, 7),
    hours("weekly", "Weekly, moved", 2026, 10, 28, 16, minutes=90),
    hours("weekly", "Weekly", 2026, 11, 10, 8),
    hours("weekly", "Weekly", 2026, 11, 17, 8),
    hours("weekly", "Weekly", 2026, 11, 24, 8),
    hours("daily", "Daily", 2026, 10, 30, 22, minutes=45),
    hours("daily", "Daily", 2026, 11, 1, 23, minutes=45),
    hours("daily", "Daily", 2026, 11, 2, 23, minutes=45),
    days("day", "One day", 2026, 10, 25),
    days("days", "Days", 2026, 10, 24, count=2),
    days("days", "Days", 2026, 11, 7, count=2),
    ("floating", "Floating", datetime(2026, 10, 25, 8), datetime(2026, 10, 25, 9)),
    hours("east", "East", 2026, 10, 28, 5, 15),
    hours("west", "West", 2026, 11, 4, 11, 30),
    hours("west", "West", 2026, 11, 11, 12, 30),
    hours("exchange", "Exchange", 2026, 10, 26, 8, minutes=30),
    hours("utc", LONG, 2026, 10, 22, 8),
    hours("signs", 'one, two; three\nfour \\n: "five"', 2026, 10, 23, 8),
    hours("private", "busy", 2026, 10, 23, 10),
]


@every_client
def test_a_subscriber_sees_the_instants_and_titles_that_stand_on_the_calendar(config, client):
    across = reservation(config, "2026-W44", now=NOW, train="1.46.0-wmf.1, 🚂; \\n", ticket="T400001")
    after = reservation(config, "2026-W45", Pair(US, EU), NOW)
    kept, given_up = after.slots[:4], after.slots[4:]
    gone = reservation(config, "2026-W47", TOGETHER, NOW)
    resources = {
        **OTHERS,
        **events_of_week(across),
        **events_of_week(replace(after, slots=kept, cancelled=given_up, sequence=1)),
        **released(gone),
    }
    agenda = agenda_of(config, NOW, resources)
    assert not agenda.defects
    start, end = NOW, NOW + AHEAD
    slots = [
        (slot.uid, summary(standing, slot), slot.start, slot.end)
        for standing in (across, after, gone)
        for slot in standing.slots
    ]
    assert len(slots) == 6 + 6 + 3
    known = {id(one): one for quarter in agenda.quarters.values() for one in quarter}.values()
    fixed = [(one.uid, one.summary, one.start, one.end) for one in known if one.kind in ("recurring", "freeze")]
    expected = shown([*BY_HAND, *slots, *fixed], start, end)
    text = render(agenda, NOW).body
    assert shown(client(text, start, end), start, end) == expected


WEEKS = {
    "Europe's clocks change in its days": "2026-W43",
    "between the two changes": "2026-W44",
    "America's clocks change before it": "2026-W45",
    "America's clocks change in spring": "2027-W10",
    "Europe's clocks change in spring": "2027-W12",
    "no change": "2026-W49",
}
PAIRS = {
    "Europe first": Pair(EU, US),
    "America first": Pair(US, EU),
    "one window": TOGETHER,
    "one American window": Pair(US, person("conductor-ca", "America/Vancouver")),
}


@every_client
@pytest.mark.parametrize("week", WEEKS.values(), ids=WEEKS.keys())
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_a_reservation_on_the_calendar_shows_its_slots_in_every_client(client, week, pair):
    config = configured(train={"backup_slots": "after-primary"} if pair.primary == US else {})
    whole = reservation(config, week, pair, utc(2026, 10, 1))
    states = {
        "held": whole,
        "changed": replace(whole, slots=whole.slots[:-1], cancelled=whole.slots[-1:]),
        "one slot": replace(whole, slots=whole.slots[:1]),
        "released": replace(whole, slots=(), cancelled=whole.slots, released=True),
    }
    start, end = whole.slots[0].start - timedelta(days=14), whole.slots[-1].end + timedelta(days=14)
    uid = reservation_href(whole.week).removesuffix(".ics")
    for state, standing in states.items():
        slots = [*standing.slots, *standing.cancelled]
        expected = Counter((uid, summary(standing, slot), moment(slot.start), moment(slot.end)) for slot in slots)
        config = configured(train={"video_url": "https://meet.example.org/train-{week}"})
        written = encode_reservation(config, standing, "mark")
        told = new_delivery("update-1", "log", "!log ünïcode, “quotes”; done", NOW)
        for text in (written, write_deliveries(written, [told])):
            assert shown(client(text, start, end), start, end) == expected, state
