"""The JSON API under /api: reservations, windows, and what runs now."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from calsync import reservations
from calsync.agenda import Agenda
from calsync.conflicts import Conflict, check
from calsync.entries import Entry
from calsync.errors import CalsyncError, Conflicted, Invalid, NotReserved
from calsync.planning import next_week
from calsync.reservations import Outcome, held
from calsync.settings import Config
from calsync.watch import watch
from calsync.web.access import Writer
from calsync.web.answers import (
    NowOut,
    ReservationOut,
    SlotOut,
    WindowOut,
    WindowsOut,
)
from calsync.web.bodies import Day, Instant, ReservationIn, ReservationPatch
from calsync.web.problems import documented
from calsync.web.service import Service, TheService
from calsync.weeks import Week
from calsync.windows import standing_windows, train_windows

_log = logging.getLogger("calsync")

router = APIRouter(prefix="/api", responses=documented(400, 421, 422))

IfMatch = Annotated[str | None, Header(description="The etag, quoted; the call fails with 412 where it is another by now.")]
WeekPath = Annotated[str, Path(description="An ISO week, or any date in it.", examples=["2026-W49"])]


_STANDS: dict[int | str, dict[str, Any]] = {
    200: {"model": ReservationOut, "description": "It stands already, or it was a dry run"}
}


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WriteQuery(_Query):
    """How to write: `dry_run` checks and answers the same, and writes nothing."""

    dry_run: bool = Field(False, description="Check and answer the same, and write nothing.")


class WeekQuery(_Query):
    """A week: an ISO week or any date in it; the next one whose train has not begun, if left out."""

    week: str | None = None


class RangeQuery(_Query):
    """From the day `start` to the day `end`, both included."""

    start: Day | None = None
    end: Day | None = None

    def span(self, agenda: Agenda, now: datetime) -> tuple[datetime, datetime]:
        """The instants from which and until which, in UTC: from today to the end of the horizon where it says nothing."""
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


class AtQuery(_Query):
    """An instant with its offset; now, if left out."""

    at: Instant | None = None


def etags(if_match: str | None) -> tuple[str, ...] | None:
    """The bare etags of an If-Match header (RFC 9110, section 13.1.1); `*` asks for no more than that there is one."""
    if if_match is None or if_match.strip() == "*":
        return None
    return tuple(etag.strip().removeprefix('"').removesuffix('"') for etag in if_match.split(","))


async def _write(
    service: Service, action: str, author: str | None, call: Callable[[], Outcome], *, dry_run: bool
) -> Outcome:
    """Run a write among the writers, so that those who wait hold up no reader; count it and log who did what."""
    if dry_run:
        return await to_thread.run_sync(call, limiter=service.writers)
    try:
        outcome = await to_thread.run_sync(call, limiter=service.writers)
    except CalsyncError as error:
        kind = "conflict" if isinstance(error, Conflicted) else type(error).__name__.lower()
        service.metrics.writes.labels(action, kind).inc()
        _log.info("%s by %s: %s", action, author or "anybody", error)
        raise
    service.metrics.writes.labels(action, "done").inc()
    _log.info("%s by %s: %s is done", action, author or "anybody", outcome.reservation.week)
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
    responses=documented(401, 403, 409, 412, 413, 503) | _STANDS,
)
async def reserve(
    body: ReservationIn, service: TheService, author: Writer, query: Annotated[WriteQuery, Query()]
) -> Response:
    """Reserve a train week for a pair: every slot of it, or none."""
    request = body.request(service.config)

    def call() -> Outcome:
        return reservations.reserve(service.follower, request, service.clock(), author=author, dry_run=query.dry_run)

    outcome = await _write(service, "reserve", author, call, dry_run=query.dry_run)
    return _answer(outcome, status=201 if outcome.created else 200)


@router.get("/reservations")
def list_reservations(query: Annotated[RangeQuery, Query()], service: TheService) -> list[ReservationOut]:
    """The reservations with a slot from `start` to `end`, by week; without them, all from today on."""
    agenda = service.agenda
    start, end = query.span(agenda, service.clock())
    return [
        ReservationOut.standing(entry, _standing(service.config, agenda, entry))
        for entry in agenda.reservations
        if entry.reservation
        and not entry.reservation.released
        and any(slot.start < end and start < slot.end for slot in entry.reservation.slots)
    ]


@router.get("/reservations/{week}", responses=documented(404), response_model=ReservationOut)
def get_reservation(week: WeekPath, service: TheService, _query: Annotated[_Query, Query()]) -> Response:
    """The week's reservation as it stands on the calendar."""
    agenda = service.agenda
    entry, reservation = held(agenda, Week.parse(week), None)
    outcome = Outcome(reservation, entry.etag, False, (), _standing(service.config, agenda, entry), entry.changes)
    return _answer(outcome)


@router.patch(
    "/reservations/{week}", responses=documented(401, 403, 404, 409, 412, 413, 503), response_model=ReservationOut
)
async def change_reservation(
    week: WeekPath,
    body: ReservationPatch,
    service: TheService,
    author: Writer,
    query: Annotated[WriteQuery, Query()],
    if_match: IfMatch = None,
) -> Response:
    """Change the week's reservation; slots that are over stay as they were."""
    which, now = Week.parse(week), service.clock()

    def call() -> Outcome:
        return reservations.change(
            service.follower,
            which,
            lambda standing: body.request(service.config, standing),
            now,
            etags=etags(if_match),
            author=author,
            dry_run=query.dry_run,
        )

    return _answer(await _write(service, "change", author, call, dry_run=query.dry_run))


@router.delete("/reservations/{week}", responses=documented(401, 403, 404, 412, 413, 503), response_model=ReservationOut)
async def release_reservation(
    week: WeekPath,
    service: TheService,
    author: Writer,
    query: Annotated[WriteQuery, Query()],
    if_match: IfMatch = None,
) -> Response:
    """Give the week up; subscribers see its slots as cancelled until they are past. A train that is over stays."""
    which = Week.parse(week)

    def call() -> Outcome:
        return reservations.release(
            service.follower, which, service.clock(), etags=etags(if_match), author=author, dry_run=query.dry_run
        )

    return _answer(await _write(service, "release", author, call, dry_run=query.dry_run))


@router.get("/windows")
def windows(query: Annotated[WeekQuery, Query()], service: TheService) -> WindowsOut:
    """Every window, and when it falls in the week."""
    config = service.config
    week = Week.parse(query.week) if query.week is not None else next_week(config, service.clock())
    trains = train_windows(config)
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
                slots=[SlotOut.of(window.on(week.day(day))) for day in window.days],
            )
            for window in (*trains, *standing_windows(config))
        ],
    )


@router.get("/now")
def now(query: Annotated[AtQuery, Query()], service: TheService) -> NowOut:
    """What runs now and next, who is responsible, and whether each of the pair is within their working hours."""
    at = query.at or service.clock()
    if not service.agenda.covers(at, at):
        raise Invalid("at is outside the calendar's horizon; choose a nearer time.")
    return NowOut.of(watch(service.config, service.agenda, at.astimezone(UTC)), service.age())


def _standing(config: Config, agenda: Agenda, entry: Entry) -> tuple[Conflict, ...]:
    if entry.reservation is None:
        raise NotReserved(f"{entry.href} is not a reservation.")
    found = entry.reservation
    return check(config, agenda, found.slots, found.on_duty, own=entry.href, pair=found.pair)
