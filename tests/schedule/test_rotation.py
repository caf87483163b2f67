"""The rotation on the calendar: what is shown of it, and reserved."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from icalendar import Calendar

from calsync.booking import reservations
from calsync.booking.rotation import reserve_weeks
from calsync.core.conductors import Pair
from calsync.core.errors import Invalid
from calsync.ical.reservation import reservation_href
from calsync.schedule import rotation, rotation_feed
from calsync.schedule.check import ReservationRequest
from calsync.schedule.sync import CalendarSync
from support.pair import NEAR, ROTATION, TEAM, W49, W50, be_away, take_off, turns
from support.samples import configured, ics, person
from support.site import MAINTENANCE


def test_an_absence_on_the_calendar_passes_somebody_over(rotating, now):
    assert turns(rotating, now) == [("ana", "cem"), ("ben", "ana"), ("cem", "ben"), (None, None)]
    be_away(rotating, "ben", datetime(2026, 12, 9).date(), datetime(2026, 12, 9).date(), "America/Denver", "dentist")
    assert turns(rotating, now) == [("ana", "cem"), ("cem", "ana"), ("ben", "cem"), (None, None)]
    turn = rotation.rotation(rotating.agenda, now, 2).turns[1]
    assert turn.notes == ("ben is passed over: away Wed 9 Dec 00:00–Thu 10 Dec 00:00 (dentist).",)


def test_an_absence_outside_the_slots_and_the_watch_after_them_passes_nobody_over(rotating, now):
    # Ben's slots in W50 end on Thursday at 13:00 in Los Angeles, 21:00 in UTC, and are watched for two hours.
    be_away(rotating, "ben", datetime(2026, 12, 10, 23, tzinfo=UTC), datetime(2026, 12, 11, 12, tzinfo=UTC))
    assert turns(rotating, now)[1] == ("ben", "ana")
    be_away(rotating, "ben", datetime(2026, 12, 9, 22, 59, tzinfo=UTC), datetime(2026, 12, 9, 23, 30, tzinfo=UTC))
    assert turns(rotating, now)[1] == ("cem", "ana")


def test_a_week_of_which_people_removed_every_slot_takes_no_turn_either(rotating, now):
    list(reserve_weeks(rotating, 2, now))
    take_off(rotating, W50, now)
    rotating.refresh(now)
    assert [turn.state for turn in rotation.rotation(rotating.agenda, now, 2).turns] == ["reserved", "no-train"]


def test_nobody_is_passed_over_for_a_slot_that_they_do_not_have(calendar, now):
    # Ben is primary in America, so that the backup's first European slot, on Tuesday, is left free.
    order = ["ben", "ana", "cem"]
    team = configured(
        conductors=TEAM, calendar=NEAR, train={"backup_slots": "after-primary"}, rotation=ROTATION | {"order": order}
    )
    sync = CalendarSync(calendar, team, now)
    assert turns(sync, now, 1) == [("ben", "cem")]
    be_away(sync, "cem", datetime(2026, 12, 1, 8, tzinfo=UTC), datetime(2026, 12, 1, 12, tzinfo=UTC))
    assert turns(sync, now, 1) == [("ben", "cem")]
    be_away(sync, "cem", datetime(2026, 12, 2, 8, tzinfo=UTC), datetime(2026, 12, 2, 12, tzinfo=UTC))
    assert turns(sync, now, 1) == [("ben", "ana")]
    # Whoever would be primary has all of them.
    be_away(sync, "ana", datetime(2026, 12, 8, 8, tzinfo=UTC), datetime(2026, 12, 8, 12, tzinfo=UTC))
    assert turns(sync, now, 2)[1][0] == "cem"


def test_without_a_rotation_it_is_said_how_to_write_one(rotating, now):
    with pytest.raises(Invalid, match=r"add \[rotation\] with order"):
        rotation.rotation(replace(rotating.agenda, config=configured()), now, 4)


# Time goes by


@pytest.fixture
def used(rotating, now):
    """A calendar with a history: weeks reserved out of turn, an absence, a week without slots, and somebody's event."""
    people = {one["name"]: person(one["name"], one["timezone"]) for one in TEAM}
    pairs = {W49.shift(-2): "bc", W49: "cb", W50: "ac", W49.shift(2): "ba", W49.shift(5): "ca"}
    for week, (primary, backup) in pairs.items():  # type: ignore[str-unpack]
        by_letter = {name[0]: one for name, one in people.items()}
        at = min(now, datetime.combine(week.monday, datetime.min.time(), UTC))
        reservations.reserve(rotating, ReservationRequest(Pair(by_letter[primary], by_letter[backup]), week), at)
    be_away(rotating, "cem", datetime(2027, 1, 12).date(), datetime(2027, 1, 12).date(), "Europe/Berlin")
    take_off(rotating, W49.shift(5), now)
    rotating.calendar.put("old.ics", ics("DTSTART:20261201T150000Z", "DTEND:20261201T160000Z"), etag=None)
    return rotating


def said_of_weeks(sync, now):
    sync.refresh(now)
    found = rotation.rotation(sync.agenda, now, 60)
    return {turn.week: (turn.state, turn.primary, turn.backup, turn.passed) for turn in found.turns}, found.tallies


@pytest.mark.parametrize("restarted", [False, True])
def test_what_the_rotation_says_of_coming_weeks_is_the_same_however_much_of_it_is_history(used, now, restarted):
    first, tallies = said_of_weeks(used, now)
    assert [first[W49.shift(n)][:2] for n in (0, 1, 2, 5)] == [
        ("reserved", "cem"),
        ("reserved", "ana"),
        ("reserved", "ben"),
        ("no-train", None),
    ]
    assert first[W49.shift(6)] == ("planned", "ana", "ben", ("cem",))
    for days in (7, 30, 34, 35, 36, 37, 38, 39, 45, 70, 72, 73, 74, 100, 200):  # slots of W49 and W02 leave one by one
        sync = CalendarSync(used.calendar, used.config, now) if restarted else used
        later, again = said_of_weeks(sync, now + timedelta(days=days))
        assert {week: turn for week, turn in later.items() if week in first} == {
            week: turn for week, turn in first.items() if week in later
        }, days
        assert again == tallies


def test_of_history_only_trains_and_absences_are_kept_and_only_for_a_rotation(used, calendar, now):
    later = now + timedelta(days=120)
    agenda = used.refresh(later)
    assert sorted(agenda.managed) == [
        "away-cem-20270112.ics",
        *sorted(reservation_href(week) for week in agenda.pairs_by_week),
    ]
    assert [str(week)[-3:] for week in sorted(agenda.pairs_by_week)] == ["W47", "W49", "W50", "W51", "W01"]
    assert (agenda.reservations, agenda.reservation(W49), agenda.quarters) == ((), None, {})
    assert not any(entry.reading.published or entry.ics for entry in agenda.objects.values())
    # Somebody without a rotation, who keeps none of it, makes nobody who has one forget it.
    without = CalendarSync(calendar, configured(conductors=TEAM, calendar=NEAR), later)
    assert not without.refresh(later).managed
    again = CalendarSync(calendar, used.config, later).refresh(later)
    assert again.managed == agenda.managed
    assert agenda.objects.keys() - again.objects.keys() == {"old.ics"}


def test_a_week_that_was_released_is_history_like_any_other(used, now):
    reservations.release(used, W49.shift(2), now)
    agenda = used.refresh(now + timedelta(days=120))
    assert W49.shift(2) not in agenda.pairs_by_week
    assert not agenda.objects[reservation_href(W49.shift(2))].is_managed


def events(body):
    return [(str(event["UID"]), str(event["STATUS"])) for event in Calendar.from_ical(body).events]


def test_the_feed_is_the_same_from_every_replica_and_others_events_change_nothing_in_it(rotating, calendar, now):
    list(reserve_weeks(rotating, 1, now))
    later = now + timedelta(minutes=7)
    other = CalendarSync(calendar, rotating.config, later)
    feeds = [rotation_feed.render(agenda, later, 4) for agenda in (rotating.agenda, other.refresh(later))]
    assert b"STATUS:TENTATIVE" in feeds[0].body
    assert feeds[0].body == feeds[1].body
    calendar.put("x.ics", ics(*MAINTENANCE).replace(b"20261201", b"20261208"), etag=None)
    again = rotation_feed.render(rotating.refresh(later), later, 4)
    assert again.etag == feeds[0].etag
    # A reservation is newer than what was planned in its place.
    planned = {str(event["UID"]): event for event in Calendar.from_ical(again.body).events}
    calendar.delete("x.ics", etag=rotating.agenda.objects["x.ics"].etag)
    list(reserve_weeks(rotating, 2, later))
    then = rotation_feed.render(rotating.agenda, later, 4)
    reserved = {str(event["UID"]): event for event in Calendar.from_ical(then.body).events}
    slot = "2026-12-08-american@calsync"
    assert (str(planned[slot]["STATUS"]), str(reserved[slot]["STATUS"])) == ("TENTATIVE", "CONFIRMED")
    assert reserved[slot]["DTSTAMP"].dt > planned[slot]["DTSTAMP"].dt
