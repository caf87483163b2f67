"""Real servers killed between two steps of a hand-off, with a channel over real HTTP."""

import http.server
import json
import signal
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from calsync.calendars.sql import SqlCalendar
from calsync.core.config import load
from calsync.core.delivery import LEASE
from calsync.core.planning import next_week
from calsync.notifications.channels import Channels
from calsync.notifications.destinations import Destinations
from calsync.notifications.dispatcher import Dispatcher
from calsync.schedule.sync import CalendarSync
from support.pair import Room
from support.processes import PATIENCE, Server, until
from support.samples import SHIPPED

pytestmark = pytest.mark.heavy


class Hook(http.server.BaseHTTPRequestHandler):
    """A channel that refuses, keeps whoever speaks waiting, or takes what it is told."""

    server: Any

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["message"]
        if self.server.mood != "refuse":
            self.server.got.append(message)
        if self.server.mood == "wait":
            self.server.over.wait(PATIENCE)
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


def serve(place, hook):
    return Server(place, CALSYNC_NOTIFY_OPERATIONS=f"json://127.0.0.1:{hook.server_port}/")


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
    first = second = serve(place, hook)
    try:
        week = reserve(first, load(place / "windows.toml", {}))
        body = {"to": "conductor-us", "note": "over to you"}
        answer = first.client.post(f"/api/reservations/{week}/handoff", json=body).json()
        assert [one["state"] for one in answer["deliveries"]] == ["skipped", "pending"]
        first.stop(signal.SIGKILL)
        hook.mood = "take"
        second = serve(place, hook)
        until(lambda: states(second, week) == [("ticket", "skipped"), ("log", "sent")], "the successor sends it")
        assert len(hook.got) == 1
        again = second.client.post(f"/api/reservations/{week}/handoff", json=body).json()
        assert [one["state"] for one in again["deliveries"]] == ["skipped", "sent"]
        assert len(hook.got) == 1
    finally:
        first.close()
        second.close()


def test_what_a_server_was_sending_as_it_was_killed_is_unknown_and_not_sent_again(place, hook):
    hook.mood = "wait"
    first = second = serve(place, hook)
    try:
        config = load(place / "windows.toml", {})
        week = reserve(first, config)
        body = {"to": "conductor-us", "note": "over to you"}

        def hand_off():
            with pytest.raises(httpx2.HTTPError):
                first.client.post(f"/api/reservations/{week}/handoff", json=body)

        caller = threading.Thread(target=hand_off)
        caller.start()
        until(lambda: hook.got, "the channel is spoken to")
        first.process.kill()
        caller.join()
        hook.mood = "take"
        second = serve(place, hook)
        assert states(second, week) == [("ticket", "skipped"), ("log", "claimed")]
        calendar = SqlCalendar.sqlite(place / "deployments.db")
        later = datetime.now(UTC) + LEASE + timedelta(seconds=5)
        sync, room = CalendarSync(calendar, config, later), Room()
        sync.refresh(later)
        Dispatcher(sync, Destinations(channels=Channels(room, room))).send_due(later)
        calendar.close()
        until(lambda: states(second, week) == [("ticket", "skipped"), ("log", "unknown")], "it is unknown")
        assert (len(hook.got), room.said) == (1, [])
    finally:
        first.close()
        second.close()
