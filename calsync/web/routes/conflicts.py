"""The JSON API of conflicts: of reserved slots, of a pair's week, and of any span."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from calsync.core.conflict import Conflict
from calsync.core.errors import Invalid
from calsync.core.planning import train_slots
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.core.windows import Slot
from calsync.schedule.agenda import Agenda
from calsync.schedule.check import check_request
from calsync.schedule.conflicts import check, conflicts_of
from calsync.schemas.requests import ReservationIn, SlotsIn
from calsync.schemas.reservations import ConflictOut, ConflictsOut, SlotOut
from calsync.web.cache import keep_until
from calsync.web.errors import documented
from calsync.web.routes.reservations import RangeQuery
from calsync.web.state import State

_FOR_EVER = datetime.max.replace(tzinfo=UTC)

router = APIRouter(prefix="/api", responses=documented(400, 421, 422))


class ConflictsQuery(RangeQuery):
    """A week, or the days from `start` to `end`."""

    week: str | None = None


@router.get("/conflicts", response_model=ConflictsOut)
async def standing_conflicts(query: Annotated[ConflictsQuery, Query()], request: Request, state: State) -> ConflictsOut:
    """List the conflicts in a week, or from `start` to `end`.

    They are those of the reserved slots; in a free week, those of all train slots.
    """
    agenda, stale = state.agenda, state.age()
    if query.week is not None and (query.start or query.end):
        raise Invalid("Give either a week, or start and end.")
    if query.week is None:
        start, end = query.span(agenda, state.clock())
        whole = query.start is None and query.end is None
        return await run_in_threadpool(_conflicts, agenda, start, end, whole=whole, stale=stale)
    week = Week.parse(query.week)
    start, end = week.eve, week.eve + timedelta(days=9)
    conflicts = await run_in_threadpool(_conflicts, agenda, start, end, week=week, stale=stale)
    if stale is None:
        keep_until(request, _FOR_EVER)
    return conflicts


def _conflicts(
    agenda: Agenda,
    start: datetime,
    end: datetime,
    *,
    week: Week | None = None,
    whole: bool = False,
    stale: int | None = None,
) -> ConflictsOut:
    """Return the conflicts from `start` to `end` (UTC), or only those of `week`.

    With `whole`, stop at the end of the horizon. Otherwise, a week beyond it is refused.
    """
    first, last = Week.containing(start.date()), Week.containing((end - timedelta(seconds=1)).date())
    if not whole and (last.monday - first.monday).days > 7 * 60:
        raise Invalid("start and end are more than 60 weeks apart; ask for a shorter range.")
    weeks = [week] if week else [first.shift(n) for n in range((last.monday - first.monday).days // 7 + 1)]
    slots: list[Slot] = []
    conflicts: list[Conflict] = []
    reserved = False
    for week in weeks:
        stored = agenda.reservation(week)
        reservation = stored.reservation if stored and stored.reservation and not stored.reservation.released else None
        reserved = reserved or reservation is not None
        all_slots = reservation.slots if reservation else train_slots(agenda.config, week)
        wanted = [slot for slot in all_slots if slot.start < end and start < slot.end]
        if wanted and not agenda.covers(wanted[0].start, wanted[-1].end):
            if whole:
                break
            raise Invalid(f"{week} is outside the calendar's horizon; choose a nearer week.")
        slots += wanted
        conflicts += conflicts_of(agenda, reservation, wanted) if reservation else check(agenda, wanted)
    return ConflictsOut(
        slots=[SlotOut.model_validate(slot) for slot in slots],
        conflicts=[ConflictOut.model_validate(conflict) for conflict in dict.fromkeys(conflicts)],
        reserved=reserved,
        stale=stale,
    )


@router.post("/conflicts", responses=documented(413))
def check_conflicts(body: SlotsIn | ReservationIn, state: State) -> ConflictsOut:
    """Check a pair's week, or any spans, against the calendar. Writes nothing and needs no token."""
    agenda, config = state.agenda, state.config
    if isinstance(body, ReservationIn):
        return ConflictsOut.of(check_request(agenda, body.request(config), state.clock()), state.age())
    utc = zone("UTC")
    try:
        spans = [(span.start.astimezone(utc), span.end.astimezone(utc)) for span in body.slots]
    except OverflowError:
        raise Invalid("A slot is too far away; choose a nearer time.") from None
    slots = [Slot(str(n), start.date(), start, end) for n, (start, end) in enumerate(spans, start=1)]
    for slot in slots:
        if not agenda.covers(slot.start, slot.end):
            raise Invalid(f"{slot.start:%Y-%m-%d} is outside the calendar's horizon; choose a nearer time.")
    conflicts = check(agenda, slots, train=False)
    return ConflictsOut(
        slots=[SlotOut.model_validate(slot) for slot in slots],
        conflicts=[ConflictOut.model_validate(conflict) for conflict in conflicts],
        reserved=False,
        stale=state.age(),
    )
