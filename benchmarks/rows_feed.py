"""The feed: hot, unchanged, beside CalDAV servers that have the same events, and again after a change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

from benchmarks import peers, serving
from benchmarks.load import Load, request
from benchmarks.peers import Peer
from benchmarks.rows import Bound, Paired, Row, paired, rows, seconds, spoken
from benchmarks.serving import Compared
from benchmarks.stage import Stage
from benchmarks.subscribers import Cost
from calsync.schedule.feed import Filters

FEED = "/deployments.ics"


@rows("feed")
def hot(stage: Stage) -> Iterator[Row]:
    """A hot GET and a 304, each beside the barest route that answers the same."""
    place = stage.copy(stage.thousand)
    count = len(place.resources)
    with Load() as load, serving.app("calsync", place.folder) as calsync:
        with calsync.line() as line:
            status, body = line.ask(request("GET", FEED))
            assert status == 200
        (place.folder / "feed").write_bytes(body)
        with serving.app("starlette", place.folder) as bare:
            with bare.line() as line:
                assert line.ask(request("GET", "/feed")) == (200, body), "the bare route returns something else"
            compared = Compared(load, stage.scale)
            measured = compared.run(calsync, request("GET", FEED), bare, request("GET", "/feed"))
            whole = compared.cpu[0]
            yield Row.of(
                f"feed, hot GET of {count:,} events, keep-alive",
                measured.ratio,
                Bound("of a bare Starlette route that returns the same bytes", least=0.9),
                f"{len(body):,} bytes: {compared.said(measured)}",
            )
            etag = _etag(calsync)
            known, unchanged = request("GET", FEED, If_None_Match=etag), request("GET", "/unchanged", If_None_Match=etag)
            measured = compared.run(calsync, known, bare, unchanged, status=304)
            stage.cost = Cost(whole, compared.cpu[0], len(body))
            yield Row.of(
                "304 on If-None-Match",
                measured.ratio,
                Bound("of a bare Starlette 304", least=0.9),
                compared.said(measured),
            )
        for name, start in (("Radicale", peers.radicale), ("Xandikos", peers.xandikos)):
            yield _beside(stage, load, calsync, name, start)


def _beside(
    stage: Stage,
    load: Load,
    calsync: serving.Server,
    name: str,
    start: Callable[..., AbstractContextManager[Peer]],
) -> Row:
    """The hot GET beside a CalDAV server's own GET of a collection with the same events."""
    folder = stage.folder / name
    folder.mkdir()
    with start(folder, stage.thousand.resources) as peer, peer.server.line() as line:

        def whole() -> float:
            status, body = line.ask(peer.get())
            assert status == 200, body[:200]
            sizes.append(len(body))
            events = len(set(re.findall(rb"\nUID:(\S+)", body)))
            assert events == len(stage.thousand.resources), f"{name} has {events} events"
            return 1

        sizes: list[int] = []
        whole()

        def theirs() -> float:
            line.renew()
            return 2 / seconds(lambda: (line.ask(peer.get()), line.ask(peer.get())))

        def ours() -> float:
            return load.burst(calsync.port, request("GET", FEED), 200, stage.scale.burst).rate

        measured = paired(stage.scale.few, ours, theirs)
    return Row.of(
        f"feed, hot GET of {len(stage.thousand.resources):,} events, keep-alive, beside {name}",
        measured.ratio,
        Bound(f"times {name}'s own GET of a collection with the same events", least=100),
        f"{measured.above:,.0f} to {measured.below:.2f} answers a second, {sizes[0]:,} bytes of {name}, which is "
        f"asked by one client, one request after the other; {measured.spread}",
    )


def _etag(server: serving.Server) -> str:
    with server.line() as line:
        line.ask(request("GET", FEED))
        found = re.search(rb"(?i)\r\netag: *(\S+)", line.head)
    assert found
    return found[1].decode()


@rows("feed-again")
def again(stage: Stage) -> Iterator[Row]:
    """The feed after one change, and of a process that has just read the calendar."""
    place = stage.everyday
    whole, anew, nothing, reading = [], [], [], Filters()
    for n in range(stage.scale.few):
        took: list[float] = []

        def read(took: list[float] = took) -> None:
            state = stage.fresh(place)
            took.append(seconds(lambda: state.feed(reading)))
            state.sync.calendar.close()

        whole.append(seconds(read))
        nothing += took
        state = stage.state(place)
        state.feed(reading)
        for m in range(5):
            stage.changed(place, 1000 + 10 * n + m)
            anew.append(seconds(partial(state.feed, reading)))
    runs = [(again, nothing[n // 5]) for n, again in enumerate(anew)]
    measured = Paired(tuple(runs))
    body = stage.state(place).feed(reading).body
    yield Row.of(
        "feed again after one change",
        measured.ratio,
        Bound("of the cost of building it from nothing", most=0.05),
        f"{len(place.resources):,} events, {len(body):,} bytes: {spoken(measured.above)} to {spoken(measured.below)}, "
        f"which is the first feed of a process that has read the calendar; with the reading {spoken(min(whole))}; "
        f"{measured.spread}",
    )
