"""What is measured behind one and the same uvicorn: calsync, and the barest apps that give the same answers.

python -m benchmarks.apps NAME PORT FOLDER
"""

from __future__ import annotations

import os
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
from calsync.web.app import create_app


def calsync(folder: Path) -> ASGIApp:
    """The service on the calendar of the windows.toml in `folder`."""
    config = load(folder / "windows.toml", {})
    return create_app(config, open_calendar(config))


def starlette(folder: Path) -> ASGIApp:
    """The bytes of the file `feed`, and a bare 304."""
    body = (folder / "feed").read_bytes()

    async def feed(_request: Request) -> Response:
        return Response(body, media_type="text/calendar; charset=utf-8")

    async def unchanged(_request: Request) -> Response:
        return Response(status_code=304, headers={"ETag": '"unchanged"'})

    return Starlette(routes=[Route("/feed", feed), Route("/unchanged", unchanged)])


def fastapi(folder: Path) -> ASGIApp:
    """The JSON of the file `conflicts`, as a model; and a reservation that is taken in and stored, and nothing more."""
    app = FastAPI()
    conflicts = ConflictsOut.model_validate_json((folder / "conflicts").read_bytes())
    ics = (folder / "ics").read_bytes()
    local = threading.local()
    database = folder / "bare.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE resources (n INTEGER PRIMARY KEY, href TEXT NOT NULL, ics BLOB NOT NULL)")
    connection.close()

    @app.get("/conflicts")
    async def at_once() -> ConflictsOut:
        return conflicts

    @app.get("/conflicts-in-a-thread")
    def in_a_thread() -> ConflictsOut:
        return conflicts

    @app.post("/reservations", status_code=201)
    def reserve(body: ReservationIn) -> dict[str, str]:
        if not hasattr(local, "connection"):  # handlers run in threads
            local.connection = sqlite3.connect(database, isolation_level=None)
            local.connection.execute("PRAGMA synchronous = FULL")
        href = f"train-{body.week}.ics"
        local.connection.execute("BEGIN IMMEDIATE")
        local.connection.execute("INSERT INTO resources (href, ics) VALUES (?, ?)", [href, ics])
        local.connection.execute("COMMIT")
        return {"href": href}

    return app


APPS = {"calsync": calsync, "starlette": starlette, "fastapi": fastapi}


def main() -> None:
    name, port, folder = sys.argv[1:]
    os.chdir(folder)
    uvicorn.run(APPS[name](Path(folder)), port=int(port), log_level="warning", access_log=False, server_header=False)


if __name__ == "__main__":
    main()
