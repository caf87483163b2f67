"""The JSON API of conflicts: of what is reserved, of a pair's week, and of any span."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from calsync.core.conflict import Conflict
from calsync.core.errors import Invalid
from calsync.core.planning import train_slots
from calsync.core.settings import Config
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.core.windows import Slot
from calsync.schedule.agenda import Agenda
from calsync.schedule.check import check_request
from calsync.schedule.conflicts import People, check, nobody
from calsync.schemas.requests import ReservationIn, SlotsIn
from calsync.schemas.reservations import ConflictOut, ConflictsOut, SlotOut
from calsync.web.errors import documented
from calsync.web.routes.reservations import RangeQuery
from calsync.web.state import Repeat, State

router = APIRouter(prefix="/api", responses=documented(400, 421, 422))


class ConflictsQuery(RangeQuery):
    """A week, or the days from `start` to `end`."""

    week: str | None = None


@router.get("/conflicts", response_model=ConflictsOut)
async def standing_conflicts(
    query: Annotated[ConflictsQuery, Query()], request: Request, state: State
) -> Response | ConflictsOut:
    """The conflicts of the reserved slots in a week or from `start` to `end`; of all train slots in a week nobody holds."""
    agenda, config, stale = state.agenda, state.config, state.age()
    if query.week is not None and (query.start or query.end):
        raise Invalid("Give either a week, or start and end.")
    if query.week is None:
        start, end = query.span(agenda, state.clock())
        whole = query.start is None and query.end is None
        return await run_in_threadpool(_conflicts, config, agenda, start, end, whole=whole, stale=stale)
    week = Week.parse(query.week)
    start, end = week.eve, week.eve + timedelta(days=9)
    found = await run_in_threadpool(_conflicts, config, agenda, start, end, week=week, stale=stale)
    answer = Response(found.model_dump_json(), media_type="application/json")
    if stale is None:
        repeat = Repeat(answer.raw_headers, bytes(answer.body))
        state.remember(agenda, b"/api/conflicts", request.scope["query_string"], repeat)
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
            wanted, own = tuple(train_slots(config, week)), ""
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
def check_conflicts(body: SlotsIn | ReservationIn, state: State) -> ConflictsOut:
    """Check a pair's week, or any spans, against the agenda; writes nothing and needs no token."""
    agenda, config = state.agenda, state.config
    if isinstance(body, ReservationIn):
        return ConflictsOut.of(check_request(config, agenda, body.request(config), state.clock()), state.age())
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
        stale=state.age(),
    )
