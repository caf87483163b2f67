"""What people look at: the week as a page and as a picture, rendered on the server; and GET /docs, the API to try out."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import fastapi_offline
import pytz
from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.routing import APIRoute
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel, ConfigDict
from starlette.staticfiles import StaticFiles

from calsync.conflicts import when
from calsync.errors import CalsyncError, Invalid, UnknownTimezone
from calsync.events import ticket_link
from calsync.planning import next_week
from calsync.records import Reservation
from calsync.settings import Config
from calsync.watch import watch
from calsync.web import problems
from calsync.web.happenings import scene, shifts
from calsync.web.panel import panel
from calsync.web.picture import LANE, LEFT, TRACK, frames
from calsync.web.problems import documented
from calsync.web.service import Service, TheService
from calsync.web.subscription import addresses
from calsync.web.timeline import MOST_STEPS, fitted, lay_out, visible
from calsync.weeks import Week
from calsync.windows import train_windows
from calsync.zones import zone

_HERE = Path(__file__).parent
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


router = APIRouter(include_in_schema=False, responses=documented(421, 422), route_class=PageRoute)
templates = Jinja2Templates(_HERE / "templates")
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.filters |= {
    "visible": visible,
    "fitted": fitted,
    "clock": lambda moment: f"{moment:%H:%M}",
    "span": lambda one, tz: when(one.start.astimezone(tz), one.end.astimezone(tz)),
}
static = StaticFiles(directory=_HERE / "static")
swagger = StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static")


class ViewQuery(BaseModel):
    """The timezone to show times in."""

    model_config = ConfigDict(extra="forbid")

    tz: str = "UTC"


class HomeQuery(ViewQuery):
    """A week may be asked for here too; it has a page of its own."""

    week: str | None = None


@router.head("/")
@router.get("/")
def home(query: Annotated[HomeQuery, Query()], request: Request, service: TheService) -> Response:
    """The week to come; or the one whose train is under way."""
    zone(query.tz)
    if query.week is not None:
        return _redirect(Week.parse(query.week), request)
    return _week_page(request, service, _current(service), query.tz)


@router.get("/week/{week}.svg")
def picture(week: str, query: Annotated[ViewQuery, Query()], request: Request, service: TheService) -> Response:
    """The timeline of a week as a picture, for a wiki or a ticket."""
    zone(query.tz)
    which = Week.parse(week)
    context = view(request, service, query.tz) | week_context(service, which, query.tz)
    context |= {"frames": frames(context["days"]), "left": LEFT, "track": TRACK, "lane": LANE}
    return templates.TemplateResponse(
        request, "picture.xml", context, media_type="image/svg+xml", headers={"Cache-Control": "no-cache"}
    )


@router.head("/week/{week}")
@router.get("/week/{week}")
def week_page(week: str, query: Annotated[ViewQuery, Query()], request: Request, service: TheService) -> Response:
    """One week: who conducts, what else is deployed, what conflicts."""
    zone(query.tz)
    which = Week.parse(week)
    if week != str(which):
        return _redirect(which, request)
    return _week_page(request, service, which, query.tz)


@router.get("/docs")
def docs(request: Request) -> Response:
    """The API, to read and to try out."""
    return templates.TemplateResponse(request, "docs.html")


@router.get("/grid.css")
def grid() -> Response:
    """Where each step of the timeline is: a style sheet, since the page may have no style attributes."""
    return Response(_grid(), media_type="text/css", headers={"Cache-Control": "public, max-age=86400"})


@router.head("/favicon.ico")
@router.get("/favicon.ico")
def favicon() -> Response:
    """The icon, for those who look for it beside what is no page, such as a picture or a feed."""
    return FileResponse(_HERE / "static" / "icon.svg", headers={"Cache-Control": "public, max-age=86400"})


@router.get("/zones.json")
def zones() -> Response:
    """The timezones to choose from, for the page's fields."""
    return Response(_zones(), media_type="application/json", headers={"Cache-Control": "public, max-age=86400"})


def view(request: Request, service: Service, timezone: str) -> dict[str, Any]:
    """What every page of the week shows: its frame, the header of now, the timezones, the feed."""
    config, now = service.config, service.clock().astimezone(UTC)
    found = watch(config, service.agenda, now)
    people = (conductor.timezone for conductor in config.conductors)
    windows = (window.timezone for window in train_windows(config))
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "tz"]
    context = _frame(request, config, timezone)
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
        "away": service.failure,
        "weeks": plannable(config, service, now),
    }


def week_context(service: Service, week: Week, timezone: str) -> dict[str, Any]:
    """What the page and the picture of a week show."""
    config, agenda = service.config, service.agenda
    found = scene(config, agenda, week, timezone)
    entry = agenda.reservation(week)
    held = entry.reservation if entry and entry.reservation and not entry.reservation.released else None
    working = shifts(held.pair, found.start, found.end) if held else ()
    return {
        "week": week,
        "before": _neighbour(week, -1),
        "after": _neighbour(week, 1),
        "known": agenda.covers(found.start, found.end),
        "days": lay_out(week, timezone, found.happenings, working, service.clock()),
        "reservation": held,
        "ticket_url": ticket_link(held.ticket, config.train.ticket_url) if held else None,
        "unreadable": entry is not None and entry.reservation is None,
        "changes": entry.changes if entry and held else (),
        "declined": config.declined.get(week),
        "conflicts": found.conflicts,
        "chosen": {"week": str(week)},
    }


def plannable(config: Config, service: Service, now: datetime) -> list[tuple[Week, date, str | None]]:
    """The weeks that a pair may be planned for: each with its Monday, and why it has no train, if it has none."""
    first = next_week(config, now)
    weeks = (_neighbour(first, n) for n in range(_WEEKS_TO_PLAN))
    until = service.agenda.horizon.end.date()
    return [(week, week.monday, config.declined.get(week)) for week in weeks if week and week.shift(1).monday <= until]


def _week_page(request: Request, service: Service, week: Week, timezone: str) -> Response:
    context = view(request, service, timezone) | week_context(service, week, timezone)
    context["panel"] = panel(service, service.clock())
    return templates.TemplateResponse(request, "week.html", context, headers={"Cache-Control": "no-cache"})


def _current(service: Service) -> Week:
    """The week whose train is under way, if somebody holds it; the next one whose train has not begun otherwise."""
    now = service.clock().astimezone(UTC)
    this = Week.containing(now.date())
    entry = service.agenda.reservation(this)
    held: Reservation | None = entry.reservation if entry else None
    if held is not None and not held.released and any(slot.end > now for slot in held.slots):
        return this
    return next_week(service.config, now)


def _redirect(week: Week, request: Request) -> Response:
    kept = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "week"])
    return RedirectResponse(f"/week/{week}" + (f"?{kept}" if kept else ""))


def _frame(request: Request, config: Config, timezone: str) -> dict[str, Any]:
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
    answer = problems.of(error)
    wanted = request.query_params.get("tz", "UTC")
    context = _frame(request, request.app.state.service.config, wanted if wanted in pytz.all_timezones_set else "UTC") | {
        "message": problems.detail(error),
        "suggestions": error.suggestions if isinstance(error, UnknownTimezone) else (),
        "again": lambda name: f"{request.url.path}?{request.url.include_query_params(tz=name).query}",
    }
    kept = {name: value for name, value in answer.headers.items() if name == "retry-after"}
    return templates.TemplateResponse(request, "refused.html", context, status_code=answer.status_code, headers=kept)


def _neighbour(week: Week, weeks: int) -> Week | None:
    try:
        return week.shift(weeks)
    except Invalid:
        return None


@cache
def _grid() -> str:
    names = {"a": "first", "b": "last", "l": "left", "r": "right", "n": "steps"}
    steps = range(MOST_STEPS + 1)
    places = "".join(f".{short}{step}{{--{name}:{step}}}" for short, name in names.items() for step in steps)
    # A lane beyond these is found by the browser, which packs a grid as densely as it can.
    return places + "".join(f".w{lane}{{grid-row:{lane + 1}}}" for lane in steps)


@cache
def _zones() -> str:
    return json.dumps(pytz.common_timezones, separators=(",", ":"))
