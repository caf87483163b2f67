"""The FastAPI app: JSON API, feed, page, health. `create_app` puts it together around one calendar and one clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI
from starlette.middleware import Middleware

from calsync import __version__
from calsync.busy import EVERY, Feeds
from calsync.calendars import Calendar
from calsync.calendars.lastknown import last_known
from calsync.errors import CalendarError
from calsync.follower import Follower
from calsync.ports import Ports, absent
from calsync.settings import Config
from calsync.web import api, conflicts_api, health, page, pair, problems, subscribe, subscription, week_api
from calsync.web.access import RAW_HEADERS, Guard
from calsync.web.metrics import Metrics
from calsync.web.repeats import Repeats
from calsync.web.service import Clock, Service

_log = logging.getLogger("calsync")


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


def create_app(config: Config, calendar: Calendar, clock: Clock = utc_now, ports: Ports | None = None) -> FastAPI:
    """The app; it reads the calendar as it starts, follows it while it runs, and closes it when it stops.

    Where the last known calendar is on disk, starting does not wait for the calendar's server. `ports` are where messages
    go; those of the configuration, if left out.
    """
    metrics = Metrics()
    follower = Follower(calendar, config, clock(), last_known(config))
    service = Service(config, follower, clock, metrics, ports or Ports.of(config))
    for sentence in absent(config):
        _log.warning("%s", sentence)
    feeds = Feeds(config)
    follower.busy = feeds.known(follower.agenda.horizon, clock())

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            synced = await asyncio.to_thread(service.start)
            following = _follow(service, service.config.calendar.interval if synced else timedelta())
            tasks = [asyncio.create_task(one) for one in (following, _read_feeds(service, feeds), _deliver(service))]
            yield
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        finally:
            calendar.close()

    app = FastAPI(
        title="calsync",
        version=__version__,
        summary="Puts a deployment train on the calendar.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"metrics": False, "logs": False},  # /metrics and the log are calsync's own
        middleware=[
            Middleware(Repeats, service=service, always=RAW_HEADERS),
            Middleware(Guard, hosts=config.server.hosts, metrics=metrics, age=service.age),
        ],
    )
    app.state.service = service
    problems.install(app)
    for module in (api, conflicts_api, week_api, subscription, health, page, pair, subscribe):
        app.include_router(module.router)
    app.mount("/static", page.static, name="static")
    app.mount("/swagger", page.swagger, name="swagger")
    problems.describe(app)
    return app


async def _follow(service: Service, wait: timedelta) -> None:
    while True:
        await asyncio.sleep(wait.total_seconds())
        try:
            await asyncio.to_thread(service.refresh)
        except Exception:  # a defect must not freeze the agenda for good
            _log.exception("the agenda was not refreshed")
        wait = service.config.calendar.interval


async def _read_feeds(service: Service, feeds: Feeds) -> None:
    while True:
        try:
            horizon = service.follower.agenda.horizon
            service.follower.busy = await asyncio.to_thread(feeds.refresh, horizon, service.clock())
        except Exception:  # as above
            _log.exception("the busy feeds were not read")
        await asyncio.sleep(EVERY.total_seconds())


async def _deliver(service: Service) -> None:
    """Send what could not be sent before, here or by a process that has ended."""
    while True:
        now = service.clock()
        try:
            await asyncio.to_thread(service.courier.settle, now)
        except CalendarError:
            pass  # refresh says so
        except Exception:  # as above
            _log.exception("messages were not delivered")
        pause = service.courier.pause(now) - (service.clock() - now).total_seconds()
        await asyncio.sleep(max(0.0, pause))
