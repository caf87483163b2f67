"""Real servers killed between two steps of a hand-off, with a channel over real HTTP."""

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from booking.test_handoff import Room
from calsync.calendars.sql import SqlCalendar
from calsync.core.config import load
from calsync.core.delivery import LEASE
from calsync.core.planning import next_week
from calsync.notifications.channels import Channels
from calsync.notifications.destinations import Destinations
from calsync.notifications.dispatcher import Dispatcher
from calsync.schedule.sync import CalendarSync
from support.irc_servers import until
from support.samples import ROOT, SHIPPED

pytestmark = pytest.mark.heavy


class Hook(http.server.BaseHTTPRequestHandler):
    """A channel that refuses, keeps whoever speaks waiting, or takes what it is told."""

    server: Any

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["message"]
        if self.server.mood != "refuse":
            self.server.got.append(message)
        if self.server.mood == "wait":
            self.server.over.wait(30)
            return
        self.send_response(403 if self.server.mood == "refuse" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hook():
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got, server.mood, server.over = [], "take", threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


class Server:
    """A `calsync serve` process in `place`, which answers once this returns."""

    def __init__(self, place, number, hook):
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CALSYNC_")}
        channel = {"CALSYNC_NOTIFY_OPERATIONS": f"json://127.0.0.1:{hook.server_port}/"}
        environment = kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | channel
        self.log = place / f"server{number}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "calsync", "serve", "--port", "0"],
                cwd=place,
                env=environment,
                stdout=log,
                stderr=log,
            )
        self.client = httpx2.Client(base_url=until(self._address, within=30), timeout=60, trust_env=False)
        until(lambda: self.client.get("/readyz").status_code == 200)

    def _address(self):
        said = self.log.read_text()
        assert self.process.poll() is None, said
        found = re.search(r"running on (http://127\.0\.0\.1:[1-9]\d*)", said)
        return found and found[1]

    def stop(self, how):
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.client.close()
        return self.process.wait(20)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "windows.toml").write_bytes(SHIPPED.read_bytes())
    return tmp_path


def reserve(server, config):
    week = str(next_week(config, datetime.now(UTC)))
    body = {"week": week, "primary": "conductor-eu", "backup": "conductor-us", "override": "a test"}
    assert server.client.post("/api/reservations", json=body).status_code == 201
    return week


def states(server, week):
    return [(one["target"], one["state"]) for one in server.client.get(f"/api/reservations/{week}/deliveries").json()]


def test_what_a_killed_server_had_not_sent_its_successor_sends_once(place, hook):
    hook.mood = "refuse"
    first = second = Server(place, 1, hook)
    try:
        week = reserve(first, load(place / "windows.toml", {}))
        body = {"to": "conductor-us", "note": "over to you"}
        answer = first.client.post(f"/api/reservations/{week}/handoff", json=body).json()
        assert [one["state"] for one in answer["deliveries"]] == ["skipped", "pending"]
        first.stop(signal.SIGKILL)
        hook.mood = "take"
        second = Server(place, 2, hook)
        until(lambda: states(second, week) == [("ticket", "skipped"), ("log", "sent")], within=30)
        assert len(hook.got) == 1
        again = second.client.post(f"/api/reservations/{week}/handoff", json=body).json()
        assert [one["state"] for one in again["deliveries"]] == ["skipped", "sent"]
        assert len(hook.got) == 1
    finally:
        first.stop(signal.SIGKILL)
        second.stop(signal.SIGTERM)


def test_what_a_server_was_sending_as_it_was_killed_is_unknown_and_not_sent_again(place, hook):
    hook.mood = "wait"
    first = second = Server(place, 1, hook)
    try:
        config = load(place / "windows.toml", {})
        week = reserve(first, config)
        body = {"to": "conductor-us", "note": "over to you"}

        def hand_off():
            with pytest.raises(httpx2.HTTPError):
                first.client.post(f"/api/reservations/{week}/handoff", json=body)

        caller = threading.Thread(target=hand_off)
        caller.start()
        until(lambda: hook.got)
        first.process.kill()
        caller.join()
        hook.mood = "take"
        second = Server(place, 2, hook)
        assert states(second, week) == [("ticket", "skipped"), ("log", "claimed")]
        calendar = SqlCalendar.sqlite(place / "deployments.db")
        later = datetime.now(UTC) + LEASE + timedelta(seconds=5)
        sync, room = CalendarSync(calendar, config, later), Room()
        sync.refresh(later)
        Dispatcher(sync, Destinations(channels=Channels(room, room))).send_due(later)
        calendar.close()
        until(lambda: states(second, week) == [("ticket", "skipped"), ("log", "unknown")])
        assert (len(hook.got), room.said) == (1, [])
    finally:
        first.stop(signal.SIGKILL)
        second.stop(signal.SIGTERM)
