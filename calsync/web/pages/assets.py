"""What pages need beside their HTML: style sheets, scripts, the icon, the list of timezones; and GET /docs."""

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
    """Return the page with the API's reference, to try it out."""
    return templates.TemplateResponse(request, "docs.html")


@router.get("/grid.css")
def grid() -> Response:
    """Return the style sheet with a class for each step of the timeline, because pages may have no style attributes."""
    return Response(_grid(), media_type="text/css", headers={"Cache-Control": "public, max-age=86400"})


@router.head("/favicon.ico")
@router.get("/favicon.ico")
def favicon() -> Response:
    """Return the icon, which browsers look for here if they show no page, but a picture or a feed."""
    return FileResponse(_STATIC / "icon.svg", headers={"Cache-Control": "public, max-age=86400"})


@router.get("/zones.json")
def zones() -> Response:
    """Return the timezones that the fields of the pages offer."""
    return Response(_zones(), media_type="application/json", headers={"Cache-Control": "public, max-age=86400"})


@cache
def _grid() -> str:
    names = {"a": "first", "b": "last", "l": "left", "r": "right", "n": "steps"}
    steps = range(MOST_STEPS + 1)
    places = "".join(f".{short}{step}{{--{name}:{step}}}" for short, name in names.items() for step in steps)
    # Lanes beyond these need no class: the browser packs the grid densely.
    return places + "".join(f".w{lane}{{grid-row:{lane + 1}}}" for lane in steps)


@cache
def _zones() -> str:
    return json.dumps(pytz.common_timezones, separators=(",", ":"))
