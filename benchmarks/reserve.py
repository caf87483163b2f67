"""Reserving over HTTP: beside a bare transaction, and as the calendar grows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime

from benchmarks import calendars, servers
from benchmarks.bench import Bench, Installation
from benchmarks.results import Row, measure_pairs
from benchmarks.servers import Answer, Connection, Server, post
from calsync.core.settings import Config
from calsync.core.weeks import Week
from calsync.ical.reservation import reservation_href

PATH = "/api/reservations"


def reservation(week: Week) -> bytes:
    """Return the JSON that reserves the week for the pair."""
    about = {"week": str(week), "train": "1.46.0-wmf.5", "ticket": "T400001"}
    return json.dumps(about | {"primary": "conductor-eu", "backup": "conductor-us"}).encode()


def find_free_weeks(config: Config, connection: Connection, now: datetime, count: int) -> list[Week]:
    """Return `count` weeks that calsync would reserve for the pair, after the one that the rows ask about."""
    weeks: list[Week] = []
    week = calendars.asked_week(config, now)
    while len(weeks) < count:
        week = week.shift(1)
        answer = connection.ask(post(f"{PATH}?dry_run=true", reservation(week)))
        assert answer.status in (200, 409, 422), answer.body  # 422: no train in this week
        if answer.status == 200:
            weeks.append(week)
    return weeks


class Reserving:
    """Reserves weeks at a calsync over and over."""

    def __init__(self, place: Installation, server: Server, stack: ExitStack, now: datetime, weeks: int) -> None:
        self._server, self._calendar = server, stack.enter_context(closing(place.calendar()))
        with closing(Connection(server.port)) as connection:
            self._weeks = find_free_weeks(place.config, connection, now, weeks)

    def __call__(self) -> float:
        """Reserve the weeks one after the other and remove them again; return the mean time of a reservation."""
        with closing(Connection(self._server.port)) as connection:
            took, answers = post_all(connection, [post(PATH, reservation(week)) for week in self._weeks])
            for week, answer in zip(self._weeks, answers, strict=True):
                stored = json.loads(answer.body)
                assert len(stored["slots"]) == 6
                self._calendar.delete(reservation_href(week), etag=stored["etag"])
            again = connection.ask(post(f"{PATH}?dry_run=true", reservation(self._weeks[0])))  # takes in that they are gone
            assert again.status == 200, again.body
        return took


def post_all(connection: Connection, requests: Sequence[bytes]) -> tuple[float, list[Answer]]:
    """Send the requests one after the other; return the mean time of one, and the answers."""
    started = time.perf_counter()
    answers = [connection.ask(request) for request in requests]
    took = (time.perf_counter() - started) / len(requests)
    assert {answer.status for answer in answers} == {201}, answers
    return took, answers


def beside_a_transaction(bench: Bench) -> Iterator[Row]:
    """Measure a week in two windows beside a bare route that stores the same bytes in one durable transaction."""
    place = bench.install(bench.everyday.resources)
    weeks = [calendars.asked_week(place.config, bench.now).shift(n) for n in range(10)]
    ics = calendars.reservation(place.config, weeks[0], bench.now)
    (place.folder / "ics").write_bytes(ics)
    (place.folder / "conflicts").write_bytes(b'{"slots": [], "conflicts": [], "reserved": false}')
    with ExitStack() as stack:
        calsync = stack.enter_context(servers.run("calsync", place.folder))
        bare = stack.enter_context(servers.run("fastapi", place.folder))
        reserve = Reserving(place, calsync, stack, bench.now, len(weeks))

        def store() -> float:
            with closing(Connection(bare.port)) as connection:
                return post_all(connection, [post("/reservations", reservation(week)) for week in weeks])[0]

        for warm_up in (reserve, store):
            warm_up()
        pairs = measure_pairs(bench.scale.runs, reserve, store)
    yield Row.of("reserving", pairs, f"{bench.scale.events:,} events, {len(ics):,} bytes")


def growth(bench: Bench) -> Iterator[Row]:
    """Measure the same on a calendar that has grown, beside the calendar when it was young."""
    with ExitStack() as stack:
        sides = []
        for resources in (bench.large.resources, bench.small.resources):
            place = bench.install(resources, long=True)
            server = stack.enter_context(servers.run("calsync", place.folder))
            sides.append(Reserving(place, server, stack, bench.now, 3))
            sides[-1]()
        pairs = measure_pairs(bench.scale.runs, *sides)
    yield Row.of("reserving, growth", pairs, bench.grown)
