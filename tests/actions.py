"""What is done to a week in the tests that fail on purpose, in this process or in one that gets killed."""

import os
import signal
from datetime import UTC, datetime

import psycopg  # noqa: F401 — so that a process that is forked has it
import sqlalchemy as sa
import uvicorn
from samples import PAIR, US, person

from calsync.calendars import open_calendar
from calsync.calendars.caldav import CalDavCalendar
from calsync.follower import Follower
from calsync.planning import Pair
from calsync.reservations import Request, change, release, reserve
from calsync.web import create_app
from calsync.weeks import Week

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WEEKS = [Week(2027, 1).shift(n) for n in range(50)]
QUICK = {"timeout": "20s", "refresh": "1s"}
ANA = person("ana", "Europe/Berlin")


def connect(config, careless=None):
    """An engine, and a follower that knows what stands on its calendar; `careless` is what is known of a CalDAV server."""
    calendar = open_calendar(config)
    if isinstance(calendar, CalDavCalendar):
        calendar._pause = lambda seconds: None  # nobody else writes here
        calendar._careless = careless
        calendar._is_careless()  # a server is tried out once, before what is tested
    follower = Follower(calendar, config, NOW)
    follower.sync(NOW)
    return follower


def act(action, follower, week):
    """Reserve, change or release the week."""
    match action:
        case "reserve":
            return reserve(follower, Request(PAIR, week, "1.46.0-wmf.5"), NOW)
        case "change":
            return change(follower, week, lambda standing: Request(Pair(ANA, US), week, ticket="T2"), NOW)
        case "release":
            return release(follower, week, NOW)


def prepare(action, follower, week):
    """What must stand before the action."""
    if action != "reserve":
        act("reserve", follower, week)


def state(follower, week):
    """What stands in the week: nothing, a released week, or the pair, the ticket and how many slots."""
    entry = follower.sync(NOW).reservation(week)
    if entry is None:
        return None
    found = entry.reservation
    assert found is not None, entry.reading.defects
    assert not entry.changes
    return "released" if found.released else (found.pair, found.ticket, len(found.slots))


def act_and_die(action, config, careless, week, ready, go, n=0):
    """In a process of its own: say that all is ready, wait, and act; dies at the n-th statement of SQL if n is given."""
    follower = connect(config, careless)
    if n:
        left = iter(range(n - 1))

        @sa.event.listens_for(follower.calendar._engine, "before_cursor_execute")
        @sa.event.listens_for(follower.calendar._engine, "commit")
        def _count(*_args):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

    ready.set()
    go.wait(30)
    act(action, follower, week)


def serve(config, port):
    """In a process of its own: a replica of the service."""
    uvicorn.run(create_app(config, open_calendar(config), lambda: NOW), port=port, log_level="critical")
