"""How long the page takes to its first byte with 10,000 events on the calendar, and how much of it goes over the wire.

    python -m benchmarks.page [--json] [--events N]

Both are measured on a real `calsync serve`. A row's ratio is what was measured over what is allowed, so it holds up to 1.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
from rich.console import Console
from rich.table import Table

from benchmarks import serving
from calsync.calendars.sql import SqlCalendar

FIRST_BYTE, WEIGHT = 0.050, 60_000
"""What is allowed: seconds to the first byte, and compressed bytes of a page with its style sheets and modules."""
RUNS = 60
SEED = 49


def events(count: int) -> Iterator[bytes]:
    """Events of one hour all over the horizon, one in ten of them weekly, one in fifty all day."""
    dice = random.Random(SEED)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for n in range(count):
        start = today + timedelta(days=dice.randrange(-80, 390), minutes=15 * dice.randrange(96))
        when = f"DTSTART:{start:%Y%m%dT%H%M%SZ}\r\nDURATION:PT1H"
        if n % 50 == 0:
            when = f"DTSTART;VALUE=DATE:{start:%Y%m%d}"
        elif n % 10 == 0:
            when += "\r\nRRULE:FREQ=WEEKLY;COUNT=4"
        yield (
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//calsync//benchmark//EN\r\nBEGIN:VEVENT\r\n"
            f"UID:event-{n}\r\nDTSTAMP:20260101T000000Z\r\n{when}\r\nSUMMARY:Service rollout {n}\r\n"
            "END:VEVENT\r\nEND:VCALENDAR\r\n"
        ).encode()


def client_of(server: serving.Server) -> httpx2.Client:
    return httpx2.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60, trust_env=False)


def first_bytes(client: httpx2.Client, path: str) -> list[float]:
    """The seconds from each request to the first byte of its answer, over one connection."""
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        with client.stream("GET", path) as answer:
            parts = answer.iter_raw()
            next(parts)
            seconds.append(time.perf_counter() - started)
            for _ in parts:  # to its end, so that the connection serves the next one
                pass
    return sorted(seconds[5:])


def weight(client: httpx2.Client, path: str) -> dict[str, int]:
    """The compressed bytes of a page and of each style sheet and module it loads, by their paths."""
    page = client.get(path).text
    found = re.findall(r'<(?:link rel="stylesheet" href|script type="module" src)="([^"]+)"', page)
    files = {name: client.get(name).text for name in found}
    for name in re.findall(r'from "\./([^"]+)"', files["/static/page.js"]):
        files[f"/static/{name}"] = client.get(f"/static/{name}").text
    return {name: len(gzip.compress(text.encode(), mtime=0)) for name, text in {path: page, **files}.items()}


def measure(count: int) -> Iterator[dict[str, object]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "windows.toml").write_bytes((serving.ROOT / "windows.toml").read_bytes())
        calendar = SqlCalendar.sqlite(folder / "deployments.db")
        for n, ics in enumerate(events(count)):
            calendar.put(f"event-{n}.ics", ics, etag=None)
        calendar.close()
        with serving.calsync(folder) as server, client_of(server) as client:
            week = f"{datetime.now(UTC) + timedelta(weeks=1):%G-W%V}"
            pair = {"week": week, "primary": "conductor-eu", "backup": "conductor-us", "override": "a benchmark"}
            client.post("/api/reservations", json=pair)
            free = f"{datetime.now(UTC) + timedelta(weeks=2):%G-W%V}"
            for what, path in (
                ("first byte of the week", f"/week/{week}?tz=Europe/Paris"),
                ("first byte of the picture", f"/week/{week}.svg"),
                ("first byte of a plan", f"/plan?primary=Europe/Berlin&backup=America/Chicago&week={free}"),
            ):
                seconds = first_bytes(client, path)
                median, late = statistics.median(seconds), seconds[int(len(seconds) * 0.95)]
                detail = f"{count:,} events: {1000 * median:.1f} ms in the median, {1000 * late:.1f} ms for 19 of 20"
                yield row(what, median / FIRST_BYTE, f"≤ {1000 * FIRST_BYTE:.0f} ms", detail)
            parts = weight(client, f"/week/{week}")
            detail = f"{sum(parts.values()):,} bytes: " + ", ".join(f"{name} {size:,}" for name, size in parts.items())
            yield row("page weight, compressed", sum(parts.values()) / WEIGHT, f"≤ {WEIGHT:,} bytes", detail)


def row(name: str, ratio: float, reach: str, detail: str) -> dict[str, object]:
    return {"name": name, "ratio": round(ratio, 3), "reach": reach, "holds": ratio <= 1, "detail": detail}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object a row")
    parser.add_argument("--events", type=int, default=10_000, help="how many events stand on the calendar")
    options = parser.parse_args()
    table = Table("what", "ratio", "reach", "holds", "detail")
    for found in measure(options.events):
        if options.json:
            print(json.dumps(found, ensure_ascii=False), flush=True)
        else:
            table.add_row(*(str(value) for value in (found | {"holds": "yes" if found["holds"] else "no"}).values()))
    if not options.json:
        Console(width=160).print(table)


if __name__ == "__main__":
    main()
