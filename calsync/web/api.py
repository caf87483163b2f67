"""The JSON API under /api."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from calsync import reservations
from calsync.agenda import Agenda, Entry
from calsync.conflicts import Conflict, People, check, nobody
from calsync.errors import CalsyncError, Conflicted, Invalid, NotReserved
from calsync.planning import next_week, train_slots
from calsync.reservations import Outcome, held, inspect
from calsync.settings import Config
from calsync.watch import watch
from calsync.web.access import Writer
from calsync.web.answers import (
    ConflictOut,
    ConflictsOut,
    NowOut,
    ReservationOut,
    SlotOut,
    WindowOut,
    WindowsOut,
)
from calsync.web.bodies import ReservationIn, ReservationPatch, SlotsIn
from calsync.web.problems import documented
from calsync.web.service import Repeat, Service, TheService
from calsync.weeks import Week
from calsync.windows import Slot, standing_windows, train_windows
from calsync.zones import zone

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

    start: date | None = None
    end: date | None = None

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


class ConflictsQuery(RangeQuery):
    """A week, or the days from `start` to `end`."""

    week: str | None = None


class AtQuery(_Query):
    """An instant with its offset; now, if left out."""

    at: AwareDatetime | None = None


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
    """Give the week up; subscribers see its slots as cancelled until they are past."""
    which = Week.parse(week)

    def call() -> Outcome:
        return reservations.release(
            service.follower, which, service.clock(), etags=etags(if_match), author=author, dry_run=query.dry_run
        )

    return _answer(await _write(service, "release", author, call, dry_run=query.dry_run))


@router.get("/conflicts", response_model=ConflictsOut)
async def standing_conflicts(
    query: Annotated[ConflictsQuery, Query()], request: Request, service: TheService
) -> Response | ConflictsOut:
    """The conflicts of the reserved slots in a week or from `start` to `end`; of all train slots in a week nobody holds."""
    agenda, config, stale = service.agenda, service.config, service.age()
    if query.week is not None and (query.start or query.end):
        raise Invalid("Give either a week, or start and end.")
    if query.week is None:
        start, end = query.span(agenda, service.clock())
        whole = query.start is None and query.end is None
        return await run_in_threadpool(_conflicts, config, agenda, start, end, whole=whole, stale=stale)
    week = Week.parse(query.week)
    start = datetime.combine(week.monday - timedelta(days=1), time(), UTC)
    end = start + timedelta(days=9)
    found = await run_in_threadpool(_conflicts, config, agenda, start, end, week=week, stale=stale)
    answer = Response(found.model_dump_json(), media_type="application/json")
    if stale is None:
        repeat = Repeat(answer.raw_headers, bytes(answer.body))
        service.remember(agenda, b"/api/conflicts", request.scope["query_string"], repeat)
    return answer


def _conflicts(
    config: Config,
    agenda: Agenda,
    start: datetime,
    end: datetime,
    *,
    week: Week | None = None,
    whole: bool = False,
    stale: int | None = None,
) -> ConflictsOut:
    """The conflicts from `start` to `end` (UTC), of one week alone if it is given; `whole` stops where the horizon does."""
    first, last = Week.containing(start.date()), Week.containing((end - timedelta(seconds=1)).date())
    if not whole and (last.monday - first.monday).days > 7 * 60:
        raise Invalid("From start to end is more than 60 weeks; ask for less.")
    weeks = [week] if week else [first.shift(n) for n in range((last.monday - first.monday).days // 7 + 1)]
    slots: list[Slot] = []
    conflicts: list[Conflict] = []
    reserved = False
    for week in weeks:
        entry = agenda.reservation(week)
        standing = entry.reservation if entry else None
        people: People = nobody
        pair = standing.pair if standing else None
        if entry is not None and standing is not None and not standing.released:
            reserved, wanted, people, own = True, standing.slots, standing.on_duty, entry.href
        else:
            wanted, own = tuple(train_slots(config, train_windows(config), week)), ""
        wanted = tuple(slot for slot in wanted if slot.start < end and start < slot.end)
        if wanted and not agenda.covers(wanted[0].start, wanted[-1].end):
            if whole:
                break
            raise Invalid(f"{week} is outside the calendar's horizon; choose a nearer week.")
        slots += wanted
        conflicts += check(config, agenda, wanted, people, own=own, pair=pair)
    return ConflictsOut(
        slots=[SlotOut.of(slot) for slot in slots],
        conflicts=[ConflictOut.of(conflict) for conflict in dict.fromkeys(conflicts)],
        reserved=reserved,
        stale=stale,
    )


@router.post("/conflicts", responses=documented(413))
def check_conflicts(body: SlotsIn | ReservationIn, service: TheService) -> ConflictsOut:
    """Check a pair's week, or any spans, against the agenda; writes nothing and needs no token."""
    agenda, config = service.agenda, service.config
    if isinstance(body, ReservationIn):
        return ConflictsOut.of(inspect(config, agenda, body.request(config), service.clock()), service.age())
    utc = zone("UTC")
    try:
        spans = [(span.start.astimezone(utc), span.end.astimezone(utc)) for span in body.slots]
    except OverflowError:
        raise Invalid("A slot is too far away; choose a nearer time.") from None
    slots = [Slot(str(n), start.date(), start, end) for n, (start, end) in enumerate(spans, start=1)]
    for slot in slots:
        if not agenda.covers(slot.start, slot.end):
            raise Invalid(f"{slot.start:%Y-%m-%d} is outside the calendar's horizon; choose a nearer time.")
    found = check(config, agenda, slots, train=False)
    return ConflictsOut(
        slots=[SlotOut.of(slot) for slot in slots],
        conflicts=[ConflictOut.of(one) for one in found],
        reserved=False,
        stale=service.age(),
    )


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
