"""What pages are made of beside their HTML: style sheets, scripts, the icon, the list of timezones; and GET /docs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import fastapi_offline
import pytz
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

from calsync.web.errors import documented
from calsync.web.pages.base import PageRoute, templates
from calsync.web.pages.timeline import MOST_STEPS

router = APIRouter(include_in_schema=False, responses=documented(421, 422), route_class=PageRoute)
_STATIC = Path(__file__).parent.parent / "static"
static = StaticFiles(directory=_STATIC)
swagger = StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static")


@router.get("/docs")
def docs(request: Request) -> Response:
    """The API, to read and to try out."""
    return templates.TemplateResponse(request, "docs.html")


@router.get("/grid.css")
def grid() -> Response:
    """Where each step of the timeline is: a style sheet, since the page may have no style attributes."""
    return Response(_grid(), media_type="text/css", headers={"Cache-Control": "public, max-age=86400"})


@router.head("/favicon.ico")
@router.get("/favicon.ico")
def favicon() -> Response:
    """The icon, for those who look for it beside what is no page, such as a picture or a feed."""
    return FileResponse(_STATIC / "icon.svg", headers={"Cache-Control": "public, max-age=86400"})


@router.get("/zones.json")
def zones() -> Response:
    """The timezones to choose from, for the page's fields."""
    return Response(_zones(), media_type="application/json", headers={"Cache-Control": "public, max-age=86400"})


@cache
def _grid() -> str:
    names = {"a": "first", "b": "last", "l": "left", "r": "right", "n": "steps"}
    steps = range(MOST_STEPS + 1)
    places = "".join(f".{short}{step}{{--{name}:{step}}}" for short, name in names.items() for step in steps)
    # A lane beyond these is found by the browser, which packs a grid as densely as it can.
    return places + "".join(f".w{lane}{{grid-row:{lane + 1}}}" for lane in steps)


@cache
def _zones() -> str:
    return json.dumps(pytz.common_timezones, separators=(",", ":"))
