"""Real servers under many clients at once: nobody gets half a week, and no two pairs get the same one."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime

import httpx2
import pytest
from icalendar import Calendar

from calsync.calendars.sql import SqlCalendar
from calsync.core.weeks import Week
from support.processes import PATIENCE, Server, environment, until
from support.site import wish

pytestmark = pytest.mark.heavy

CLIENTS = 20
SETTINGS = """
[windows.european]
title = "European train window"
timezone = "Europe/Paris"
start = 10:00:00
end = 12:00:00

[windows.american]
title = "American train window"
timezone = "America/Los_Angeles"
start = 11:00:00
end = 13:00:00
"""
WEEKS = [str(Week.containing(datetime.now(UTC).date()).shift(n)) for n in range(2, 52)]
WEEK = WEEKS[0]


def reserve(server, week, n):
    return server.client.post("/api/reservations", json=wish(week, n))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "windows.toml").write_text(SETTINGS)
    return tmp_path


@pytest.fixture
def serve(folder):
    servers = []

    def start(*options):
        servers.append(Server(folder, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def resources(folder):
    with contextlib.closing(SqlCalendar.sqlite(folder / "deployments.db")) as calendar:
        return calendar.changes(None).changed


def at_once(calls):
    """The answers of all calls, which start together."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait(PATIENCE)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def statuses(answers):
    return sorted(answer.status_code for answer in answers)


def test_of_twenty_pairs_one_gets_the_week(serve, folder):
    server = serve()
    answers = at_once([lambda n=n: reserve(server, WEEK, n) for n in range(CLIENTS)])
    assert statuses(answers) == [201] + [409] * (CLIENTS - 1)
    refused = {answer.json()["type"] for answer in answers if answer.status_code == 409}
    assert refused == {"urn:calsync:problem:reserved-by-another"}
    (winner,) = [answer.json() for answer in answers if answer.status_code == 201]
    assert server.client.get(f"/api/reservations/{WEEK}").json() == winner
    (resource,) = resources(folder)
    assert resource.href == f"train-{WEEK}.ics"


def test_twenty_times_the_same_pair_is_one_reservation(serve, folder):
    server = serve()
    answers = at_once([lambda: reserve(server, WEEK, 0) for _ in range(CLIENTS)])
    assert statuses(answers) == [200] * (CLIENTS - 1) + [201]
    assert len({answer.json()["etag"] for answer in answers}) == 1
    assert len(resources(folder)) == 1


def test_of_two_servers_on_one_calendar_one_gives_the_week_away(serve, folder):
    servers = [serve(), serve()]
    answers = at_once([lambda n=n: reserve(servers[n % 2], WEEK, n) for n in range(CLIENTS)])
    assert statuses(answers) == [201] + [409] * (CLIENTS - 1)
    assert len(resources(folder)) == 1
    one, other = (server.client for server in servers)
    until(lambda: one.get("/deployments.ics").content == other.get("/deployments.ics").content, "both publish the same")


def test_of_twenty_changes_to_what_was_read_one_is_made(serve, folder):
    server = serve()
    etag = reserve(server, WEEK, 0).headers["etag"]
    url = f"/api/reservations/{WEEK}"
    calls = [
        lambda n=n: server.client.patch(url, json={"ticket": f"T{n}"}, headers={"If-Match": etag}) for n in range(CLIENTS)
    ]
    answers = at_once(calls)
    assert statuses(answers) == [200] + [412] * (CLIENTS - 1)
    (winner,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert server.client.get(url).json() == winner


def test_what_a_killed_server_had_confirmed_stands_and_nothing_is_half(serve, folder):
    server = serve()
    confirmed = {}

    def work(mine):
        with contextlib.suppress(httpx2.TransportError):
            for week in mine:
                answer = reserve(server, week, 0)
                assert answer.status_code == 201, answer.text
                confirmed[week] = answer.json()

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, WEEKS[n::4]) for n in range(4)]
        until(lambda: len(confirmed) >= 8, "eight weeks are reserved")
        server.stop(signal.SIGKILL)
        wait(working)
    for one in working:
        one.result()
    assert len(confirmed) < len(WEEKS)  # it was killed in the middle

    again = serve()
    standing = {one["week"]: one for one in again.client.get("/api/reservations").json()}
    assert {week: standing.get(week) for week in confirmed} == confirmed
    for one in standing.values():
        assert (one["state"], len(one["slots"])) == ("complete", 6)
    assert again.client.get("/readyz").json()["defects"] == 0
    assert len(slots(again)) == 6 * len(standing)
    left = next(week for week in WEEKS if week not in standing)
    assert reserve(again, left, 0).status_code == 201


def slots(server):
    answer = server.client.get("/deployments.ics", params={"only": "reservations"})
    return {str(event["UID"]) for event in Calendar.from_ical(answer.content).events}


def test_told_to_stop_it_finishes_and_exits_with_0(serve):
    server = serve()
    reserve(server, WEEK, 0)
    assert server.stop() == 0


def test_told_to_stop_by_ctrl_c_it_leaves_no_traceback(serve):
    server = serve()
    server.stop(signal.SIGINT)
    assert "Traceback" not in server.log.read_text()


def test_a_json_log_is_one_object_a_line(serve):
    server = serve("--log-format", "json")
    reserve(server, WEEK, 0)
    reserve(server, WEEK, 1)
    server.client.get("/nowhere")
    server.stop()
    entries = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert all(entry["message"] and entry["level"] and entry["time"] for entry in entries)
    assert any(f"{WEEK} done" in entry["message"] for entry in entries)


def test_a_reservation_by_the_command_line_shows_in_a_running_servers_feed(serve, folder):
    server = serve()
    before = server.client.get("/deployments.ics").headers["etag"]
    command = [sys.executable, "-m", "calsync", "reserve", "ana@Europe/Paris", "ben@America/Denver", "--week", WEEK]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    until(lambda: len(slots(server)) == 6, "the feed has the slots")
    assert server.client.get("/deployments.ics", headers={"If-None-Match": before}).status_code == 200


def test_old_agendas_do_not_hide_a_reservation_by_somebody_else(serve, folder):
    one, other = serve(), serve()
    assert reserve(one, WEEK, 0).status_code == 201
    assert reserve(other, WEEK, 1).status_code == 409
    assert other.client.delete(f"/api/reservations/{WEEK}").status_code == 200
    assert reserve(one, WEEK, 1).status_code == 201
