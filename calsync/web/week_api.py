"""The pair's week over HTTP: the rotation, absences, hand-offs and updates."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from calsync import rotation_feed
from calsync.rota import rotation
from calsync.rotation import YEAR
from calsync.web.problems import documented
from calsync.web.service import TheService
from calsync.web.subscription import answer
from calsync.web.week_answers import RotationOut

router = APIRouter(responses=documented(400, 421, 422))

_FEED: dict[int | str, dict[str, Any]] = documented(421, 422) | {
    200: {"content": {"text/calendar": {"schema": {"type": "string"}}}, "description": "The rotation"},
    304: {"description": "Not changed"},
}


class WeeksQuery(BaseModel):
    """How many weeks, from this one or from the rotation's start on."""

    model_config = ConfigDict(extra="forbid")

    weeks: int = Field(12, ge=1, le=2 * YEAR)


@router.get("/api/rotation", responses=documented(503))
def get_rotation(query: Annotated[WeeksQuery, Query()], service: TheService) -> RotationOut:
    """Who conducts in the coming weeks, and everybody's turns over the rotation's year."""
    return RotationOut.of(rotation(service.config, service.agenda, service.clock(), query.weeks))


@router.head("/rotation.ics", include_in_schema=False)
@router.get("/rotation.ics", response_class=Response, responses=_FEED)
def rotation_ics(query: Annotated[WeeksQuery, Query()], request: Request, service: TheService) -> Response:
    """The rotation as an iCal feed to subscribe to; weeks that are not reserved yet are TENTATIVE."""
    now = service.clock()
    return answer(rotation_feed.render(service.config, service.agenda, now, query.weeks), request, now)
