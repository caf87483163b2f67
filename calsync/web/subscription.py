"""GET /deployments.ics: the feed over HTTP, with conditional requests (RFC 9110, section 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from calsync.errors import Invalid
from calsync.feed import Feed, Filters
from calsync.settings import Config, duration
from calsync.web.problems import documented
from calsync.web.service import TheService

router = APIRouter()

_CACHE = "public, max-age=60, stale-while-revalidate=600, stale-if-error=86400"


_ANSWERS: dict[int | str, dict[str, Any]] = documented(421, 422) | {
    200: {"content": {"text/calendar": {"schema": {"type": "string"}}}, "description": "The feed"},
    304: {"description": "Not changed"},
}


class FeedQuery(BaseModel):
    """What of the agenda the feed shows; parameters that are not known are refused."""

    model_config = ConfigDict(extra="forbid")

    window: list[str] = Field([], description="Only these windows, train or standing; may be given several times.")
    conductor: str | None = Field(None, description="Only reserved slots in which this person sits.")
    only: Literal["reservations"] | None = Field(None, description="Only reserved slots.")
    alarm: str | None = Field(None, description="A reminder that long before each slot.", examples=["15m"])

    def filters(self, config: Config) -> Filters:
        """The same for the core; `Invalid` where it names what there is not."""
        for window in self.window:
            if window not in config.windows:
                raise Invalid(f'window "{window[:40]}" does not exist; there are {", ".join(config.windows)}.')
        alarm: timedelta | None = None
        if self.alarm is not None:
            try:
                alarm = duration(self.alarm)
            except (ValueError, OverflowError):
                raise Invalid('alarm: write a whole number and a unit, such as "15m".') from None
            if alarm > timedelta(weeks=1):
                raise Invalid("alarm: a reminder is at most a week ahead.")
        return Filters(tuple(sorted(set(self.window))), self.conductor, self.only == "reservations", alarm)


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
def feed(query: Annotated[FeedQuery, Query()], request: Request, service: TheService) -> Response:
    """The Deployments calendar as an iCal feed to subscribe to."""
    now = service.clock()
    filters = query.filters(service.config)
    found = service.feed(filters)
    whole = _whole(found, now)
    if found.modified is not None and found.modified <= now:
        query_string = request.scope["query_string"]
        service.remember_feed(query_string, filters, found, whole.raw_headers, _fresh(whole).raw_headers)
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
