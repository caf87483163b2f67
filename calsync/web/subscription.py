"""GET /deployments.ics: the feed over HTTP, with conditional requests (RFC 9110, section 13).

Subscribers ask the same again and again, so an answer that was given once is kept as it went out, and `Repeats` gives it
again before the app is asked, for as long as it stays right. Everything out of the ordinary is left to the app.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calsync.errors import Invalid
from calsync.feed import Feed, Filters
from calsync.settings import Config, duration
from calsync.web.problems import documented
from calsync.web.service import Service, TheService

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
    if found.modified <= now:
        service.remember(request.scope["query_string"], filters, found, whole.raw_headers)
    return _or_fresh(whole, found, request)


def answer(found: Feed, request: Request, now: datetime) -> Response:
    """A feed as a response at `now` (aware); 304 where the client has it."""
    return _or_fresh(_whole(found, now), found, request)


def _whole(found: Feed, now: datetime) -> Response:
    headers = {
        "ETag": found.etag,
        # Never later than Date (RFC 9110, section 8.8.2.1).
        "Last-Modified": format_datetime(min(found.modified, now).astimezone(UTC), usegmt=True),
        "Cache-Control": _CACHE,
    }
    # Never compressed, which Outlook refuses, and without Content-Disposition, so that clients subscribe and do not import.
    return Response(found.body, media_type="text/calendar; charset=utf-8", headers=headers)


def _or_fresh(whole: Response, found: Feed, request: Request) -> Response:
    """The whole answer, or a 304 with its headers where the client has it."""
    if not _is_fresh(found, request.headers):
        return whole
    headers = {name: value for name, value in whole.headers.items() if name not in ("content-length", "content-type")}
    return Response(status_code=304, headers=headers)


def _is_fresh(found: Feed, headers: Mapping[str, str]) -> bool:
    """Whether what the client has is this feed; If-None-Match goes before If-Modified-Since."""
    if (known := headers.get("if-none-match")) is not None:
        return known.strip() == "*" or found.etag in (etag.strip().removeprefix("W/") for etag in known.split(","))
    if (since := headers.get("if-modified-since")) is not None:
        try:
            moment: datetime = parsedate_to_datetime(since)
        except (ValueError, TypeError):
            return False
        return moment.tzinfo is not None and found.modified <= moment
    return False


class Repeats:
    """Around the app: gives an answer of the feed again that was given to the same question before.

    `guard` adds what every answer has, and knows under which names the server is reached.
    """

    def __init__(self, app: ASGIApp, *, service: Service, guard: Sequence[tuple[bytes, bytes]]) -> None:
        self._app, self._service, self._guard = app, service, list(guard)
        self._hosts: set[bytes] = set()
        requests = service.metrics.requests
        self._count = {
            (method, status): requests.labels(method, status).inc for method in ("GET", "HEAD") for status in (200, 304)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http" or scope["path"] != "/deployments.ics" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        host = known = since = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"if-none-match":
                known = value
            elif name == b"if-modified-since":
                since = value
        answer = self._service.repeat(scope["query_string"]) if host in self._hosts else None
        if answer is None or (known is None and since is not None) or (known is not None and known != answer.etag):
            await self._ask(scope, receive, send, host)
            return
        status = 200 if known is None else 304
        headers = answer.headers if known is None else answer.fresh
        body = answer.body if status == 200 and scope["method"] == "GET" else b""
        await send({"type": "http.response.start", "status": status, "headers": headers + self._guard})
        await send({"type": "http.response.body", "body": body})
        self._count[scope["method"], status]()
        self._service.metrics.request_seconds.observe(time.perf_counter() - started)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, host: bytes | None) -> None:
        """Let the app answer, and take note of a host that it accepts."""

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 304) and host is not None:
                if len(self._hosts) >= _HOSTS:
                    self._hosts.clear()
                self._hosts.add(host)
            await send(message)

        await self._app(scope, receive, noting)


_HOSTS = 64
"""How many names of the server are kept in mind; with `*` they come from outside."""
