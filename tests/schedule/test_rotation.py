"""The rotation on the calendar: what is shown of it, and reserved."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from icalendar import Calendar

from calsync.booking import reservations
from calsync.booking.rotation import reserve_weeks
from calsync.calendars.base import Changes
from calsync.calendars.sql import SqlCalendar
from calsync.core.absence import AbsenceRecord
from calsync.core.conductors import Pair
from calsync.core.errors import Changed, Invalid, Refused, Unreachable
from calsync.core.weeks import Week
from calsync.ical.absence import encode_absence
from calsync.ical.occurrences import Occurrence
from calsync.ical.reservation import reservation_href
from calsync.schedule import rotation, rotation_feed
from calsync.schedule.check import ReservationRequest
from calsync.schedule.diary import Busy
from calsync.schedule.sync import CalendarSync
from support.samples import configured, ics, person
from support.site import problem

START = Week(2026, 49)

# On the calendar

TEAM = [
    {"name": "ana", "timezone": "Europe/Paris"},
    {"name": "ben", "timezone": "America/Denver"},
    {"name": "cem", "timezone": "Europe/Berlin"},
]
NEAR = {"horizon": {"past": "30d", "future": "60d"}}
"""A horizon that is quickly read."""
ROTATION = {"order": ["ana", "ben", "cem"], "start": "2026-W49"}


@pytest.fixture
def team():
    return configured(conductors=TEAM, rotation=ROTATION, calendar=NEAR)


@pytest.fixture
def known(calendar, team, now):
    sync = CalendarSync(calendar, team, now)
    sync.refresh(now)
    return sync


def be_away(sync, who, start, end, timezone="Europe/Paris", note=None):
    record = AbsenceRecord(who, timezone, note)
    ics = encode_absence(record, f"{who}-{start}".replace(":", "").replace(" ", ""), start, end, start_of_time())
    sync.calendar.put(f"away-{who}-{start:%Y%m%d}.ics", ics, etag=None)


def start_of_time():
    return datetime(2026, 11, 1, tzinfo=UTC)


def shown(sync, now, weeks=4):
    sync.refresh(now)
    return [(turn.primary, turn.backup) for turn in rotation.rotation(sync.agenda, now, weeks).turns]


def test_an_absence_on_the_calendar_passes_somebody_over(known, now):
    assert shown(known, now) == [("ana", "cem"), ("ben", "ana"), ("cem", "ben"), (None, None)]
    be_away(known, "ben", datetime(2026, 12, 9).date(), datetime(2026, 12, 9).date(), "America/Denver", "dentist")
    assert shown(known, now) == [("ana", "cem"), ("cem", "ana"), ("ben", "cem"), (None, None)]
    turn = rotation.rotation(known.agenda, now, 2).turns[1]
    assert turn.notes == ("ben is passed over: away Wed 9 Dec 00:00–Thu 10 Dec 00:00 (dentist).",)


def test_whoever_is_away_in_a_week_that_is_reserved_is_named_with_what_to_do(known, now):
    list(reserve_weeks(known, 2, now))
    assert [turn.notes for turn in rotation.rotation(known.agenda, now, 2).turns] == [(), ()]
    be_away(known, "ben", datetime(2026, 12, 9).date(), datetime(2026, 12, 10).date(), "America/Denver", "dentist")
    known.refresh(now)
    first, second = rotation.rotation(known.agenda, now, 2).turns
    assert (first.notes, second.state) == ((), "reserved")
    assert second.notes == (
        "ben is away Wed 9 Dec 00:00–Fri 11 Dec 00:00 (dentist), in a slot or soon after it; the week's conflicts say who "
        "could cover: hand the train off, or change the pair.",
    )
    (_, told) = reserve_weeks(known, 2, now)
    assert (told.result, told.message) == ("stands", f"2026-W50 is reserved already, for ben and ana. {second.notes[0]}")
    # Ana is away for a night in which nobody has a slot; of what is over nobody has to hear.
    be_away(known, "ana", datetime(2026, 12, 9, 0, tzinfo=UTC), datetime(2026, 12, 9, 3, tzinfo=UTC))
    known.refresh(now)
    assert len(rotation.rotation(known.agenda, now, 2).turns[1].notes) == 1
    later = datetime(2026, 12, 10, 21, tzinfo=UTC)
    known.refresh(later)
    assert rotation.rotation(known.agenda, later, 1).turns[0].notes == ()


def test_an_absence_outside_the_slots_and_the_watch_after_them_passes_nobody_over(known, now):
    # Ben's slots in W50 end on Thursday at 13:00 in Los Angeles, 21:00 in UTC, and are watched for two hours.
    be_away(known, "ben", datetime(2026, 12, 10, 23, tzinfo=UTC), datetime(2026, 12, 11, 12, tzinfo=UTC))
    assert shown(known, now)[1] == ("ben", "ana")
    be_away(known, "ben", datetime(2026, 12, 9, 22, 59, tzinfo=UTC), datetime(2026, 12, 9, 23, 30, tzinfo=UTC))
    assert shown(known, now)[1] == ("cem", "ana")


def test_each_free_week_is_reserved_for_itself_and_the_same_call_again_changes_nothing(known, now):
    first = list(reserve_weeks(known, 6, now, author="cron"))
    assert [one.result for one in first] == ["reserved", "reserved", "reserved", "no-train", "no-train", "reserved"]
    assert [(one.turn.primary, one.turn.backup) for one in first if one.result == "reserved"] == [
        ("ana", "cem"),
        ("ben", "ana"),
        ("cem", "ben"),
        ("ana", "cem"),
    ]
    token = known.refresh(now).token
    again = list(reserve_weeks(known, 6, now))
    assert [one.result for one in again] == ["stands", "stands", "stands", "no-train", "no-train", "stands"]
    assert known.refresh(now).token == token


def test_a_week_that_cannot_be_reserved_keeps_no_other_from_it(known, now):
    known.calendar.put("x.ics", blocking_event(), etag=None)
    found = list(reserve_weeks(known, 3, now))
    assert [one.result for one in found] == ["reserved", "conflict", "reserved"]
    assert "Database maintenance" in found[1].message
    assert [entry.reservation.week for entry in known.refresh(now).reservations] == [START, START.shift(2)]


def blocking_event():
    return ics("DTSTART:20261208T193000Z", "DTEND:20261208T200000Z", "SUMMARY:Database maintenance")


class Spoilt:
    """A calendar that answers with `error` to every write of the weeks named; `late` ones stand all the same."""

    def __init__(self, calendar, error, *weeks, late=False, times=99):
        self.calendar, self.error, self.hrefs, self.late, self.times = (
            calendar,
            error,
            [*map(reservation_href, weeks)],
            late,
            times,
        )

    def __getattr__(self, name):
        return getattr(self.calendar, name)

    def put(self, reservation_href, ics, *, etag):
        if reservation_href not in self.hrefs or not self.times:
            return self.calendar.put(reservation_href, ics, etag=etag)
        self.times -= 1
        if self.late:
            self.calendar.put(reservation_href, ics, etag=etag)
        raise self.error("The server does not take it.")


@pytest.mark.parametrize("error", [Refused, Changed])
def test_a_week_that_the_calendar_refuses_keeps_no_other_from_being_reserved(calendar, team, now, error):
    sync = CalendarSync(Spoilt(calendar, error, START.shift(1)), team, now)
    found = list(reserve_weeks(sync, 3, now))
    assert [one.result for one in found] == ["reserved", "refused", "reserved"]
    assert found[1].message == "2026-W50 is not reserved: The server does not take it."
    # The rotation goes on as planned.
    assert [one.turn.primary for one in found] == ["ana", "ben", "cem"]


class Slow(Spoilt):
    """A calendar that shows a write whose answer is lost only after it was looked for, as some CalDAV servers do."""

    hidden = 0

    def put(self, reservation_href, ics, *, etag):
        try:
            return super().put(reservation_href, ics, etag=etag)
        except Unreachable:
            self.hidden = 1
            raise

    def changes(self, since, *arguments):
        if self.hidden:
            self.hidden -= 1
            return Changes(since, (), (), complete=False)
        return self.calendar.changes(since, *arguments)


def test_a_week_whose_answer_was_lost_is_reserved_by_the_call_that_wrote_it(calendar, team, now):
    slow = Slow(calendar, Unreachable, START, late=True, times=1)
    found = list(reserve_weeks(CalendarSync(slow, team, now), 2, now))
    assert [one.result for one in found] == ["reserved", "reserved"]
    again = list(reserve_weeks(CalendarSync(calendar, team, now), 2, now))
    assert [one.result for one in again] == ["stands", "stands"]


def test_what_came_in_between_takes_a_write_back_whose_answer_was_lost(calendar, team, now):
    class Contested(Slow):
        def put(self, reservation_href, ics, *, etag):
            try:
                return super().put(reservation_href, ics, etag=etag)
            except Unreachable:
                self.calendar.put("x.ics", blocking_event().replace(b"20261208", b"20261201"), etag=None)
                raise

    contested = Contested(calendar, Unreachable, START, late=True, times=1)
    sync = CalendarSync(contested, configured(conductors=TEAM, rotation=ROTATION | {"order": ["ben", "ana"]}), now)
    (found,) = reserve_weeks(sync, 1, now)
    assert found.result == "conflict"
    assert "was taken back" in found.message
    assert sync.refresh(now).reservation(START) is None


def test_a_week_of_which_people_cancelled_the_train_takes_no_turn_and_is_told_of(known, now):
    list(reserve_weeks(known, 3, now))
    entry = known.refresh(now).reservation(START.shift(1))
    known.calendar.put(entry.href, entry.ics.replace(b"STATUS:CONFIRMED", b"STATUS:CANCELLED"), etag=entry.etag)
    known.refresh(now)
    found = rotation.rotation(known.agenda, now, 3)
    assert [(turn.state, turn.primary) for turn in found.turns] == [
        ("reserved", "ana"),
        ("no-train", None),
        ("reserved", "cem"),
    ]
    assert found.turns[1].notes == ("No train: people cancelled it on the calendar.",)
    told = list(reserve_weeks(known, 3, now))
    assert [one.result for one in told] == ["stands", "no-train", "stands"]
    assert told[1].message.startswith("2026-W50 has no train: people cancelled it on the calendar; release the week")
    reservations.release(known, START.shift(1), now)
    assert [one.result for one in reserve_weeks(known, 3, now)] == ["stands", "reserved", "stands"]


def test_a_week_of_which_people_removed_every_slot_takes_no_turn_either(known, now):
    list(reserve_weeks(known, 2, now))
    take_off(known, START.shift(1), now)
    known.refresh(now)
    assert [turn.state for turn in rotation.rotation(known.agenda, now, 2).turns] == ["reserved", "no-train"]


def test_nobody_is_passed_over_for_a_slot_that_they_do_not_have(calendar, now):
    # Ben is primary in America, so that the backup's first European slot, on Tuesday, is left free.
    order = ["ben", "ana", "cem"]
    team = configured(
        conductors=TEAM, calendar=NEAR, train={"backup_slots": "after-primary"}, rotation=ROTATION | {"order": order}
    )
    sync = CalendarSync(calendar, team, now)
    assert shown(sync, now, 1) == [("ben", "cem")]
    be_away(sync, "cem", datetime(2026, 12, 1, 8, tzinfo=UTC), datetime(2026, 12, 1, 12, tzinfo=UTC))
    assert shown(sync, now, 1) == [("ben", "cem")]
    be_away(sync, "cem", datetime(2026, 12, 2, 8, tzinfo=UTC), datetime(2026, 12, 2, 12, tzinfo=UTC))
    assert shown(sync, now, 1) == [("ben", "ana")]
    # Whoever would be primary has all of them.
    be_away(sync, "ana", datetime(2026, 12, 8, 8, tzinfo=UTC), datetime(2026, 12, 8, 12, tzinfo=UTC))
    assert shown(sync, now, 2)[1][0] == "cem"


def test_weeks_beyond_the_horizon_are_told_of_and_not_reserved(calendar, now):
    near = configured(conductors=TEAM, rotation=ROTATION, calendar={"horizon": {"past": "90d", "future": "12d"}})
    found = list(reserve_weeks(CalendarSync(calendar, near, now), 3, now))
    assert [one.result for one in found] == ["reserved", "beyond", "beyond"]
    assert "horizon" in found[1].message


def test_what_somebody_else_reserves_meanwhile_is_followed(known, now, team):
    weeks = reserve_weeks(known, 3, now)
    assert next(weeks).turn.primary == "ana"
    pair = Pair(person("cem", "Europe/Berlin"), person("ana", "Europe/Paris"))
    reservations.reserve(CalendarSync(known.calendar, team, now), ReservationRequest(pair, START.shift(1)), now)
    assert [(one.turn.primary, one.result) for one in weeks] == [("cem", "stands"), ("ben", "reserved")]


def test_without_a_rotation_it_is_said_how_to_write_one(known, now):
    with pytest.raises(Invalid, match=r"add \[rotation\] with order"):
        rotation.rotation(replace(known.agenda, config=configured()), now, 4)


# Time goes by


@pytest.fixture
def used(known, now):
    """A calendar with a history: weeks reserved out of turn, an absence, a week without slots, and somebody's event."""
    people = {one["name"]: person(one["name"], one["timezone"]) for one in TEAM}
    pairs = {START.shift(-2): "bc", START: "cb", START.shift(1): "ac", START.shift(2): "ba", START.shift(5): "ca"}
    for week, (primary, backup) in pairs.items():  # type: ignore[str-unpack]
        by_letter = {name[0]: one for name, one in people.items()}
        at = min(now, datetime.combine(week.monday, datetime.min.time(), UTC))
        reservations.reserve(known, ReservationRequest(Pair(by_letter[primary], by_letter[backup]), week), at)
    be_away(known, "cem", datetime(2027, 1, 12).date(), datetime(2027, 1, 12).date(), "Europe/Berlin")
    take_off(known, START.shift(5), now)
    known.calendar.put("old.ics", ics("DTSTART:20261201T150000Z", "DTEND:20261201T160000Z"), etag=None)
    return known


def take_off(sync, week, now):
    """Remove every slot of the week, as people do in their clients."""
    entry = sync.refresh(now).reservation(week)
    found = Calendar.from_ical(entry.ics)
    for event in found.events:
        if "X-CALSYNC-SLOT" in event:
            event["STATUS"] = "CANCELLED"
    sync.calendar.put(entry.href, found.to_ical(), etag=entry.etag)


def said_of_weeks(sync, now):
    sync.refresh(now)
    found = rotation.rotation(sync.agenda, now, 60)
    return {turn.week: (turn.state, turn.primary, turn.backup, turn.passed) for turn in found.turns}, found.tallies


@pytest.mark.parametrize("restarted", [False, True])
def test_what_the_rotation_says_of_coming_weeks_is_the_same_however_much_of_it_is_history(used, team, now, restarted):
    first, tallies = said_of_weeks(used, now)
    assert [first[START.shift(n)][:2] for n in (0, 1, 2, 5)] == [
        ("reserved", "cem"),
        ("reserved", "ana"),
        ("reserved", "ben"),
        ("no-train", None),
    ]
    assert first[START.shift(6)] == ("planned", "ana", "ben", ("cem",))
    for days in (7, 30, 34, 35, 36, 37, 38, 39, 45, 70, 72, 73, 74, 100, 200):  # slots of W49 and W02 leave one by one
        sync = CalendarSync(used.calendar, team, now) if restarted else used
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
    assert (agenda.reservations, agenda.reservation(START), agenda.quarters) == ((), None, {})
    assert not any(entry.reading.published or entry.ics for entry in agenda.objects.values())
    # Somebody without a rotation, who keeps none of it, makes nobody who has one forget it.
    without = CalendarSync(calendar, configured(conductors=TEAM, calendar=NEAR), later)
    assert not without.refresh(later).managed
    again = CalendarSync(calendar, used.config, later).refresh(later)
    assert again.managed == agenda.managed
    assert agenda.objects.keys() - again.objects.keys() == {"old.ics"}


def test_a_week_that_was_released_is_history_like_any_other(used, now):
    reservations.release(used, START.shift(2), now)
    agenda = used.refresh(now + timedelta(days=120))
    assert START.shift(2) not in agenda.pairs_by_week
    assert not agenda.objects[reservation_href(START.shift(2))].is_managed


# Over HTTP and on the command line


def test_the_api_tells_of_weeks_and_turns(client):
    body = client.get("/api/rotation", params={"weeks": 4}).json()
    assert body["weeks"][0] == {
        "week": "2026-W49",
        "state": "planned",
        "primary": "conductor-eu",
        "backup": "conductor-us",
        "passed": [],
        "notes": [],
        "url": None,
    }
    assert [week["state"] for week in body["weeks"]] == ["planned", "planned", "planned", "no-train"]
    assert body["year"]["first"] == "2026-W49"
    assert {one["name"]: one["turns"] for one in body["year"]["turns"]} == {"conductor-eu": 25, "conductor-us": 25}
    problem(client.get("/api/rotation", params={"weeks": 0}), 422, "invalid")
    problem(client.get("/api/rotation", params={"week": 3}), 422, "invalid")


def events(body):
    return [(str(event["UID"]), str(event["STATUS"])) for event in Calendar.from_ical(body).events]


def test_the_feed_has_weeks_not_reserved_yet_as_tentative(client):
    client.post("/api/reservations", json={"week": "2026-W49", "primary": "conductor-eu", "backup": "conductor-us"})
    answer = client.get("/rotation.ics", params={"weeks": 2})
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    found = events(answer.content)
    assert len(found) == 12
    assert {status for uid, status in found if uid < "2026-12-07"} == {"CONFIRMED"}
    assert {status for uid, status in found if uid > "2026-12-07"} == {"TENTATIVE"}
    assert ("2026-12-08-european@calsync", "TENTATIVE") in found
    again = client.get("/rotation.ics", params={"weeks": 2}, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert client.head("/rotation.ics").status_code == 200


def test_the_rotations_feed_has_a_name_of_its_own(client):
    found = {path: Calendar.from_ical(client.get(path).content) for path in ("/deployments.ics", "/rotation.ics")}
    assert [str(one["NAME"]) for one in found.values()] == ["Deployments", "Deployments rotation"]
    assert [str(one["X-WR-CALNAME"]) for one in found.values()] == ["Deployments", "Deployments rotation"]


def test_an_absence_in_somebodys_own_feed_reaches_subscribers_whatever_they_say_of_dates(client):
    before = client.get("/rotation.ics", params={"weeks": 1})
    sync = client.app.state.calsync.sync
    away_all_week = Occurrence(datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 12, 5, tzinfo=UTC), "x", "busy")
    sync.busy = {"conductor-eu": Busy((away_all_week,))}
    client.app.state.calsync.refresh()
    since = {"If-Modified-Since": before.headers.get("last-modified", "Fri, 01 Jan 2027 00:00:00 GMT")}
    after = client.get("/rotation.ics", params={"weeks": 1}, headers=since)
    assert after.status_code == 200
    assert after.content != before.content


def test_the_feed_is_the_same_from_every_replica_and_others_events_change_nothing_in_it(known, calendar, team, now):
    list(reserve_weeks(known, 1, now))
    later = now + timedelta(minutes=7)
    other = CalendarSync(calendar, team, later)
    feeds = [rotation_feed.render(agenda, later, 4) for agenda in (known.agenda, other.refresh(later))]
    assert b"STATUS:TENTATIVE" in feeds[0].body
    assert feeds[0].body == feeds[1].body
    calendar.put("x.ics", blocking_event(), etag=None)
    again = rotation_feed.render(known.refresh(later), later, 4)
    assert again.etag == feeds[0].etag
    # A reservation is newer than what was planned in its place.
    planned = {str(event["UID"]): event for event in Calendar.from_ical(again.body).events}
    calendar.delete("x.ics", etag=known.agenda.objects["x.ics"].etag)
    list(reserve_weeks(known, 2, later))
    then = rotation_feed.render(known.agenda, later, 4)
    reserved = {str(event["UID"]): event for event in Calendar.from_ical(then.body).events}
    slot = "2026-12-08-american@calsync"
    assert (str(planned[slot]["STATUS"]), str(reserved[slot]["STATUS"])) == ("TENTATIVE", "CONFIRMED")
    assert reserved[slot]["DTSTAMP"].dt > planned[slot]["DTSTAMP"].dt


def test_the_command_line_reserves_week_by_week(run, now):
    said = run("rotation", "--weeks", "4")
    assert said.code == 0
    assert "2026-W50 7 Dec conductor-us conductor-eu planned" in said.out
    assert "Turns from 2026-W49 to 2027-W47: conductor-eu 25, conductor-us 25." in said.out
    said = run("rotation", "--weeks", "4", "--reserve")
    assert said.code == 0
    assert "✓ 2026-W49 is reserved for conductor-eu and conductor-us." in said.out
    assert "2026-W52 has no train: end-of-year holidays." in said.out
    again = run("rotation", "--weeks", "4", "--reserve", "--json")
    assert [one["result"] for one in json.loads(again.raw)] == ["stands", "stands", "stands", "no-train"]
    assert run("rotation", "--weeks", "0").code == 2
    assert run("rotation", "--weeks", "70", "--reserve").code == 1  # beyond the horizon
    assert run("rotation", "--weeks", "2", "--json", at=now + timedelta(weeks=1)).json["weeks"][0]["state"] == "reserved"


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_reserved_before_the_calendar_went_away_is_told(run, monkeypatch, as_json):
    put = SqlCalendar.put

    def failing(self, where, ics, *, etag):
        if where == reservation_href(START.shift(1)):
            raise Unreachable("The calendar is away.")
        return put(self, where, ics, etag=etag)

    monkeypatch.setattr(SqlCalendar, "put", failing)
    said = run("rotation", "--weeks", "3", "--reserve", *(["--json"] if as_json else []))
    assert said.code == 3
    assert "The calendar is away." in said.err
    if as_json:
        assert [(one["week"], one["result"]) for one in said.json] == [("2026-W49", "reserved")]
    else:
        assert said.out == "✓ 2026-W49 is reserved for conductor-eu and conductor-us."


def test_an_open_week_shows_on_the_command_line_that_somebody_is_missing(run):
    run("away", "conductor-us", "2026-12-02")
    said = run("rotation", "--weeks", "1")
    assert "2026-W49 30 Nov conductor-eu nobody open" in said.out
    assert "2026-W49: conductor-us is last in the order and is not the backup: away Wed 2 Dec" in said.out
    assert "Reserve the week for somebody from outside the rotation" in said.out


def test_somebody_whose_feed_cannot_be_read_is_planned_and_their_weeks_are_not_reserved(known, now):
    known.busy = {"ben": Busy(unknown="their busy feed cannot be read (it answers 500)")}
    assert shown(known, now, 2) == [("ana", "cem"), ("ben", "ana")]
    found = list(reserve_weeks(known, 2, now))
    assert [one.result for one in found] == ["reserved", "conflict"]
    assert "Whether ben is away" in found[1].message
