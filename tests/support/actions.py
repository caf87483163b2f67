"""What is done to a week in the tests that fail on purpose, in this process or in one that gets killed."""

import os
import signal
from datetime import UTC, datetime

import psycopg  # noqa: F401 — so that a process that is forked has it
import sqlalchemy as sa
import uvicorn

from calsync.booking.reservations import change, release, reserve
from calsync.calendars.caldav.calendar import CalDavCalendar
from calsync.calendars.open import open_calendar
from calsync.core.conductors import Pair
from calsync.core.weeks import Week
from calsync.schedule.check import ReservationRequest
from calsync.schedule.sync import CalendarSync
from calsync.web.app import create_app
from support.processes import PATIENCE
from support.samples import PAIR, US, person

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WEEKS = [Week(2027, 1).shift(n) for n in range(50)]
QUICK = {"timeout": "60s", "refresh": "1s"}
ANA = person("ana", "Europe/Berlin")


def connect(config, ignores_preconditions=None):
    """An engine, and a sync that has read its calendar; `ignores_preconditions` is what is known of a CalDAV server."""
    calendar = open_calendar(config)
    if isinstance(calendar, CalDavCalendar):
        calendar._pause = lambda seconds: None  # nobody else writes here
        calendar._ignores_preconditions = ignores_preconditions
        calendar._server_ignores_preconditions()  # a server is tried out once, before what is tested
    sync = CalendarSync(calendar, config, NOW)
    sync.refresh(NOW)
    return sync


def act(action, sync, week):
    """Reserve, change or release the week."""
    match action:
        case "reserve":
            return reserve(sync, ReservationRequest(PAIR, week, "1.46.0-wmf.5"), NOW)
        case "change":
            return change(sync, week, lambda standing: ReservationRequest(Pair(ANA, US), week, ticket="T2"), NOW)
        case "release":
            return release(sync, week, NOW)


def prepare(action, sync, week):
    """What must stand before the action."""
    if action != "reserve":
        act("reserve", sync, week)


def state(sync, week):
    """What stands in the week: nothing, a released week, or the pair, the ticket and how many slots."""
    entry = sync.refresh(NOW).reservation(week)
    if entry is None:
        return None
    found = entry.reservation
    assert found is not None, entry.reading.defects
    assert not entry.changes
    return "released" if found.released else (found.pair, found.ticket, len(found.slots))


def act_and_die(action, config, ignores_preconditions, week, ready, go, n=0):
    """In a process of its own: say that all is ready, wait, and act; dies at the n-th statement of SQL if n is given."""
    sync = connect(config, ignores_preconditions)
    if n:
        left = iter(range(n - 1))

        @sa.event.listens_for(sync.calendar._engine, "before_cursor_execute")
        @sa.event.listens_for(sync.calendar._engine, "commit")
        def _count(*_args):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

    ready.set()
    go.wait(PATIENCE)
    act(action, sync, week)


def serve(config, port):
    """In a process of its own: a replica of the service."""
    uvicorn.run(create_app(config, open_calendar(config), lambda: NOW), port=port, log_level="critical")
