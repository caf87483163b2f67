"""calsync's app and command line as people meet them, and what they answer."""

import json
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from icalendar import Calendar
from starlette.testclient import TestClient

from calsync.web.app import create_app

MAINTENANCE = ("SUMMARY:Database maintenance", "DTSTART:20261201T193000Z", "DTEND:20261201T200000Z")
WEEK = {"week": "2026-W49", "primary": "conductor-eu", "backup": "conductor-us"}


def wish(week, n):
    """The body of a request to reserve the week for the n-th of many pairs."""
    return {
        "week": week,
        "primary": {"name": f"eu-{n}", "timezone": "Europe/Paris"},
        "backup": {"name": f"us-{n}", "timezone": "America/Denver"},
    }


@contextmanager
def served(config, calendar, now, destinations=None, **options):
    """A client of the app, which follows the calendar only when it is told to; `now` is a moment, or tells it."""
    seldom = config.calendar.model_copy(update={"refresh": timedelta(hours=1)})
    config, clock = config.model_copy(update={"calendar": seldom}), now if callable(now) else lambda: now
    app = create_app(config, calendar, clock, destinations)
    with TestClient(app, base_url="http://localhost", **options) as client:
        yield client


def problem(answer, status, name):
    """The body of a problem, whose shape is checked."""
    body = answer.json()
    assert (answer.status_code, body["type"]) == (status, f"urn:calsync:problem:{name}"), body
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body.keys() <= {"type", "title", "status", "detail", "errors", "suggestions", "conflicts", "alternatives"}
    assert "content-security-policy" in answer.headers
    return body


def events(answer):
    """The events of a feed, by UID."""
    return {str(event["UID"]): event for event in Calendar.from_ical(answer.content).events}


@dataclass
class Said:
    """How a call of the command line ended and what it printed, with every run of blanks as one."""

    code: int
    raw: str
    err: str

    @property
    def out(self):
        return " ".join(self.raw.split())

    @property
    def json(self):
        return json.loads(self.raw)
