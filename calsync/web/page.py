"""GET /: the week as a page, rendered on the server; and GET /docs, the API to try out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated

import fastapi_offline
from fastapi import APIRouter, Query, Request, Response
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel, ConfigDict
from starlette.staticfiles import StaticFiles

from calsync.conflicts import standing
from calsync.errors import Invalid
from calsync.events import summary
from calsync.planning import next_week
from calsync.watch import watch
from calsync.web.panel import panel
from calsync.web.problems import documented
from calsync.web.service import Service, TheService
from calsync.weeks import Week
from calsync.zones import resolve, zone

_HERE = Path(__file__).parent

router = APIRouter(include_in_schema=False, responses=documented(421, 422))
templates = Jinja2Templates(_HERE / "templates")
static = StaticFiles(directory=_HERE / "static")
swagger = StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static")


class PageQuery(BaseModel):
    """The week to show and the timezone to show it in."""

    model_config = ConfigDict(extra="forbid")

    week: str | None = None
    tz: str = "UTC"


@dataclass(frozen=True, slots=True)
class Row:
    """One happening of the week, in the viewer's timezone; `kind` is what it is, `conflicts` what speaks against it."""

    start: datetime
    end: datetime
    title: str
    kind: str
    conflicts: tuple[str, ...]
    all_day: bool = False


@router.head("/")
@router.get("/")
def page(query: Annotated[PageQuery, Query()], request: Request, service: TheService) -> Response:
    """The week: who conducts, what else is deployed, what conflicts, and where to subscribe."""
    now = service.clock()
    tz = zone(query.tz)
    week = Week.parse(query.week) if query.week is not None else next_week(service.config, now)
    rows = _rows(service, week, query.tz)
    entry = service.agenda.reservation(week)
    held = entry.reservation if entry and entry.reservation and not entry.reservation.released else None
    days = [(day, _on(rows, day, query.tz)) for day in _days(week)]
    context = {
        "config": service.config,
        "week": week,
        "before": _neighbour(week, -1),
        "after": _neighbour(week, 1),
        "known": service.agenda.covers(*_span(week, query.tz)),
        "tz": query.tz,
        "timezones": list(
            dict.fromkeys(["UTC", *(window.timezone for window in service.config.windows.values()), query.tz])
        ),
        "days": days,
        "reservation": held,
        "changes": entry.changes if entry and held else (),
        "declined": service.config.declined.get(week),
        "watch": watch(service.config, service.agenda, now.astimezone(UTC)),
        "now": now.astimezone(tz),
        "zone": tz,
        "away": service.failure,
        "panel": panel(service, now),
        "feed": str(request.url_for("feed")),
        "webcal": str(request.url_for("feed").replace(scheme="webcal")),
    }
    return templates.TemplateResponse(request, "week.html", context, headers={"Cache-Control": "no-cache"})


@router.get("/docs")
def docs(request: Request) -> Response:
    """The API, to read and to try out."""
    return templates.TemplateResponse(request, "docs.html")


def _neighbour(week: Week, weeks: int) -> Week | None:
    try:
        return week.shift(weeks)
    except Invalid:
        return None


def _span(week: Week, timezone: str) -> tuple[datetime, datetime]:
    """The instants at which the week starts and ends in a timezone."""
    edges = (datetime.combine(week.monday + timedelta(days=days), time()) for days in (0, 7))
    start, end = (resolve(edge, zone(timezone))[0] for edge in edges)
    return start, end


def _days(week: Week) -> list[date]:
    return [week.monday + timedelta(days=n) for n in range(7)]


def _on(rows: list[Row], day: date, timezone: str) -> list[Row]:
    """What happens on one day, each row cut to that day."""
    edges = (datetime.combine(day + timedelta(days=n), time()) for n in (0, 1))
    start, end = (resolve(edge, zone(timezone))[0] for edge in edges)
    return [
        replace(row, start=max(row.start, start), end=min(row.end, end), all_day=row.start <= start and end <= row.end)
        for row in rows
        if row.start < end and start < row.end
    ]


def _rows(service: Service, week: Week, timezone: str) -> list[Row]:
    agenda, tz = service.agenda, zone(timezone)
    start, end = _span(week, timezone)
    against: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for _, reservation, found in standing(service.config, agenda, start):
        titles |= {slot.id: summary(reservation, slot) for slot in reservation.slots}
        for conflict in found:
            against.setdefault(conflict.slot or "", []).append(conflict.message)
    rows = []
    for one, begin, finish in agenda.overlapping(start, end, timezone):
        kind: str = one.kind if one.certain else "unknown"
        title = titles.get(one.slot, one.summary) if one.kind == "slot" else one.summary
        if one.kind == "slot" and not one.busy:
            kind = "cancelled"
        reasons = tuple(against.get(one.slot, ())) if one.kind == "slot" else ()
        rows.append(Row(begin.astimezone(tz), finish.astimezone(tz), title, kind, reasons))
    return sorted(rows, key=lambda row: (row.start, row.end, row.title))
