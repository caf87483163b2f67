"""GET /deployments.ics: the feed over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request, Response

from calsync.schedule.feed import Feed, render
from calsync.schemas.requests import FeedQuery
from calsync.web.cache import keep_until
from calsync.web.errors import documented
from calsync.web.state import State

router = APIRouter()
_CACHE = "public, max-age=60, stale-while-revalidate=600, stale-if-error=86400"

_ANSWERS: dict[int | str, dict[str, Any]] = documented(421, 422) | {
    200: {"content": {"text/calendar": {"schema": {"type": "string"}}}, "description": "The feed"},
    304: {"description": "Not changed"},
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of one feed, for each kind of calendar."""

    feed: str
    webcal: str
    google: str
    outlook: str
    office: str


def addresses(feed: str, name: str) -> Addresses:
    """Return the addresses of the feed at `feed` (http or https); Outlook shows it under `name`."""
    webcal = f"webcal:{feed.partition(':')[2]}"
    outlook = urlencode({"url": feed, "name": name}, quote_via=quote)
    return Addresses(
        feed,
        webcal,
        f"https://calendar.google.com/calendar/r?cid={quote(webcal, safe='')}",
        f"https://outlook.live.com/calendar/0/addfromweb?{outlook}",
        f"https://outlook.office.com/calendar/0/addfromweb?{outlook}",
    )


@router.head("/deployments.ics", include_in_schema=False)
@router.get(
    "/deployments.ics",
    response_class=Response,
    responses=_ANSWERS,
)
def feed(query: Annotated[FeedQuery, Query()], request: Request, state: State) -> Response:
    """Return the Deployments calendar as an iCal feed to subscribe to."""
    now = state.clock()
    return answer(render(state.agenda, now, query.filters(state.config)), request, now)


def answer(feed: Feed, request: Request, now: datetime) -> Response:
    """Return a feed as the response at `now` (aware), and keep it in the cache as long as it is valid."""
    headers = {"ETag": feed.etag, "Cache-Control": _CACHE}
    if feed.modified is not None:  # never later than Date (RFC 9110, section 8.8.2.1)
        headers["Last-Modified"] = format_datetime(min(feed.modified, now).astimezone(UTC), usegmt=True)
    if feed.modified is None or feed.modified <= now:
        keep_until(request, feed.expires)
    # Not compressed, because Outlook refuses that, and without Content-Disposition, so that clients subscribe, not import.
    return Response(feed.body, media_type="text/calendar; charset=utf-8", headers=headers)
