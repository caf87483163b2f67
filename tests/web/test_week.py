"""Hand-offs, updates and who is on call over HTTP and on the page."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from icalendar import Calendar

from calsync.booking import reservations
from calsync.booking.handoff import hand_off
from calsync.core import delivery
from calsync.core.config import load
from calsync.ical.occurrences import Occurrence
from calsync.notifications import dispatcher
from calsync.notifications.dispatcher import Dispatcher, send_handoff
from calsync.schedule.check import ReservationRequest
from calsync.schedule.diary import Busy
from calsync.schedule.sync import CalendarSync
from support.conduit import TOKEN
from support.feed_server import MEETING, feed_in
from support.pair import BEN, HREF, MIDWEEK, NOTE, TEAM, W49, standing, with_secrets_elsewhere
from support.processes import until
from support.samples import configured, ics
from support.site import WEEK, events, problem, served


def test_what_became_of_a_released_weeks_messages_can_be_read(site):
    note = {"to": "ben", "note": NOTE}
    assert site.post("/api/reservations/2026-W49/handoff", json=note).status_code == 200
    assert site.delete("/api/reservations/2026-W49").status_code == 200
    told = site.get("/api/reservations/2026-W49/deliveries").json()
    assert [one["target"] for one in told] == ["ticket", "log"]
    assert site.get("/api/reservations/2026-W50/deliveries").status_code == 404


def test_the_server_logs_what_it_cannot_send(calendar, caplog):
    with served(with_secrets_elsewhere(CALSYNC_TICKETS_TOKEN=TOKEN), calendar, MIDWEEK):
        pass
    said = [record.message for record in caplog.records if "is not set here" in record.message]
    assert said == [
        "CALSYNC_NOTIFY_OPERATIONS is not set here, so the messages that need it are left to processes that have it."
    ]


# Over HTTP and on the command line


@pytest.fixture
def site(calendar, team, destinations):
    with served(team, calendar, MIDWEEK, destinations=destinations) as site:
        body = {"week": "2026-W49", "train": "1.46.0-wmf.5", "ticket": "T400001", "primary": "ana", "backup": "ben"}
        assert site.post("/api/reservations", json=body).status_code == 201
        yield site


def test_the_api_hands_off_and_tells_what_became_of_each_message(site, room):
    body = {"to": "ben", "note": NOTE}
    answer = site.post("/api/reservations/2026-W49/handoff", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["reservation"]["responsible"] == "ben"
    assert [(one["target"], one["state"]) for one in found["deliveries"]] == [("ticket", "sent"), ("log", "sent")]
    site.app.state.calsync.refresh()
    duties = site.get("/api/now", params={"at": "2026-12-03T09:30:00Z"}).json()["running"]
    assert [duty["responsible"] for duty in duties] == [["ben"]]
    listed = site.get("/api/reservations/2026-W49/deliveries").json()
    assert [(one["target"], one["state"]) for one in listed] == [("ticket", "sent"), ("log", "sent")]
    problem(site.post("/api/reservations/2026-W49/handoff", json={"to": "ben", "note": "again"}), 422, "invalid")
    problem(site.post("/api/reservations/2026-W49/handoff", json={"to": "zoe", "note": "x"}), 422, "invalid")
    problem(site.post("/api/reservations/2026-W50/handoff", json=body), 404, "not-reserved")
    stale = site.post("/api/reservations/2026-W49/handoff", json={"to": "ana", "note": "x"}, headers={"If-Match": '"no"'})
    problem(stale, 412, "changed")
    assert len(room.said) == 1


def test_the_etag_of_the_answer_is_that_of_the_week_once_everything_is_told(site, calendar):
    for to, patched in (("ben", "T2"), ("ana", "T3")):
        answer = site.post("/api/reservations/2026-W49/handoff", json={"to": to, "note": NOTE}).json()
        etag = answer["reservation"]["etag"]
        (stored,) = [one for one in calendar.changes(None).changed if one.href == HREF]
        assert etag == stored.etag
        change = {"ticket": patched}
        answer = site.patch("/api/reservations/2026-W49", json=change, headers={"If-Match": f'"{etag}"'})
        assert answer.status_code == 200, answer.text


def test_the_etag_of_the_answer_is_not_that_of_what_somebody_else_made_of_the_week(known, calendar, team, destinations):
    found = hand_off(known, destinations.missing, W49, BEN, NOTE, MIDWEEK)
    other = CalendarSync(calendar, team, MIDWEEK)
    reservations.change(other, W49, lambda kept: ReservationRequest(kept.pair, train="2", ticket=kept.ticket), MIDWEEK)
    told, _ = send_handoff(Dispatcher(known, destinations), found, MIDWEEK)
    assert told.outcome.etag == found.outcome.etag != standing(known).etag


def test_the_api_takes_updates(site, room):
    answer = site.post("/api/reservations/2026-W49/updates", json={"from": "ben", "text": "group1 is out"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["to"], found["deliveries"][0]["state"]) == (["updates"], "sent")
    assert found["reason"] == "it is 13:00 for ana, who is within working hours until 18:00"
    problem(site.post("/api/reservations/2026-W49/updates", json={"from": "zoe", "text": "x"}), 422, "invalid")
    problem(site.post("/api/reservations/2026-W49/updates", json={"from": "ben", "text": "a\nb"}), 422, "invalid")


def test_the_server_sends_later_what_it_could_not_send_at_once(calendar, team, destinations, room, monkeypatch):
    monkeypatch.setattr(delivery, "FIRST_RETRY", timedelta(seconds=1))
    monkeypatch.setattr(dispatcher, "MAX_PAUSE", timedelta(seconds=1))
    clock = [MIDWEEK]
    room.down = 1
    with served(team, calendar, lambda: clock[0], destinations) as site:
        body = {"week": "2026-W49", "ticket": "T400001", "primary": "ana", "backup": "ben"}
        site.post("/api/reservations", json=body)
        log = site.post("/api/reservations/2026-W49/handoff", json={"to": "ben", "note": NOTE}).json()["deliveries"][1]
        assert (log["state"], log["due"], room.said) == ("pending", "2026-12-02T12:00:01Z", [])
        clock[0] += timedelta(seconds=1)
        until(lambda: room.said, "it is sent")
    assert len(room.said) == 1


def test_the_feed_of_the_former_responsible_still_has_their_slots(site):
    site.post("/api/reservations/2026-W49/handoff", json={"to": "ben", "note": NOTE})
    site.app.state.calsync.refresh()
    theirs = events(site.get("/deployments.ics", params={"conductor": "ana", "only": "reservations"}))
    assert "2026-12-03-european@calsync" in theirs
    assert str(theirs["2026-12-03-european@calsync"]["SUMMARY"]).endswith("– ben")


# The page


def test_the_page_shows_whom_to_ask_the_rotation_absences_and_messages_that_did_not_arrive(calendar, destinations, room):
    rotation = {"order": ["ana", "ben", "cem"], "start": "2026-W49"}
    team = [TEAM[0] | {"video": "https://meet.example.org/ana"}, *TEAM[1:]]
    config = configured(conductors=team, rotation=rotation)
    room.down = 1
    with served(config, calendar, MIDWEEK, destinations=destinations) as site:
        site.post("/api/reservations", json={"week": "2026-W49", "ticket": "T400001", "primary": "ana", "backup": "ben"})
        site.post("/api/reservations/2026-W49/handoff", json={"to": "ben", "note": "<b>blocked</b>"})
        site.post("/api/away", json={"conductor": "cem", "start": "2026-12-08", "end": "2026-12-08", "note": "<i>fair</i>"})
        site.app.state.calsync.refresh()
        page = " ".join(site.get("/").text.split())
    assert "<bdi>ana</bdi></strong> is within working hours until 18:00 (Europe/Paris); IRC: <bdi>ana_</bdi>" in page
    assert '<a href="https://meet.example.org/ana">video room<' in page
    assert '<a href="/week/2026-W50?tz=UTC">2026-W50</a></th> <td><bdi>ben</bdi></td> <td><bdi>ana</bdi></td>' in page
    assert "Turns from 2026-W49 to 2027-W47: <bdi>ana</bdi> " in page
    assert "<strong><bdi>cem</bdi></strong>, Tue 08 Dec: <bdi>&lt;i&gt;fair&lt;/i&gt;</bdi>" in page
    assert "2026-W49, log: not sent yet (<bdi>the channel is down</bdi>): <bdi>!log &lt;b&gt;blocked&lt;/b&gt; (" in page


# Ask first


def test_now_says_how_to_reach_each_of_the_pair(calendar, now):
    team = [TEAM[0] | {"video": "https://meet.example.org/ana"}, *TEAM[1:]]
    config = configured(conductors=team, train={"video_url": "https://meet.example.org/train-{week}"})
    with served(config, calendar, MIDWEEK) as site:
        site.post("/api/reservations", json={"week": "2026-W49", "primary": "ana", "backup": "ben"})
        site.post(
            "/api/away", json={"conductor": "ana", "start": "2026-12-02T12:00:00+01:00", "end": "2026-12-02T15:00:00+01:00"}
        )
        site.app.state.calsync.refresh()
        ana, ben = site.get("/api/now").json()["conductors"]
        assert (ana["irc"], ana["video"]) == ("ana_", "https://meet.example.org/ana")
        assert (ana["working"], ana["until"], ana["away"]) == (
            True,
            "2026-12-02T18:00:00+01:00",
            "2026-12-02T15:00:00+01:00",
        )
        assert (ben["irc"], ben["video"], ben["away"]) == (None, "https://meet.example.org/train-2026-W49", None)
        assert (ben["working"], ben["until"]) == (False, "2026-12-02T09:00:00-07:00")
        # On a Sunday nobody is at work.
        first = site.get("/api/now", params={"at": "2026-11-29T11:00:00+01:00"}).json()["conductors"][0]
        assert (first["working"], first["until"]) == (False, "2026-11-30T09:00:00+01:00")


def test_every_slot_has_the_video_room_on_the_calendar_and_in_the_feed(calendar, now):
    config = configured(train={"video_url": "https://meet.example.org/train-{week}"})
    with served(config, calendar, now) as site:
        site.post("/api/reservations", json=WEEK)
        site.app.state.calsync.refresh()
        feed = site.get("/deployments.ics").content
    stored = next(one.ics for one in calendar.changes(None).changed if one.href == HREF)
    for text in (feed, stored):
        slots = Calendar.from_ical(text).events
        assert len(slots) >= 6
        for slot in slots:
            assert str(slot["CONFERENCE"]) == "https://meet.example.org/train-2026-W49"
            assert slot["CONFERENCE"].params["VALUE"] == "URI"
            assert slot["CONFERENCE"].params["FEATURE"] == ["AUDIO", "VIDEO"]


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
    assert gone["title"] == "Absence not found"
    assert gone["detail"].startswith(f'There is no absence called "{found["id"]}"')
    problem(client.post("/api/away", json=body | {"who": "ana"}), 422, "invalid")
    for start in ("2026-12-01T10:00:00", "2026-12-01T00:00:00", 1796774400, "1796774400", "20261201", None, True):
        wrong = problem(client.post("/api/away", json=body | {"start": start}), 422, "invalid")
        assert "write a date such as 2026-12-01" in str(wrong)
    timed = {"start": "2026-12-01T00:00:00Z", "end": "2026-12-01T01:00:00+01:00"}
    problem(client.post("/api/away", json=body | timed), 422, "invalid")  # the same instant
    assert not client.post("/api/away", json=body | timed | {"end": "2026-12-02T00:00:00Z"}).json()["all_day"]


def shown(site, path, text):
    """What is at the path once the server has read the feeds, and with them what is looked for."""

    def answer():
        site.app.state.calsync.refresh()
        said = site.get(path).text
        return said if text in said else None

    return until(answer, f"{path} shows {text}")


def test_the_api_and_the_page_show_what_feeds_say_and_no_uid_of_theirs(calendar, folder, feed, now):
    config = load(feed_in(folder, feed), {})
    feed.body = ics(*MEETING, uid="secret-1@example.org")
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
        assert "Cannot tell" not in page
    feed.status = 404
    shutil.rmtree(folder / ".calsync")
    with served(config, calendar, now) as site:
        assert site.get("/api/away").json() == []
        page = shown(site, "/week/2026-W49", "it answers 404")
        assert "Cannot tell whether conductor-eu is away: their busy feed cannot be read (it answers 404)." in page


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


def test_the_feed_has_weeks_not_reserved_yet_as_tentative(client):
    client.post("/api/reservations", json={"week": "2026-W49", "primary": "conductor-eu", "backup": "conductor-us"})
    answer = client.get("/rotation.ics", params={"weeks": 2})
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    found = [(uid, str(event["STATUS"])) for uid, event in events(answer).items()]
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
