"""The last known calendar on disk: a restart while the server is away serves it, and recovery is automatic."""

import functools
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar
from starlette.testclient import TestClient

from calsync.booking.reservations import reserve
from calsync.calendars.base import Changes, Resource
from calsync.calendars.cache import CalendarCache, open_cache
from calsync.cli import main
from calsync.core.errors import Unreachable
from calsync.core.weeks import Week
from calsync.schedule.check import ReservationRequest
from calsync.schedule.sync import CalendarSync
from calsync.web.app import create_app
from support.engines import Place, each_engine
from support.processes import PATIENCE, until
from support.samples import PAIR, SHIPPED, configured, ics, utc

WEEK = Week(2026, 49)
THEN = utc(2026, 11, 24, 11)
BODY = {"week": "2026-W50", "primary": "conductor-eu", "backup": "conductor-us"}


@pytest.fixture(params=each_engine("postgresql", "radicale", "unruly"))
def place(request, running, tmp_path):
    with Place(request.param, running, tmp_path) as place:
        yield place


@pytest.fixture(params=each_engine("radicale"))
def radicale(request, running, tmp_path):
    with Place(request.param, running, tmp_path) as place:
        yield place


def known(place, at=THEN):
    """A week is reserved, and known on disk."""
    sync = CalendarSync(place.open(), place.config(), at, open_cache(place.config()))
    return reserve(sync, ReservationRequest(PAIR, WEEK), at)


@contextmanager
def served(place, proxy, now):
    config = place.config(proxy.through(place.url), calendar={"refresh": "1s", "cache": str(place.folder / "a.cache")})
    calendar = place.open(config.calendar.url)
    with TestClient(create_app(config, calendar, lambda: now), base_url="http://localhost") as client:
        yield client


@pytest.mark.heavy
def test_a_restart_while_the_server_is_away_serves_the_last_known_calendar_and_recovers_by_itself(place, now):
    proxy = place.proxy()
    with served(place, proxy, THEN) as client:
        assert client.post("/api/reservations", json=BODY).status_code == 201
        before = client.get("/deployments.ics").content
        assert client.get("/readyz").json()["calendar"] == "here"
        assert "Age" not in client.get("/deployments.ics").headers
        assert client.get("/api/now").json()["stale"] is None
    proxy.down()
    with served(place, proxy, now) as client:
        until(lambda: client.get("/readyz").json()["calendar"] == "away", "the calendar is away")
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["age"]) == (200, 3600)
        feed = client.get("/deployments.ics?only=reservations")
        assert (feed.status_code, feed.headers["Age"]) == (200, "3600")
        assert {str(event["UID"]) for event in Calendar.from_ical(feed.content).events} <= {
            str(event["UID"]) for event in Calendar.from_ical(before).events
        }
        assert b"2026-12-08-european" in feed.content
        assert client.get("/api/now").json()["stale"] == 3600
        found = client.get("/api/conflicts?week=2026-W50").json()
        assert found["stale"] == 3600
        assert client.get("/api/reservations/2026-W50").json()["state"] == "complete"
        answer = client.post("/api/reservations", json=BODY | {"week": "2026-W51"})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert client.delete("/api/reservations/2026-W50").status_code == 503
        proxy.up()
        until(lambda: client.get("/readyz").json()["calendar"] == "here", "the calendar is back")
        assert "Age" not in client.get("/deployments.ics").headers
        assert client.get("/api/conflicts?week=2026-W50").json()["stale"] is None
        body = BODY | {"week": "2026-W51"}
        until(lambda: client.post("/api/reservations", json=body).status_code in (200, 201), "it reserves again")


def test_the_copy_follows_the_calendar_after_another_process_has_tried_out_the_server(place):
    config = place.config()
    sync = CalendarSync(place.open(), config, THEN, open_cache(config))
    sync.refresh(THEN)
    place.open().probe()
    sync.refresh(THEN + timedelta(seconds=30))
    reserve(sync, ReservationRequest(PAIR, WEEK), THEN + timedelta(seconds=40))
    restarted = CalendarSync(place.open(), config, THEN, open_cache(config))
    assert restarted.recall(THEN).reservation(WEEK).reservation.week == WEEK


def test_without_a_last_known_calendar_nothing_is_called_free_while_the_server_is_away(radicale, now):
    proxy = radicale.proxy()
    proxy.down()
    with served(radicale, proxy, now) as client:
        for path in ("/readyz", "/deployments.ics", "/api/conflicts?week=2026-W50", "/api/now"):
            assert client.get(path).status_code == 503
        proxy.up()
        until(lambda: client.get("/readyz").status_code == 200, "the server is ready")


@pytest.mark.parametrize("how", ["damaged", "another schema", "a folder", "in no folder", "empty", "cut off"])
def test_a_cache_that_cannot_be_used_is_done_without_and_said_once(radicale, now, how, caplog):
    known(radicale)
    config = radicale.config()
    file = radicale.folder / config.calendar.cache
    assert file.stat().st_size > 0
    if how == "in no folder":
        config = radicale.config(calendar={"cache": "missing/a.cache"})
    elif how == "cut off":
        file.write_bytes(file.read_bytes()[:5000])
    else:
        file.unlink()
        match how:
            case "damaged":
                file.write_bytes(b"no database" * 1000)
            case "another schema":
                with sqlite3.connect(file) as connection:
                    connection.execute("CREATE TABLE state (x)")
                connection.close()
            case "a folder":
                file.mkdir()
            case "empty":
                file.touch()
    sync = CalendarSync(radicale.open(), config, now, open_cache(config))
    sync.recall(now)
    for minutes in range(3):
        agenda = sync.refresh(now + timedelta(minutes=minutes))
    assert agenda.reservation(WEEK).reservation.week == WEEK
    said = [record for record in caplog.records if "calendar.cache" in record.message]
    assert len(said) == (how != "empty")
    assert how != "damaged" or file.read_bytes() == b"no database" * 1000  # it may be anybody's
    if how in ("empty", "cut off"):
        again = CalendarSync(radicale.open(), config, now, open_cache(config))
        assert again.recall(now).reservation(WEEK).reservation.week == WEEK


def test_the_cache_of_another_calendar_is_not_taken_for_this_one(radicale, now):
    known(radicale)
    other = radicale.config(radicale.server.new_calendar())
    assert open_cache(radicale.config()).load()
    assert open_cache(other).load() is None


def test_what_was_known_on_another_day_is_read_for_today(radicale, now):
    known(radicale)
    config = radicale.config()
    later = now + timedelta(days=3)
    sync = CalendarSync(radicale.open(), config, later, open_cache(config))
    agenda = sync.recall(later)
    assert agenda.synced == THEN
    assert agenda.horizon.start.date() == later.date() - timedelta(days=90)
    assert agenda.reservation(WEEK).reservation.week == WEEK


def test_processes_that_share_the_file_end_with_the_calendar_whoever_wrote_last(tmp_path):
    def resource(name, version):
        return Resource(name, str(version), f"{name} {version}".encode())

    one, other = (CalendarCache(tmp_path / "a.cache", "calendar") for _ in range(2))
    everything = Changes("1", (resource("a", 1), resource("b", 1)), (), complete=True)
    one.save(everything, None, THEN)
    other.save(everything, None, THEN)
    one.save(Changes("3", (resource("a", 2), resource("c", 3)), ("b",), complete=False), "1", THEN)
    # What the other one knows of is older than the copy, and would bring back what was removed.
    other.save(Changes("2", (resource("a", 2),), (), complete=False), "1", THEN + timedelta(minutes=2))
    one.save(Changes("4", (resource("d", 4),), (), complete=False), "3", THEN + timedelta(minutes=3))
    changes, synced = one.load()
    assert (changes.token, changes.complete, synced) == ("4", True, THEN + timedelta(minutes=3))
    assert {found.href: found.etag for found in changes.changed} == {"a": "2", "c": "3", "d": "4"}


class Server:
    """A calendar in memory that remembers its states by token; `meanwhile` runs once, after the next answer is made."""

    def __init__(self):
        self.states, self.token, self.requests, self.meanwhile = {}, "", 0, None
        self.write()

    def write(self, **texts):
        """Move the token, and store these texts by name; None removes."""
        resources = dict(self.states.get(self.token, {}))
        self.token = str(len(self.states))
        for name, text in texts.items():
            resources.pop(name, None)
            if text is not None:
                event = ics(f"SUMMARY:{text}", "DTSTART:20261201T090000Z", uid=name)
                resources[name] = Resource(name, self.token, event)
        self.states[self.token] = resources

    def changes(self, since, known_resources=None, ended_before=None, always_include=()):
        self.requests += 1
        old, new = self.states.get(since, {}), self.states[self.token]
        changed = tuple(resource for href, resource in new.items() if old.get(href) != resource)
        answer = Changes(self.token, changed, tuple(old.keys() - new.keys()), complete=since not in self.states)
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()
        return answer

    def mark_ended(self, ended):
        pass


CONFIG = configured()


class Process:
    """A calsync of its own on the server's calendar; it shares the file with the others."""

    def __init__(self, server, file):
        self.cache = CalendarCache(file, "calendar")
        self.sync = CalendarSync(server, CONFIG, THEN, self.cache)

    def poll(self, minutes=0):
        self.sync.refresh(THEN + timedelta(minutes=minutes))


def saved(file):
    """The token of the copy, and the resources in it by href."""
    changes, _ = CalendarCache(file, "calendar").load()
    return changes.token, {resource.href: resource for resource in changes.changed}


def test_the_copy_follows_the_calendar_after_the_token_moved_without_a_change(tmp_path):
    server, file = Server(), tmp_path / "a.cache"
    process = Process(server, file)
    process.poll()
    server.write()
    process.poll()
    server.write(a="Train")
    process.poll()
    assert saved(file) == (server.token, server.states[server.token])
    restarted = Process(server, file)
    restarted.sync.recall(THEN)
    assert restarted.sync.agenda.objects.keys() == {"a"}


def test_one_process_asks_the_calendar_once_a_poll_and_writes_an_unchanged_copy_once_a_minute(tmp_path):
    server, file = Server(), tmp_path / "a.cache"
    process = Process(server, file)
    for minutes, written in ((0, True), (0.5, False), (0.9, False), (1.1, True), (1.2, False)):
        before = file.read_bytes() if file.exists() else b""
        process.poll(minutes)
        assert (file.read_bytes() != before) == written
    assert server.requests == 5


def test_processes_that_share_a_copy_keep_it_right_while_their_tokens_alternate(tmp_path):
    server, file = Server(), tmp_path / "a.cache"
    processes = [Process(server, file) for _ in range(2)]
    for n in range(8):
        server.write(**{f"{n}": "Train", f"{n - 2}": None})
        processes[n % 2].poll()
        assert saved(file) == (server.token, server.states[server.token])
        server.write()
        processes[n // 2 % 2].poll()
        assert saved(file) == (server.token, server.states[server.token])


@pytest.mark.parametrize("lost", ["removed", "emptied", "damaged"])
def test_a_copy_that_is_lost_while_calsync_runs_is_made_anew(tmp_path, lost):
    server, file = Server(), tmp_path / "a.cache"
    process = Process(server, file)
    server.write(a="Train")
    process.poll()
    match lost:
        case "removed":
            file.unlink()
        case "emptied":
            file.write_bytes(b"")
        case "damaged":
            file.write_bytes(file.read_bytes()[:5000])
    server.write(b="Train")
    process.poll()
    process.poll(minutes=2)
    assert saved(file) == (server.token, server.states[server.token])


def test_a_calendar_that_goes_away_while_the_copy_is_brought_up_to_date_is_asked_again_by_the_next_poll(tmp_path):
    server, file = Server(), tmp_path / "a.cache"
    process, other = Process(server, file), Process(server, file)
    process.poll()
    server.write(a="Train")
    other.poll()
    server.write(b="Train")

    def away(*_arguments):
        del server.changes
        raise Unreachable("The calendar is away.")

    server.meanwhile = lambda: setattr(server, "changes", away)
    process.poll()
    assert process.sync.agenda.objects.keys() == {"a", "b"}
    assert saved(file)[1].keys() == {"a"}
    process.poll()
    assert saved(file) == (server.token, server.states[server.token])


@pytest.mark.parametrize("work", ["save", "load"])
def test_what_another_process_saves_meanwhile_does_not_mix_with_what_was_read_before(tmp_path, monkeypatch, work):
    server, file = Server(), tmp_path / "a.cache"
    process, other = Process(server, file), Process(server, file)
    process.poll()
    other.poll()
    server.write(a="Train")
    server.meanwhile = lambda: server.write(a=None, b="Train")
    if work == "load":
        process.poll()
    threads = []

    class Connection(sqlite3.Connection):
        """Lets the other process save, if it may, once this one has read the token of the copy."""

        def execute(self, statement, *arguments):
            answer = super().execute(statement, *arguments)
            if statement.startswith("SELECT token") and not threads:
                threads.append(threading.Thread(target=other.poll))
                threads[0].start()
                threads[0].join(0.5)
            return answer

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Connection))
    if work == "save":
        process.poll()
    token, resources = saved(file)
    assert resources == server.states[token]
    threads[0].join()
    other.poll(minutes=2)
    assert saved(file) == (server.token, server.states[server.token])


CONNECT = sqlite3.connect
WRITES = st.dictionaries(st.sampled_from("abc"), st.none() | st.sampled_from(["x", "xx"]), max_size=2)
POLLS = st.tuples(st.integers(0, 1), st.integers(0, 1))
STEPS = st.lists(st.tuples(WRITES, POLLS, st.none() | st.tuples(WRITES, POLLS)), max_size=8)


class Hasty(sqlite3.Connection):
    """Does not wait for the disk."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.execute("PRAGMA synchronous = OFF")


@given(steps=STEPS)
def test_whenever_the_calendar_goes_away_the_copy_is_the_calendar_at_its_token(tmp_path_factory, monkeypatch, steps):
    """Two processes poll in any order, and one may poll while the other waits for its answer."""
    monkeypatch.setattr(sqlite3, "connect", functools.partial(CONNECT, factory=Hasty))
    server, file = Server(), tmp_path_factory.mktemp("copy") / "a.cache"
    processes = [Process(server, file) for _ in range(2)]

    def poll(n, minutes):
        processes[n].poll(minutes)
        token, resources = saved(file)
        assert resources == server.states[token]

    for texts, (n, minutes), between in steps:
        server.write(**texts)
        if between is not None:
            later, (_, while_waiting) = between

            def act(later=later, other=1 - n, minutes=while_waiting):
                server.write(**later)
                poll(other, minutes)

            server.meanwhile = act
        poll(n, minutes)
    for n in (0, 1):
        poll(n, 2)
    assert saved(file)[0] == server.token


WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from calsync.calendars.base import Changes, Resource
from calsync.calendars.cache import CalendarCache
cache, n = CalendarCache(Path(sys.argv[1]), "calendar"), int(sys.argv[2])
for round_ in range(20):
    made = [Resource(f"{n}-{round_}-{part}", "1", b"x" * 5000) for part in range(3)]
    token = f"{n}-{round_}"
    cache.save(Changes(token, tuple(made), (), complete=True), None, datetime(2026, 11, 24, tzinfo=UTC))
    cache.save(Changes(token + "+", (), (made[0].href,), complete=False), token, datetime(2026, 11, 24, tzinfo=UTC))
"""


@pytest.mark.heavy
def test_a_file_that_processes_write_at_once_is_the_calendar_of_its_token(tmp_path):
    command = [sys.executable, "-c", WRITER, tmp_path / "a.cache"]
    with ThreadPoolExecutor(3) as pool:
        ends = pool.map(lambda n: subprocess.run([*command, str(n)], stderr=subprocess.PIPE, timeout=PATIENCE), range(3))
    assert [end.stderr for end in ends] == 3 * [b""]
    changes, _ = CalendarCache(tmp_path / "a.cache", "calendar").load()
    token = changes.token.removesuffix("+")
    parts = range(changes.token != token, 3)
    assert {found.href for found in changes.changed} == {f"{token}-{part}" for part in parts}


@pytest.fixture
def run(radicale, monkeypatch, capsys, now):
    """Call the command line on a calendar that is away; what it said, and its exit code."""
    for name in [name for name in os.environ if name.startswith("CALSYNC_")]:
        monkeypatch.delenv(name)
    proxy = radicale.proxy()
    monkeypatch.chdir(radicale.folder)
    (radicale.folder / "windows.toml").write_bytes(SHIPPED.read_bytes())
    monkeypatch.setenv("CALSYNC_CALENDAR_URL", proxy.through(radicale.url))
    monkeypatch.setenv("CALSYNC_CALENDAR_USERNAME", radicale.username)
    monkeypatch.setenv("CALSYNC_CALENDAR_PASSWORD", radicale.password)

    def run(*arguments, at=now, away=False):
        (proxy.down if away else proxy.up)()
        with pytest.raises(SystemExit) as ended:
            main.main(arguments, clock=lambda: at)
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, " ".join(said.err.split())

    return run


def test_feed_and_check_go_on_from_what_was_known_with_a_warning_and_writes_do_not(run):
    week = ("conductor-eu", "conductor-us", "--week", "2026-W49")
    assert run("reserve", *week, at=THEN)[0] == 0
    code, feed, said = run("feed", away=True)
    assert code == 0
    assert "2026-12-01-european" in feed
    assert "does not answer" in said
    assert "Using the last known copy, of 2026-11-24 11:00:00 UTC." in said
    code, out, said = run("check", *week, away=True)
    assert (code, "is already reserved" in " ".join(out.split())) == (0, True)
    assert "Using the last known copy, of" in said
    for command in (("reserve", *week[:3], "2026-W50"), ("release", "2026-W49"), ("doctor",)):
        code, _, said = run(*command, away=True)
        assert code not in (0, 1)
        assert "does not answer" in said or "went away" in said


def test_doctor_says_what_the_server_promises(run, radicale):
    code, out, _ = run("doctor")
    assert code == 0
    said = " ".join(out.split())
    assert "Honours If-None-Match" in said
    assert "Reports what changed" in said
    assert run("doctor")[1] == out
