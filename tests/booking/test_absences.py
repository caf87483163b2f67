"""Absences that people tell calsync of: told once, moved on the calendar, and taken away."""

from datetime import date, timedelta

import pytest
from icalendar import Calendar

from calsync.booking import absences
from calsync.core.errors import Invalid
from calsync.ical.absence import decode_absence
from calsync.ical.parser import parse
from calsync.schedule.absences import list_absences
from calsync.schedule.sync import CalendarSync
from support.failing import Meddled
from support.pair import busy_slots, december


def test_the_same_absence_again_changes_nothing_whoever_tells_of_it(known, calendar, team, now):
    first = absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 2), now, note="conference")
    again = absences.add_absence(
        CalendarSync(calendar, team, now), "ana", date(2026, 12, 1), date(2026, 12, 2), now, note="conference"
    )
    assert (first.created, again.created, again.name, again.etag) == (True, False, first.name, first.etag)
    other = absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 2), now, note="holidays")
    assert (other.name, other.record.note, other.created) == (first.name, "holidays", False)


def test_two_who_tell_of_the_same_absence_at_once_are_both_right(calendar, team, now):
    day, theirs = date(2026, 12, 1), CalendarSync(calendar, team, now)
    meddled = Meddled(calendar, lambda: absences.add_absence(theirs, "ana", day, day, now), before=True)
    found = absences.add_absence(CalendarSync(meddled, team, now), "ana", day, day, now)
    assert not found.created
    assert list(theirs.refresh(now).objects) == [f"away-{found.name}.ics"]


def test_an_absence_that_is_taken_away_can_be_told_again(known, now):
    found = absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 1), now)
    absences.remove_absence(known, found.name, now)
    assert busy_slots(known, now) == []
    assert list_absences(known.agenda, now) == []
    assert absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 1), now).created
    assert [slot for slot, _ in busy_slots(known, now)] == ["2026-12-01-european"]


def test_an_absence_that_people_move_on_the_calendar_counts_where_it_is(known, calendar, now):
    found = absences.add_absence(known, "ana", december(1, 9), december(1, 10), now)
    entry = known.agenda.objects[f"away-{found.name}.ics"]
    stored = next(one for one in calendar.changes(None).changed if one.href == entry.href)
    moved = stored.ics.replace(b"20261201T", b"20261202T")
    calendar.put(entry.href, moved, etag=entry.etag)
    assert [slot for slot, _ in busy_slots(known, now)] == ["2026-12-02-european"]


def test_an_absence_that_was_moved_and_is_told_again_stands_in_both_places(known, calendar, now):
    first = absences.add_absence(known, "ana", december(1, 9), december(1, 10), now)
    entry = known.agenda.objects[f"away-{first.name}.ics"]
    stored = next(one for one in calendar.changes(None).changed if one.href == entry.href)
    calendar.put(entry.href, stored.ics.replace(b"20261201T", b"20261202T"), etag=entry.etag)
    again = absences.add_absence(known, "ana", december(1, 9), december(1, 10, 0), now)
    assert (again.created, again.start, again.end) == (True, december(1, 9), december(1, 10))
    assert [conflict.slot for conflict in again.conflicts] == ["2026-12-01-european"]
    assert [slot for slot, _ in busy_slots(known, now)] == ["2026-12-01-european", "2026-12-02-european"]
    once_more = absences.add_absence(known, "ana", december(1, 9), december(1, 10), now)
    assert (once_more.created, once_more.name, once_more.etag) == (False, again.name, again.etag)
    absences.remove_absence(known, again.name, now)
    assert [slot for slot, _ in busy_slots(known, now)] == ["2026-12-02-european"]


def test_an_absence_in_parts_of_seconds_is_one_in_whole_ones(known, now):
    parts = timedelta(microseconds=700)
    first = absences.add_absence(known, "ana", december(1, 9) + parts, december(1, 10) + parts, now)
    assert not absences.add_absence(known, "ana", december(1, 9), december(1, 10), now).created
    assert first.start == december(1, 9)


def test_each_absence_in_a_slot_tells_of_it_and_who_could_cover(known, now):
    absences.add_absence(known, "ana", december(1, 9), december(1, 9, 10), now)
    second = absences.add_absence(known, "ana", december(1, 9, 30), december(1, 11), now, note="dentist")
    (conflict,) = second.conflicts
    assert (conflict.slot, [one.name for one in conflict.cover]) == ("2026-12-01-european", ["ben"])
    assert "(Tue 1 Dec 10:00–10:10 Europe/Paris and Tue 1 Dec 10:30–12:00 Europe/Paris: dentist)" in conflict.message
    elsewhere = absences.add_absence(known, "ana", december(1, 13), december(1, 14), now)
    assert elsewhere.conflicts == ()
    assert [len(one.conflicts) for one in list_absences(known.agenda, now)] == [1, 1, 0]


def test_an_absence_soon_after_a_slot_tells_of_the_slot(known, now):
    # The span that is watched is longer than the slot, and than what of it the earliest absence takes.
    absences.add_absence(known, "ana", december(1, 9), december(1, 9, 10), now)
    found = absences.add_absence(known, "ana", december(1, 12), december(1, 12, 30), now)
    assert [conflict.slot for conflict in found.conflicts] == ["2026-12-01-european"]


@pytest.mark.parametrize("note", ["xTRANSP:TRANSPARENT", "END:VEVENT", "STATUS:CANCELLED"])
def test_an_absence_can_be_taken_away_whatever_its_note_says(known, now, note):
    found = absences.add_absence(known, "ana", december(1, 9), december(1, 10), now, note=note)
    assert busy_slots(known, now) != []
    absences.remove_absence(known, found.name, now)
    assert busy_slots(known, now) == []


@pytest.mark.parametrize(
    ("who", "start", "end", "said"),
    [
        ("zoe", date(2026, 12, 1), date(2026, 12, 1), "is neither in the roster"),
        ("ana", date(2026, 12, 2), date(2026, 12, 1), "end is before start"),
        ("ana", december(1, 10), december(1, 9), "end is before start"),
        ("ana", december(1, 9), december(1, 9), "end is the same as start; choose a later end"),
        ("ana", date(2026, 12, 1), december(1, 9), "in the same form"),
        ("ana", date(2026, 11, 20), date(2026, 11, 22), "over already"),
        ("ana", date(2026, 12, 1), date(2028, 1, 1), "at most 366 days"),
        ("ana", date(2036, 12, 1), date(2036, 12, 1), "horizon"),
        ("ana", date(1, 1, 1), date(1, 1, 1), "Choose days from 2000 to 2037"),
        ("ana", date(9999, 12, 31), date(9999, 12, 31), "Choose days from 2000 to 2037"),
    ],
)
def test_an_absence_that_makes_no_sense_is_refused_and_nothing_is_written(known, calendar, now, who, start, end, said):
    token = calendar.changes(None).token
    with pytest.raises(Invalid, match=said):
        absences.add_absence(known, who, start, end, now)
    assert calendar.changes(None).token == token


def test_an_absence_is_one_plain_event_that_other_tools_read(known, calendar, now):
    found = absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 2), now, note="conference")
    stored = next(one for one in calendar.changes(None).changed if one.href == f"away-{found.name}.ics")
    (event,) = Calendar.from_ical(stored.ics).events
    assert (event.start, event.end) == (date(2026, 12, 1), date(2026, 12, 3))
    assert (event["UID"], event["SUMMARY"], event["TRANSP"]) == (f"away-{found.name}", "ana is away", "TRANSPARENT")
    assert decode_absence(parse(stored.ics).calendar) == found.record
