"""Radicale and Xandikos on loopback, each holding a calendar that was there before they were asked."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dulwich import porcelain

from benchmarks.calendars import Made
from benchmarks.load import request
from benchmarks.serving import Server, free_port, serving

_CREDENTIALS = "Basic " + base64.b64encode(b"train:train").decode()


@dataclass(frozen=True, slots=True)
class Peer:
    """A CalDAV server, and the path of its calendar, which ends in a slash."""

    server: Server
    path: str

    def get(self) -> bytes:
        """The request for the whole calendar as iCalendar text."""
        return request("GET", self.path, Authorization=_CREDENTIALS, Accept="text/calendar")

    def put(self, href: str, ics: bytes) -> bytes:
        """The request that stores a new event."""
        headers = {"Authorization": _CREDENTIALS, "Content_Type": "text/calendar; charset=utf-8", "If_None_Match": "*"}
        return request("PUT", self.path + href, ics, **headers)


@contextmanager
def radicale(folder: Path, resources: Iterable[Made]) -> Iterator[Peer]:
    """Radicale as it is without a configuration, but for asking nobody for a password."""
    calendar = folder / "collections" / "collection-root" / "train" / "deployments"
    calendar.mkdir(parents=True)
    (calendar / ".Radicale.props").write_text(json.dumps({"tag": "VCALENDAR", "D:displayname": "Deployments"}))
    for one in resources:
        (calendar / one.href).write_bytes(one.ics)
    port = free_port()
    options = {
        "--config": "",
        "--hosts": f"127.0.0.1:{port}",
        "--storage-filesystem-folder": folder / "collections",
        "--auth-type": "none",
        "--logging-level": "warning",
    }
    command = [sys.executable, "-m", "radicale", *(f"{name}={value}" for name, value in options.items())]
    with serving(command, port, folder, status=0) as server:
        yield Peer(server, "/train/deployments/")


@contextmanager
def xandikos(folder: Path, resources: Iterable[Made]) -> Iterator[Peer]:
    """Xandikos as it is without options; the calendar that it makes is filled by one commit into its repository."""
    port = free_port()
    command = [sys.executable, "-m", "xandikos", "serve", "--defaults", "--no-detect-systemd", "--listen-address=127.0.0.1"]
    command += [f"--port={port}", f"--directory={folder / 'collections'}", f"--state-dir={folder / 'state'}"]
    command += ["--current-user-principal=/train/"]
    with serving(command, port, folder, status=0) as server:
        calendar = folder / "collections" / "train" / "calendars" / "calendar"
        for one in resources:
            (calendar / one.href).write_bytes(one.ics)
        porcelain.add(calendar, [calendar / one.href for one in resources])
        porcelain.commit(calendar, message=b"Filled", author=b"bench <bench>", committer=b"bench <bench>")
        yield Peer(server, "/train/calendars/calendar/")
