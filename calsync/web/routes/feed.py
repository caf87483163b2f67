"""GET /deployments.ics: the feed over HTTP, with conditional requests (RFC 9110, section 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request, Response

from calsync.schedule.feed import Feed
from calsync.schemas.requests import FeedQuery
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
    """One feed under each of the addresses by which calendars take it."""

    feed: str
    webcal: str
    google: str
    outlook: str
    office: str


def addresses(feed: str, name: str) -> Addresses:
    """The addresses of the feed whose address (http or https) is `feed`; `name` is what Outlook calls it."""
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
    """The Deployments calendar as an iCal feed to subscribe to."""
    now = state.clock()
    filters = query.filters(state.config)
    found = state.feed(filters)
    whole = _whole(found, now)
    if found.modified is not None and found.modified <= now:
        query_string = request.scope["query_string"]
        state.remember_feed(query_string, filters, found, whole.raw_headers, _fresh(whole).raw_headers)
    return _or_fresh(whole, found, request)


def answer(found: Feed, request: Request, now: datetime) -> Response:
    """A feed as a response at `now` (aware); 304 where the client has it."""
    return _or_fresh(_whole(found, now), found, request)


def _whole(found: Feed, now: datetime) -> Response:
    headers = {"ETag": found.etag, "Cache-Control": _CACHE}
    if found.modified is not None:  # never later than Date (RFC 9110, section 8.8.2.1)
        headers["Last-Modified"] = format_datetime(min(found.modified, now).astimezone(UTC), usegmt=True)
    # Never compressed, which Outlook refuses, and without Content-Disposition, so that clients subscribe and do not import.
    return Response(found.body, media_type="text/calendar; charset=utf-8", headers=headers)


def _or_fresh(whole: Response, found: Feed, request: Request) -> Response:
    """The whole answer, or a 304 where the client has it."""
    return _fresh(whole) if _is_fresh(found, request.headers) else whole


def _fresh(whole: Response) -> Response:
    """The 304 for whoever has the whole answer: nothing in it is about a body (RFC 9110, section 15.4.5)."""
    about_body = {"content-length", "content-type", "last-modified"}
    headers = {name: value for name, value in whole.headers.items() if name not in about_body}
    return Response(status_code=304, headers=headers)


def _is_fresh(found: Feed, headers: Mapping[str, str]) -> bool:
    """Whether what the client has is this feed; If-None-Match goes before If-Modified-Since."""
    if (known := headers.get("if-none-match")) is not None:
        return known.strip() == "*" or found.etag in (etag.strip().removeprefix("W/") for etag in known.split(","))
    if found.modified is not None and (since := headers.get("if-modified-since")) is not None:
        try:
            moment: datetime = parsedate_to_datetime(since)
        except (ValueError, TypeError):
            return False
        return moment.tzinfo is not None and found.modified <= moment
    return False
