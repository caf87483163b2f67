"""The JSON API of a week's windows, and of what runs now."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated

from fastapi import APIRouter, Query

from calsync.core.errors import Invalid
from calsync.core.planning import next_week
from calsync.core.weeks import Week
from calsync.schedule.status import status_at
from calsync.schemas.requests import Instant
from calsync.schemas.reservations import NowOut, SlotOut, WindowOut, WindowsOut
from calsync.web.errors import documented
from calsync.web.routes.reservations import StrictQuery
from calsync.web.state import State

router = APIRouter(prefix="/api", responses=documented(400, 421, 422))


class WeekQuery(StrictQuery):
    """An ISO week, or any date in it; by default, the next week whose train has not begun."""

    week: str | None = None


class AtQuery(StrictQuery):
    """A time with its offset; by default, now."""

    at: Instant | None = None


@router.get("/windows")
def windows(query: Annotated[WeekQuery, Query()], state: State) -> WindowsOut:
    """List every window with its slots in the week."""
    config = state.config
    week = Week.parse(query.week) if query.week is not None else next_week(config, state.clock())
    trains = config.train_windows
    return WindowsOut(
        week=str(week),
        no_train=config.declined.get(week),
        windows=[
            WindowOut(
                name=window.name,
                title=window.title,
                timezone=window.timezone,
                category=window.category,
                train=window in trains,
                slots=[SlotOut.model_validate(window.on(week.day(day))) for day in window.days],
            )
            for window in (*trains, *config.recurring_windows)
        ],
    )


@router.get("/now")
def now(query: Annotated[AtQuery, Query()], state: State) -> NowOut:
    """Tell what runs now and next, who is responsible, and whether each of the pair is within their working hours."""
    at = query.at or state.clock()
    if not state.agenda.covers(at, at):
        raise Invalid("at is outside the calendar's horizon; choose a nearer time.")
    return NowOut.of(status_at(state.agenda, at.astimezone(UTC)), state.age())
