"""The feed: hot, unchanged, and after a change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing

from fastapi import FastAPI

from benchmarks import calendars, servers
from benchmarks.bench import Bench, OtherPerson
from benchmarks.reserve import reservation
from benchmarks.results import Pairs, Row
from benchmarks.servers import get
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
    """Measure the feed after somebody changed an event, beside the first feed of an app that has read the calendar."""
    runs = [run for _ in range(1 + bench.scale.slow_runs) for run in asyncio.run(_changes(bench))]
    yield Row.of("feed after one change", Pairs(runs[5:]), f"{bench.scale.events:,} events")


async def _changes(bench: Bench) -> list[tuple[float, float]]:
    """Start an app in this process, where all timezones are known; return the costs of a feed after a change and before."""
    place = bench.install(bench.everyday.resources)
    week = calendars.asked_week(place.config, bench.now)
    app = create_app(place.config, place.calendar())
    runs = []
    with closing(place.calendar()) as calendar:
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
