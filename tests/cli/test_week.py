"""Hand-offs, updates, absences and the rotation on the command line."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from calsync.calendars.sql import SqlCalendar
from calsync.core.delivery import new_delivery
from calsync.core.errors import Unreachable
from calsync.ical.delivery import write_deliveries
from calsync.ical.reservation import reservation_href
from calsync.schemas.week import HandoffOut, UpdateOut
from support.conduit import TOKEN
from support.feed_server import MEETING, feed_in, freebusy
from support.pair import HREF, MIDWEEK, NOTE, W50, standing
from support.samples import ics


def test_without_the_ticket_systems_token_commands_work_and_doctor_says_what_is_missing(run, monkeypatch):
    monkeypatch.setenv("CALSYNC_TICKETS_URL", "https://phabricator.example.org")
    assert run("plan", "conductor-eu", "conductor-us", "--week", "2026-W49").code == 0
    run("reserve", "conductor-eu", "conductor-us", "--week", "2026-W49", "--ticket", "T400001")
    said = run("handoff", "2026-W49", "conductor-us", "--note", NOTE)
    assert said.code == 0, said.err
    assert "! ticket T400001: not sent yet; will be retried: left to a process that has CALSYNC_TICKETS_TOKEN" in said.out
    said = run("doctor", at=MIDWEEK)
    assert (said.code, said.err) == (0, "")
    assert "! CALSYNC_TICKETS_TOKEN is not set here, so the messages that need it are left to processes that have it." in (
        said.out
    )
    (secret,) = json.loads(run("doctor", "--json", at=MIDWEEK).out)["missing"]
    assert secret.startswith("CALSYNC_TICKETS_TOKEN is not set here")


@pytest.mark.heavy
def test_the_command_line_hands_off_and_updates(run, monkeypatch, server):
    monkeypatch.setenv("CALSYNC_TICKETS_URL", server.url)
    monkeypatch.setenv("CALSYNC_TICKETS_TOKEN", TOKEN)
    run("reserve", "conductor-eu", "conductor-us", "--week", "2026-W49", "--ticket", "T400001")
    said = run("handoff", "2026-W49", "conductor-us", "--note", NOTE)
    assert said.code == 0, said.err
    assert "conductor-us is now responsible for 2026-W49." in said.out
    assert "✓ ticket T400001: sent: commented only: conductors.ticket_user of conductor-us is not set" in said.out
    assert "· operations channel: skipped: no channel is set up; see notify.operations" in said.out
    said = run("update", "2026-W49", "group1 is out", "--from", "conductor-eu")
    assert said.code == 0, said.err
    assert "✓ ticket T400001: sent" in said.out
    assert len(server.comments()) == 2
    found = run("handoff", "2026-W49", "cem@Europe/Berlin", "--note", "yours", "--json").json
    assert HandoffOut.model_validate(found).reservation.responsible == "cem"
    found = run("update", "2026-W49", "news", "--from", "cem", "--json").json
    assert UpdateOut.model_validate(found).to == ["ticket"]
    assert run("update", "2026-W49", "group1 is out", "--from", "zoe").code == 2
    assert run("handoff", "2026-W50", "conductor-us", "--note", "x").code == 2


def test_doctor_lists_the_messages_that_did_not_arrive_or_may_not_have(known, run, calendar, team):
    def told(cause, target, state, detail):
        return replace(new_delivery(cause, target, f"!log {cause}\nnews", MIDWEEK), state=state, detail=detail)

    entry = standing(known)
    made = [
        told("update-1", "log", "failed", "the [bold] channel is down"),
        told("update-2", "updates", "unknown", "it may have arrived"),
        told("update-3", "log", "sent", None),
        told("update-4", "ticket", "skipped", "there is no ticket"),
    ]
    calendar.put(HREF, write_deliveries(entry.ics, made), etag=entry.etag)
    said = run("doctor", at=MIDWEEK)
    assert said.code == 1
    assert "✗ 2026-W49: a message (log) did not arrive (the [bold] channel is down): !log update-1 news" in said.out
    assert "✗ 2026-W49: a message (updates) may or may not have arrived (it may have arrived): !log update-2" in said.out
    assert "update-3" not in said.out + said.err
    assert "update-4" not in said.out + said.err
    found = run("doctor", "--json", at=MIDWEEK)
    assert [(one["week"], one["about"], one["state"]) for one in found.json["messages"]] == [
        ("2026-W49", "update-1", "failed"),
        ("2026-W49", "update-2", "unknown"),
    ]
    assert run("doctor", at=datetime(2026, 12, 8, tzinfo=UTC)).code == 0


@pytest.mark.heavy
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
        (["2026-12-01T14:00"], "A time needs an end; write it after the start"),
        (["2026-12-01T14:00", "2026-12-01T14:00"], "end is the same as start; choose a later end."),
        (["2026-12-01T14:00", "2026-12-01T13:00"], "end is before start; swap them."),
        (["2026-W51", "2026-W50"], "end is before start; swap them."),
        (
            ["2027-03-28T02:30", "2027-03-28T03:30"],
            "The clocks of Europe/Paris skip 2027-03-28T02:30, so it counts as 03:30, and 2027-03-28T03:30 is not later; "
            "choose a later end.",
        ),
        (["2027-03-28T02:45", "2027-03-28T03:15"], "skip 2027-03-28T02:45, so it counts as 03:45, and 2027-03-28T03:15"),
        (
            ["2026-12-01T14:00", "2026-12-01T13:00Z"],
            "2026-12-01T14:00 and 2026-12-01T13:00Z are the same time on the clocks of Europe/Paris; choose a later end.",
        ),
        (["2026-12-01T14:00", "2026-W50"], "in the same form"),
        (["2026-W54"], "2026-W54 does not exist; 2026 has the weeks W01 to W53."),
        (["2026-W5"], "is not a date, a week or a time"),
    ],
)
def test_a_span_that_makes_no_sense_is_told_in_its_own_words(run, span, said):
    found = run("away", "conductor-eu", *span)
    assert (found.code, said in found.err) == (2, True), found.err
    assert run("away").out == "Nobody is away."


@pytest.mark.heavy
def test_the_command_line_lists_what_feeds_say_and_never_calls_free_what_is_not_known(run, folder, feed):
    feed_in(folder, feed)
    run("reserve", "conductor-eu", "conductor-us", "--week", "2026-W49")
    assert run("away").out == "Nobody is away."
    shutil.rmtree(folder / ".calsync")
    feed.body = ics(*MEETING)
    said = run("away")
    assert "conductor-eu is away Tue 1 Dec 10:30–11:00 Europe/Paris (from their busy feed)" in said.out
    assert "✗ busy: conductor-eu is away" in said.out
    assert "cover for 2026-12-01-european: conductor-us is the partner" in said.out
    assert run("away", "conductor-us").out == "conductor-us is not away."
    (row,) = run("away", "--json").json
    assert (row["id"], row["source"], row["start"]) == (None, "feed", "2026-12-01T10:30:00+01:00")
    shutil.rmtree(folder / ".calsync")
    feed.status = 404
    unsure = "! Cannot tell whether conductor-eu is away: their busy feed cannot be read (it answers 404)."
    assert run("away").out == run("away", "conductor-eu").out == unsure
    assert run("away", "conductor-us").out == "conductor-us is not away."
    said = run("away", "--json")
    assert (said.json, said.err) == ([], unsure)
    run("away", "conductor-us", "2026-12-10")
    said = run("away")
    assert "conductor-us is away Thu 2026-12-10" in said.out
    assert unsure in said.out
    feed.status, feed.body = 200, freebusy("DTSTART:20261101T000000Z", "DTEND:20261202T000000Z")
    assert run("away", "conductor-eu").out == (
        "! Cannot tell whether conductor-eu is away: "
        "an event near 2026-12-02-european cannot be read in full, or their feed ends earlier."
    )


def test_doctor_names_the_feeds_that_cannot_be_read_also_where_a_copy_counts(run, folder, feed):
    feed_in(folder, feed)
    assert run("doctor").code == 0
    feed.status = 404
    copied = "their busy feed cannot be read (it answers 404); the copy of 2026-11-24 12:00 UTC is used"
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


def test_commands_that_are_not_about_people_wait_for_no_feed(run, folder, feed):
    feed_in(folder, feed)
    run("reserve", "conductor-eu", "conductor-us", "--week", "2026-W49")
    assert len(feed.seen) == 1
    for arguments in (["feed"], ["handoff", "2026-W49", "conductor-us", "--note", "x"], ["release", "2026-W49"]):
        assert run(*arguments).code == 0
    assert len(feed.seen) == 1


@pytest.mark.heavy
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
        if where == reservation_href(W50):
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
