"""GET /plan: the plan and the conflicts of a pair's week, as a page. It checks what the API checks, and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict

from calsync.core.conductors import Conductor, Pair, person
from calsync.core.conflict import blocking
from calsync.core.errors import Invalid, UnknownTimezone
from calsync.core.planning import Plan, clock_spans
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.core.windows import Role, Slot
from calsync.schedule.check import Check, ReservationRequest, check_request
from calsync.web.errors import documented
from calsync.web.pages.base import PageRoute, ViewQuery, page_context, templates
from calsync.web.pages.timeline import lay_out
from calsync.web.pages.week_view import week_events, working_days
from calsync.web.state import AppState, State

router = APIRouter(include_in_schema=False, responses=documented(421, 422), route_class=PageRoute)


class PlanQuery(ViewQuery):
    """The fields of the form; an empty one is not set. `core.conductors.person` parses the two people."""

    model_config = ConfigDict(str_strip_whitespace=True)

    primary: str = ""
    backup: str = ""
    week: str = ""
    train: str = ""
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A slot of the plan, with its time on the clocks of the viewer, the primary and the backup."""

    slot: Slot
    clocks: tuple[str, ...]
    blocked: bool


@router.head("/plan")
@router.get("/plan")
def plan_page(query: Annotated[PlanQuery, Query()], request: Request, state: State) -> Response:
    """Return the page with the form and, if it names a pair, with their plan, its conflicts and free alternatives."""
    zone(query.tz)
    context = page_context(request, state, query.tz) | {"chosen": query.model_dump()}
    status = 200
    if query.primary or query.backup:
        try:
            context |= _plan(state, query)
        except Invalid as error:
            status = 422
            context["refusal"] = str(error)
            context["suggestions"] = error.suggestions if isinstance(error, UnknownTimezone) else ()
    return templates.TemplateResponse(
        request, "plan.html", context, status_code=status, headers={"Cache-Control": "no-cache"}
    )


def _plan(state: AppState, query: PlanQuery) -> dict[str, Any]:
    config, agenda = state.config, state.agenda
    if not (query.primary and query.backup):
        raise Invalid("Name two people: a primary and a backup.")
    pair = Pair(person(config, query.primary, "primary"), person(config, query.backup, "backup"))
    week = Week.parse(query.week) if query.week else None
    check = check_request(agenda, ReservationRequest(pair, week), state.clock())
    shown = week_events(agenda, check.plan.week, query.tz, check)
    working = working_days(pair, shown.start, shown.end)
    days = lay_out(check.plan.week, query.tz, shown.events, working, state.clock())
    holder = check.holder.reservation if check.holder else None
    return {
        "check": check,
        "plan": check.plan,
        "rows": _rows(check, query.tz),
        "clocks": (query.tz, pair.primary.timezone, pair.backup.timezone),
        "days": [day for day in days if any(bar.event.kind in ("planned", "open", "slot") for bar in day.bars)],
        "holder": holder,
        "same": holder is not None and holder.pair == pair,
        "blocked": blocking(check.conflicts),
        "body": _body(check.plan),
    }


def _rows(check: Check, timezone: str) -> list[Row]:
    pair = check.plan.pair
    blocked = {conflict.slot for conflict in blocking(check.conflicts)}
    zones = (timezone, pair.primary.timezone, pair.backup.timezone)
    return [Row(slot, tuple(clock_spans([slot], name) for name in zones), slot.id in blocked) for slot in check.plan.slots]


def _body(plan: Plan) -> dict[str, Any]:
    """Return what the page sends to POST /api/reservations."""
    return {
        "week": str(plan.week),
        "primary": _person(plan.pair.primary, "primary"),
        "backup": _person(plan.pair.backup, "backup"),
    }


def _person(conductor: Conductor, role: Role) -> dict[str, str]:
    named = {} if conductor.name == role else {"name": conductor.name}
    return named | {"timezone": conductor.timezone, "hours": str(conductor.hours)}
