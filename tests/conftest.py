import multiprocessing
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from places import Places

from calsync.agenda import Follower
from calsync.calendars.sql import SqlCalendar
from calsync.config import load

ROOT = Path(__file__).parent.parent

settings.register_profile(
    "calsync",
    deadline=None,
    max_examples=100,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("calsync")


@pytest.fixture(scope="session")
def places(tmp_path_factory):
    places = Places(tmp_path_factory.mktemp)
    yield places
    places.close()


@pytest.fixture(scope="session")
def processes():
    """Makes processes that have imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["actions"])
    with pytest.MonkeyPatch.context() as patch:  # the server of forks knows no path of this process's
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        first = context.Process(target=int)
        first.start()
        first.join()
    return context


@pytest.fixture
def config(tmp_path):
    return load(ROOT / "windows.toml", {"CALSYNC_CALENDAR_URL": f"sqlite:///{tmp_path}/deployments.db"})


@pytest.fixture
def now():
    return datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def calendar(tmp_path):
    calendar = SqlCalendar.sqlite(tmp_path / "deployments.db")
    yield calendar
    calendar.close()


@pytest.fixture
def follower(calendar, config, now):
    return Follower(calendar, config, now)
