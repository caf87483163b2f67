"""The JSON API of reservations, and what other routes of the API share with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from calsync.booking import reservations
from calsync.booking.reservations import Outcome
from calsync.core.conflict import Conflicted
from calsync.core.errors import CalsyncError, Invalid
from calsync.core.reservation import Reservation
from calsync.core.weeks import Week
from calsync.schedule.agenda import Agenda
from calsync.schedule.check import require_reservation
from calsync.schedule.conflicts import conflicts_of
from calsync.schedule.objects import CalendarObject
from calsync.schemas.requests import Day, ReservationIn, ReservationPatch
from calsync.schemas.reservations import ReservationOut
from calsync.web.auth import Writer
from calsync.web.errors import documented
from calsync.web.state import AppState, State

_log = logging.getLogger("calsync")
router = APIRouter(prefix="/api", responses=documented(400, 421, 422))
IfMatch = Annotated[
    str | None,
    Header(description="The etag in quotes; the call fails with 412 if the reservation has another etag by now."),
]
WeekPath = Annotated[str, Path(description="An ISO week, or any date in it.", examples=["2026-W49"])]
_EXISTS: dict[int | str, dict[str, Any]] = {
    200: {"model": ReservationOut, "description": "It exists already, or it was a dry run"}
}


class StrictQuery(BaseModel):
    """A query that refuses unknown parameters, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid")


class WriteQuery(StrictQuery):
    """How to write."""

    dry_run: bool = Field(False, description="Check and answer the same, but write nothing.")


class RangeQuery(StrictQuery):
    """From the day `start` to the day `end`, both included."""

    start: Day | None = None
    end: Day | None = None

    def span(self, agenda: Agenda, now: datetime) -> tuple[datetime, datetime]:
        """Return the start and the end of the range, in UTC; by default, from today to the end of the horizon."""
        start = datetime.combine(self.start or now.date(), time(), UTC)
        try:
            end = datetime.combine(self.end, time(), UTC) + timedelta(days=1) if self.end else agenda.horizon.end
        except OverflowError:
            raise Invalid("end is too far away; choose an earlier day.") from None
        if end <= start and self.end is None:
            raise Invalid(f"start is beyond the calendar's horizon, which ends on {end:%Y-%m-%d}; choose an earlier day.")
        if end <= start:
            raise Invalid("end is before start; swap them.")
        return start, end


def etags(if_match: str | None) -> tuple[str, ...] | None:
    """Return the etags of an If-Match header without quotes (RFC 9110, section 13.1.1); None if any etag will do (`*`)."""
    if if_match is None or if_match.strip() == "*":
        return None
    return tuple(etag.strip().removeprefix('"').removesuffix('"') for etag in if_match.split(","))


async def _write(
    state: AppState, action: str, author: str | None, call: Callable[[], Outcome], *, dry_run: bool
) -> Outcome:
    """Run a write in one of the writers' threads, so that waiting writers block no reader; count and log it."""
    if dry_run:
        return await to_thread.run_sync(call, limiter=state.writers)
    try:
        outcome = await to_thread.run_sync(call, limiter=state.writers)
    except CalsyncError as error:
        kind = "conflict" if isinstance(error, Conflicted) else type(error).__name__.lower()
        state.metrics.writes.labels(action, kind).inc()
        _log.info("%s by %s: %s", action, author or "anonymous", error)
        raise
    state.metrics.writes.labels(action, "done").inc()
    _log.info("%s by %s: %s done", action, author or "anonymous", outcome.reservation.week)
    return outcome


def _answer(outcome: Outcome, *, status: int = 200) -> JSONResponse:
    body = ReservationOut.of(outcome)
    headers = {"ETag": f'"{outcome.etag}"'} if outcome.etag else {}
    if status == 201 and body.url:
        headers["Location"] = body.url
    return JSONResponse(body.model_dump(mode="json"), status_code=status, headers=headers)


@router.post(
    "/reservations",
    status_code=201,
    response_model=ReservationOut,
    responses=documented(401, 403, 409, 412, 413, 503) | _EXISTS,
)
async def reserve(body: ReservationIn, state: State, author: Writer, query: Annotated[WriteQuery, Query()]) -> Response:
    """Reserve a train week for a pair: every slot of it, or none."""
    request = body.request(state.config)

    def call() -> Outcome:
        return reservations.reserve(state.sync, request, state.clock(), author=author, dry_run=query.dry_run)

    outcome = await _write(state, "reserve", author, call, dry_run=query.dry_run)
    return _answer(outcome, status=201 if outcome.created else 200)


@router.get("/reservations")
def list_reservations(query: Annotated[RangeQuery, Query()], state: State) -> list[ReservationOut]:
    """List the reservations that have a slot from `start` to `end`, by week; without these, all from today on."""
    agenda = state.agenda
    start, end = query.span(agenda, state.clock())
    return [
        ReservationOut.of(_as_outcome(agenda, stored, reservation))
        for stored in agenda.reservations
        if (reservation := stored.reservation)
        and not reservation.released
        and any(slot.start < end and start < slot.end for slot in reservation.slots)
    ]


@router.get("/reservations/{week}", responses=documented(404), response_model=ReservationOut)
def get_reservation(week: WeekPath, state: State, _query: Annotated[StrictQuery, Query()]) -> Response:
    """Return the week's reservation."""
    agenda = state.agenda
    return _answer(_as_outcome(agenda, *require_reservation(agenda, Week.parse(week), None)))


def _as_outcome(agenda: Agenda, stored: CalendarObject, reservation: Reservation) -> Outcome:
    warnings = conflicts_of(agenda, reservation, reservation.slots)
    return Outcome(reservation, stored.etag, warnings=warnings, changes=stored.changes)


@router.patch(
    "/reservations/{week}", responses=documented(401, 403, 404, 409, 412, 413, 503), response_model=ReservationOut
)
async def change_reservation(
    week: WeekPath,
    body: ReservationPatch,
    state: State,
    author: Writer,
    query: Annotated[WriteQuery, Query()],
    if_match: IfMatch = None,
) -> Response:
    """Change the week's reservation. Slots that are over stay as they are."""
    which, now = Week.parse(week), state.clock()

    def call() -> Outcome:
        return reservations.change(
            state.sync,
            which,
            lambda current: body.request(state.config, current),
            now,
            etags=etags(if_match),
            author=author,
            dry_run=query.dry_run,
        )

    return _answer(await _write(state, "change", author, call, dry_run=query.dry_run))


@router.delete("/reservations/{week}", responses=documented(401, 403, 404, 412, 413, 503), response_model=ReservationOut)
async def release_reservation(
    week: WeekPath,
    state: State,
    author: Writer,
    query: Annotated[WriteQuery, Query()],
    if_match: IfMatch = None,
) -> Response:
    """Release the week. Subscribers see its slots as cancelled until they are over. A train that is over stays."""
    which = Week.parse(week)

    def call() -> Outcome:
        return reservations.release(
            state.sync, which, state.clock(), etags=etags(if_match), author=author, dry_run=query.dry_run
        )

    return _answer(await _write(state, "release", author, call, dry_run=query.dry_run))
