"""What runs behind one and the same uvicorn: calsync, and the barest apps that give the same answers.

Run `python -m benchmarks.apps NAME PORT` in the folder of an installation.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from calsync.calendars.open import open_calendar
from calsync.core.config import load
from calsync.schemas.requests import ReservationIn
from calsync.schemas.reservations import ConflictsOut


def calsync() -> ASGIApp:
    """Return the service on the calendar of the windows.toml."""
    from calsync.web.app import create_app  # late, so that the bare apps start quickly

    config = load(Path("windows.toml"), {})
    return create_app(config, open_calendar(config))


def starlette() -> ASGIApp:
    """Return an app that answers with the bytes of the file `feed`, and with a bare 304."""
    body = Path("feed").read_bytes()

    async def feed(_request: Request) -> Response:
        return Response(body, media_type="text/calendar; charset=utf-8")

    async def unchanged(_request: Request) -> Response:
        return Response(status_code=304, headers={"ETag": '"unchanged"'})

    return Starlette(routes=[Route("/feed", feed), Route("/unchanged", unchanged)])


def fastapi() -> ASGIApp:
    """Return an app that answers with the model in the file `conflicts`, and reserves by storing those of `ics`."""
    app = FastAPI()
    conflicts = ConflictsOut.model_validate_json(Path("conflicts").read_bytes())
    ics = Path("ics").read_bytes()
    local = threading.local()  # FastAPI calls `reserve` in threads
    with sqlite3.connect("bare.db") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE resources (n INTEGER PRIMARY KEY, href TEXT NOT NULL, ics BLOB NOT NULL)")
    connection.close()

    @app.get("/conflicts")
    async def answer() -> ConflictsOut:
        return conflicts

    @app.post("/reservations", status_code=201)
    def reserve(body: ReservationIn) -> dict[str, str]:
        if not hasattr(local, "connection"):
            local.connection = sqlite3.connect("bare.db", isolation_level=None)
            local.connection.execute("PRAGMA synchronous = FULL")
        href = f"train-{body.week}.ics"
        local.connection.execute("BEGIN IMMEDIATE")
        local.connection.execute("INSERT INTO resources (href, ics) VALUES (?, ?)", [href, ics])
        local.connection.execute("COMMIT")
        return {"href": href}

    return app


if __name__ == "__main__":
    app = {"calsync": calsync, "starlette": starlette, "fastapi": fastapi}[sys.argv[1]]()
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False, server_header=False)
