"""What people look at: the week as a page and as a picture, rendered on the server; and GET /docs, the API to try out."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from calsync.core.planning import next_week
from calsync.core.reservation import Reservation
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.ical.reservation import ticket_link
from calsync.web.errors import documented
from calsync.web.pages.base import PageRoute, ViewQuery, neighbour, templates, view
from calsync.web.pages.header import header
from calsync.web.pages.svg import LANE, LEFT, TRACK, day_boxes
from calsync.web.pages.timeline import lay_out
from calsync.web.pages.week_view import week_events, working_days
from calsync.web.state import AppState, State

router = APIRouter(include_in_schema=False, responses=documented(421, 422), route_class=PageRoute)


class HomeQuery(ViewQuery):
    """A week may be asked for here too; it has a page of its own."""

    week: str | None = None


@router.head("/")
@router.get("/")
def home(query: Annotated[HomeQuery, Query()], request: Request, state: State) -> Response:
    """The week to come; or the one whose train is under way."""
    zone(query.tz)
    if query.week is not None:
        return _redirect(Week.parse(query.week), request)
    return _week_page(request, state, _current(state), query.tz)


@router.get("/week/{week}.svg")
def picture(week: str, query: Annotated[ViewQuery, Query()], request: Request, state: State) -> Response:
    """The timeline of a week as a picture, for a wiki or a ticket."""
    zone(query.tz)
    which = Week.parse(week)
    context = view(request, state, query.tz) | week_context(state, which, query.tz)
    context |= {"frames": day_boxes(context["days"]), "left": LEFT, "track": TRACK, "lane": LANE}
    return templates.TemplateResponse(
        request, "picture.xml", context, media_type="image/svg+xml", headers={"Cache-Control": "no-cache"}
    )


@router.head("/week/{week}")
@router.get("/week/{week}")
def week_page(week: str, query: Annotated[ViewQuery, Query()], request: Request, state: State) -> Response:
    """One week: who conducts, what else is deployed, what conflicts."""
    zone(query.tz)
    which = Week.parse(week)
    if week != str(which):
        return _redirect(which, request)
    return _week_page(request, state, which, query.tz)


def week_context(state: AppState, week: Week, timezone: str) -> dict[str, Any]:
    """What the page and the picture of a week show."""
    config, agenda = state.config, state.agenda
    found = week_events(agenda, week, timezone)
    entry = agenda.reservation(week)
    held = entry.reservation if entry and entry.reservation and not entry.reservation.released else None
    working = working_days(held.pair, found.start, found.end) if held else ()
    return {
        "week": week,
        "before": neighbour(week, -1),
        "after": neighbour(week, 1),
        "known": agenda.covers(found.start, found.end),
        "days": lay_out(week, timezone, found.happenings, working, state.clock()),
        "reservation": held,
        "ticket_url": ticket_link(held.ticket, config.train.ticket_url) if held else None,
        "unreadable": entry is not None and entry.reservation is None,
        "changes": entry.changes if entry and held else (),
        "declined": config.declined.get(week),
        "conflicts": found.conflicts,
        "chosen": {"week": str(week)},
    }


def _week_page(request: Request, state: AppState, week: Week, timezone: str) -> Response:
    context = view(request, state, timezone) | week_context(state, week, timezone)
    context["panel"] = header(state, state.clock())
    return templates.TemplateResponse(request, "week.html", context, headers={"Cache-Control": "no-cache"})


def _current(state: AppState) -> Week:
    """The week whose train is under way, if somebody holds it; the next one whose train has not begun otherwise."""
    now = state.clock().astimezone(UTC)
    this = Week.containing(now.date())
    entry = state.agenda.reservation(this)
    held: Reservation | None = entry.reservation if entry else None
    if held is not None and not held.released and any(slot.end > now for slot in held.slots):
        return this
    return next_week(state.config, now)


def _redirect(week: Week, request: Request) -> Response:
    kept = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "week"])
    return RedirectResponse(f"/week/{week}" + (f"?{kept}" if kept else ""))
