"""Hand-offs, updates and who is on call over HTTP and on the page."""

import time
from datetime import timedelta

import pytest
from icalendar import Calendar

from calsync.booking import reservations
from calsync.booking.handoff import hand_off
from calsync.core import delivery
from calsync.notifications import dispatcher
from calsync.notifications.dispatcher import Dispatcher, send_handoff
from calsync.schedule.check import ReservationRequest
from calsync.schedule.sync import CalendarSync
from support.conduit import TOKEN
from support.pair import BEN, HREF, MIDWEEK, NEAR, NOTE, TEAM, W49, standing, with_secrets_elsewhere
from support.processes import until
from support.samples import configured
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


def test_the_server_sends_later_what_it_could_not_send_at_once(calendar, team, destinations, room):
    clock = [MIDWEEK]
    room.down = 1
    with served(team, calendar, MIDWEEK, destinations=destinations) as site:
        site.app.state.calsync.clock = lambda: clock[0]
        body = {"week": "2026-W49", "ticket": "T400001", "primary": "ana", "backup": "ben"}
        site.post("/api/reservations", json=body)
        answer = site.post("/api/reservations/2026-W49/handoff", json={"to": "ben", "note": NOTE}).json()
        assert answer["deliveries"][1]["state"] == "pending"
        assert answer["deliveries"][1]["due"] == "2026-12-02T12:00:05Z"
        clock[0] += timedelta(seconds=6)
        until(lambda: room.said, "it is sent")
    assert len(room.said) == 1


def test_the_server_tries_again_when_it_said_however_seldom_it_asks_the_calendar(calendar, destinations, room, monkeypatch):
    monkeypatch.setattr(delivery, "FIRST_RETRY", timedelta(seconds=1))
    monkeypatch.setattr(dispatcher, "MAX_PAUSE", timedelta(seconds=1))
    seldom = configured(conductors=TEAM, calendar=NEAR | {"refresh": "15m"})
    begun = time.monotonic()
    room.down = 1
    with served(seldom, calendar, MIDWEEK, destinations=destinations) as site:
        site.app.state.calsync.clock = lambda: MIDWEEK + timedelta(seconds=time.monotonic() - begun)
        site.post("/api/reservations", json={"week": "2026-W49", "primary": "ana", "backup": "ben"})
        site.post("/api/reservations/2026-W49/handoff", json={"to": "ben", "note": NOTE})
        assert room.said == []
        until(lambda: room.said, "it is sent")


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
