import multiprocessing
import os
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings

from calsync.calendars.sql import SqlCalendar
from calsync.core.config import load
from calsync.schedule.sync import CalendarSync
from support.engines import CALDAV, ENGINES, Place, Running, each_engine
from support.samples import ROOT, SHIPPED, TESTS

settings.register_profile(
    "calsync",
    deadline=None,
    max_examples=100,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("calsync")


@pytest.fixture(scope="session")
def processes():
    """Makes processes that have imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.actions"])
    with pytest.MonkeyPatch.context() as patch:  # the server of forks knows no path of this process's
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{TESTS}")
        first = context.Process(target=int)
        first.start()
        first.join()
    return context


@pytest.fixture
def config(tmp_path):
    return load(SHIPPED, {"CALSYNC_CALENDAR_URL": f"sqlite:///{tmp_path}/deployments.db"})


@pytest.fixture
def now():
    return datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def calendar(tmp_path):
    calendar = SqlCalendar.sqlite(tmp_path / "deployments.db")
    yield calendar
    calendar.close()


@pytest.fixture
def sync(calendar, config, now):
    return CalendarSync(calendar, config, now)


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    with ExitStack() as stack:
        yield Running(stack, tmp_path_factory.mktemp)


@pytest.fixture(params=each_engine(*ENGINES))
def place(request, running, tmp_path):
    """A fresh calendar, on each engine in turn."""
    with Place(request.param, running, tmp_path) as place:
        yield place


@pytest.fixture(params=each_engine(*CALDAV))
def caldav(request, running, tmp_path):
    """A fresh calendar, on each CalDAV server in turn."""
    with Place(request.param, running, tmp_path) as place:
        yield place


@pytest.fixture
def unruly(running, tmp_path):
    """A fresh calendar on the worst CalDAV server; `unruly.control("switch", …)` makes it better, or worse still."""
    with Place("unruly", running, tmp_path) as place:
        yield place
