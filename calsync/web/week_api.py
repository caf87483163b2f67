"""The pair's week over HTTP: the rotation, absences, hand-offs and updates."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from calsync import absences, rotation_feed
from calsync.errors import Invalid, NotReserved
from calsync.handoff import hand_off, pass_on
from calsync.rota import rotation
from calsync.rotation import YEAR
from calsync.updates import update
from calsync.web.access import Writer
from calsync.web.api import IfMatch, WeekPath, etags
from calsync.web.bodies import In, Person, Sentence, Word, conductor_of
from calsync.web.problems import documented
from calsync.web.service import TheService
from calsync.web.subscription import answer
from calsync.web.week_answers import AwayOut, DeliveryOut, HandoffOut, RotationOut, UpdateOut
from calsync.weeks import Week

_log = logging.getLogger("calsync")

router = APIRouter(responses=documented(400, 421, 422))

_FEED: dict[int | str, dict[str, Any]] = documented(421, 422) | {
    200: {"content": {"text/calendar": {"schema": {"type": "string"}}}, "description": "The rotation"},
    304: {"description": "Not changed"},
}


class WeeksQuery(BaseModel):
    """How many weeks, from this one or from the rotation's start on."""

    model_config = ConfigDict(extra="forbid")

    weeks: int = Field(12, ge=1, le=2 * YEAR)


def _moment(value: object) -> date:
    """A date, or a time with its offset. Midnight without an offset is no date, and a number is neither."""
    moment: date | None = None
    with suppress(ValueError):
        if isinstance(value, str):
            moment = date.fromisoformat(value) if len(value) == len("2026-12-01") else datetime.fromisoformat(value)
    if moment is None or (isinstance(moment, datetime) and moment.tzinfo is None):
        raise ValueError("write a date such as 2026-12-01, or a time with its offset such as 2026-12-01T14:00:00+01:00")
    return moment


Moment = Annotated[AwareDatetime | date, BeforeValidator(_moment)]


class AwayIn(In):
    """Who is away from when until when: two dates, both included, or two instants with their offsets."""

    conductor: Word = Field(examples=["conductor-eu"])
    start: Moment = Field(examples=["2026-12-01"])
    end: Moment = Field(examples=["2026-12-02"])
    note: Sentence | None = Field(None, examples=["conference"])


class HandoffIn(In):
    """Who takes the train over, and what they have to know."""

    to: Person
    note: Sentence


class UpdateIn(In):
    """News of the train, from one who conducts it; `decision` where it decides something."""

    sender: Word = Field(alias="from", examples=["conductor-eu"])
    text: Sentence
    decision: bool = False


class NoQuery(BaseModel):
    """No parameters: one that is misspelt is refused."""

    model_config = ConfigDict(extra="forbid")


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


@router.post(
    "/api/away",
    status_code=201,
    response_model=AwayOut,
    responses=documented(401, 403, 412, 413, 503) | {200: {"model": AwayOut, "description": "It stands already"}},
)
def be_away(body: AwayIn, service: TheService, author: Writer, _query: Annotated[NoQuery, Query()]) -> Response:
    """Put an absence on the calendar; the answer says which reserved slots it concerns, and who could cover."""
    found = absences.absent(
        service.follower, body.conductor, body.start, body.end, service.clock(), note=body.note, author=author
    )
    _log.info("away by %s: %s from %s to %s", author or "anybody", body.conductor, body.start, body.end)
    return JSONResponse(AwayOut.of(found).model_dump(mode="json"), status_code=201 if found.created else 200)


@router.get("/api/away", responses=documented(503))
def list_away(service: TheService, _query: Annotated[NoQuery, Query()]) -> list[AwayOut]:
    """The absences that are not over, by start: on the calendar, and of busy feeds what concerns reserved slots.

    Of whom nobody knows whether they are away, since their feed cannot be read, is told by conflicts and by `/api/now`.
    """
    return [AwayOut.of(found) for found in absences.listed(service.config, service.agenda, service.clock())]


@router.delete("/api/away/{name}", status_code=204, responses=documented(401, 403, 404, 412, 413, 503))
def be_present(
    name: Annotated[str, Path(description="The absence's id.")],
    service: TheService,
    author: Writer,
    _query: Annotated[NoQuery, Query()],
) -> Response:
    """Take an absence away again."""
    absences.present(service.follower, name, service.clock())
    _log.info("away by %s: %s is taken away", author or "anybody", name)
    return Response(status_code=204)


@router.post(
    "/api/reservations/{week}/handoff",
    responses=documented(401, 403, 404, 412, 413, 503),
)
def hand_over(
    week: WeekPath,
    body: HandoffIn,
    service: TheService,
    author: Writer,
    _query: Annotated[NoQuery, Query()],
    if_match: IfMatch = None,
) -> HandoffOut:
    """Hand the train to somebody else from now on; the calendar first, then the ticket and the operations channel."""
    if not isinstance(body.to, str) and body.to.name is None:
        raise Invalid("to: give the name of who takes over.")
    to, now = conductor_of(service.config, body.to, "primary"), service.clock()
    found = hand_off(
        service.follower, service.ports, Week.parse(week), to, body.note, now, etags=etags(if_match), author=author
    )
    _log.info("handoff by %s: %s goes from %s to %s", author or "anybody", week, found.former, to.name)
    return HandoffOut.of(*pass_on(service.courier, service.follower, found, service.clock()))


@router.post("/api/reservations/{week}/updates", responses=documented(401, 403, 404, 412, 413, 503))
def tell(
    week: WeekPath, body: UpdateIn, service: TheService, author: Writer, _query: Annotated[NoQuery, Query()]
) -> UpdateOut:
    """Tell the partner where they are reached now; a decision goes onto the ticket and into the log."""
    now, which = service.clock(), Week.parse(week)
    found = update(service.follower, service.ports, which, body.sender, body.text, now, decision=body.decision)
    _log.info("update by %s: %s from %s", author or "anybody", which, body.sender)
    return UpdateOut.of(str(which), found, service.courier.deliver(found.href, found.about, service.clock()))


@router.get("/api/reservations/{week}/deliveries", responses=documented(404, 503))
def list_deliveries(week: WeekPath, service: TheService, _query: Annotated[NoQuery, Query()]) -> list[DeliveryOut]:
    """The messages about a week, and what became of each; also of one that was released."""
    which = Week.parse(week)
    entry = service.agenda.reservation(which)
    if entry is None:
        raise NotReserved(f"{which} is not reserved.")
    return [DeliveryOut.of(one) for one in entry.deliveries]
