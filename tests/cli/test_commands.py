"""The command line: what each command prints, and with which exit code it ends."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import uvicorn
from icalendar import Calendar
from starlette.testclient import TestClient
from typer.main import get_group
from uvicorn.importer import import_from_string

from calsync import __version__
from calsync.cli.main import app
from calsync.core.config import load
from calsync.core.delivery import new_delivery
from calsync.ical.delivery import write_deliveries
from calsync.schemas import reservations
from support.samples import SHIPPED, ics
from support.site import MAINTENANCE, served

PAIR = ("conductor-eu", "conductor-us")
W49 = (*PAIR, "--week", "2026-W49")
COMMANDS = (
    "serve",
    "plan",
    "check",
    "reserve",
    "change",
    "release",
    "feed",
    "doctor",
    "rotation",
    "away",
    "handoff",
    "update",
    "announce",
)


def has(model, body):
    """Whether the JSON has the shape of the API's model, no more and no less."""
    return json.loads(model.model_validate(body).model_dump_json()) == body


def test_plan_says_who_sits_where_and_why(run, folder):
    said = run("plan", *W49)
    assert said.code == 0
    for words in (
        "2026-W49: the pair spans regions",
        "primary conductor-eu sits in european: 10:00–12:00 lies in 09:00-18:00 Europe/Paris",
        "backup conductor-us sits in american: 12:00–14:00 lies in 09:00-18:00 America/Denver",
        "group0",
        "UTC",
    ):
        assert words in said.out
    assert not (folder / "deployments.db").exists()  # it looks at no calendar


def test_a_plan_takes_timezones_names_hours_and_windows(run):
    said = run(
        "plan",
        "Asia/Tokyo",
        "ben@America/Denver",
        "--primary-hours",
        "18:00-02:00",
        "--backup-window",
        "european",
        "--json",
    )
    assert said.code == 0
    assert has(reservations.PlanOut, said.json)
    assert said.json["week"] == "2026-W49"
    assert said.json["primary"] | {"reason": ""} == {
        "name": "primary", "timezone": "Asia/Tokyo", "hours": "18:00-02:00", "window": "european", "reason": "",
    }  # fmt: skip
    assert (said.json["backup"]["name"], said.json["backup"]["window"]) == ("ben", "european")
    assert said.json["spans_regions"] is False


def test_check_finds_nothing_in_a_free_week_and_writes_nothing(run, calendar):
    said = run("check", *W49)
    assert (said.code, "No conflicts." in said.out) == (0, True)
    assert calendar.changes(None).changed == ()
    body = run("check", *W49, "--json").json
    assert has(reservations.ConflictsOut, body)
    assert (len(body["slots"]), body["conflicts"], body["reserved"]) == (6, [], False)


def test_check_exits_with_1_and_names_conflicts_and_free_places(run, calendar):
    calendar.put("other.ics", ics(*MAINTENANCE), etag=None)
    said = run("check", *W49)
    assert said.code == 1
    assert "✗ overlap: “Database maintenance”" in said.out
    assert "free instead of 2026-12-01-american" in said.out
    in_json = run("check", *W49, "--json")
    assert in_json.code == 1
    assert [found["kind"] for found in in_json.json["conflicts"]] == ["overlap"]
    assert in_json.json["alternatives"]


def test_check_tells_whose_the_week_is(run):
    run("reserve", *W49)
    same = run("check", *W49)
    assert (same.code, "already reserved, for this pair" in same.out) == (0, True)
    another = run("check", "ana@Europe/Rome", "ben@America/Denver", "--week", "2026-W49")
    assert (another.code, "already reserved, for another pair" in another.out) == (1, True)


def test_reserve_reserves_once(run, calendar):
    said = run("reserve", *W49, "--train", "1.46.0-wmf.5", "--ticket", "T400001")
    assert (said.code, said.err) == (0, "")
    assert "2026-W49 is reserved for MediaWiki train 1.46.0-wmf.5, T400001." in said.out
    again = run("reserve", *W49)
    assert (again.code, "is already reserved" in again.out) == (0, True)
    (resource,) = calendar.changes(None).changed
    assert resource.href == "train-2026-W49.ics"
    assert b"Reserved by: ana" in resource.ics.replace(b"\r\n ", b"")


def test_reserve_in_json_has_the_shape_of_the_api(run):
    said = run("reserve", *W49, "--json")
    assert said.code == 0
    assert has(reservations.ReservationOut, said.json)
    assert (said.json["state"], len(said.json["slots"])) == ("complete", 6)


def test_a_dry_run_says_the_same_and_writes_nothing(run, calendar):
    said = run("reserve", *W49, "--dry-run")
    assert (said.code, "2026-W49 could be reserved" in said.out) == (0, True)
    assert calendar.changes(None).changed == ()
    calendar.put("other.ics", ics(*MAINTENANCE), etag=None)
    assert run("reserve", *W49, "--dry-run").code == 1


def test_a_conflict_ends_with_1_and_an_override_is_recorded(run, calendar):
    calendar.put("other.ics", ics(*MAINTENANCE), etag=None)
    said = run("reserve", *W49)
    assert said.code == 1
    assert "✗ overlap" in said.out
    assert "free instead of" in said.out
    assert "blocks 2026-W49" in said.err
    in_json = run("reserve", *W49, "--json")
    assert in_json.code == 1
    assert all(has(reservations.ConflictOut, conflict) for conflict in in_json.json["conflicts"])
    assert all(has(reservations.AlternativeOut, free) for free in in_json.json["alternatives"])
    assert run("reserve", *W49, "--override", "agreed").code == 0
    assert "Reserved despite conflicts: agreed" in run("feed").raw.replace("\r\n ", "")


def test_another_pairs_week_ends_with_1(run):
    run("reserve", *W49)
    said = run("reserve", "ana@Europe/Rome", "ben@America/Denver", "--week", "2026-W49")
    assert said.code == 1
    assert "2026-W49 is reserved for conductor-eu and conductor-us already." in said.err


def test_change_keeps_what_it_is_not_told(run):
    first = run("reserve", *W49, "--train", "1.46.0-wmf.5", "--json").json
    wrong = run("change", "2026-W49", "--ticket", "T2", "--if-match", "another")
    assert (wrong.code, "read it again" in wrong.err) == (1, True)
    dry = run("change", "2026-W49", "--ticket", "T2", "--dry-run")
    assert (dry.code, "could be reserved as requested" in dry.out) == (0, True)
    said = run("change", "2026-W49", "--ticket", "T2", "--if-match", first["etag"], "--json")
    assert said.code == 0
    assert said.json | {"etag": "", "ticket": ""} == first | {"etag": "", "ticket": ""}
    assert said.json["ticket"] == "T2"
    other = run("change", "2026-W49", "--backup", "ana@Europe/Rome", "--json").json
    assert (other["backup"]["name"], other["spans_regions"], other["ticket"]) == ("ana", False, "T2")
    assert "2026-W49 is reserved as requested" in run("change", "2026-W49", "--ticket", "T2").out


@pytest.mark.heavy
def test_release_gives_the_week_up(run, calendar):
    etag = run("reserve", *W49, "--json").json["etag"]
    assert run("release", "2026-W49", "--if-match", "another").code == 1
    dry = run("release", "2026-W49", "--dry-run")
    assert (dry.code, "could be released" in dry.out) == (0, True)
    assert b"STATUS:CANCELLED" not in calendar.changes(None).changed[0].ics
    said = run("release", "2026-12-02", "--if-match", etag)
    assert (said.code, said.out) == (0, "2026-W49 is released.")
    events = Calendar.from_ical(run("feed", "--only-reservations").raw.encode()).events
    assert {str(event["STATUS"]) for event in events} == {"CANCELLED"}
    assert has(reservations.ReservationOut, run("release", "2026-W49", "--json").json)


@pytest.mark.parametrize("command", [("change", "2026-W49", "--ticket", "T1"), ("release", "2026-W49")])
def test_what_is_not_reserved_cannot_be_changed(run, command):
    said = run(*command)
    assert (said.code, said.err) == (2, "calsync: 2026-W49 is not reserved.")


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ([], ""),
        (["--window", "american", "--window", "puppet", "--alarm", "15m"], "?window=american&window=puppet&alarm=15m"),
        (["--conductor", "conductor-eu"], "?conductor=conductor-eu"),
        (["--only-reservations"], "?only=reservations"),
    ],
)
def test_the_feed_is_the_same_bytes_as_over_http(run, folder, calendar, now, options, query):
    run("reserve", *W49)
    calendar.put("other.ics", ics(*MAINTENANCE), etag=None)
    said = run("feed", *options)
    config = load(folder / "windows.toml", {})
    with served(config, calendar, now) as client:
        assert said.raw.encode() == client.get(f"/deployments.ics{query}").content
    assert said.code == 0


def test_doctor_finds_nothing_on_a_sound_calendar(run):
    run("reserve", *W49)
    said = run("doctor")
    assert (said.code, said.err) == (0, "")
    assert "windows.toml is sound: 10 windows" in said.out
    assert "Everything on it can be read" in said.out


def test_doctor_lists_each_defect_conflict_and_change(run, calendar):
    run("reserve", *W49)
    (resource,) = calendar.changes(None).changed
    moved = resource.ics.replace(b"DTSTART;TZID=Europe/Paris:20261202T100000", b"DTSTART;TZID=Europe/Paris:20261202T103000")
    calendar.put(resource.href, moved, etag=resource.etag)
    calendar.put("broken.ics", b"BEGIN:VCALENDAR\r\nnot a calendar", etag=None)
    calendar.put("timeless.ics", ics("SUMMARY:Some day"), etag=None)
    calendar.put("other.ics", ics(*MAINTENANCE), etag=None)
    calendar.put("second.ics", ics("SUMMARY:Switch [bold]works", *MAINTENANCE[1:], uid="second@example.org"), etag=None)
    said = run("doctor")
    assert said.code == 1
    for words in (
        "✗ broken.ics: ",
        "✗ timeless.ics: ",
        "Database maintenance",
        "Switch [bold]works",
        "2026-12-02-european was moved",
    ):
        assert words in said.out
    body = run("doctor", "--json")
    assert body.code == 1
    assert {"broken.ics", "timeless.ics"} <= body.json["defects"].keys()
    assert [found["kind"] for found in body.json["conflicts"] if found["blocking"]] == ["overlap", "overlap"]
    assert len(body.json["changes"]) == 1


def test_doctor_does_not_care_about_what_is_over(run, calendar):
    run("reserve", *W49)
    calendar.put("other.ics", ics(*MAINTENANCE), etag=None)
    assert run("doctor", at=datetime(2026, 12, 2, tzinfo=UTC)).code == 0


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("foo://secret-1", "Apprise does not support this address"),
        ("slack://secret-1", "Apprise does not support this address"),
        ("ircs://calsync:secret-1@irc.example.org/", "write it as ircs://NICK:PASSWORD@irc.example.org/#channel"),
    ],
)
def test_doctor_names_an_address_that_is_none_and_never_shows_it(run, monkeypatch, address, said):
    monkeypatch.setenv("CALSYNC_NOTIFY_OPERATIONS", "environment")
    monkeypatch.setenv("CALSYNC_NOTIFY_UPDATES", address)
    found, body = run("doctor"), run("doctor", "--json")
    assert (found.code, body.code) == (1, 1)
    assert f"✗ notify.updates: {said}" in found.out
    (fault,) = body.json["channels"]
    assert said in fault
    assert "secret" not in found.out + found.err + body.raw + body.err
    assert "Everything on it can be read" not in found.out


@pytest.mark.parametrize(
    ("module", "address"), [("irc", "ircs://irc.example.org/#operations"), ("apprise", "json://localhost")]
)
def test_doctor_names_the_extra_that_is_missing(run, monkeypatch, module, address):
    monkeypatch.setenv("CALSYNC_NOTIFY_OPERATIONS", address)
    assert run("doctor").code == 0
    monkeypatch.delitem(sys.modules, "calsync.notifications.irc", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    said = run("doctor")
    assert said.code == 1
    assert f"notify.operations needs calsync[notify], which is not installed: {module} is missing." in said.out


def test_doctor_lists_messages_that_are_tried_again_and_calls_for_nobody(run, calendar):
    run("reserve", *W49)
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    (resource,) = calendar.changes(None).changed
    first = new_delivery("update-1", "updates", "!log first", now).claim("x", now).retry("[bold] 404", now)
    both = [first, new_delivery("update-2", "log", "second", now)]
    calendar.put(resource.href, write_deliveries(resource.ics, both), etag=resource.etag)
    said, body = run("doctor"), run("doctor", "--json")
    assert (said.code, body.code) == (0, 0)
    told = "! 2026-W49: a message (updates) did not arrive yet; next attempt at 12:00:05 UTC ([bold] 404): !log"
    assert told in said.out
    assert "second" not in said.out  # nobody has tried to send it
    assert [(one["about"], one["state"], one["attempts"]) for one in body.json["messages"]] == [("update-1", "pending", 1)]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_an_example(run, command):
    said = run(command, "--help")
    assert said.code == 0
    assert f"Example: calsync {command}" in said.out


def test_every_command_is_tested_here():
    assert set(get_group(app).commands) == set(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "nobody-known", "conductor-us"], '"nobody-known" is not in the roster'),
        (["plan", "Europe/Pariss", "conductor-us"], "Europe/Paris"),
        (["plan", "ana@Europe/Pariss", "conductor-us"], 'did you mean "Europe/Paris"'),
        (["reserve", "", "conductor-us"], "The primary has no name"),
        (["plan", "conductor-eu", " @"], "The backup has no name"),
        (["handoff", "2026-W49", "", "--note", "x"], "Give the name of who takes over; a timezone alone is not enough."),
        (["handoff", "2026-W49", "@", "--note", "x"], "Give the name of who takes over; a timezone alone is not enough."),
        (["handoff", "2026-W49", " @Europe/Paris", "--note", "x"], "Give the name of who takes over; a timezone alone is"),
        (["plan", "conductor-eu", "conductor-eu"], "name two people"),
        (["plan", *PAIR, "--week", "soon"], "is not a week"),
        (["plan", *PAIR, "--week", "2026-W52"], "end-of-year holidays"),
        (["plan", *PAIR, "--week", "2026-W40"], "is over"),
        (["plan", *PAIR, "--primary-hours", "late"], '"late" is not valid; write working hours'),
        (["plan", *PAIR, "--primary-window", "lunar"], "is not a train window"),
        (["reserve", *PAIR, "--week", "2030-W10"], "outside the calendar's horizon"),
        (["feed", "--window", "lunar"], 'window "lunar" does not exist'),
        (["feed", "--alarm", "soon"], "write a whole number and a unit"),
        (["doctor", "--config", "missing.toml"], "missing.toml does not exist"),
        (["serve", "--host", "0.0.0.0"], "CALSYNC_TOKENS"),
        (["serve", "--log-format", "xml"], '"text" or "json"'),
        (["serve", "--port", "70000"], "65535"),
        (["reserve", "conductor-eu"], "backup"),
        (["resrve", *PAIR], "resrve"),
        (["plan", *PAIR, "--weak", "2026-W49"], "--weak"),
    ],
)
def test_bad_input_ends_with_2_and_the_remedy_on_stderr(run, arguments, words):
    said = run(*arguments)
    assert (said.code, said.raw) == (2, "")
    assert words in said.err.replace("│ ", "")
    assert "Traceback" not in said.err


def test_bad_input_under_json_leaves_stdout_to_json(run):
    said = run("plan", "nobody-known", "conductor-us", "--json")
    assert (said.code, said.raw) == (2, "")


def test_a_broken_configuration_has_every_mistake_listed(run, folder):
    file = folder / "windows.toml"
    text = file.read_text(encoding="utf-8")
    for right, wrong in (
        ('timezone = "Europe/Paris"', 'timezone = "Europe/Pariss"'),
        ('backup_slots = "all"', 'backup_slots = "some"'),
        ('name = "Deployments"', 'nmae = "Deployments"'),
        ('hours = "09:00-18:00"', 'hours = "nine to five"'),
        ('days = ["mon"]', 'days = ["moonday"]'),
    ):
        assert right in text
        text = text.replace(right, wrong)
    file.write_text(text, encoding="utf-8")
    for command in (["plan", *PAIR], ["doctor"], ["serve"]):
        said = run(*command)
        assert (said.code, said.raw) == (2, "")
        for words in (
            "windows.european.timezone", 'did you mean "Europe/Paris"', "train.backup_slots", "calendar.nmae",
            "conductors[0].hours", "conductors[1].hours", "windows.security.days",
        ):  # fmt: skip
            assert words in said.err
    file.write_text("[calendar\n", encoding="utf-8")
    assert "windows.toml: " in run("doctor").err
    file.write_bytes(b"\xff\xfe")
    assert run("doctor").code == 2


@pytest.mark.parametrize(
    "command",
    [["check", *W49], ["reserve", *W49], ["release", "2026-W49"], ["change", "2026-W49"], ["feed"], ["doctor"], ["serve"]],
)
@pytest.mark.parametrize("url", ["sqlite:///missing/deployments.db", "sqlite:///windows.toml", "sqlite:///folder.db"])
def test_a_calendar_that_is_away_ends_with_3(run, folder, monkeypatch, url, command):
    (folder / "folder.db").mkdir()
    before = (folder / "windows.toml").read_bytes()
    monkeypatch.setenv("CALSYNC_CALENDAR_URL", url)
    said = run(*command)
    assert (said.code, said.raw) == (3, "")
    assert said.err.startswith("calsync: The ")
    assert "Traceback" not in said.err
    assert (folder / "windows.toml").read_bytes() == before


def test_a_defect_is_told_from_a_conflict_by_its_exit_code(run, monkeypatch):
    monkeypatch.setattr("calsync.cli.reservations.planning.plan", lambda *_: 1 / 0)
    said = run("plan", *PAIR)
    assert (said.code, said.raw) == (70, "")
    assert "ZeroDivisionError" in said.err


def test_the_calendars_file_stands_beside_its_configuration(run, folder, monkeypatch):
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert run("reserve", *W49, "--config", "../windows.toml").code == 0
    assert (folder / "deployments.db").exists()


def test_foreign_text_is_printed_as_it_is(run):
    said = run("reserve", "[red]ana@Europe/Rome", "ben@America/Denver", "--week", "2026-W49", "--ticket", "[bold]T1")
    assert "[red]ana" in said.out
    assert "[bold]T1" in said.out


def test_python_m_calsync_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "calsync", "--version"],
        cwd=SHIPPED.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (f"calsync {__version__}\n", "")


@pytest.mark.heavy
def test_the_command_line_loads_no_server_and_no_client():
    names = {"fastapi", "starlette", "uvicorn", "pythonjsonlogger", "niquests", "sqlalchemy", "caldav", "apprise", "irc"}
    code = f"import sys, calsync.cli, calsync.cli.main; print(*sorted({names} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "\n"


def test_several_workers_import_the_app_by_name(run, monkeypatch):
    calls = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: calls.append((app, options)))
    assert run("serve", "--workers", "2").code == 0
    ((app, options),) = calls
    assert options["factory"]
    with TestClient(import_from_string(app)(), base_url="http://localhost") as client:
        assert client.get("/healthz").status_code == 200


def test_without_a_command_it_says_what_there_is(run):
    said = run()
    assert said.code == 2
    assert all(command in said.out + said.err for command in COMMANDS)
