"""Reserving over HTTP: beside a bare transaction, beside a CalDAV server, and as the calendar grows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from benchmarks import calendars, peers, serving
from benchmarks.load import Line, request
from benchmarks.rows import Bound, Row, paired, rows, seconds, spoken
from benchmarks.serving import Server
from benchmarks.stage import Place, Stage
from calsync.core.weeks import Week
from calsync.ical.reservation import encode_reservation, reservation_href


class Writer:
    """Reserves weeks of a calsync over one connection, and sets its calendar back."""

    def __init__(self, place: Place, server: Server, line: Line, weeks: Sequence[Week]) -> None:
        self._place, self._server, self._line, self._weeks = place, server, line, weeks
        self._calendar = place.calendar()
        self.cost: list[float] = []

    def reserve(self) -> float:
        """The seconds that a reservation takes, as the mean of one for each week; the calendar is set back after."""
        answers: list[tuple[int, bytes]] = []
        requests = [
            request("POST", "/api/reservations", asked(week), Content_Type="application/json") for week in self._weeks
        ]
        self._line.renew()
        before = self._server.busy()
        took = seconds(lambda: answers.extend(self._line.ask(one) for one in requests)) / len(requests)
        self.cost.append((self._server.busy() - before) / len(requests))
        for week, (status, body) in zip(self._weeks, answers, strict=True):
            assert status == 201, body
            assert len(json.loads(body)["slots"]) == 6
            self._calendar.delete(reservation_href(week), etag=json.loads(body)["etag"])
        again = request("POST", "/api/reservations?dry_run=true", asked(self._weeks[0]), Content_Type="application/json")
        status, body = self._line.ask(again)  # which takes in that they are gone
        assert status == 200, body
        return took

    def close(self) -> None:
        self._calendar.close()


def asked(week: Week) -> bytes:
    """The body that asks for the week."""
    wanted = {
        "week": str(week),
        "train": "1.46.0-wmf.5",
        "ticket": "T400001",
        "primary": "conductor-eu",
        "backup": "conductor-us",
    }
    return json.dumps(wanted).encode()


@rows("reserve")
def beside_others(stage: Stage) -> Iterator[Row]:
    """A spanning week beside a bare transaction of the same bytes, and beside six PUTs to Radicale."""
    place = stage.copy(stage.everyday)
    weeks = stage.free_weeks(place, stage.state(stage.everyday).agenda, 10)
    reservation = calendars.reservation(place.config, weeks[0], stage.now)
    ics = encode_reservation(place.config, reservation, "0" * 32)
    (place.folder / "ics").write_bytes(ics)
    (place.folder / "conflicts").write_bytes(b'{"slots": [], "conflicts": [], "reserved": false}')
    with ExitStack() as stack:
        calsync = stack.enter_context(serving.app("calsync", place.folder))
        bare = stack.enter_context(serving.app("fastapi", place.folder))
        line, bare_line = (stack.enter_context(server.line()) for server in (calsync, bare))
        writer = Writer(place, calsync, line, weeks)
        stack.callback(writer.close)

        def transactions() -> float:
            bare_line.renew()
            requests = [request("POST", "/reservations", asked(week), Content_Type="application/json") for week in weeks]
            answers: list[tuple[int, bytes]] = []
            took = seconds(lambda: answers.extend(bare_line.ask(one) for one in requests)) / len(requests)
            assert {status for status, _ in answers} == {201}
            return took

        writer.reserve()
        transactions()
        measured = paired(2 * stage.scale.runs, writer.reserve, transactions)
        yield Row.of(
            "reserving a spanning week by HTTP, embedded, durable",
            measured.ratio,
            Bound("times a bare SQLite transaction of the same bytes, behind a bare FastAPI route", most=3),
            f"{len(place.resources):,} events, {len(ics):,} bytes: {spoken(measured.above)} to {spoken(measured.below)}, "
            f"{spoken(statistics.median(writer.cost))} of CPU each; {len(weeks)} weeks a run, one after the other; "
            f"{measured.spread}",
        )
        folder = stage.folder / "radicale-put"
        folder.mkdir()
        peer = stack.enter_context(peers.radicale(folder, stage.everyday.resources))
        peer_line = stack.enter_context(peer.server.line())
        count = iter(range(1_000_000))

        def six() -> float:
            n = next(count)
            peer_line.renew()
            singles = [(f"slot-{n}-{m}", replace(reservation, slots=(slot,))) for m, slot in enumerate(reservation.slots)]
            puts = [
                peer.put(
                    f"{name}.ics",
                    encode_reservation(place.config, one, name).replace(b"UID:train-", f"UID:{name}-".encode()),
                )
                for name, one in singles
            ]
            answers: list[tuple[int, bytes]] = []
            took = seconds(lambda: answers.extend(peer_line.ask(put) for put in puts))
            assert {status for status, _ in answers} == {201}, answers
            return took

        six()
        measured = paired(stage.scale.few, six, writer.reserve)
        yield Row.of(
            "reserving a spanning week by HTTP, beside Radicale",
            measured.ratio,
            Bound("times faster than its six events PUT one by one to Radicale", least=50),
            f"{len(place.resources):,} events: {spoken(measured.above)} to {spoken(measured.below)}; {measured.spread}",
        )


@rows("reserve-growth")
def growth(stage: Stage) -> Iterator[Row]:
    """The same on a calendar that has grown."""
    stage.assure_same()
    weeks = stage.free_weeks(stage.large, stage.state(stage.large).agenda, 3)
    large, small = (len(place.resources) for place in (stage.large, stage.small))
    with ExitStack() as stack:
        writers = []
        for place in (stage.copy(stage.large), stage.copy(stage.small)):
            server = stack.enter_context(serving.app("calsync", place.folder))
            writers.append(Writer(place, server, stack.enter_context(server.line()), weeks))
            stack.callback(writers[-1].close)
            writers[-1].reserve()
        measured = paired(2 * stage.scale.runs, writers[0].reserve, writers[1].reserve)
    yield Row.of(
        f"reserving a spanning week by HTTP, its growth from {small:,} to {large:,} events",
        measured.ratio,
        Bound("times", most=1.5),
        f"{spoken(measured.above)} to {spoken(measured.below)}; {len(weeks)} weeks a run; {measured.spread}",
    )
