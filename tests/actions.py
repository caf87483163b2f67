"""What is done to a week in the tests that fail on purpose, in this process or in one that gets killed."""

import os
import signal
from datetime import UTC, datetime

import sqlalchemy as sa
from samples import EU, PAIR, US, configured, person

from calsync import events
from calsync.agenda import Follower
from calsync.calendars import open_calendar
from calsync.calendars.caldav import CalDavCalendar
from calsync.planning import Pair
from calsync.reservations import Request, change, release, reserve
from calsync.weeks import Week

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WEEK = Week(2026, 49)
OTHERS = Pair(person("ana", "Europe/Berlin"), US)


def configuration(url, username=None, password=None):
    """windows.toml without standing windows, with the calendar at `url`."""
    given = {"URL": url, "USERNAME": username, "PASSWORD": password, "TIMEOUT": "5s"}
    return configured({f"CALSYNC_CALENDAR_{name}": value for name, value in given.items() if value})


def connect(config):
    """An engine, and a follower that knows what stands on its calendar."""
    calendar = open_calendar(config)
    if isinstance(calendar, CalDavCalendar):
        calendar._pause = lambda seconds: None  # nobody else writes here
    follower = Follower(calendar, config, NOW)
    follower.sync(NOW)
    return follower


def act(action, follower):
    """Reserve, change or release the week."""
    match action:
        case "reserve":
            return reserve(follower, Request(PAIR, WEEK, "1.46.0-wmf.5"), NOW)
        case "change":
            return change(follower, WEEK, lambda standing: Request(Pair(EU, OTHERS.primary), WEEK, ticket="T2"), NOW)
        case "release":
            return release(follower, WEEK, NOW)


def prepare(action, follower):
    """What must stand before the action."""
    if action != "reserve":
        act("reserve", follower)


def state(follower):
    """What stands in the week: nothing, a released week, or the pair, the ticket and the slots."""
    entry = follower.sync(NOW).reservation(WEEK)
    if entry is None:
        return None
    found = entry.reservation
    assert found is not None, entry.reading.defects
    assert not entry.changes
    if found.released:
        return "released"
    return found.pair, found.ticket, tuple(slot.id for slot in found.slots)


def act_and_die(action, config, ready, go, n=0):
    """In a process of its own: say that all is ready, wait, and act; dies at the n-th statement of SQL if n is given."""
    follower = connect(config)
    if isinstance(follower.calendar, CalDavCalendar):
        follower.calendar._is_careless()  # a server is tried out once, before
    if n:
        left = iter(range(n - 1))

        @sa.event.listens_for(follower.calendar._engine, "before_cursor_execute")
        @sa.event.listens_for(follower.calendar._engine, "commit")
        def _count(*_args):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

    ready.set()
    go.wait(30)
    act(action, follower)


