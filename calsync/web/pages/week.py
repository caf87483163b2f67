"""The week as a page and as a picture."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from calsync.core.planning import next_week
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.ical.reservation import ticket_link
from calsync.web.errors import documented
from calsync.web.pages.base import PageRoute, ViewQuery, neighbour, page_context, templates
from calsync.web.pages.svg import LANE, LEFT, TRACK, day_boxes
from calsync.web.pages.team import team_at
from calsync.web.pages.timeline import lay_out
from calsync.web.pages.week_view import week_events, working_days
from calsync.web.state import AppState, State

router = APIRouter(include_in_schema=False, responses=documented(421, 422), route_class=PageRoute)


class HomeQuery(ViewQuery):
    """A `week` leads to the page of that week."""

    week: str | None = None


@router.head("/")
@router.get("/")
def home(query: Annotated[HomeQuery, Query()], request: Request, state: State) -> Response:
    """Return the page of the week whose train is under way, or of the next week."""
    zone(query.tz)
    if query.week is not None:
        return _redirect(Week.parse(query.week), request)
    return _week_page(request, state, _current(state), query.tz)


@router.get("/week/{week}.svg")
def picture(week: str, query: Annotated[ViewQuery, Query()], request: Request, state: State) -> Response:
    """Return the timeline of a week as a picture, for a wiki or a ticket."""
    zone(query.tz)
    which = Week.parse(week)
    context = page_context(request, state, query.tz) | _week_context(state, which, query.tz)
    context |= {"boxes": day_boxes(context["days"]), "left": LEFT, "track": TRACK, "lane": LANE}
    return templates.TemplateResponse(
        request, "picture.xml", context, media_type="image/svg+xml", headers={"Cache-Control": "no-cache"}
    )


@router.head("/week/{week}")
@router.get("/week/{week}")
def week_page(week: str, query: Annotated[ViewQuery, Query()], request: Request, state: State) -> Response:
    """Return the page of one week: who conducts, what else is deployed, and the conflicts."""
    zone(query.tz)
    which = Week.parse(week)
    if week != str(which):
        return _redirect(which, request)
    return _week_page(request, state, which, query.tz)


def _week_context(state: AppState, week: Week, timezone: str) -> dict[str, Any]:
    """Return what the page and the picture of a week need besides."""
    config, agenda = state.config, state.agenda
    shown = week_events(agenda, week, timezone)
    stored = agenda.reservation(week)
    reservation = stored.reservation if stored and stored.reservation and not stored.reservation.released else None
    working = working_days(reservation.pair, shown.start, shown.end) if reservation else ()
    return {
        "week": week,
        "before": neighbour(week, -1),
        "after": neighbour(week, 1),
        "in_horizon": agenda.covers(shown.start, shown.end),
        "days": lay_out(week, timezone, shown.events, working, state.clock()),
        "reservation": reservation,
        "ticket_url": ticket_link(reservation.ticket, config.train.ticket_url) if reservation else None,
        "unreadable": stored is not None and stored.reservation is None,
        "changes": stored.changes if stored and reservation else (),
        "declined": config.declined.get(week),
        "conflicts": shown.conflicts,
        "chosen": {"week": str(week)},
    }


def _week_page(request: Request, state: AppState, week: Week, timezone: str) -> Response:
    context = page_context(request, state, timezone) | _week_context(state, week, timezone)
    context["team"] = team_at(state, state.clock())
    return templates.TemplateResponse(request, "week.html", context, headers={"Cache-Control": "no-cache"})


def _current(state: AppState) -> Week:
    """Return this week while its reserved train is under way; otherwise the next one whose train has not begun."""
    now = state.clock().astimezone(UTC)
    this_week = Week.containing(now.date())
    stored = state.agenda.reservation(this_week)
    reservation = stored.reservation if stored else None
    if reservation is not None and not reservation.released and reservation.ahead(now):
        return this_week
    return next_week(state.config, now)


def _redirect(week: Week, request: Request) -> Response:
    query = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "week"])
    return RedirectResponse(f"/week/{week}" + (f"?{query}" if query else ""))
