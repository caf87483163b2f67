"""What all pages share: their templates, what stands around them, and how a refusal looks to a browser."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytz
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel, ConfigDict

from calsync.core.errors import CalsyncError, Invalid, UnknownTimezone
from calsync.core.planning import next_week
from calsync.core.settings import Config
from calsync.core.text import format_span
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.schedule.status import status_at
from calsync.web import errors
from calsync.web.pages.timeline import fitted, visible
from calsync.web.routes.feed import addresses
from calsync.web.state import AppState

_WEB = Path(__file__).parent.parent
_WEEKS_TO_PLAN = 26
"""How many weeks ahead the form for a pair offers."""


class PageRoute(APIRoute):
    """A route for people: what calsync refuses comes as a page to a browser, and as a problem to everybody else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the route, as FastAPI has it."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except (CalsyncError, RequestValidationError) as error:
                if "text/html" not in request.headers.get("accept", ""):
                    raise
                return _refused(request, error)

        return answer


templates = Jinja2Templates(_WEB / "templates")
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.filters |= {
    "visible": visible,
    "fitted": fitted,
    "clock": lambda moment: f"{moment:%H:%M}",
    "span": lambda one, tz: format_span(one.start.astimezone(tz), one.end.astimezone(tz)),
}


class ViewQuery(BaseModel):
    """The timezone to show times in."""

    model_config = ConfigDict(extra="forbid")

    tz: str = "UTC"


def view(request: Request, state: AppState, timezone: str) -> dict[str, Any]:
    """What every page of the week shows: its frame, the header of now, the timezones, the feed."""
    config, now = state.config, state.clock().astimezone(UTC)
    found = status_at(state.agenda, now)
    people = (conductor.timezone for conductor in config.conductors)
    windows = (window.timezone for window in config.train_windows)
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "tz"]
    context = page_frame(request, config, timezone)
    path = context["path"]

    def in_zone(name: str) -> str:
        return f"{path}?{urlencode([*others, ('tz', name)])}"

    return context | {
        "zone": zone(timezone),
        "timezones": list(dict.fromkeys(["UTC", *windows, *people, timezone])),
        "in_zone": in_zone,
        "others": others,
        "now": now,
        "watch": found,
        "away": state.failure,
        "weeks": plannable(config, state, now),
    }


def plannable(config: Config, state: AppState, now: datetime) -> list[tuple[Week, date, str | None]]:
    """The weeks that a pair may be planned for: each with its Monday, and why it has no train, if it has none."""
    first = next_week(config, now)
    weeks = (neighbour(first, n) for n in range(_WEEKS_TO_PLAN))
    until = state.agenda.horizon.end.date()
    return [(week, week.monday, config.declined.get(week)) for week in weeks if week and week.shift(1).monday <= until]


def page_frame(request: Request, config: Config, timezone: str) -> dict[str, Any]:
    """What stands around every page: its name, the way to the others, the feed."""
    feed = str(request.url_for("feed"))
    return {
        "config": config,
        "tz": timezone,
        "path": request.url.path.removesuffix(".svg"),
        "feed": feed,
        "addresses": addresses(feed, config.calendar.name),
    }


def _refused(request: Request, error: CalsyncError | RequestValidationError) -> Response:
    answer = errors.of(error)
    wanted = request.query_params.get("tz", "UTC")
    context = page_frame(
        request, request.app.state.calsync.config, wanted if wanted in pytz.all_timezones_set else "UTC"
    ) | {
        "message": errors.detail(error),
        "suggestions": error.suggestions if isinstance(error, UnknownTimezone) else (),
        "again": lambda name: f"{request.url.path}?{request.url.include_query_params(tz=name).query}",
    }
    kept = {name: value for name, value in answer.headers.items() if name == "retry-after"}
    return templates.TemplateResponse(request, "refused.html", context, status_code=answer.status_code, headers=kept)


def neighbour(week: Week, weeks: int) -> Week | None:
    """Return the week that many weeks later; None beyond the first and the last week there is."""
    try:
        return week.shift(weeks)
    except Invalid:
        return None
