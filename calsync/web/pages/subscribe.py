"""GET /subscribe: the feed's address with the chosen filters, and links that add it to a calendar."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import field_validator

from calsync.core.timezones import zone
from calsync.schemas.requests import FeedQuery
from calsync.web.errors import documented
from calsync.web.pages.base import PageRoute, page_context, templates
from calsync.web.routes.feed import addresses
from calsync.web.state import State

router = APIRouter(include_in_schema=False, responses=documented(421, 422), route_class=PageRoute)


class SubscribeQuery(FeedQuery):
    """The feed's filters, and the timezone of the page. An empty field is not set."""

    tz: str = "UTC"

    @field_validator("conductor", "only", "alarm", mode="before")
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        return value or None


@router.head("/subscribe")
@router.get("/subscribe")
def subscribe_page(query: Annotated[SubscribeQuery, Query()], request: Request, state: State) -> Response:
    """Return the page with the feed's address for these filters."""
    zone(query.tz)
    query.filters(state.config)
    context = page_context(request, state, query.tz)
    wanted = query.model_dump(exclude={"tz"}, exclude_none=True)
    filters = urlencode(wanted, doseq=True)
    feed = f"{context['feed']}?{filters}" if filters else context["feed"]
    context |= {"wanted": wanted, "feed": feed, "addresses": addresses(feed, state.config.calendar.name)}
    return templates.TemplateResponse(request, "subscribe.html", context, headers={"Cache-Control": "no-cache"})
