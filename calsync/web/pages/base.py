"""What all pages share: their templates, what these need, and errors as pages."""

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
"""How many weeks the form for a pair offers."""


class PageRoute(APIRoute):
    """A route for people: browsers get an error as a page, all other clients as a problem."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler of the route."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except (CalsyncError, RequestValidationError) as error:
                if "text/html" not in request.headers.get("accept", ""):
                    raise
                return _error_page(request, error)

        return answer


templates = Jinja2Templates(_WEB / "templates")
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.filters |= {
    "visible": visible,
    "fitted": fitted,
    "clock": lambda moment: f"{moment:%H:%M}",
    "span": lambda place, tz: format_span(place.start.astimezone(tz), place.end.astimezone(tz)),
}


class ViewQuery(BaseModel):
    """The timezone to show times in."""

    model_config = ConfigDict(extra="forbid")

    tz: str = "UTC"


def base_context(request: Request, config: Config, timezone: str) -> dict[str, Any]:
    """Return what `base.html` needs: the calendar's name, the timezone and the path of the page, and the feed."""
    feed = str(request.url_for("feed"))
    return {
        "config": config,
        "tz": timezone,
        "path": request.url.path.removesuffix(".svg"),
        "feed": feed,
        "addresses": addresses(feed, config.calendar.name),
    }


def page_context(request: Request, state: AppState, timezone: str) -> dict[str, Any]:
    """Return what every page needs besides: what runs now, the timezones to choose from, and the weeks to plan."""
    config, now = state.config, state.clock().astimezone(UTC)
    people = (conductor.timezone for conductor in config.conductors)
    windows = (window.timezone for window in config.train_windows)
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "tz"]
    context = base_context(request, config, timezone)
    path = context["path"]

    def in_zone(name: str) -> str:
        return f"{path}?{urlencode([*others, ('tz', name)])}"

    return context | {
        "zone": zone(timezone),
        "timezones": list(dict.fromkeys(["UTC", *windows, *people, timezone])),
        "in_zone": in_zone,
        "others": others,
        "now": now,
        "status": status_at(state.agenda, now),
        "away": state.failure,
        "weeks": _weeks_to_plan(state, now),
    }


def _weeks_to_plan(state: AppState, now: datetime) -> list[tuple[Week, date, str | None]]:
    """Return the weeks to plan a pair for, each with its Monday and the reason if it has no train."""
    first = next_week(state.config, now)
    weeks = (neighbour(first, n) for n in range(_WEEKS_TO_PLAN))
    until = state.agenda.horizon.end.date()
    declined = state.config.declined
    return [(week, week.monday, declined.get(week)) for week in weeks if week and week.shift(1).monday <= until]


def _error_page(request: Request, error: CalsyncError | RequestValidationError) -> Response:
    answer = errors.of(error)
    asked = request.query_params.get("tz", "UTC")
    timezone = asked if asked in pytz.all_timezones_set else "UTC"
    context = base_context(request, request.app.state.calsync.config, timezone) | {
        "message": errors.detail(error),
        "suggestions": error.suggestions if isinstance(error, UnknownTimezone) else (),
        "again": lambda name: f"{request.url.path}?{request.url.include_query_params(tz=name).query}",
    }
    headers = {name: value for name, value in answer.headers.items() if name == "retry-after"}
    return templates.TemplateResponse(request, "refused.html", context, status_code=answer.status_code, headers=headers)


def neighbour(week: Week, weeks: int) -> Week | None:
    """Return the week that is `weeks` later, or None before the first and after the last possible week."""
    try:
        return week.shift(weeks)
    except Invalid:
        return None
