"""The HTTP contract: every route and status, the feed's conditional requests, the page, health and metrics."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from calsync.calendars.sql import SqlCalendar
from calsync.core.config import load
from support.failing import Flaky
from support.samples import SHIPPED, ics
from support.site import MAINTENANCE, WEEK, events, problem, served

PAIR = {"primary": "conductor-eu", "backup": "conductor-us"}
OTHERS = {
    "week": "2026-W49",
    "primary": {"name": "ana", "timezone": "Europe/Berlin"},
    "backup": {"name": "ben", "timezone": "America/Chicago"},
}
TOGETHER = {"week": "2026-W49", "primary": "conductor-eu", "backup": {"name": "ana", "timezone": "Europe/Rome"}}


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """A server and its calendar for tests that change nothing; it starts once."""
    calendar = SqlCalendar.sqlite(tmp_path_factory.mktemp("readers") / "deployments.db")
    with served(load(SHIPPED, {}), calendar, datetime(2026, 11, 24, 12, tzinfo=UTC)) as client:
        yield client, calendar


def put(client, calendar, *lines, href="other.ics"):
    """Somebody puts an event on the calendar, and the server takes it in."""
    calendar.put(href, ics(*lines), etag=None)
    client.app.state.calsync.refresh()


def reserve(client, body=WEEK, **options):
    answer = client.post("/api/reservations", json=body, **options)
    assert answer.status_code in (200, 201), answer.text
    return answer


def slots(answer):
    """The reserved slots in a feed, by UID."""
    return {uid: event for uid, event in events(answer).items() if re.search("-(european|american)@calsync$", uid)}


# Reserving


def test_a_pair_that_spans_regions_reserves_both_windows_of_every_stage(client):
    answer = reserve(client, WEEK | {"train": "1.46.0-wmf.5", "ticket": "T400001"})
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == body["url"] == "/api/reservations/2026-W49"
    assert answer.headers["etag"] == f'"{body["etag"]}"'
    assert (body["week"], body["train"], body["ticket"]) == ("2026-W49", "1.46.0-wmf.5", "T400001")
    assert (body["spans_regions"], body["state"], body["skipped"], body["warnings"]) == (True, "complete", [], [])
    assert body["primary"] == {
        "name": "conductor-eu",
        "timezone": "Europe/Paris",
        "hours": "09:00-18:00",
        "window": "european",
        "reason": "10:00–12:00 lies in 09:00-18:00 Europe/Paris",
    }
    assert body["backup"]["window"] == "american"
    assert [(slot["stage"], slot["role"]) for slot in body["slots"]] == [
        (stage, role) for stage in ("group0", "group1", "group2") for role in ("primary", "backup")
    ]
    assert body["slots"][0] == {
        "id": "2026-12-01-european",
        "window": "european",
        "role": "primary",
        "stage": "group0",
        "start": "2026-12-01T10:00:00+01:00",
        "end": "2026-12-01T12:00:00+01:00",
        "uid": "2026-12-01-european@calsync",
    }


def test_a_pair_in_one_region_reserves_one_window(client):
    body = reserve(client, TOGETHER).json()
    assert body["spans_regions"] is False
    assert {slot["window"] for slot in body["slots"]} == {"european"}


def test_the_same_reservation_again_is_200_and_writes_nothing(client, calendar):
    first = reserve(client).json()
    before = calendar.changes(None)
    again = reserve(client)
    assert again.status_code == 200
    assert again.json() == first
    assert calendar.changes(None) == before


def test_another_pair_gets_409_for_a_reserved_week(client, calendar):
    reserve(client)
    before = calendar.changes(None)
    body = problem(client.post("/api/reservations", json=OTHERS), 409, "reserved-by-another")
    assert [conflict["kind"] for conflict in body["conflicts"]] == ["reserved"]
    assert "conductor-eu and conductor-us" in body["detail"]
    assert calendar.changes(None) == before


def test_a_dry_run_answers_the_same_and_writes_nothing(client, calendar):
    before = calendar.changes(None)
    dry = reserve(client, params={"dry_run": "true"})
    assert dry.status_code == 200
    assert calendar.changes(None) == before
    real = reserve(client)
    assert real.status_code == 201
    assert dry.json() | {"etag": None, "url": None} == real.json() | {"etag": None, "url": None}


def test_a_conflict_is_409_with_reasons_and_free_alternatives(client, calendar):
    put(client, calendar, *MAINTENANCE)
    before = calendar.changes(None)
    body = problem(client.post("/api/reservations", json=WEEK), 409, "conflict")
    assert calendar.changes(None) == before
    (conflict,) = body["conflicts"]
    assert (conflict["kind"], conflict["blocking"], conflict["slot"]) == ("overlap", True, "2026-12-01-american")
    assert conflict["event"] == {
        "uid": "event@example.org",
        "summary": "Database maintenance",
        "start": "2026-12-01T11:30:00-08:00",
        "end": "2026-12-01T12:00:00-08:00",
    }
    assert "Database maintenance" in conflict["message"]
    assert body["alternatives"]
    spans = [{"start": free["start"], "end": free["end"]} for free in body["alternatives"]]
    assert client.post("/api/conflicts", json={"slots": spans}).json()["conflicts"] == []


def test_a_dry_run_tells_of_the_conflict_too(client, calendar):
    put(client, calendar, *MAINTENANCE)
    problem(client.post("/api/reservations", json=WEEK, params={"dry_run": "true"}), 409, "conflict")


def test_an_override_reserves_despite_conflicts_and_stands_in_the_feed(client, calendar):
    put(client, calendar, *MAINTENANCE)
    answer = reserve(client, WEEK | {"override": "agreed with the database team"})
    assert answer.status_code == 201
    assert [warning["kind"] for warning in answer.json()["warnings"]] == ["overlap"]
    assert answer.json()["override"] == "agreed with the database team"
    said = {str(event["DESCRIPTION"]) for event in slots(client.get("/deployments.ics")).values()}
    assert said
    assert all("Reserved despite conflicts: agreed with the database team" in one for one in said)


@pytest.mark.parametrize(
    ("day", "week"),
    [("2026-11-23T12:00Z", "2026-W48"), ("2026-12-14T12:00Z", "2026-W51"), ("2026-12-15T12:00Z", "2027-W01")],
)
def test_without_a_week_it_is_the_next_one_whose_train_has_not_begun(config, calendar, day, week):
    with served(config, calendar, datetime.fromisoformat(day)) as client:
        assert reserve(client, PAIR | {"override": "holidays"}, params={"dry_run": "true"}).json()["week"] == week
        assert client.get("/api/windows").json()["week"] == week


def test_a_week_is_also_any_date_in_it(client):
    assert reserve(client, WEEK | {"week": "2026-12-06"}).json()["week"] == "2026-W49"


def test_slots_that_are_over_are_skipped_and_said(config, calendar):
    with served(config, calendar, datetime(2026, 12, 1, 12, tzinfo=UTC)) as client:
        body = reserve(client).json()
    assert [slot["id"] for slot in body["skipped"]] == ["2026-12-01-european"]
    assert body["slots"][0]["id"] == "2026-12-01-american"
    assert len(body["slots"]) == 5


# Reading, changing, releasing


def test_a_reservation_is_read_alone_and_in_the_list(client):
    created = reserve(client)
    one = client.get("/api/reservations/2026-W49")
    assert one.headers["etag"] == created.headers["etag"]
    assert one.json() == created.json()
    assert client.get("/api/reservations/2026-12-02").json() == created.json()
    assert client.get("/api/reservations").json() == [created.json()]


def test_the_list_has_the_weeks_with_a_slot_in_the_range(client):
    reserve(client)
    reserve(client, WEEK | {"week": "2026-W50"})

    def listed(**params):
        return [one["week"] for one in client.get("/api/reservations", params=params).json()]

    assert listed() == ["2026-W49", "2026-W50"]
    assert listed(start="2026-12-04") == ["2026-W50"]
    assert listed(start="2026-12-03", end="2026-12-03") == ["2026-W49"]
    assert listed(end="2026-11-30") == []


def test_what_people_move_or_remove_shows_as_changed(client, calendar):
    reserve(client)
    (resource,) = calendar.changes(None).changed
    moved = re.sub(
        rb"DTSTART;TZID=Europe/Paris:20261202T100000", b"DTSTART;TZID=Europe/Paris:20261202T103000", resource.ics
    )
    assert moved != resource.ics
    calendar.put(resource.href, moved, etag=resource.etag)
    client.app.state.calsync.refresh()
    body = client.get("/api/reservations/2026-W49").json()
    assert body["state"] == "changed"
    assert ["2026-12-02-european" in change for change in body["changes"]] == [True]
    assert body["slots"][2]["start"] == "2026-12-02T10:30:00+01:00"
    assert body["warnings"] == []  # no clocks have changed


def test_a_partial_change_keeps_the_rest(client):
    before = reserve(client, WEEK | {"train": "1.46.0-wmf.5", "ticket": "T1"}).json()
    after = client.patch("/api/reservations/2026-W49", json={"ticket": "T2"})
    assert after.status_code == 200
    assert after.json()["etag"] != before["etag"]
    assert after.headers["etag"] == f'"{after.json()["etag"]}"'
    assert after.json() | {"etag": "", "ticket": ""} == before | {"etag": "", "ticket": ""}
    assert after.json()["ticket"] == "T2"
    assert client.patch("/api/reservations/2026-W49", json={"ticket": None}).json()["ticket"] is None
    assert client.get("/api/reservations/2026-W49").json()["train"] == "1.46.0-wmf.5"


def test_a_change_of_the_backup_cancels_the_window_nobody_sits_in_any_more(client):
    reserve(client)
    body = client.patch("/api/reservations/2026-W49", json={"backup": {"name": "ana", "timezone": "Europe/Rome"}}).json()
    assert body["spans_regions"] is False
    assert {slot["window"] for slot in body["slots"]} == {"european"}
    assert {slot["window"] for slot in body["cancelled"]} == {"american"}
    status = {uid: str(event["STATUS"]) for uid, event in slots(client.get("/deployments.ics")).items()}
    assert status["2026-12-01-american@calsync"] == "CANCELLED"
    assert status["2026-12-01-european@calsync"] == "CONFIRMED"


def test_a_change_into_a_conflict_is_409_and_leaves_the_reservation(client, calendar):
    reserve(client, TOGETHER)
    put(client, calendar, *MAINTENANCE)
    before = calendar.changes(None)
    problem(client.patch("/api/reservations/2026-W49", json={"backup": "conductor-us"}), 409, "conflict")
    assert calendar.changes(None) == before


def test_a_change_that_changes_nothing_writes_nothing(client, calendar):
    etag = reserve(client).headers["etag"]
    before = calendar.changes(None)
    assert client.patch("/api/reservations/2026-W49", json={}).headers["etag"] == etag
    assert calendar.changes(None) == before


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"ticket": "T2"}), ("DELETE", None)])
def test_if_match_lets_only_those_write_who_know_what_stands(client, calendar, method, body):
    etag = reserve(client).headers["etag"]

    def write(if_match, **params):
        return client.request(
            method, "/api/reservations/2026-W49", json=body, params=params, headers={"If-Match": if_match}
        )

    before = calendar.changes(None)
    problem(write('"another"'), 412, "changed")
    assert write(etag, dry_run="true").status_code == 200
    assert calendar.changes(None) == before
    assert write(etag).status_code == 200
    assert calendar.changes(None) != before


def test_if_match_star_asks_only_for_something_to_stand(client):
    star = {"If-Match": "*"}
    problem(client.patch("/api/reservations/2026-W49", json={"ticket": "T2"}, headers=star), 404, "not-reserved")
    reserve(client)
    assert client.patch("/api/reservations/2026-W49", json={"ticket": "T2"}, headers=star).status_code == 200


def test_a_released_week_is_cancelled_in_the_feed_and_free_again(client):
    first = reserve(client).json()
    answer = client.delete("/api/reservations/2026-W49")
    assert (answer.status_code, answer.json()["state"]) == (200, "released")
    feed = slots(client.get("/deployments.ics"))
    assert feed.keys() == {slot["uid"] for slot in first["slots"]}
    assert {str(event["STATUS"]) for event in feed.values()} == {"CANCELLED"}
    assert {event["SEQUENCE"] for event in feed.values()} == {1}
    problem(client.get("/api/reservations/2026-W49"), 404, "not-reserved")
    assert client.get("/api/reservations").json() == []
    assert reserve(client, OTHERS).status_code == 201
    assert {str(event["STATUS"]) for event in slots(client.get("/deployments.ics")).values()} == {"CONFIRMED"}


def test_a_release_that_is_tried_again_is_no_error(client, calendar):
    reserve(client)
    assert client.delete("/api/reservations/2026-W49").status_code == 200
    before = calendar.changes(None)
    assert client.delete("/api/reservations/2026-W49").status_code == 200
    assert calendar.changes(None) == before


def test_a_cancelled_slot_leaves_the_feed_once_it_is_past(config, calendar, now):
    with served(config, calendar, now) as client:
        reserve(client)
        client.delete("/api/reservations/2026-W49")
    with served(config, calendar, datetime(2026, 12, 2, 12, tzinfo=UTC)) as client:
        assert set(slots(client.get("/deployments.ics"))) == {
            "2026-12-02-american@calsync",
            "2026-12-03-european@calsync",
            "2026-12-03-american@calsync",
        }


# Conflicts, windows, now


def test_a_pair_is_checked_without_writing(client, calendar):
    put(client, calendar, *MAINTENANCE)
    before = calendar.changes(None)
    body = client.post("/api/conflicts", json=WEEK).json()
    assert [(conflict["kind"], conflict["slot"]) for conflict in body["conflicts"]] == [("overlap", "2026-12-01-american")]
    assert (len(body["slots"]), body["plan"]["spans_regions"], body["reserved"]) == (6, True, False)
    assert body["alternatives"]
    assert calendar.changes(None) == before


def test_a_check_says_when_the_week_is_held(client):
    reserve(client)
    assert client.post("/api/conflicts", json=OTHERS).json()["reserved"] is True


def test_spans_are_checked_by_themselves(client, calendar):
    put(client, calendar, *MAINTENANCE)
    spans = [
        {"start": "2026-12-01T19:00:00Z", "end": "2026-12-01T19:30:00Z"},
        {"start": "2026-12-01T20:45:00+01:00", "end": "2026-12-01T21:30:00+01:00"},
    ]
    body = client.post("/api/conflicts", json={"slots": spans}).json()
    assert [conflict["slot"] for conflict in body["conflicts"]] == [body["slots"][1]["id"]]


def test_what_comes_onto_the_calendar_later_shows_among_the_weeks_conflicts(client, calendar):
    reserve(client)
    assert client.get("/api/conflicts", params={"week": "2026-W49"}).json()["conflicts"] == []
    put(client, calendar, *MAINTENANCE)
    body = client.get("/api/conflicts", params={"week": "2026-W49"}).json()
    assert (body["reserved"], len(body["slots"])) == (True, 6)
    assert [(found["kind"], found["blocking"]) for found in body["conflicts"]] == [("overlap", True)]
    assert client.get("/api/reservations/2026-W49").json()["warnings"] == body["conflicts"]


def test_the_conflicts_of_a_range_are_those_of_its_days(client, calendar):
    put(client, calendar, *MAINTENANCE)

    def kinds(start, end):
        found = client.get("/api/conflicts", params={"start": start, "end": end}).json()
        return [conflict["kind"] for conflict in found["conflicts"]]

    assert kinds("2026-12-01", "2026-12-01") == ["overlap"]
    assert kinds("2026-12-02", "2026-12-11") == []
    assert set(kinds("2026-12-22", "2026-12-23")) == {"freeze"}
    assert client.get("/api/conflicts").status_code == 200


def test_a_resource_that_cannot_be_read_is_never_free(client, calendar):
    calendar.put("broken.ics", b"BEGIN:VCALENDAR\r\nnot a calendar", etag=None)
    client.app.state.calsync.refresh()
    assert "unknown" in {found["kind"] for found in client.post("/api/conflicts", json=WEEK).json()["conflicts"]}


def test_the_windows_of_a_week_have_their_dates(readers):
    client, _ = readers
    body = client.get("/api/windows", params={"week": "2026-W49"}).json()
    found = {window["name"]: window for window in body["windows"]}
    assert (body["week"], body["no_train"]) == ("2026-W49", None)
    assert [name for name, window in found.items() if window["train"]] == ["european", "american"]
    assert found.keys() >= {"backport-night", "security", "puppet"}
    assert [slot["start"] for slot in found["american"]["slots"]] == [f"2026-12-0{day}T11:00:00-08:00" for day in (1, 2, 3)]
    assert client.get("/api/windows", params={"week": "2026-W52"}).json()["no_train"] == "end-of-year holidays"


def test_now_says_what_runs_and_who_is_responsible(client):
    reserve(client)
    body = client.get("/api/now", params={"at": "2026-12-01T10:30:00+01:00"}).json()
    (running,) = body["running"]
    assert running["responsible"] == ["conductor-eu"]
    assert running["slot"]["id"] == "2026-12-01-european"
    assert running["slot"]["end"] == "2026-12-01T12:00:00+01:00"
    assert body["week"] == "2026-W49"
    primary, backup = body["conductors"]
    assert (primary["name"], primary["working"], primary["until"]) == ("conductor-eu", True, "2026-12-01T18:00:00+01:00")
    assert (backup["name"], backup["working"], backup["until"]) == ("conductor-us", False, "2026-12-01T09:00:00-07:00")


def test_between_two_slots_now_says_what_comes_next(client):
    reserve(client)
    body = client.get("/api/now", params={"at": "2026-12-01T18:30:00Z"}).json()
    assert body["running"] == []
    assert [duty["slot"]["id"] for duty in body["next"]] == ["2026-12-01-american"]
    assert body["next"][0]["responsible"] == ["conductor-us"]


def test_now_without_at_is_now(readers, now):
    client, _ = readers
    assert datetime.fromisoformat(client.get("/api/now").json()["at"]) == now


# Bad input

LONE = '{"week": "2026-W49", "primary": {"name": "\\ud800", "timezone": "Europe/Paris"}, "backup": "conductor-us"}'
BAD: dict[str, tuple[dict[str, Any], str | None]] = {
    "unknown timezone": ({"json": WEEK | {"primary": {"name": "ana", "timezone": "Europe/Pariss"}}}, "unknown-timezone"),
    "week over": ({"json": WEEK | {"week": "2026-W40"}}, "invalid"),
    "no train": ({"json": WEEK | {"week": "2026-W52"}}, "invalid"),
    "no such week": ({"json": WEEK | {"week": "2025-W53"}}, "invalid"),
    "no week at all": ({"json": WEEK | {"week": "soon"}}, "invalid"),
    "beyond the horizon": ({"json": WEEK | {"week": "2030-W10"}}, "invalid"),
    "far beyond": ({"json": WEEK | {"week": "9999-12-31"}}, "invalid"),
    "same person twice": ({"json": WEEK | {"backup": "conductor-eu"}}, "invalid"),
    "nobody known": ({"json": WEEK | {"backup": "nobody-known"}}, "invalid"),
    "neither name nor timezone": ({"json": WEEK | {"backup": {}}}, "invalid"),
    "no such hours": ({"json": WEEK | {"backup": {"timezone": "UTC", "hours": "25:00-26:00"}}}, "invalid"),
    "no such window": ({"json": WEEK | {"backup": {"timezone": "UTC", "window": "lunar"}}}, "invalid"),
    "no train window": ({"json": WEEK | {"backup": {"timezone": "UTC", "window": "puppet"}}}, "invalid"),
    "unknown field": ({"json": WEEK | {"trian": "1.46"}}, "invalid"),
    "unknown field of a person": ({"json": WEEK | {"backup": {"timezone": "UTC", "tz": "UTC"}}}, "invalid"),
    "missing backup": ({"json": {"primary": "conductor-eu"}}, "invalid"),
    "empty name": ({"json": WEEK | {"backup": {"name": "  ", "timezone": "UTC"}}}, "invalid"),
    "line feed in a name": ({"json": WEEK | {"train": "a\r\nEND:VEVENT"}}, "invalid"),
    "endless override": ({"json": WEEK | {"override": "x" * 501}}, "invalid"),
    "bad JSON": ({"content": '{"week": '}, "invalid"),
    "no object": ({"json": ["2026-W49"]}, "invalid"),
    "no body": ({}, "invalid"),
    "no UTF-8": ({"content": b'{"week": "\xff"}'}, None),
    "lone surrogate": ({"content": LONE}, "invalid"),
    "lone surrogate in a key": (
        {"content": '{"\\ud800": 1, "primary": "conductor-eu", "backup": "conductor-us"}'},
        "invalid",
    ),
    "infinity": ({"content": '{"week": 1e999}'}, "invalid"),
    "not a number": ({"content": '{"week": NaN}'}, "invalid"),
    "huge number": ({"content": '{"week": ' + "9" * 5000 + "}"}, None),
    "deep nesting": ({"content": "[" * 50_000}, None),
    "unknown parameter value": ({"json": WEEK, "params": {"dry_run": "perhaps"}}, "invalid"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize(("method", "url"), [("POST", "/api/reservations"), ("PATCH", "/api/reservations/2026-W49")])
def test_bad_input_is_a_problem_and_never_writes(readers, method, url, name):
    client, calendar = readers
    options, expected = BAD[name]
    before = calendar.changes(None)
    answer = client.request(method, url, **{"headers": {"Content-Type": "application/json"}} | options)
    if method == "POST" and expected is not None:
        problem(answer, 422, expected)
    else:  # what is not even JSON may be 400, and there is nothing to change in an empty week
        assert answer.status_code in (400, 404, 422)
        problem(answer, answer.status_code, answer.json()["type"].removeprefix("urn:calsync:problem:"))
    assert calendar.changes(None) == before


def test_an_unknown_timezone_comes_with_suggestions(readers):
    client, _ = readers
    body = problem(client.post("/api/reservations", json=BAD["unknown timezone"][0]["json"]), 422, "unknown-timezone")
    assert body["suggestions"][0] == "Europe/Paris"


def test_every_mistake_in_the_body_is_named_with_its_place(readers):
    client, _ = readers
    bad = {"trian": "1.46", "primary": {"name": "ana", "zone": "Europe/Paris"}}
    body = problem(client.post("/api/reservations", json=bad), 422, "invalid")
    places = " ".join(mistake["where"] for mistake in body["errors"])
    assert all(word in places for word in ("body/trian", "body/primary", "zone", "body/backup"))


@pytest.mark.parametrize(
    ("method", "url", "json", "status", "name"),
    [
        ("GET", "/api/reservations/2026-W49", None, 404, "not-reserved"),
        ("PATCH", "/api/reservations/2026-W49", {"ticket": "T1"}, 404, "not-reserved"),
        ("DELETE", "/api/reservations/2026-W49", None, 404, "not-reserved"),
        ("GET", "/api/reservations/soon", None, 422, "invalid"),
        ("PATCH", "/api/reservations/2026-W49", {"week": "2026-W50"}, 422, "invalid"),
        ("GET", "/api/reservations?start=2026-12-02&end=2026-12-01", None, 422, "invalid"),
        ("GET", "/api/reservations?start=9999-12-31&end=9999-12-31", None, 422, "invalid"),
        ("GET", "/api/reservations?week=2026-W49", None, 422, "invalid"),
        ("GET", "/api/conflicts?week=2026-W49&start=2026-12-01", None, 422, "invalid"),
        ("GET", "/api/conflicts?week=2030-W10", None, 422, "invalid"),
        ("GET", "/api/conflicts?start=0001-01-01", None, 422, "invalid"),
        ("GET", "/api/conflicts?start=2026-12-01&end=9999-12-30", None, 422, "invalid"),
        ("GET", "/api/conflicts?until=2026-12-01", None, 422, "invalid"),
        ("POST", "/api/conflicts", {"slots": []}, 422, "invalid"),
        (
            "POST",
            "/api/conflicts",
            {"slots": [{"start": "2026-12-01T10:00:00Z", "end": "2026-12-01T10:00:00Z"}]},
            422,
            "invalid",
        ),
        (
            "POST",
            "/api/conflicts",
            {"slots": [{"start": "2026-12-01T10:00:00", "end": "2026-12-01T11:00:00"}]},
            422,
            "invalid",
        ),
        (
            "POST",
            "/api/conflicts",
            {"slots": [{"start": "0001-01-01T00:00:00+14:00", "end": "9999-12-31T23:59:59-14:00"}]},
            422,
            "invalid",
        ),
        ("POST", "/api/conflicts", {"slots": [{"start": 1e300, "end": 1e301}]}, 422, "invalid"),
        ("POST", "/api/conflicts", WEEK | {"slots": []}, 422, "invalid"),
        ("GET", "/api/windows?week=never", None, 422, "invalid"),
        ("GET", "/api/windows?day=mon", None, 422, "invalid"),
        ("GET", "/api/now?at=2026-12-01T10:00:00", None, 422, "invalid"),
        ("GET", "/api/now?at=2035-12-01T10:00:00Z", None, 422, "invalid"),
        ("GET", "/api/now?at=9999-12-31T23:59:59-14:00", None, 422, "invalid"),
        ("GET", "/api/now?at=1e300", None, 422, "invalid"),
        ("GET", "/deployments.ics?window=lunar", None, 422, "invalid"),
        ("GET", "/deployments.ics?windows=american", None, 422, "invalid"),
        ("GET", "/deployments.ics?only=everything", None, 422, "invalid"),
        ("GET", "/deployments.ics?alarm=soon", None, 422, "invalid"),
        ("GET", "/deployments.ics?alarm=999999w", None, 422, "invalid"),
        ("GET", "/?tz=Europe/Pariss", None, 422, "unknown-timezone"),
        ("GET", "/?week=never", None, 422, "invalid"),
        ("GET", "/?color=red", None, 422, "invalid"),
        ("GET", "/nowhere", None, 404, "not-found"),
        ("GET", "/static/../page.py", None, 404, "not-found"),
        ("GET", "/static/..%2fpage.py", None, 404, "not-found"),
        ("PUT", "/api/reservations/2026-W49", WEEK, 405, "method-not-allowed"),
    ],
)
def test_every_error_is_a_problem(readers, method, url, json, status, name):
    client, _ = readers
    answer = client.request(method, url, json=json)
    problem(answer, status, name)
    if status == 405:
        assert answer.headers["allow"]


def test_a_defect_of_calsyncs_is_a_problem_too(config, calendar, now, monkeypatch):
    with served(config, calendar, now, raise_server_exceptions=False) as client:
        monkeypatch.setattr("calsync.web.routes.status.status_at", lambda *_: 1 / 0)
        body = problem(client.get("/api/now"), 500, "defect")
    assert "division" not in body["detail"]


# The feed


def test_the_feed_is_one_that_every_client_subscribes_to(client):
    reserve(client, WEEK | {"ticket": "T400001"})
    answer = client.get("/deployments.ics", headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    assert not {"content-disposition", "content-encoding"} & set(answer.headers)
    assert re.fullmatch('"[^"]+"', answer.headers["etag"])
    assert answer.headers["last-modified"]
    assert "max-age" in answer.headers["cache-control"]
    assert answer.headers["content-length"] == str(len(answer.content))
    assert len(slots(answer)) == 6
    assert b"X-WR-CALNAME:Deployments" in answer.content


def test_head_of_the_feed_has_the_headers_of_get(readers):
    client, _ = readers
    head, get = client.head("/deployments.ics"), client.get("/deployments.ics")
    assert head.headers == get.headers
    assert head.status_code == 200


def test_an_unchanged_feed_is_304_by_etag_and_by_date(readers):
    client, _ = readers
    first = client.get("/deployments.ics").headers

    def status(**headers):
        answer = client.get("/deployments.ics", headers={name.replace("_", "-"): value for name, value in headers.items()})
        if answer.status_code == 304:
            assert answer.content == b""
            assert answer.headers["etag"] == first["etag"]
        return answer.status_code

    etag, modified = first["etag"], first["last-modified"]
    assert status(if_none_match=etag) == 304
    assert status(if_none_match=f"W/{etag}") == 304
    assert status(if_none_match=f'"another", {etag}') == 304
    assert status(if_none_match="*") == 304
    assert status(if_none_match='"another"') == 200
    assert status(if_modified_since=modified) == 304
    assert status(if_modified_since=format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)) == 200
    assert status(if_modified_since="yesterday") == 200
    # If-None-Match goes first.
    assert status(if_none_match='"another"', if_modified_since=modified) == 200
    assert status(if_none_match=etag, if_modified_since="Wed, 01 Jan 2020 00:00:00 GMT") == 304
    assert client.head("/deployments.ics", headers={"If-None-Match": etag}).status_code == 304


def test_a_change_moves_the_feeds_etag_and_is_seen_by_date_even_within_the_same_second(config, calendar, now):
    with served(config, calendar, now) as client:
        before = client.get("/deployments.ics").headers
        since = {"If-Modified-Since": before["last-modified"]}
        assert client.get("/deployments.ics", headers=since).status_code == 304
        reserve(client)
        after = client.get("/deployments.ics", headers=since)
    assert after.status_code == 200
    assert before["etag"] != after.headers["etag"]
    assert parsedate_to_datetime(after.headers["last-modified"]) <= now


def test_two_servers_publish_the_same_bytes(config, calendar, now):
    with served(config, calendar, now) as one, served(config, calendar, now + timedelta(minutes=5)) as other:
        reserve(one)
        other.app.state.calsync.refresh()
        assert one.get("/deployments.ics").content == other.get("/deployments.ics").content


@pytest.mark.parametrize(
    ("query", "windows"),
    [
        ("window=american", {"american"}),
        ("window=american&window=puppet", {"american", "puppet"}),
        ("conductor=conductor-eu", {"european"}),
        ("conductor=nobody", set()),
        ("only=reservations", {"european", "american"}),
        ("only=reservations&window=european", {"european"}),
    ],
)
def test_filters_choose_what_the_feed_shows(client, calendar, query, windows):
    reserve(client)
    put(client, calendar, *MAINTENANCE)
    found = events(client.get(f"/deployments.ics?{query}"))
    assert {uid.removesuffix("@calsync")[11:] for uid in found} == windows


def test_without_filters_the_feed_shows_everything(client, calendar):
    reserve(client)
    put(client, calendar, *MAINTENANCE)
    found = events(client.get("/deployments.ics"))
    assert "event@example.org" in found
    assert any("puppet" in uid for uid in found)
    assert any("freeze" in uid for uid in found)


def test_an_alarm_reminds_before_each_slot(client):
    reserve(client)
    for event in slots(client.get("/deployments.ics?alarm=15m&only=reservations")).values():
        (alarm,) = event.walk("VALARM")
        assert alarm["TRIGGER"].dt == timedelta(minutes=-15)


# For those who run it


def test_healthz_and_readyz_say_that_all_is_well(readers):
    client, _ = readers
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "calendar": "here", "age": 0, "resources": 0, "defects": 0}


def test_a_server_that_has_never_read_its_calendar_is_not_ready_and_calls_nothing_free(config, calendar, now):
    flaky = Flaky(calendar)
    flaky.away = True
    with served(config, flaky, now) as client:
        answer = client.get("/readyz")
        problem(answer, 503, "calendar-away")
        assert answer.headers["retry-after"] == "7"
        assert client.get("/healthz").status_code == 200
        for url in ("/deployments.ics", "/api/reservations", "/api/conflicts?week=2026-W49"):
            # An empty feed would take every event off the subscribers' calendars.
            problem(client.get(url), 503, "calendar-away")
        problem(client.post("/api/conflicts", json=WEEK), 503, "calendar-away")
        flaky.away = False
        client.app.state.calsync.refresh()
        assert client.get("/readyz").status_code == 200


def test_when_the_calendar_goes_away_readers_go_on_and_writers_wait(config, calendar, now):
    flaky = Flaky(calendar)
    with served(config, flaky, now) as client:
        standing = reserve(client).json()
        feed = client.get("/deployments.ics").content
        flaky.away = True
        client.app.state.calsync.refresh()
        assert client.get("/readyz").json()["calendar"] == "away"
        assert client.get("/deployments.ics").content == feed
        assert client.get("/api/reservations/2026-W49").json() == standing
        assert "The calendar is away" in client.get("/").text
        for answer in (
            client.post("/api/reservations", json=WEEK | {"week": "2026-W50"}),
            client.patch("/api/reservations/2026-W49", json={"ticket": "T2"}),
            client.delete("/api/reservations/2026-W49"),
        ):
            problem(answer, 503, "calendar-away")
            assert answer.headers["retry-after"] == "7"
        assert re.search(r"^calsync_sync_failures_total [1-9]", client.get("/metrics").text, re.MULTILINE)
        flaky.away = False
        client.app.state.calsync.refresh()
        assert client.get("/readyz").json()["calendar"] == "here"


def test_metrics_count_requests_writes_conflicts_and_defects(client, calendar):
    reserve(client)
    client.post("/api/reservations", json=OTHERS)
    calendar.put("broken.ics", b"BEGIN:VCALENDAR\r\nnot a calendar", etag=None)
    put(client, calendar, *MAINTENANCE)
    text = client.get("/metrics").text
    for line in (
        'calsync_http_requests_total{method="POST",status="201"} 1.0',
        'calsync_http_requests_total{method="POST",status="409"} 1.0',
        'calsync_writes_total{action="reserve",outcome="done"} 1.0',
        'calsync_writes_total{action="reserve",outcome="conflict"} 1.0',
        "calsync_resources 3.0",
        "calsync_reservations 1.0",
        "calsync_defective_resources 1.0",
        "calsync_standing_conflicts 1.0",
    ):
        assert line in text.splitlines()
    assert client.get("/readyz").json()["defects"] == 1


# Pages


@pytest.mark.parametrize(
    "url", ["/", "/docs", "/openapi.json", "/deployments.ics", "/healthz", "/metrics", "/static/style.css", "/nowhere"]
)
def test_every_answer_tells_browsers_to_run_nothing_foreign(readers, url):
    client, _ = readers
    headers = client.get(url).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_a_page_loads_everything_from_its_own_origin_and_has_nothing_inline(readers, page):
    client, _ = readers
    answer = client.get(page)
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", answer.text)
    assets = re.findall(r'<(?:script|link rel="stylesheet")[^>]*(?:src|href)="([^"]+)"', answer.text)
    assert assets
    for asset in assets:
        url = urlsplit(urljoin(f"http://localhost{page}", asset))
        assert url.netloc == "localhost"
        got = client.get(url.path)
        assert got.status_code == 200, asset
        assert got.headers["content-type"].split(";")[0] in ("text/css", "text/javascript", "application/javascript")


def test_the_api_document_has_every_route(readers):
    client, _ = readers
    assert client.get("/openapi.json").json()["paths"].keys() == {
        "/api/reservations",
        "/api/reservations/{week}",
        "/api/reservations/{week}/handoff",
        "/api/reservations/{week}/updates",
        "/api/reservations/{week}/deliveries",
        "/api/conflicts",
        "/api/windows",
        "/api/now",
        "/api/rotation",
        "/api/away",
        "/api/away/{name}",
        "/rotation.ics",
        "/deployments.ics",
        "/healthz",
        "/readyz",
        "/metrics",
    }


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil.example:8080", "", "[", "127.0.0.2"])
def test_a_foreign_host_header_is_refused(readers, host):
    client, _ = readers
    for url in ("/", "/deployments.ics", "/api/now"):
        problem(client.get(url, headers={"Host": host}), 421, "unknown-host")


def test_its_own_names_are_accepted(calendar, now):
    config = load(SHIPPED, {"CALSYNC_SERVER_HOSTS": '["Calsync.example.org"]'})
    with served(config, calendar, now) as client:
        for host in ("localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "calsync.example.org"):
            assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_the_page_shows_the_reserved_week(client):
    reserve(client, WEEK | {"train": "1.46.0-wmf.5", "ticket": "T400001"})
    text = client.get("/?week=2026-W49&tz=Europe/Paris").text
    for words in ("2026-W49", "1.46.0-wmf.5", "conductor-eu", "conductor-us", "T400001", "spans regions", "10:00–12:00"):
        assert words in text
    assert "20:00–22:00" in text  # the American window on a clock in Paris
    assert client.get("/?week=2026-W49&tz=America/Los_Angeles").text.count("11:00–13:00") == 3
    assert client.head("/").status_code == 200


def test_the_page_says_when_nobody_holds_the_week_or_it_has_no_train(readers):
    client, _ = readers
    assert "Nobody has reserved this week" in client.get("/?week=2026-W49").text
    assert "No train in this week: end-of-year holidays" in client.get("/?week=2026-W52").text


def test_the_page_gives_the_reason_beside_a_conflicting_slot(client, calendar):
    reserve(client)
    put(client, calendar, *MAINTENANCE)
    text = client.get("/?week=2026-W49").text
    assert re.search(r'<li class="reason"><bdi>“Database maintenance”[^<]*overlaps[^<]*</bdi></li>', text)


def test_the_page_shows_foreign_text_as_text(client, calendar):
    reserve(client, WEEK | {"backup": {"name": "<b>ben</b>", "timezone": "America/Chicago"}, "train": "<i>1.46</i>"})
    put(client, calendar, "SUMMARY:<script>alert(1)</script>", *MAINTENANCE[1:])
    text = client.get("/?week=2026-W49").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not re.search(r"<script(?! type=\"module\" src=)|<b>|<i>", text)


def test_the_page_names_the_feed_to_subscribe_to(readers):
    client, _ = readers
    text = client.get("/").text
    assert 'href="webcal://localhost/deployments.ics"' in text
    assert 'href="http://localhost/deployments.ics"' in text


@pytest.mark.parametrize("parameter", ["dryrun=true", "dry-run=true", "x=1"])
def test_a_misspelt_parameter_never_writes(client, parameter):
    reserve(client, WEEK)
    for method, path in (("POST", ""), ("PATCH", "/2026-W49"), ("DELETE", "/2026-W49"), ("GET", "/2026-W49")):
        body = {"json": WEEK} if method == "POST" else {"json": {"ticket": "T1"}} if method == "PATCH" else {}
        problem(client.request(method, f"/api/reservations{path}?{parameter}", **body), 422, "invalid")
    assert client.get("/api/reservations/2026-W49").json()["ticket"] is None


def test_nobody_can_be_taken_out_of_the_pair(client):
    reserve(client, WEEK)
    assert (
        "leave it out"
        in problem(client.patch("/api/reservations/2026-W49", json={"primary": None}), 422, "invalid")["detail"]
    )


def test_one_of_several_etags_is_enough(client):
    etag = reserve(client, WEEK).headers["etag"]
    headers = {"If-Match": f'"another", {etag}'}
    assert client.patch("/api/reservations/2026-W49", json={"ticket": "T1"}, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/api/reservations?end=0", "/api/conflicts?start=1e9", "/api/now?at=1764547200"])
def test_a_number_is_no_day_and_no_instant(client, path):
    answer = client.get(path)
    assert answer.status_code == 422
    assert "write a day as 2026-12-01" in answer.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"override": "two\nlines"},
            "body/override: has a line break or another control character; write it as one line of plain text.",
        ),
        (
            {"primary": "a\tb"},
            "body/primary: has a line break or another control character; write it as one line of plain text.",
        ),
        (
            {"primary": {"name": "a\x07"}},
            "body/primary/name: has a line break or another control character; write it as one line of plain text.",
        ),
        ({"train": ""}, "body/train: should have at least 1 character."),
        ({"primary": 5}, "body/primary: should be an object; body/primary: should be a valid string."),
    ],
)
def test_what_is_wrong_with_a_text_is_said_in_words_and_only_of_the_form_that_was_meant(client, change, said):
    body = {"week": "2026-W49", "primary": "conductor-eu", "backup": "conductor-us"} | change
    assert problem(client.post("/api/reservations", json=body), 422, "invalid")["detail"] == said
