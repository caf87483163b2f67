"""The feed: hot, unchanged, and after a change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from fastapi import FastAPI

from benchmarks import calendars, servers
from benchmarks.bench import Bench, OtherPerson, in_new_process
from benchmarks.reserve import reservation
from benchmarks.results import Pairs, Row
from benchmarks.servers import get
from calsync.calendars.open import open_calendar
from calsync.core.config import load
from calsync.core.settings import Config
from calsync.ical.vtimezone import vtimezone
from calsync.web.app import create_app

PATH = "/deployments.ics"


def hot(bench: Bench) -> Iterator[Row]:
    """Measure a repeated GET and a 304, each beside the barest route that answers the same."""
    folder = bench.draw(bench.scale.feed).folder
    with servers.run("calsync", folder) as calsync:
        feed = calsync.ask(get(PATH))
        (folder / "feed").write_bytes(feed.body)
        with servers.run("starlette", folder) as bare:
            assert bare.ask(get("/feed")).body == feed.body
            pairs = servers.compare(bench.scale, (bare, get("/feed")), (calsync, get(PATH)))
            yield Row.of("hot feed", pairs, f"{bench.scale.feed:,} events, {len(feed.body):,} bytes")
            etag = feed.headers[b"etag"]
            pairs = servers.compare(bench.scale, (bare, get("/unchanged", etag)), (calsync, get(PATH, etag)), status=304)
            yield Row.of("unchanged feed (304)", pairs, f"{bench.scale.feed:,} events")


def after_one_change(bench: Bench) -> Iterator[Row]:
    """Measure the feed after somebody changed an event, beside the first feed of a process that has read the calendar."""
    places = [bench.install(bench.everyday.resources) for _ in range(bench.scale.slow_runs)]
    runs = [run for place in places for run in in_new_process(_change, place.folder, bench.now)]
    yield Row.of("feed after one change", Pairs(runs), f"{bench.scale.events:,} events")


def _change(folder: Path, now: datetime) -> list[tuple[float, float]]:
    for timezone in calendars.ZONES:
        vtimezone(timezone)  # worked out once in a process, which would hide the cost of the feed
    return asyncio.run(_change_and_ask(load(folder / "windows.toml", {}), now))


async def _change_and_ask(config: Config, now: datetime) -> list[tuple[float, float]]:
    """Start an app and change an event several times; return the costs of the feed after a change and of the first one."""
    week, runs = calendars.asked_week(config, now), []
    app = create_app(config, open_calendar(config))
    with closing(open_calendar(config)) as calendar:
        other = OtherPerson(calendar, week)
        async with app.router.lifespan_context(app):
            building, _ = await _ask(app, "GET", PATH)
            for _ in range(5):
                title = other.change()
                await _ask(app, "POST", "/api/reservations", b"dry_run=true", reservation(week))  # takes the change in
                took, body = await _ask(app, "GET", PATH)
                assert title.encode() in body
                runs.append((took, building))
    return runs


async def _ask(app: FastAPI, method: str, path: str, query: bytes = b"", body: bytes = b"") -> tuple[float, bytes]:
    """Send a request to the app; return the processor time of its answer, and the body."""
    parts: list[bytes] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, bytes]) -> None:
        parts.append(message.get("body", b""))

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers, "scheme": "http"}
    started = time.process_time()
    await app(scope, receive, send)  # type: ignore[arg-type]
    return time.process_time() - started, b"".join(parts)
