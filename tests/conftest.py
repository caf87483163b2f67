import multiprocessing
import os
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings

from calsync.booking.reservations import reserve
from calsync.calendars.sql import SqlCalendar
from calsync.cli.main import main
from calsync.core.conductors import Pair
from calsync.core.config import load
from calsync.notifications.channels import Channels
from calsync.notifications.destinations import Destinations
from calsync.notifications.phabricator import Conduit
from calsync.schedule.check import ReservationRequest
from calsync.schedule.sync import CalendarSync
from support.conduit import TOKEN, ConduitServer
from support.engines import CALDAV, ENGINES, Place, Running, each_engine
from support.feed_server import FeedServer
from support.pair import ANA, BEN, NEAR, ROTATION, TEAM, W49, Room
from support.samples import ROOT, SHIPPED, TESTS, configured
from support.site import Said, served

for name, examples in (("fast", 25), ("all", 100)):
    settings.register_profile(
        name,
        deadline=None,
        max_examples=examples,
        derandomize="CI" in os.environ,
        # The machine may be busy, so that drawing examples takes long.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def pytest_configure(config):
    settings.load_profile("fast" if config.option.markexpr == "not heavy" else "all")


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


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with the shipped windows.toml in it."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CALSYNC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("USER", "ana")
    (tmp_path / "windows.toml").write_bytes(SHIPPED.read_bytes())
    return tmp_path


@pytest.fixture
def run(folder, capsys, now):
    """Calls calsync's command line in `folder`."""

    def call(*arguments, at=now):
        with pytest.raises(SystemExit) as stop:
            main(list(arguments), clock=lambda: at)
        said = capsys.readouterr()
        return Said(stop.value.code or 0, said.out, " ".join(said.err.split()))

    return call


@pytest.fixture
def client(config, calendar, now):
    """Speaks HTTP with the app on `calendar`."""
    with served(config, calendar, now) as client:
        yield client


@pytest.fixture
def server():
    """A ticket system."""
    server = ConduitServer()
    yield server
    server.stop()


@pytest.fixture
def room():
    return Room()


@pytest.fixture
def destinations(server, room):
    return Destinations(Conduit(server.url, TOKEN), Channels(room, room))


@pytest.fixture
def team():
    """A configuration with ana, ben and cem in its roster."""
    return configured(conductors=TEAM, calendar=NEAR)


@pytest.fixture
def known(calendar, team, now):
    """A sync of a calendar on which W49 is ana's and ben's."""
    sync = CalendarSync(calendar, team, now)
    reserve(sync, ReservationRequest(Pair(ANA, BEN), W49, "1.46.0-wmf.5", "T400001"), now)
    return sync


@pytest.fixture
def rotating(calendar, now):
    """A sync of an empty calendar, with a rotation of ana, ben and cem."""
    sync = CalendarSync(calendar, configured(conductors=TEAM, rotation=ROTATION, calendar=NEAR), now)
    sync.refresh(now)
    return sync


@pytest.fixture
def feed():
    """A server of somebody's own calendar."""
    server = FeedServer()
    yield server
    server.stop()
