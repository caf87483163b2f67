"""What people do to a reservation in their own calendar clients counts, and is kept; on every CalDAV server."""

import re
from contextlib import contextmanager
from datetime import timedelta

import pytest
from icalendar import Alarm, Calendar

from calsync.booking.reservations import change, release, reserve
from calsync.core.errors import Refused
from calsync.core.weeks import Week
from calsync.schedule.check import ReservationRequest
from calsync.schedule.sync import CalendarSync
from support import site
from support.engines import each_engine
from support.processes import until
from support.samples import PAIR, decoded, ics

WEEK = Week(2026, 49)
HREF = "train-2026-W49.ics"
REQUEST = ReservationRequest(PAIR, WEEK, ticket="T400001")
SLOT = "2026-12-02-european"
KEEPS = {"overwrites": False, "creates_missing": False, "deletes_anyway": False, "races": False}
MAILS = {"name": "conductor-eu", "timezone": "Europe/Paris", "email": "eu@example.org"}
ORGANIZER, GUEST = "mailto:ana@example.org", "mailto:guest@example.org"


def slot_of(calendar, slot=SLOT):
    return next(event for event in calendar.events if event.get("X-CALSYNC-SLOT") == slot)


def master_of(calendar):
    return next(event for event in calendar.events if "RRULE" in event)


def decorate(calendar):
    """Put on one slot what clients put there."""
    event = slot_of(calendar)
    alarm = Alarm()
    alarm.add("ACTION", "DISPLAY")
    alarm.add("TRIGGER", timedelta(minutes=-10))
    alarm.add("DESCRIPTION", "soon")
    event.add_component(alarm)
    event.add("X-MOZ-GENERATION", "3")
    event.add("LOCATION", "Room 4; second floor, left")
    event.add("COLOR", "tomato")
    event["SUMMARY"] = "Train with Ana watching"
    event.pop("CATEGORIES")
    event.add("CATEGORIES", ["train", "watched"])
    event.add("ORGANIZER", ORGANIZER)
    event.add("ATTENDEE", GUEST, parameters={"CN": "Guest"})
    master_of(calendar).add("X-MOZ-LASTACK", "20261124T120000Z")


def assert_decorated(ics):
    calendar = Calendar.from_ical(ics)
    event = slot_of(calendar)
    (alarm,) = event.walk("VALARM")
    assert alarm["TRIGGER"].dt == timedelta(minutes=-10)
    assert event["X-MOZ-GENERATION"] == "3"
    assert event["LOCATION"] == "Room 4; second floor, left"
    assert event["COLOR"] == "tomato"
    assert event["SUMMARY"] == "Train with Ana watching"
    assert event["ORGANIZER"] == ORGANIZER
    assert event["ATTENDEE"] == GUEST
    assert event["ATTENDEE"].params["CN"] == "Guest"
    assert sorted(event.categories) == ["train", "watched"]
    assert master_of(calendar)["X-MOZ-LASTACK"] == "20261124T120000Z"
    plain = slot_of(calendar, "2026-12-02-american")
    assert "LOCATION" not in plain
    assert plain["SUMMARY"] != "Train with Ana watching"


def with_ticket(ticket):
    return lambda standing: ReservationRequest(standing.pair, WEEK, standing.train, ticket)


def test_what_people_put_on_a_slot_survives_a_change_and_a_release(caldav, now):
    sync, person = CalendarSync(caldav.open(), caldav.config(), now), caldav.person()
    reserve(sync, REQUEST, now)
    person.edit(HREF, decorate)
    changed = change(sync, WEEK, with_ticket("T400002"), now)
    assert changed.reservation.ticket == "T400002"
    assert_decorated(person.read(HREF))
    assert b"T400002" in person.read(HREF)
    other = slot_of(Calendar.from_ical(person.read(HREF)), "2026-12-02-american")
    assert "T400002" in other["DESCRIPTION"]
    release(sync, WEEK, now)
    assert_decorated(person.read(HREF))
    assert {event["STATUS"] for event in Calendar.from_ical(person.read(HREF)).events} == {"CANCELLED"}


@contextmanager
def served(place, now, **changes):
    """The service on this calendar with the week reserved, as a test client whose `app` is not followed in between."""
    with site.served(place.config(**changes), place.open(), now) as client:
        body = {"week": "2026-W49", "primary": "conductor-eu", "backup": "conductor-us", "ticket": "T400001"}
        answer = client.post("/api/reservations", json=body)
        assert answer.status_code == 201, answer.text
        yield client


def standing_conflicts(client):
    return float(re.search(r"^calsync_standing_conflicts (\S+)$", client.get("/metrics").text, re.MULTILINE)[1])


def move(calendar):
    event = slot_of(calendar)
    for name in ("DTSTART", "DTEND"):
        moved = event[name].dt + timedelta(minutes=30)
        event.pop(name)
        event.add(name, moved)


def exclude(calendar):
    event = slot_of(calendar)
    master_of(calendar).add("EXDATE", event["RECURRENCE-ID"].dt)
    calendar.subcomponents.remove(event)


def cancel_slot(calendar):
    slot_of(calendar)["STATUS"] = "CANCELLED"


def cancel_all(calendar):
    for event in calendar.events:
        event["STATUS"] = "CANCELLED"


def cancel_master(calendar):
    master_of(calendar)["STATUS"] = "CANCELLED"


REMOVED = "2026-12-02-european was removed from the calendar."
MOVED = "2026-12-02-european was moved to Wed 02 Dec 10:30–12:30 Europe/Paris."
WHOLE = "The whole train was cancelled on the calendar."


ACTS = [
    (move, MOVED, 6),
    (exclude, REMOVED, 5),
    (cancel_slot, REMOVED, 5),
    (cancel_all, WHOLE, 0),
    (cancel_master, WHOLE, 0),
]


def test_after_one_sync_the_api_says_what_people_did_to_the_train(caldav, now):
    with served(caldav, now) as client:
        person = caldav.person()
        reserved = person.read(HREF)
        for act, said, slots in ACTS:
            person.write(HREF, reserved)
            client.app.state.calsync.refresh()
            person.edit(HREF, act)
            assert client.get("/api/reservations/2026-W49").json()["state"] == "complete"
            client.app.state.calsync.refresh()
            found = client.get("/api/reservations/2026-W49").json()
            assert (found["state"], found["changes"]) == ("changed", [said])
            assert len(found["slots"]) == slots
            feed = Calendar.from_ical(client.get("/deployments.ics?only=reservations").content)
            assert sum(event.get("STATUS") != "CANCELLED" for event in feed.events) == slots


@pytest.mark.parametrize("act", [move, exclude, cancel_slot])
def test_a_change_of_the_ticket_leaves_slots_where_people_put_them(caldav, now, act):
    sync = CalendarSync(caldav.open(), caldav.config(), now)
    reserve(sync, REQUEST, now)
    caldav.person().edit(HREF, act)
    before = sync.refresh(now).reservation(WEEK)
    assert before.changes
    change(sync, WEEK, with_ticket("T400002"), now)
    after = sync.refresh(now).reservation(WEEK)
    assert after.reservation.slots == before.reservation.slots
    assert after.reservation.ticket == "T400002"


def test_an_overlapping_event_that_somebody_adds_later_is_shown_and_counted_and_no_more_once_it_is_gone(caldav, now):
    with served(caldav, now) as client:
        person = caldav.person()
        client.app.state.calsync.refresh()
        assert standing_conflicts(client) == 0
        person.write("m.ics", ics("SUMMARY:Maintenance", "DTSTART:20261202T093000Z", "DTEND:20261202T100000Z", uid="m"))
        client.app.state.calsync.refresh()
        (conflict,) = client.get("/api/reservations/2026-W49").json()["warnings"]
        assert (conflict["kind"], conflict["slot"], conflict["event"]["summary"]) == ("overlap", SLOT, "Maintenance")
        assert conflict in client.get("/api/conflicts?start=2026-11-30&end=2026-12-07").json()["conflicts"]
        assert standing_conflicts(client) == 1
        person.remove("m.ics")
        client.app.state.calsync.refresh()
        assert client.get("/api/reservations/2026-W49").json()["warnings"] == []
        assert standing_conflicts(client) == 0


def test_a_reservation_that_somebody_removes_is_gone_and_the_week_is_free(caldav, now):
    with served(caldav, now) as client:
        caldav.person().remove(HREF)
        client.app.state.calsync.refresh()
        assert client.get("/api/reservations/2026-W49").status_code == 404
        body = {"week": "2026-W49", "primary": "conductor-us", "backup": "conductor-eu"}
        assert client.post("/api/reservations", json=body).status_code == 201


def test_a_copy_of_the_train_under_a_second_name_is_shown_as_what_it_is_and_no_write_goes_there(unruly, now):
    unruly.control("switch", same_uid=True)
    with served(unruly, now) as client:
        person = unruly.person()
        person.write("copy.ics", person.read(HREF))
        copied = person.read("copy.ics")
        client.app.state.calsync.refresh()
        warnings = client.get("/api/reservations/2026-W49").json()["warnings"]
        assert {conflict["slot"] for conflict in warnings} >= {SLOT}
        assert client.delete("/api/reservations/2026-W49").status_code == 200
        assert person.read("copy.ics") == copied
        assert decoded(person.read(HREF)).reservation.released


def test_a_copy_of_the_train_that_keeps_it_from_being_written_is_named(unruly, now):
    sync, person = CalendarSync(unruly.open(), unruly.config(), now), unruly.person()
    reserve(sync, REQUEST, now)
    person.write("copy-first.ics", person.read(HREF).replace(b"UID:train-2026-W49", b"UID:x"))
    person.remove(HREF)
    person.write("copy.ics", person.read("copy-first.ics").replace(b"UID:x", b"UID:train-2026-W49"))
    person.remove("copy-first.ics")
    with pytest.raises(Refused, match="under another name"):
        reserve(sync, ReservationRequest(PAIR, WEEK, override="it is only a copy"), now)
    assert person.read(HREF) is None


# Mails


def mails(place):
    with place.server.client() as client:
        return client.get("/-/mails").json()


def test_no_mail_leaves_the_server_even_where_people_invited_somebody(unruly, now):
    sync, person = CalendarSync(unruly.open(), unruly.config(), now), unruly.person()
    reserve(sync, REQUEST, now)
    assert mails(unruly) == []
    person.edit(HREF, decorate)
    assert [mail["to"] for mail in mails(unruly)] == [GUEST]
    unruly.control("reset")
    change(sync, WEEK, with_ticket("T400002"), now)
    release(sync, WEEK, now)
    assert mails(unruly) == []


def test_with_invite_the_conductors_are_invited_to_the_slots_they_sit_in(caldav, now):
    config = caldav.config(
        calendar={"invite": True, "organizer": "train@example.org"},
        conductors=[MAILS, {"name": "conductor-us", "timezone": "America/Denver"}],
    )
    sync = CalendarSync(caldav.open(), config, now)
    reserve(sync, REQUEST, now)
    calendar = Calendar.from_ical(caldav.person().read(HREF))
    european, american = slot_of(calendar), slot_of(calendar, "2026-12-02-american")
    assert (european["ORGANIZER"], european["ATTENDEE"]) == ("mailto:train@example.org", "mailto:eu@example.org")
    assert european["ATTENDEE"].params["CN"] == "conductor-eu"
    assert "ATTENDEE" not in american
    change(sync, WEEK, with_ticket("T400002"), now)
    assert slot_of(Calendar.from_ical(caldav.person().read(HREF)))["ATTENDEE"] == "mailto:eu@example.org"
    if caldav.engine == "unruly":
        assert {mail["to"] for mail in mails(caldav)} == {"mailto:eu@example.org"}


# Reserving on servers as they are


@pytest.mark.parametrize("caldav", each_engine("radicale", "xandikos"), indirect=True)
def test_a_spanning_week_costs_at_most_four_requests(caldav, now):
    proxy = caldav.proxy()
    calendar = caldav.open(proxy.through(caldav.url))
    calendar.probe()
    sync = CalendarSync(calendar, caldav.config(), now)
    sync.refresh(now)
    for act in (
        lambda: reserve(sync, REQUEST, now),
        lambda: change(sync, WEEK, with_ticket("T400002"), now),
        lambda: release(sync, WEEK, now),
        lambda: reserve(sync, REQUEST, now),
    ):
        proxy.requests.clear()
        act()
        assert 3 <= len(proxy.requests) <= 4, proxy.requests


ODD = ["rewrites", "silent_put", "unescapes_x", "splits_categories", "drops_new", "escapes_url", "etags_return", "no_sync"]
ODD += ["coarse_ctag", "knows_any_token", "multiget_404", *KEEPS]


@pytest.mark.parametrize("switch", [*ODD, "all of them"])
def test_a_week_is_reserved_changed_and_released_whatever_the_server_does(unruly, now, switch):
    if switch != "all of them":
        unruly.control("switch", **{**dict.fromkeys(ODD, False), switch: True})
    sync, person = (
        CalendarSync(unruly.open(), unruly.config(train={"ticket_url": "https://x.example/;{ticket}"}), now),
        None,
    )
    person = unruly.person()
    made = reserve(
        sync, ReservationRequest(PAIR, WEEK, "1.46, wmf.5", "T1", override="a, b; c – 🚂"), now, author="ana, ops"
    )
    assert decoded(person.read(HREF)).reservation == made.reservation
    assert sync.agenda.reservation(WEEK).etag == made.etag
    changed = change(sync, WEEK, with_ticket("T2"), now, etags=[made.etag])
    assert decoded(person.read(HREF)).reservation == changed.reservation
    assert not sync.refresh(now).reservation(WEEK).changes
    release(sync, WEEK, now, etags=[changed.etag])
    assert decoded(person.read(HREF)).reservation.released


@pytest.mark.parametrize("ignores_preconditions", [True, False])
def test_a_reservation_that_the_server_loses_is_told_and_never_a_success(unruly, now, ignores_preconditions):
    if not ignores_preconditions:
        unruly.control("switch", **KEEPS)
    with served(unruly, now) as client:
        unruly.control("marker", text="UID:train-2026-W50")
        body = {"week": "2026-W50", "primary": "conductor-eu", "backup": "conductor-us"}
        answer = client.post("/api/reservations", json=body)
        assert answer.status_code >= 400
        assert "missing on read-back" in answer.json()["detail"]
        assert client.get("/api/reservations/2026-W50").status_code == 404
        unruly.control("marker", text="UID:train-2026-W49")
        answer = client.patch("/api/reservations/2026-W49", json={"ticket": "T400002"})
        assert answer.status_code >= 400
        assert "missing on read-back" in answer.json()["detail"]
        assert client.get("/api/reservations/2026-W49").json()["ticket"] == "T400001"
        unruly.control("marker", text="")
        assert client.patch("/api/reservations/2026-W49", json={"ticket": "T400002"}).status_code == 200


def test_a_success_that_is_a_page_of_html_is_none(unruly, now):
    unruly.control("switch", **KEEPS)
    calendar = unruly.open()
    calendar.probe()
    sync = CalendarSync(calendar, unruly.config(), now)
    unruly.next(200, method="PUT", headers={"Content-Type": "text/html"}, body="<html>Log in</html>")
    with pytest.raises(Refused, match="missing on read-back"):
        reserve(sync, REQUEST, now)
    assert reserve(sync, REQUEST, now).created


@pytest.mark.parametrize("status", [409, 423, 500, 502, 504])
@pytest.mark.parametrize("done", [False, True])
def test_a_failure_of_one_write_is_overcome_within_the_call(unruly, now, status, done):
    unruly.control("switch", **KEEPS)
    calendar = unruly.open()
    calendar.probe()
    sync = CalendarSync(calendar, unruly.config(), now)
    for act in (
        lambda: reserve(sync, REQUEST, now),
        lambda: change(sync, WEEK, with_ticket("T400002"), now),
        lambda: release(sync, WEEK, now),
    ):
        unruly.next(status, method="PUT", done=done)
        outcome = act()
        assert decoded(unruly.person().read(HREF)).reservation == outcome.reservation
    assert outcome.reservation.released


def test_other_peoples_events_with_odd_names_block_like_any(caldav, now):
    sync, person = CalendarSync(caldav.open(), caldav.config(), now), caldav.person()
    name = "Größe & co.ics"
    person.write(name, ics("SUMMARY:Hotfix", "DTSTART:20261202T093000Z", "DTEND:20261202T100000Z", uid="h"))
    until(lambda: name in sync.refresh(now).objects, "the event is read")
    outcome = reserve(sync, ReservationRequest(PAIR, WEEK, override="agreed"), now)
    assert [conflict.event.summary for conflict in outcome.warnings] == ["Hotfix"]
