"""The FastAPI app: JSON API, feed, pages, health. `create_app` builds it around one calendar and one clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI
from starlette.middleware import Middleware

from calsync import __version__
from calsync.calendars.base import Calendar
from calsync.calendars.cache import open_cache
from calsync.core.errors import CalendarError
from calsync.core.settings import Config
from calsync.notifications.destinations import Destinations, missing_secrets
from calsync.schedule.busy_feeds import EVERY, Feeds
from calsync.schedule.sync import CalendarSync
from calsync.web import errors
from calsync.web.cache import AnswerCache
from calsync.web.metrics import Metrics
from calsync.web.middleware import Guard
from calsync.web.pages import assets, plan, subscribe
from calsync.web.pages import week as week_page
from calsync.web.routes import conflicts, feed, health, reservations, status, week
from calsync.web.state import AppState, Clock

_log = logging.getLogger("calsync")


def utc_now() -> datetime:
    """Return the time (aware)."""
    return datetime.now(UTC)


def create_app(
    config: Config, calendar: Calendar, clock: Clock = utc_now, destinations: Destinations | None = None
) -> FastAPI:
    """Return the app, which reads the calendar when it starts, follows it while it runs, and closes it when it stops.

    If the last known calendar is on disk, starting does not wait for the calendar's server. Messages go to `destinations`,
    or to those of the configuration.
    """
    metrics = Metrics()
    sync = CalendarSync(calendar, config, clock(), open_cache(config))
    state = AppState(config, sync, clock, metrics, destinations or Destinations.of(config))
    for sentence in missing_secrets(config):
        _log.warning("%s", sentence)
    feeds = Feeds(config)
    sync.busy = feeds.cached(sync.agenda.horizon, clock())

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            synced = await asyncio.to_thread(state.start)
            wait = config.calendar.interval if synced else timedelta()
            loops = (_follow(state, wait), _read_feeds(state, feeds), _deliver(state))
            tasks = [asyncio.create_task(loop) for loop in loops]
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
        telemetry={"metrics": False, "logs": False},  # calsync has its own /metrics and log
        middleware=[
            Middleware(Guard, hosts=config.server.hosts, metrics=metrics, age=state.age),
            Middleware(AnswerCache, state=state),
        ],
    )
    app.state.calsync = state
    errors.install(app)
    routes = (reservations, conflicts, status, week, feed, health)
    for module in (*routes, assets, week_page, plan, subscribe):
        app.include_router(module.router)
    app.mount("/static", assets.static, name="static")
    app.mount("/swagger", assets.swagger, name="swagger")
    errors.describe(app)
    return app


async def _follow(state: AppState, wait: timedelta) -> None:
    """Take in what changes on the calendar; wait at first for `wait`."""
    while True:
        await asyncio.sleep(wait.total_seconds())
        try:
            await asyncio.to_thread(state.refresh)
        except Exception:  # a defect must not end the loop
            _log.exception("refreshing the agenda failed")
        wait = state.config.calendar.interval


async def _read_feeds(state: AppState, feeds: Feeds) -> None:
    """Refresh people's busy feeds."""
    while True:
        try:
            horizon = state.sync.agenda.horizon
            state.sync.busy = await asyncio.to_thread(feeds.refresh, horizon, state.clock())
        except Exception:  # as above
            _log.exception("reading the busy feeds failed")
        await asyncio.sleep(EVERY.total_seconds())


async def _deliver(state: AppState) -> None:
    """Send the messages that are due, including those of processes that have ended."""
    while True:
        now = state.clock()
        try:
            await asyncio.to_thread(state.dispatcher.send_due, now)
        except CalendarError:
            pass  # refresh logs it
        except Exception:  # as above
            _log.exception("delivering messages failed")
        pause = state.dispatcher.pause(now) - (state.clock() - now).total_seconds()
        await asyncio.sleep(max(0.0, pause))
