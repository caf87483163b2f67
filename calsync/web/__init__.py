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
from calsync.agenda import Follower
from calsync.calendars import Calendar
from calsync.calendars.lastknown import last_known
from calsync.settings import Config
from calsync.web import api, health, page, pair, problems, subscribe, subscription
from calsync.web.access import RAW_HEADERS, Guard
from calsync.web.metrics import Metrics
from calsync.web.repeats import Repeats
from calsync.web.service import Clock, Service

_log = logging.getLogger("calsync")


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


def create_app(config: Config, calendar: Calendar, clock: Clock = utc_now) -> FastAPI:
    """The app; it reads the calendar as it starts, follows it while it runs, and closes it when it stops.

    Where the last known calendar is on disk, starting does not wait for the calendar's server.
    """
    metrics = Metrics()
    service = Service(config, Follower(calendar, config, clock(), last_known(config)), clock, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            synced = await asyncio.to_thread(service.start)
            following = asyncio.create_task(_follow(service, service.config.calendar.interval if synced else timedelta()))
            yield
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
        finally:
            calendar.close()

    app = FastAPI(
        title="calsync",
        version=__version__,
        summary="Puts a deployment train on the calendar.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(Repeats, service=service, always=RAW_HEADERS),
            Middleware(Guard, hosts=config.server.hosts, metrics=metrics, age=service.age),
        ],
    )
    app.state.service = service
    problems.install(app)
    for module in (api, subscription, health, page, pair, subscribe):
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
