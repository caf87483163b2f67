"""The JSON API of the pair's week: the rotation, absences, hand-offs and updates."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from calsync.booking import absences
from calsync.booking.handoff import hand_off
from calsync.core.errors import Invalid, NotReserved
from calsync.core.rotation import YEAR
from calsync.core.weeks import Week
from calsync.notifications.dispatcher import send_handoff
from calsync.notifications.updates import post_update
from calsync.schedule import rotation_feed
from calsync.schedule.absences import list_absences
from calsync.schedule.rotation import rotation
from calsync.schemas.requests import AwayIn, HandoffIn, UpdateIn, conductor_of
from calsync.schemas.week import AwayOut, DeliveryOut, HandoffOut, RotationOut, UpdateOut
from calsync.web.auth import Writer
from calsync.web.errors import documented
from calsync.web.routes.feed import answer
from calsync.web.routes.reservations import IfMatch, WeekPath, etags
from calsync.web.state import State

_log = logging.getLogger("calsync")
router = APIRouter(responses=documented(400, 421, 422))

_FEED: dict[int | str, dict[str, Any]] = documented(421, 422) | {
    200: {"content": {"text/calendar": {"schema": {"type": "string"}}}, "description": "The rotation"},
    304: {"description": "Not changed"},
}


class WeeksQuery(BaseModel):
    """How many weeks of the rotation, from this week or from its start."""

    model_config = ConfigDict(extra="forbid")

    weeks: int = Field(12, ge=1, le=2 * YEAR)


class NoQuery(BaseModel):
    """No parameters; any is refused."""

    model_config = ConfigDict(extra="forbid")


@router.get("/api/rotation", responses=documented(503))
def get_rotation(query: Annotated[WeeksQuery, Query()], state: State) -> RotationOut:
    """Tell who conducts in the coming weeks, and everybody's turns over the rotation's year."""
    return RotationOut.of(rotation(state.agenda, state.clock(), query.weeks))


@router.head("/rotation.ics", include_in_schema=False)
@router.get("/rotation.ics", response_class=Response, responses=_FEED)
def rotation_ics(query: Annotated[WeeksQuery, Query()], request: Request, state: State) -> Response:
    """Return the rotation as an iCal feed to subscribe to. Weeks that are not reserved yet are TENTATIVE."""
    now = state.clock()
    return answer(rotation_feed.render(state.agenda, now, query.weeks), request, now)


@router.post(
    "/api/away",
    status_code=201,
    response_model=AwayOut,
    responses=documented(401, 403, 412, 413, 503) | {200: {"model": AwayOut, "description": "It exists already"}},
)
def be_away(body: AwayIn, state: State, author: Writer, _query: Annotated[NoQuery, Query()]) -> Response:
    """Add an absence to the calendar. The answer lists its conflicts with reserved slots, and who could cover."""
    absence = absences.add_absence(
        state.sync, body.conductor, body.start, body.end, state.clock(), note=body.note, author=author
    )
    _log.info("away by %s: %s from %s to %s", author or "anonymous", body.conductor, body.start, body.end)
    return JSONResponse(
        AwayOut.model_validate(absence).model_dump(mode="json"), status_code=201 if absence.created else 200
    )


@router.get("/api/away", responses=documented(503))
def list_away(state: State, _query: Annotated[NoQuery, Query()]) -> list[AwayOut]:
    """List the absences that are not over, by start. Events of busy feeds count if they concern reserved slots.

    If a feed cannot be read, the conflicts and `/api/now` say so.
    """
    return [AwayOut.model_validate(absence) for absence in list_absences(state.agenda, state.clock())]


@router.delete("/api/away/{name}", status_code=204, responses=documented(401, 403, 404, 412, 413, 503))
def be_present(
    name: Annotated[str, Path(description="The absence's id.")],
    state: State,
    author: Writer,
    _query: Annotated[NoQuery, Query()],
) -> Response:
    """Remove an absence."""
    absences.remove_absence(state.sync, name, state.clock())
    _log.info("away by %s: %s removed", author or "anonymous", name)
    return Response(status_code=204)


@router.post(
    "/api/reservations/{week}/handoff",
    responses=documented(401, 403, 404, 412, 413, 503),
)
def hand_over(
    week: WeekPath,
    body: HandoffIn,
    state: State,
    author: Writer,
    _query: Annotated[NoQuery, Query()],
    if_match: IfMatch = None,
) -> HandoffOut:
    """Hand the train to somebody else from now on. Write the calendar first, then the ticket and the operations channel."""
    if not isinstance(body.to, str) and body.to.name is None:
        raise Invalid("to: give the name of who takes over.")
    to, now = conductor_of(state.config, body.to, "primary"), state.clock()
    handoff = hand_off(
        state.sync, state.destinations.missing, Week.parse(week), to, body.note, now, etags=etags(if_match), author=author
    )
    _log.info("handoff by %s: %s goes from %s to %s", author or "anonymous", week, handoff.former, to.name)
    return HandoffOut.of(*send_handoff(state.dispatcher, handoff, state.clock()))


@router.post("/api/reservations/{week}/updates", responses=documented(401, 403, 404, 412, 413, 503))
def tell(week: WeekPath, body: UpdateIn, state: State, author: Writer, _query: Annotated[NoQuery, Query()]) -> UpdateOut:
    """Send news to the partner, to wherever they can be reached now. A decision goes to the ticket and the log."""
    now, which = state.clock(), Week.parse(week)
    update = post_update(state.dispatcher, which, body.sender, body.text, now, decision=body.decision)
    _log.info("update by %s: %s from %s", author or "anonymous", which, body.sender)
    return UpdateOut.of(str(which), update, state.dispatcher.deliver(update.href, update.correlation_id, state.clock()))


@router.get("/api/reservations/{week}/deliveries", responses=documented(404, 503))
def list_deliveries(week: WeekPath, state: State, _query: Annotated[NoQuery, Query()]) -> list[DeliveryOut]:
    """List the messages about a week and the state of each, even if the week was released."""
    which = Week.parse(week)
    stored = state.agenda.reservation(which)
    if stored is None:
        raise NotReserved(f"{which} is not reserved.")
    return [DeliveryOut.of(delivery) for delivery in stored.deliveries]
