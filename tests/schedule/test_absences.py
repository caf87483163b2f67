"""Who is away, what that does to slots (also to those reserved before), and who could cover."""

import contextlib
import http.server
import json
import shutil
import threading
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar

from calsync.booking import absences, reservations
from calsync.core.absence import AbsenceRecord
from calsync.core.conductors import Pair
from calsync.core.config import load
from calsync.core.conflict import Conflicted
from calsync.core.errors import Changed, Invalid
from calsync.core.weeks import Week
from calsync.ical.absence import decode_absence
from calsync.ical.occurrences import Occurrence
from calsync.ical.parser import parse
from calsync.schedule import availability, busy_feeds
from calsync.schedule.absences import list_absences
from calsync.schedule.agenda import blank
from calsync.schedule.busy_feeds import EVERY, STALE, Feeds
from calsync.schedule.check import ReservationRequest
from calsync.schedule.conflicts import check, conflicts_of_reservations
from calsync.schedule.diary import Busy
from calsync.schedule.rotation import rotation
from calsync.schedule.status import on_call_status
from calsync.schedule.sync import CalendarSync
from support.dripping import Dripping
from support.samples import configured, event, ics, person
from support.site import WEEK, events, problem, served

W49 = Week(2026, 49)
ANA, BEN, CEM = (
    person("ana", "Europe/Paris"),
    person("ben", "America/Denver"),
    person("cem", "Europe/Berlin"),
)
TEAM = [{"name": one.name, "timezone": one.timezone} for one in (ANA, BEN, CEM)]


@pytest.fixture
def team():
    return configured(conductors=TEAM)


@pytest.fixture
def known(calendar, team, now):
    sync = CalendarSync(calendar, team, now)
    reservations.reserve(sync, ReservationRequest(Pair(ANA, BEN), W49), now)
    return sync


def utc(day, hour, minute=0):
    return datetime(2026, 12, day, hour, minute, tzinfo=UTC)


def busy_slots(sync, now):
    ((_, found),) = conflicts_of_reservations(sync.refresh(now), now)
    return [(conflict.slot, [one.name for one in conflict.cover]) for conflict in found if conflict.kind == "busy"]


# The European slots are 09:00–11:00 in UTC, watched until 13:00; the American ones 19:00–21:00, watched until 23:00.


def test_an_absence_speaks_against_slots_that_were_reserved_before_it(known, now):
    assert busy_slots(known, now) == []
    found = absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 2), now, note="conference")
    assert busy_slots(known, now) == [("2026-12-01-european", ["ben"]), ("2026-12-02-european", ["ben"])]
    assert [conflict.slot for conflict in found.conflicts] == ["2026-12-01-european", "2026-12-02-european"]
    assert found.conflicts[0].blocking
    assert found.conflicts[0].message == (
        "ana is away (Tue 1 Dec 00:00–Thu 3 Dec 00:00 Europe/Paris: conference) "
        "during Tue 1 Dec 10:00–12:00 Europe/Paris (european); ben could cover."
    )


@pytest.mark.parametrize(
    ("start", "end", "hit"),
    [
        (utc(1, 7), utc(1, 9), False),
        (utc(1, 7), utc(1, 9, 1), True),
        (utc(1, 10), utc(1, 10, 5), True),
        (utc(1, 12, 59), utc(1, 15), True),
        (utc(1, 13), utc(1, 15), False),
    ],
)
def test_being_away_counts_during_a_slot_and_two_hours_behind_it(known, now, start, end, hit):
    absences.add_absence(known, "ana", start, end, now)
    assert [slot for slot, _ in busy_slots(known, now)] == (["2026-12-01-european"] if hit else [])


def test_how_long_behind_a_slot_somebody_watches_is_a_setting(calendar, now):
    sync = CalendarSync(calendar, configured(conductors=TEAM, conflicts={"watch_after": "0m"}), now)
    reservations.reserve(sync, ReservationRequest(Pair(ANA, BEN), W49), now)
    absences.add_absence(sync, "ana", utc(1, 11), utc(1, 18), now)
    assert busy_slots(sync, now) == []


def test_where_the_partner_is_away_too_those_cover_whose_hours_fit(known, now):
    absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 1), now)
    absences.add_absence(known, "ben", utc(1, 0), utc(1, 12), now)
    assert busy_slots(known, now) == [("2026-12-01-european", ["cem"])]
    ((_, found),) = conflicts_of_reservations(known.agenda, now)
    assert found[0].cover[0].reason == "cem is not away, and 10:00–12:00 lies in 09:00-18:00 Europe/Berlin"
    absences.add_absence(known, "cem", date(2026, 12, 1), date(2026, 12, 1), now)
    assert busy_slots(known, now) == [("2026-12-01-european", [])]
    assert "nobody is there to cover" in next(conflicts_of_reservations(known.agenda, now))[1][0].message


def test_a_week_is_not_reserved_for_somebody_who_is_away_and_the_partner_covers(known, now):
    absences.add_absence(known, "cem", date(2026, 12, 8), date(2026, 12, 8), now)
    with pytest.raises(Conflicted, match="cem is away") as error:
        reservations.reserve(known, ReservationRequest(Pair(CEM, BEN), Week(2026, 50)), now)
    (conflict,) = [conflict for conflict in error.value.conflicts if conflict.kind == "busy"]
    assert conflict.cover[0].reason == (
        "ben is the partner and not away; 02:00–04:00 is outside 09:00-18:00 America/Denver"
    )


def test_an_absence_keeps_nobody_else_from_deploying(known, now):
    absences.add_absence(known, "cem", date(2026, 12, 1), date(2026, 12, 1), now)
    assert [found for _, found in conflicts_of_reservations(known.agenda, now)] == [()]


def test_the_same_absence_again_changes_nothing_whoever_tells_of_it(known, calendar, team, now):
    first = absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 2), now, note="conference")
    again = absences.add_absence(
        CalendarSync(calendar, team, now), "ana", date(2026, 12, 1), date(2026, 12, 2), now, note="conference"
    )
    assert (first.created, again.created, again.name, again.etag) == (True, False, first.name, first.etag)
    other = absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 2), now, note="holidays")
    assert (other.name, other.away.note, other.created) == (first.name, "holidays", False)


class Raced:
    """A calendar on which somebody else writes the same resource just before the first write."""

    def __init__(self, calendar):
        self.calendar, self.armed = calendar, True

    def __getattr__(self, name):
        return getattr(self.calendar, name)

    def put(self, href, ics, *, etag):
        if self.armed:
            self.armed = False
            self.calendar.put(href, ics, etag=etag)
            raise Changed("It was changed.")
        return self.calendar.put(href, ics, etag=etag)


def test_two_who_tell_of_the_same_absence_at_once_are_both_right(calendar, team, now):
    found = absences.add_absence(CalendarSync(Raced(calendar), team, now), "ana", date(2026, 12, 1), date(2026, 12, 1), now)
    assert not found.created
    assert list(CalendarSync(calendar, team, now).refresh(now).objects) == [f"away-{found.name}.ics"]


def test_an_absence_that_is_taken_away_can_be_told_again(known, now):
    found = absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 1), now)
    absences.remove_absence(known, found.name, now)
    assert busy_slots(known, now) == []
    assert list_absences(known.agenda, now) == []
    assert absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 1), now).created
    assert [slot for slot, _ in busy_slots(known, now)] == ["2026-12-01-european"]


def test_an_absence_that_people_move_on_the_calendar_counts_where_it_is(known, calendar, now):
    found = absences.add_absence(known, "ana", utc(1, 9), utc(1, 10), now)
    entry = known.agenda.objects[f"away-{found.name}.ics"]
    stored = next(one for one in calendar.changes(None).changed if one.href == entry.href)
    moved = stored.ics.replace(b"20261201T", b"20261202T")
    calendar.put(entry.href, moved, etag=entry.etag)
    assert [slot for slot, _ in busy_slots(known, now)] == ["2026-12-02-european"]


def test_an_absence_that_was_moved_and_is_told_again_stands_in_both_places(known, calendar, now):
    first = absences.add_absence(known, "ana", utc(1, 9), utc(1, 10), now)
    entry = known.agenda.objects[f"away-{first.name}.ics"]
    stored = next(one for one in calendar.changes(None).changed if one.href == entry.href)
    calendar.put(entry.href, stored.ics.replace(b"20261201T", b"20261202T"), etag=entry.etag)
    again = absences.add_absence(known, "ana", utc(1, 9), utc(1, 10, 0), now)
    assert (again.created, again.start, again.end) == (True, utc(1, 9), utc(1, 10))
    assert [conflict.slot for conflict in again.conflicts] == ["2026-12-01-european"]
    assert [slot for slot, _ in busy_slots(known, now)] == ["2026-12-01-european", "2026-12-02-european"]
    once_more = absences.add_absence(known, "ana", utc(1, 9), utc(1, 10), now)
    assert (once_more.created, once_more.name, once_more.etag) == (False, again.name, again.etag)
    absences.remove_absence(known, again.name, now)
    assert [slot for slot, _ in busy_slots(known, now)] == ["2026-12-02-european"]


def test_an_absence_in_parts_of_seconds_is_one_in_whole_ones(known, now):
    parts = timedelta(microseconds=700)
    first = absences.add_absence(known, "ana", utc(1, 9) + parts, utc(1, 10) + parts, now)
    assert not absences.add_absence(known, "ana", utc(1, 9), utc(1, 10), now).created
    assert first.start == utc(1, 9)


def test_each_absence_in_a_slot_tells_of_it_and_who_could_cover(known, now):
    absences.add_absence(known, "ana", utc(1, 9), utc(1, 9, 10), now)
    second = absences.add_absence(known, "ana", utc(1, 9, 30), utc(1, 11), now, note="dentist")
    (conflict,) = second.conflicts
    assert (conflict.slot, [one.name for one in conflict.cover]) == ("2026-12-01-european", ["ben"])
    assert "(Tue 1 Dec 10:00–10:10 Europe/Paris and Tue 1 Dec 10:30–12:00 Europe/Paris: dentist)" in conflict.message
    elsewhere = absences.add_absence(known, "ana", utc(1, 13), utc(1, 14), now)
    assert elsewhere.conflicts == ()
    assert [len(one.conflicts) for one in list_absences(known.agenda, now)] == [1, 1, 0]


def test_an_absence_soon_after_a_slot_tells_of_the_slot(known, now):
    # The span that is watched is longer than the slot, and than what of it the earliest absence takes.
    absences.add_absence(known, "ana", utc(1, 9), utc(1, 9, 10), now)
    found = absences.add_absence(known, "ana", utc(1, 12), utc(1, 12, 30), now)
    assert [conflict.slot for conflict in found.conflicts] == ["2026-12-01-european"]


@pytest.mark.parametrize("note", ["xTRANSP:TRANSPARENT", "END:VEVENT", "STATUS:CANCELLED"])
def test_an_absence_can_be_taken_away_whatever_its_note_says(known, now, note):
    found = absences.add_absence(known, "ana", utc(1, 9), utc(1, 10), now, note=note)
    assert busy_slots(known, now) != []
    absences.remove_absence(known, found.name, now)
    assert busy_slots(known, now) == []


@pytest.mark.parametrize(
    ("who", "start", "end", "said"),
    [
        ("zoe", date(2026, 12, 1), date(2026, 12, 1), "is neither in the roster"),
        ("ana", date(2026, 12, 2), date(2026, 12, 1), "end is before start"),
        ("ana", utc(1, 10), utc(1, 9), "end is before start"),
        ("ana", utc(1, 9), utc(1, 9), "end is the same as start; choose a later end"),
        ("ana", date(2026, 12, 1), utc(1, 9), "in the same form"),
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


def test_a_resource_that_only_looks_like_an_absence_is_an_event_like_others(known, calendar, now):
    calendar.put("away-x.ics", ics("SUMMARY:away", "DTSTART:20261201T090000Z", "DTEND:20261201T100000Z"), etag=None)
    assert known.refresh(now).away == {}
    assert [conflict.kind for conflict in next(conflicts_of_reservations(known.agenda, now))[1]] == ["overlap"]


# Over HTTP and on the command line


def test_the_api_takes_lists_and_gives_back_absences(client):
    client.post("/api/reservations", json=WEEK)
    body = {"conductor": "conductor-eu", "start": "2026-12-01", "end": "2026-12-02", "note": "conference"}
    answer = client.post("/api/away", json=body)
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert (found["start"], found["end"], found["all_day"]) == ("2026-12-01", "2026-12-02", True)
    assert [conflict["slot"] for conflict in found["conflicts"]] == ["2026-12-01-european", "2026-12-02-european"]
    assert found["conflicts"][0]["cover"][0]["name"] == "conductor-us"
    assert client.post("/api/away", json=body).status_code == 200
    client.app.state.calsync.refresh()
    assert [one["id"] for one in client.get("/api/away").json()] == [found["id"]]
    stands = client.get("/api/reservations/2026-W49").json()["warnings"]
    assert [warning["kind"] for warning in stands] == ["busy", "busy"]
    feed = events(client.get("/deployments.ics"))
    assert str(feed[f"away-{found['id']}"]["SUMMARY"]) == "conductor-eu is away"
    assert client.delete(f"/api/away/{found['id']}").status_code == 204
    gone = problem(client.delete(f"/api/away/{found['id']}"), 404, "not-away")
    assert gone["title"] == "There is no such absence"
    assert gone["detail"].startswith(f'There is no absence called "{found["id"]}"')
    problem(client.post("/api/away", json=body | {"who": "ana"}), 422, "invalid")
    for start in ("2026-12-01T10:00:00", "2026-12-01T00:00:00", 1796774400, "1796774400", "20261201", None, True):
        wrong = problem(client.post("/api/away", json=body | {"start": start}), 422, "invalid")
        assert "write a date such as 2026-12-01" in str(wrong)
    timed = {"start": "2026-12-01T00:00:00Z", "end": "2026-12-01T01:00:00+01:00"}
    problem(client.post("/api/away", json=body | timed), 422, "invalid")  # the same instant
    assert not client.post("/api/away", json=body | timed | {"end": "2026-12-02T00:00:00Z"}).json()["all_day"]


def test_the_command_line_says_who_could_cover(run):
    run("reserve", "conductor-eu", "conductor-us", "--week", "2026-W49")
    said = run("away", "conductor-eu", "2026-12-01T10:30", "2026-12-01T11:30", "--note", "dentist")
    assert said.code == 0, said.err
    assert "conductor-eu is away Tue 1 Dec 10:30–11:30 Europe/Paris: dentist" in said.out
    assert "✗ busy: conductor-eu is away" in said.out
    assert "cover for 2026-12-01-european: conductor-us is the partner and not away" in said.out
    run("away", "conductor-us", "2026-12-10")
    listed = run("away", "--json")
    assert [one["conductor"] for one in listed.json] == ["conductor-eu", "conductor-us"]
    assert [one["conductor"] for one in run("away", "conductor-us", "--json").json] == ["conductor-us"]
    assert "conductor-eu" not in run("away", "conductor-us").out
    assert run("away", "nobody").code == 2
    assert run("away", "--remove", listed.json[1]["id"]).code == 0
    assert run("away", "conductor-us").out == "conductor-us is not away."
    again = run("away", "--remove", listed.json[1]["id"])
    assert (again.code, "There is no absence called" in again.err) == (2, True)
    removed = run("away", "--remove", listed.json[0]["id"], "--json")
    assert removed.json == {"id": listed.json[0]["id"], "removed": True}
    assert run("away").out == "Nobody is away."
    assert run("away", "conductor-eu", "soon").code == 2


@pytest.mark.parametrize(
    ("span", "start", "end"),
    [
        (["2026-W51"], "2026-12-14", "2026-12-20"),
        (["2026w51"], "2026-12-14", "2026-12-20"),
        (["2026-W51", "2026-W52"], "2026-12-14", "2026-12-27"),
        (["2026-W53", "2027-01-05"], "2026-12-28", "2027-01-05"),
        (["2026-12-10", "2026-W51"], "2026-12-10", "2026-12-20"),
        (["2026-12-10"], "2026-12-10", "2026-12-10"),
    ],
)
def test_a_week_is_its_seven_days_on_the_command_line(run, span, start, end):
    (found,) = run("away", "conductor-eu", *span, "--json").json
    assert (found["start"], found["end"], found["all_day"]) == (start, end, True)


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (["2026-12-01T14:00"], "A time needs an end; write it behind the start"),
        (["2026-12-01T14:00", "2026-12-01T14:00"], "end is the same as start; choose a later end."),
        (["2026-12-01T14:00", "2026-12-01T13:00"], "end is before start; swap them."),
        (["2026-W51", "2026-W50"], "end is before start; swap them."),
        (
            ["2027-03-28T02:30", "2027-03-28T03:30"],
            "The clocks of Europe/Paris skip 2027-03-28T02:30, which counts as 03:30, and 2027-03-28T03:30 is no later; "
            "choose a later end.",
        ),
        (["2027-03-28T02:45", "2027-03-28T03:15"], "skip 2027-03-28T02:45, which counts as 03:45, and 2027-03-28T03:15"),
        (
            ["2026-12-01T14:00", "2026-12-01T13:00Z"],
            "2026-12-01T14:00 and 2026-12-01T13:00Z are the same time on the clocks of Europe/Paris; choose a later end.",
        ),
        (["2026-12-01T14:00", "2026-W50"], "in the same form"),
        (["2026-W54"], "2026-W54 does not exist; 2026 has the weeks W01 to W53."),
        (["2026-W5"], "is no date, week or time"),
    ],
)
def test_a_span_that_makes_no_sense_is_told_in_its_own_words(run, span, said):
    found = run("away", "conductor-eu", *span)
    assert (found.code, said in found.err) == (2, True), found.err
    assert run("away").out == "Nobody is away."


# Busy feeds


class Server:
    """A feed over real HTTP, with an ETag; `answer` can be changed."""

    def __init__(self):
        self.body, self.status, self.etag, self.seen, self.drips = ics(), 200, '"1"', [], False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.seen.append(self.headers.get("If-None-Match"))
                status = 304 if outer.status == 200 and self.headers.get("If-None-Match") == outer.etag else outer.status
                self.send_response(status)
                self.send_header("ETag", outer.etag)
                if status != 304:
                    self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                if status != 304:
                    with contextlib.suppress(OSError):  # who hangs up has heard enough
                        self._say(outer.body)

            def _say(self, body):
                for n in range(len(body)) if outer.drips else ():
                    self.wfile.write(body[n : n + 1])
                    time.sleep(0.02)
                self.wfile.write(body if not outer.drips else b"")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret/ana.ics"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def feeding(server):
    return configured(conductors=[TEAM[0] | {"calendar": server.url}, *TEAM[1:]])


MEETING = ("SUMMARY:Board meeting", "DTSTART:20261201T093000Z", "DTEND:20261201T100000Z")


def with_feed(sync, feeds, now):
    sync.busy = feeds.refresh(sync.agenda.horizon, now)
    return sync


@pytest.fixture
def fed(calendar, feeding, now):
    sync = CalendarSync(calendar, feeding, now)
    reservations.reserve(sync, ReservationRequest(Pair(ANA, BEN), W49), now)
    return sync


def kinds(sync, now):
    ((_, found),) = conflicts_of_reservations(sync.refresh(now), now)
    return [(conflict.kind, conflict.slot) for conflict in found]


def test_a_meeting_in_somebodys_own_calendar_is_an_absence_without_its_title(fed, feeding, server, tmp_path, now):
    server.body = ics(*MEETING)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == [("busy", "2026-12-01-european")]
    (conflict,) = next(conflicts_of_reservations(replace(fed.agenda, config=feeding), now))[1]
    assert "Board" not in conflict.message + conflict.event.summary
    assert conflict.event.uid is None
    assert conflict.cover[0].name == "ben"


@pytest.mark.parametrize(
    ("meetings", "shortest", "hit"),
    [
        ([("1130", "1200")], "0m", True),
        ([("1130", "1200")], "30m", True),
        ([("1130", "1200")], "31m", False),
        ([("1130", "1200"), ("1200", "1230")], "1h", True),
        ([("1230", "1300"), ("1300", "1330")], "1h", True),  # the second is behind what is watched
        ([("1100", "1110"), ("1030", "1105"), ("1105", "1130")], "1h", True),
        ([("1030", "1105"), ("1106", "1130")], "1h", False),
        ([("1130", "1200"), ("1201", "1231")], "1h", False),
    ],
)
def test_what_a_feed_calls_busy_for_a_shorter_time_is_no_absence(fed, meetings, shortest, hit, now):
    spans = [(utc(1, int(a[:2]), int(a[2:])), utc(1, int(b[:2]), int(b[2:]))) for a, b in meetings]
    fed.busy = {"ana": Busy(tuple(Occurrence(*span, f"{n}@example.org", "x") for n, span in enumerate(spans)))}
    fed.agenda = replace(fed.agenda, config=configured(conductors=TEAM, conflicts={"shortest_busy": shortest}))
    assert kinds(fed, now) == ([("busy", "2026-12-01-european")] if hit else [])
    assert (on_call_status(fed.agenda, ANA, spans[0][0]).away is not None) == hit


def test_short_absences_on_the_calendar_and_what_cannot_be_read_in_full_always_count(fed, now):
    fed.agenda = replace(fed.agenda, config=configured(conductors=TEAM, conflicts={"shortest_busy": "12h"}))
    absences.add_absence(fed, "ana", utc(1, 11), utc(1, 11, 5), now)
    fed.busy = {"ana": Busy((Occurrence(utc(2, 9), utc(2, 9, 5), "x", "x", certain=False),))}
    assert kinds(fed, now) == [("busy", "2026-12-01-european"), ("unknown", "2026-12-02-european")]


def test_an_absence_that_the_clocks_turn_round_counts(fed):
    night = Occurrence(datetime(2026, 3, 29, 2, 30), datetime(2026, 3, 29, 3, 15), "x", "x")
    agenda = replace(blank(fed.config, utc(1, 9)), busy={"ana": Busy((night,))})
    gone = list(
        availability.absences(agenda, ANA, datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 29, 2, tzinfo=UTC))
    )
    assert [one.start < one.end for one in gone] == [True]


def test_what_has_no_length_in_a_feed_is_no_absence_and_is_not_listed(fed, now):
    midnight = datetime(2026, 12, 1, 9, tzinfo=UTC)  # in the middle of the slot
    fed.busy = {"ana": Busy((Occurrence(midnight, midnight, "reminder", "x"),))}
    assert kinds(fed, now) == []
    assert list_absences(fed.refresh(now), now) == []


def test_a_weekly_meeting_behind_a_slot_passes_its_owner_over_unless_it_is_too_short(fed, feeding, server, tmp_path, now):
    server.body = ics("SUMMARY:Sync", "DTSTART:20261201T113000Z", "DTEND:20261201T120000Z", "RRULE:FREQ=WEEKLY;COUNT=60")
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    turns = {"order": ["ana", "ben", "cem"], "start": "2026-W50"}
    for conflicts, passed in (({}, True), ({"shortest_busy": "1h"}, False)):
        config = configured(conductors=TEAM, rotation=turns, conflicts=conflicts)
        found = rotation(replace(fed.refresh(now), config=config), now, 12)
        assert any("ana" in turn.passed for turn in found.turns) == passed
        assert any(turn.primary == "ana" for turn in found.turns) != passed


MINUTES = st.lists(st.tuples(st.integers(-200, 400), st.integers(0, 90)), max_size=12)


@given(MINUTES, st.integers(0, 180))
def test_busy_time_counts_by_the_length_of_its_unbroken_run(meetings, shortest):
    begin = utc(1, 9)
    spans = {(begin + timedelta(minutes=start), begin + timedelta(minutes=start + length)) for start, length in meetings}
    known = Busy(tuple(Occurrence(*span, "x", "x") for span in spans))
    config = configured(conductors=TEAM, conflicts={"shortest_busy": f"{shortest}m"})
    agenda = replace(blank(config, begin), busy={"ana": known})
    found = [(one.start, one.end) for one in availability.absences(agenda, ANA, begin, begin + timedelta(hours=2))]
    minutes = {
        start + timedelta(minutes=n) for start, end in spans for n in range(int((end - start).total_seconds()) // 60)
    }

    def unbroken(at):
        first = last = at
        while first - timedelta(minutes=1) in minutes:
            first -= timedelta(minutes=1)
        while last + timedelta(minutes=1) in minutes:
            last += timedelta(minutes=1)
        return last - first + timedelta(minutes=1)

    near = [(start, end) for start, end in spans if start < end and start < begin + timedelta(hours=2) and begin < end]
    assert found == sorted(span for span in near if unbroken(span[0]) >= timedelta(minutes=shortest))


def test_free_and_cancelled_events_and_the_slots_themselves_are_no_absence(fed, feeding, server, tmp_path, now):
    span = MEETING[1:]
    server.body = ics(*span, "TRANSP:TRANSPARENT", before="").replace(b"END:VCALENDAR\r\n", b"") + b"".join(
        ics(*lines, uid=uid).split(b"PRODID:-//test//test//EN\r\n")[1].replace(b"END:VCALENDAR\r\n", b"")
        for lines, uid in [
            ((*span, "STATUS:CANCELLED"), "cancelled@example.org"),
            (span, "2026-12-01-european@calsync"),
            (span, "train-2026-W49"),
        ]
    ) + b"END:VCALENDAR\r\n"  # fmt: skip
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == []


def test_a_feed_is_asked_for_with_its_etag_and_not_all_the_time(fed, feeding, server, tmp_path, now):
    feeds = Feeds(feeding, tmp_path / "copies")
    server.body = ics(*MEETING)
    for after in (timedelta(), EVERY / 2, EVERY, 2 * EVERY):
        with_feed(fed, feeds, now + after)
    assert server.seen == [None, '"1"', '"1"']
    assert kinds(fed, now) == [("busy", "2026-12-01-european")]


def test_a_new_process_asks_a_feed_however_lately_another_one_did(fed, feeding, server, tmp_path, now):
    server.body = ics(*MEETING)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    server.body, server.etag = ics("SUMMARY:Moved", "DTSTART:20261202T093000Z", "DTEND:20261202T100000Z"), '"2"'
    later = now + timedelta(seconds=1)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), later)
    assert kinds(fed, later) == [("busy", "2026-12-02-european")]
    server.status = 404
    feeds = Feeds(feeding, tmp_path / "copies")
    feeds.refresh(fed.agenda.horizon, later)
    (why,) = feeds.failures(fed.agenda.horizon, later).values()
    assert "it answers 404" in why


def many(*events):
    """A calendar of events, each with a UID of its own."""
    found = b"".join(f"{event(*lines, uid=f'{n}@example.org')}\n".encode() for n, lines in enumerate(events))
    return b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//test//EN\r\n" + found + b"END:VCALENDAR\r\n"


def test_a_feed_with_more_in_it_than_can_be_read_is_unknown_before_long(fed, feeding, server, tmp_path, now, monkeypatch):
    monkeypatch.setattr(busy_feeds, "READING", 0.2)
    daily = ("SUMMARY:Daily", "DTSTART:20260101T093000Z", "DTEND:20260101T100000Z", "RRULE:FREQ=DAILY")
    server.body = many(*[daily] * 1_000)
    begun = time.thread_time()
    assert busy_feeds._read(server.body, fed.agenda.horizon).unplaced
    assert len(busy_feeds._read(server.body, fed.agenda.horizon).occurrences) < 100_000
    assert time.thread_time() - begun < 30  # reading all of it takes minutes
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert {kind for kind, _ in kinds(fed, now)} == {"unknown"}
    message = next(conflicts_of_reservations(replace(fed.agenda, config=feeding), now))[1][0].message
    assert "more in it than can be read in 0.2 s" in message


def test_a_feed_that_was_never_read_is_unknown_and_never_free(fed, feeding, server, tmp_path, now):
    server.status = 404
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == [("unknown", f"2026-12-0{day}-european") for day in (1, 2, 3)]
    message = next(conflicts_of_reservations(replace(fed.agenda, config=feeding), now))[1][0].message
    assert "(it answers 404)" in message
    assert "secret" not in message
    with pytest.raises(Exception, match="not known"):
        reservations.reserve(fed, ReservationRequest(Pair(ANA, CEM), Week(2026, 50)), now)


def test_a_feed_not_read_yet_is_unknown(fed, feeding, tmp_path, now):
    fed.busy = Feeds(feeding, tmp_path / "copies").known(fed.agenda.horizon, now)
    assert {kind for kind, _ in kinds(fed, now)} == {"unknown"}


@pytest.mark.parametrize("spoil", ["away", "page", "long", "slow"])
def test_the_last_good_copy_is_kept_in_memory_and_on_disk(fed, feeding, server, tmp_path, now, spoil, monkeypatch):
    server.body = ics(*MEETING)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    if spoil == "away":
        server.stop()
    elif spoil == "page":
        server.body, server.etag = b"<html>Sign in</html>", '"2"'
    elif spoil == "long":
        server.body, server.etag = ics() + b" " * busy_feeds.MAX_BYTES, '"2"'
    else:
        monkeypatch.setattr(busy_feeds, "MAX_SECONDS", 0.3)
        server.drips, server.etag = True, '"2"'
    later = now + timedelta(hours=1)
    restarted = Feeds(feeding, tmp_path / "copies")
    with_feed(fed, restarted, later)
    assert restarted._copies["ana"].failure
    assert kinds(fed, later) == [("busy", "2026-12-01-european")]
    much_later = now + STALE + timedelta(hours=1)
    with_feed(fed, restarted, much_later)
    assert ("busy", "2026-12-01-european") in kinds(fed, much_later)
    assert ("unknown", "2026-12-02-european") in kinds(fed, much_later)
    if spoil == "away":
        server.thread = threading.Thread(target=lambda: None)
        server.thread.start()
        server.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        threading.Thread(target=server.server.serve_forever, args=(0.02,)).start()


def freebusy(*lines):
    text = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//test//EN", "METHOD:PUBLISH", "BEGIN:VFREEBUSY", "UID:fb"]
    return "\r\n".join([*text, "DTSTAMP:20261101T000000Z", *lines, "END:VFREEBUSY", "END:VCALENDAR", ""]).encode()


@pytest.mark.parametrize(
    ("lines", "hit"),
    [
        (["FREEBUSY:20261201T093000Z/20261201T100000Z"], [1]),
        (["FREEBUSY;FBTYPE=BUSY:20261201T093000Z/PT30M,20261202T093000Z/PT30M"], [1, 2]),
        (["FREEBUSY;FBTYPE=BUSY-UNAVAILABLE:20261201T093000Z/PT30M", "FREEBUSY:20261203T093000Z/PT30M"], [1, 3]),
        (["FREEBUSY;FBTYPE=busy-tentative:20261201T093000Z/PT30M"], [1]),
        (["FREEBUSY;FBTYPE=X-WORKING-ELSEWHERE:20261201T093000Z/PT30M"], [1]),
        (["FREEBUSY;FBTYPE=FREE:20261201T093000Z/PT30M"], []),
        ([], []),
    ],
)
def test_free_busy_time_is_read_as_the_absences_it_tells_of(fed, feeding, server, tmp_path, now, lines, hit):
    server.body = freebusy("DTSTART:20261101T000000Z", *lines)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == [("busy", f"2026-12-0{day}-european") for day in hit]


@pytest.mark.parametrize(
    "line",
    [
        "FREEBUSY:soon",
        "FREEBUSY:20261201T093000Z/20261201T080000Z",
        "FREEBUSY:20261201T093000/20261201T100000",
        "FREEBUSY;TZID=Europe/Paris:20261201T093000/20261201T100000",
        "FREEBUSY:" + ",".join(["20260601T093000Z/PT30M"] * 2000),
    ],
)
def test_free_busy_time_that_cannot_be_read_is_unknown_and_never_free(fed, feeding, server, tmp_path, now, line):
    server.body = freebusy(line)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == [("unknown", f"2026-12-0{day}-european") for day in (1, 2, 3)]


def test_behind_the_span_of_free_busy_time_nothing_is_known(fed, feeding, server, tmp_path, now):
    server.body = freebusy("DTSTART:20261101T000000Z", "DTEND:20261202T000000Z", "FREEBUSY:20261130T093000Z/PT30M")
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == [("unknown", f"2026-12-0{day}-european") for day in (2, 3)]


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n"])
def test_a_feed_that_drips_is_cut_and_keeps_nobody_elses_back(server, tmp_path, now, monkeypatch, head):
    monkeypatch.setattr(busy_feeds, "MAX_SECONDS", 1.0)
    server.body = ics(*MEETING)
    with Dripping(head, b"X-Slow: x") as slow:
        urls = (f"{slow.url}/secret", server.url, f"{slow.url}/secret")
        config = configured(conductors=[one | {"calendar": url} for one, url in zip(TEAM, urls, strict=True)])
        feeds = Feeds(config, tmp_path / "copies")
        horizon = CalendarSync(None, config, now).agenda.horizon
        asking = threading.Thread(target=feeds.refresh, args=(horizon, now))
        begun = time.monotonic()
        asking.start()
        while feeds.known(horizon, now)["ben"].unknown and time.monotonic() - begun < 10:
            time.sleep(0.02)
        assert asking.is_alive()  # the others are still waited for
        asking.join()
        assert time.monotonic() - begun < 8
        found = feeds.known(horizon, now)
        assert [one.uid for one in found["ben"].occurrences]
        assert "(it does not answer within 1 s)" in found["ana"].unknown
        assert found["cem"].unknown == found["ana"].unknown


def test_what_nobody_foresaw_about_one_feed_is_told_without_its_address(server, tmp_path, now, monkeypatch, caplog):
    good, bad = ics(*MEETING), configured(conductors=[one | {"calendar": server.url} for one in TEAM])
    server.body = good

    def spoiled(url, etag):
        raise RuntimeError(url)

    monkeypatch.setattr(busy_feeds, "_fetch", spoiled)
    found = Feeds(bad, tmp_path / "copies").refresh(CalendarSync(None, bad, now).agenda.horizon, now)
    assert all("it cannot be used: RuntimeError" in one.unknown for one in found.values())
    assert "busy feed of ana" in caplog.text
    assert "secret" not in caplog.text


def test_what_a_feed_says_of_reserved_slots_is_listed_with_the_absences_by_start(fed, feeding, server, tmp_path, now):
    server.body = ics(
        *MEETING,
        before="\n".join(
            event(*lines, uid=f"{n}@example.org")
            for n, lines in enumerate(
                [
                    ("DTSTART:20261202T120000Z", "DTEND:20261202T140000Z"),  # soon after a slot
                    ("DTSTART:20261201T140000Z", "DTEND:20261201T150000Z"),  # neither in one nor soon after it
                    ("DTSTART;VALUE=DATE:20261203", "DTEND;VALUE=DATE:20261205"),
                ]
            )
        ),
    )
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    told = absences.add_absence(fed, "ben", utc(1, 9, 45), utc(1, 20), now)
    absences.add_absence(fed, "ben", date(2026, 12, 1), date(2026, 12, 1), now)  # from 07:00 in UTC

    def rows(at):
        found = list_absences(fed.agenda, at)
        return [(one.source, one.away.conductor, one.start, one.end, one.all_day) for one in found]

    paris = [(utc(1, 9, 30), utc(1, 10)), (utc(2, 12), utc(2, 14))]
    assert rows(now) == [
        ("calendar", "ben", date(2026, 12, 1), date(2026, 12, 1), True),
        ("feed", "ana", *paris[0], False),
        ("calendar", "ben", utc(1, 9, 45), utc(1, 20), False),
        ("feed", "ana", *paris[1], False),
        ("feed", "ana", date(2026, 12, 3), date(2026, 12, 4), True),
    ]
    found = list_absences(fed.agenda, now)[1]
    assert (found.name, found.etag, found.away) == (None, None, AbsenceRecord("ana", "Europe/Paris"))
    assert [conflict.slot for conflict in found.conflicts] == ["2026-12-01-european"]
    assert rows(utc(1, 10))[1:2] == [("calendar", "ben", told.start, told.end, False)]  # the meeting is over
    fed.agenda = replace(fed.agenda, config=configured(conductors=TEAM, conflicts={"shortest_busy": "90m"}))
    assert [one[2] for one in rows(now) if one[0] == "feed"] == [paris[1][0], date(2026, 12, 3)]


def feed_in(folder, server):
    """Make conductor-eu's busy feed known to the command line."""
    file = folder / "windows.toml"
    text = file.read_text()
    file.write_text(text.replace('name = "conductor-eu"', f'name = "conductor-eu"\ncalendar = "{server.url}"', 1))
    assert file.read_text() != text
    return file


def test_the_command_line_lists_what_feeds_say_and_never_calls_free_what_is_not_known(run, folder, server):
    feed_in(folder, server)
    run("reserve", "conductor-eu", "conductor-us", "--week", "2026-W49")
    assert run("away").out == "Nobody is away."
    shutil.rmtree(folder / ".calsync")
    server.body = ics(*MEETING)
    said = run("away")
    assert "conductor-eu is away Tue 1 Dec 10:30–11:00 Europe/Paris (from their busy feed)" in said.out
    assert "✗ busy: conductor-eu is away" in said.out
    assert "cover for 2026-12-01-european: conductor-us is the partner" in said.out
    assert run("away", "conductor-us").out == "conductor-us is not away."
    (row,) = run("away", "--json").json
    assert (row["id"], row["source"], row["start"]) == (None, "feed", "2026-12-01T10:30:00+01:00")
    shutil.rmtree(folder / ".calsync")
    server.status = 404
    unsure = "! Whether conductor-eu is away is not known: their busy feed cannot be read (it answers 404)."
    assert run("away").out == run("away", "conductor-eu").out == unsure
    assert run("away", "conductor-us").out == "conductor-us is not away."
    said = run("away", "--json")
    assert (said.json, said.err) == ([], unsure)
    run("away", "conductor-us", "2026-12-10")
    said = run("away")
    assert "conductor-us is away Thu 2026-12-10" in said.out
    assert unsure in said.out
    server.status, server.body = 200, freebusy("DTSTART:20261101T000000Z", "DTEND:20261202T000000Z")
    assert run("away", "conductor-eu").out == (
        "! Whether conductor-eu is away is not known: "
        "what says so around 2026-12-02-european cannot be read in full, or ends before."
    )


def test_doctor_names_the_feeds_that_cannot_be_read_also_where_a_copy_counts(run, folder, server):
    feed_in(folder, server)
    assert run("doctor").code == 0
    server.status = 404
    copied = "their busy feed cannot be read (it answers 404); that of 2026-11-24 12:00 UTC counts"
    later = datetime(2026, 11, 24, 13, tzinfo=UTC)
    said, body = run("doctor", at=later), run("doctor", "--json", at=later)
    assert (said.code, body.code) == (0, 0)
    assert f"! conductor-eu: {copied}." in said.out
    assert body.json["feeds"] == {"conductor-eu": copied}
    assert "secret" not in said.out + said.err + body.raw + body.err
    shutil.rmtree(folder / ".calsync")
    said = run("doctor")
    assert (said.code, "! conductor-eu: their busy feed cannot be read (it answers 404)." in said.out) == (0, True)
    assert "Everything on it can be read" not in said.out


def shown(site, path, has):
    """The text at the path once the server has read the feeds, and with them what is looked for."""
    until = time.monotonic() + 10
    while has not in (text := site.get(path).text) and time.monotonic() < until:
        time.sleep(0.02)
        site.app.state.calsync.refresh()
    return text


def test_the_api_and_the_page_show_what_feeds_say_and_no_uid_of_theirs(calendar, folder, server, now):
    config = load(feed_in(folder, server), {})
    server.body = ics(*MEETING, uid="secret-1@example.org")
    with served(config, calendar, now) as site:
        site.post("/api/reservations", json=WEEK | {"override": "agreed"})
        (row,) = json.loads(shown(site, "/api/away", "feed"))
        assert (row["id"], row["source"], row["conductor"], row["note"]) == (None, "feed", "conductor-eu", None)
        assert (row["start"], row["end"]) == ("2026-12-01T10:30:00+01:00", "2026-12-01T11:00:00+01:00")
        assert (row["conflicts"][0]["event"]["uid"], row["conflicts"][0]["cover"][0]["name"]) == (None, "conductor-us")
        paths = ["/api/away", "/api/conflicts?week=2026-W49", "/api/reservations/2026-W49", "/deployments.ics", "/"]
        assert [path for path in paths if "secret" in site.get(path).text] == []
        page = " ".join(site.get("/week/2026-W49").text.split())
        assert "Tue 01 Dec 10:30 to Tue 01 Dec 11:00 Europe/Paris (from their busy feed)" in page
        assert "is not known" not in page
    server.status = 404
    shutil.rmtree(folder / ".calsync")
    with served(config, calendar, now) as site:
        assert site.get("/api/away").json() == []
        page = shown(site, "/week/2026-W49", "it answers 404")
        assert "Whether conductor-eu is away is not known: their busy feed cannot be read (it answers 404)." in page


def test_commands_that_are_not_about_people_wait_for_no_feed(run, folder, server):
    feed_in(folder, server)
    run("reserve", "conductor-eu", "conductor-us", "--week", "2026-W49")
    assert len(server.seen) == 1
    for arguments in (["feed"], ["handoff", "2026-W49", "conductor-us", "--note", "x"], ["release", "2026-W49"]):
        assert run(*arguments).code == 0
    assert len(server.seen) == 1


def test_the_address_of_a_feed_comes_from_the_environment_and_is_never_shown(fed, server, tmp_path, now, caplog):
    people = [one | {"name": name} for one, name in zip(TEAM, ("ana", "conductor-eu", "Jörg B."), strict=True)]
    (tmp_path / "address").write_text(f"{server.url}\n")
    environ = {"CALSYNC_BUSY_CONDUCTOR_EU": server.url, "CALSYNC_BUSY_J_RG_B__FILE": str(tmp_path / "address")}
    config = configured(environ, conductors=people)
    assert "secret" not in repr(config)
    server.body = ics(*MEETING)
    found = Feeds(config, tmp_path / "copies").refresh(fed.agenda.horizon, now)
    assert [name for name, one in found.items() if one.occurrences and one.unknown is None] == ["conductor-eu", "Jörg B."]
    server.status = 500
    found = Feeds(config, tmp_path / "others").refresh(fed.agenda.horizon, now)
    assert "(it answers 500)" in found["Jörg B."].unknown
    assert "secret" not in caplog.text + repr(found)


def test_a_copy_is_readable_for_nobody_else_and_a_folder_that_cannot_be_written_costs_only_the_copy(
    fed, feeding, server, tmp_path, now
):
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    (copy,) = (tmp_path / "copies").iterdir()
    assert copy.stat().st_mode & 0o077 == 0
    assert "secret" not in copy.name
    (tmp_path / "file").write_text("")
    with_feed(fed, Feeds(feeding, tmp_path / "file"), now)
    assert kinds(fed, now) == []


def test_an_event_of_a_feed_that_cannot_be_read_in_full_is_unknown(fed, feeding, server, tmp_path, now):
    server.body = ics("SUMMARY:odd", "DTSTART;TZID=Nowhere/Land:20261201T100000", "DTEND;TZID=Nowhere/Land:20261201T110000")
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert ("unknown", "2026-12-01-european") in kinds(fed, now)


def test_whoever_is_not_known_to_be_free_covers_for_nobody(fed, now):
    absences.add_absence(fed, "ben", date(2026, 12, 1), date(2026, 12, 1), now)
    fed.busy = {"ana": Busy(unknown="their busy feed cannot be read")}
    agenda = fed.refresh(now)
    reservation = agenda.reservation(W49).reservation
    found = check(agenda, reservation.slots, reservation.conductors, own="train-2026-W49.ics", pair=reservation.pair)
    (conflict,) = [one for one in found if one.kind == "busy" and one.slot == "2026-12-01-american"]
    assert [one.name for one in conflict.cover] == []


def test_an_absence_is_one_plain_event_that_other_tools_read(known, calendar, now):
    found = absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 2), now, note="conference")
    stored = next(one for one in calendar.changes(None).changed if one.href == f"away-{found.name}.ics")
    (event,) = Calendar.from_ical(stored.ics).events
    assert (event.start, event.end) == (date(2026, 12, 1), date(2026, 12, 3))
    assert (event["UID"], event["SUMMARY"], event["TRANSP"]) == (f"away-{found.name}", "ana is away", "TRANSPARENT")
    assert decode_absence(parse(stored.ics).calendar) == found.away
