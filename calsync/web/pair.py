"""GET /plan: what a pair's week would come to, as a page. The same checks as the API's, and nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict

from calsync import reservations
from calsync.conflicts import blocking
from calsync.errors import Invalid, UnknownTimezone
from calsync.planning import Conductor, Pair, Plan, clock_spans, person
from calsync.reservations import Check, inspect
from calsync.web.happenings import scene, shifts
from calsync.web.page import PageRoute, ViewQuery, templates, view
from calsync.web.problems import documented
from calsync.web.service import Service, TheService
from calsync.web.timeline import lay_out
from calsync.weeks import Week
from calsync.windows import Role, Slot
from calsync.zones import zone

router = APIRouter(include_in_schema=False, responses=documented(421, 422), route_class=PageRoute)


class PlanQuery(ViewQuery):
    """The form: two people as `planning.person` reads them, a week, and what else a reservation says; "" says nothing."""

    model_config = ConfigDict(str_strip_whitespace=True)

    primary: str = ""
    backup: str = ""
    week: str = ""
    train: str = ""
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A slot that would be reserved, and when it is on the clocks of the viewer, the primary and the backup."""

    slot: Slot
    clocks: tuple[str, ...]
    blocked: bool


@router.head("/plan")
@router.get("/plan")
def plan_page(query: Annotated[PlanQuery, Query()], request: Request, service: TheService) -> Response:
    """Who would sit where, what would be reserved, what conflicts, and what is free instead."""
    zone(query.tz)
    context = view(request, service, query.tz) | {"chosen": query.model_dump()}
    status = 200
    if query.primary or query.backup:
        try:
            context |= _plan(service, query)
        except Invalid as error:
            status = 422
            context["refusal"] = str(error)
            context["suggestions"] = error.suggestions if isinstance(error, UnknownTimezone) else ()
    return templates.TemplateResponse(
        request, "plan.html", context, status_code=status, headers={"Cache-Control": "no-cache"}
    )


def _plan(service: Service, query: PlanQuery) -> dict[str, Any]:
    config, agenda = service.config, service.agenda
    if not (query.primary and query.backup):
        raise Invalid("Name two people: a primary and a backup.")
    pair = Pair(person(config, query.primary, "primary"), person(config, query.backup, "backup"))
    week = Week.parse(query.week) if query.week else None
    found = inspect(config, agenda, reservations.Request(pair, week), service.clock())
    shown = scene(config, agenda, found.plan.week, query.tz, found)
    working = shifts(pair, shown.start, shown.end)
    days = lay_out(found.plan.week, query.tz, shown.happenings, working, service.clock())
    holder = found.holder.reservation if found.holder else None
    return {
        "found": found,
        "plan": found.plan,
        "rows": _rows(found, query.tz),
        "clocks": (query.tz, pair.primary.timezone, pair.backup.timezone),
        "days": [day for day in days if any(bar.what.kind in ("planned", "open", "slot") for bar in day.bars)],
        "holder": holder,
        "same": holder is not None and holder.pair == pair,
        "blocked": blocking(found.conflicts),
        "body": _body(found.plan),
    }


def _rows(found: Check, timezone: str) -> list[Row]:
    pair = found.plan.pair
    blocked = {conflict.slot for conflict in blocking(found.conflicts)}
    zones = (timezone, pair.primary.timezone, pair.backup.timezone)
    return [Row(slot, tuple(clock_spans([slot], name) for name in zones), slot.id in blocked) for slot in found.plan.slots]


def _body(plan: Plan) -> dict[str, Any]:
    """What the page sends to POST /api/reservations to reserve this."""
    return {
        "week": str(plan.week),
        "primary": _person(plan.pair.primary, "primary"),
        "backup": _person(plan.pair.backup, "backup"),
    }


def _person(conductor: Conductor, role: Role) -> dict[str, str]:
    named = {} if conductor.name == role else {"name": conductor.name}
    return named | {"timezone": conductor.timezone, "hours": str(conductor.hours)}
