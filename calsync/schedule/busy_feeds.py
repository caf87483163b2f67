"""People's own busy feeds: fetched over HTTP, bounded in size and time, and kept.

A feed is asked for with the ETag of what is known of it. Its last good copy is kept in memory and on disk, readable for
nobody else, so that a restart and a feed that is away for a while change nothing. What a feed hides is never "free": one of
which there is no copy, or none younger than `STALE`, leaves it unknown when its owner is away.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from calsync.core.settings import Config
from calsync.http import FetchError, fetch
from calsync.ical.freebusy import read_freebusy
from calsync.ical.occurrences import Reading, read_occurrences
from calsync.ical.parser import parse
from calsync.ical.recurrence import TimeRange
from calsync.schedule.diary import Busy

EVERY = timedelta(minutes=5)
"""How often a feed is asked for."""
STALE = timedelta(days=1)
"""How old the copy of a feed that cannot be read may be until it is relied upon no more."""
MAX_BYTES = 2_000_000
"""How long a feed may be."""
MAX_SECONDS = 10.0
"""How long fetching one may take in all, from looking up its host to the last byte."""
READING = 3.0
"""How much processor time expanding what stands in a feed may take, once it is parsed."""
AT_ONCE = 16
"""How many are fetched at a time."""
_log = logging.getLogger("calsync")


class _Unreadable(Exception):
    """The feed cannot be used; the message says why, without its address, which may be a secret."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """What is known of a feed: its `body`, when it was last confirmed (`at`), and why the last try failed."""

    body: bytes | None = None
    etag: str | None = None
    at: datetime | None = None
    tried: datetime | None = None
    failure: str | None = None


class Feeds:
    """The busy feeds of the roster; `folder` is where copies are kept, `beside` the calendar's file if it is left out.

    Safe to use from several threads.
    """

    def __init__(self, config: Config, folder: Path | None = None) -> None:
        roster = config.roster.items()
        self._urls = {name: entry.calendar.get_secret_value() for name, entry in roster if entry.calendar is not None}
        self._folder = folder if folder is not None else beside(config)
        self._copies = {name: self._load(url) for name, url in self._urls.items()}
        self._readings: dict[str, tuple[bytes, TimeRange, Reading]] = {}
        self._known: Mapping[str, Busy] = {}
        self._lock = threading.Lock()
        self._keeps = True

    def known(self, horizon: TimeRange, now: datetime) -> Mapping[str, Busy]:
        """What is known at `now` (aware) without asking anybody, by name; the same object as long as it is the same."""
        with self._lock:
            found = {name: self._busy(name, copy, horizon, now) for name, copy in self._copies.items()}
            if found != self._known:
                self._known = found
            return self._known

    def failures(self, horizon: TimeRange, now: datetime) -> Mapping[str, str]:
        """Why the last try to read a feed failed, or it cannot be relied upon, by name; without its address."""
        found = {}
        for name, busy in self.known(horizon, now).items():
            copy = self._copies[name]
            if busy.unknown is not None:
                found[name] = busy.unknown
            elif copy.failure is not None:
                found[name] = (
                    f"their busy feed cannot be read ({copy.failure}); that of {copy.at:%Y-%m-%d %H:%M} UTC counts"
                )
        return found

    def refresh(self, horizon: TimeRange, now: datetime) -> Mapping[str, Busy]:
        """Ask for every feed that was not asked for within `EVERY`, all at once, and tell what is known then.

        Each is renewed by itself: one that is slow or wrong keeps nobody else's back.
        """
        with self._lock:
            due = [name for name, copy in self._copies.items() if copy.tried is None or now - copy.tried >= EVERY]
        if due:
            with ThreadPoolExecutor(min(AT_ONCE, len(due)), thread_name_prefix="busy") as pool:
                for name in due:
                    pool.submit(self._renew, name, horizon, now)
        return self.known(horizon, now)

    def _renew(self, name: str, horizon: TimeRange, now: datetime) -> None:
        copy = self._copies[name]
        try:
            renewed = self._renewed(name, copy, horizon, now)
        except Exception as error:  # its text, and its traceback, may have the address in them
            why = str(error) if isinstance(error, _Unreadable) else f"it cannot be used: {type(error).__name__}"
            if copy.failure is None:
                _log.warning("the busy feed of %s cannot be read: %s", name, why)
            renewed = replace(copy, tried=now, failure=why)
        with self._lock:
            self._copies[name] = renewed

    def _renewed(self, name: str, copy: _Copy, horizon: TimeRange, now: datetime) -> _Copy:
        answer = _fetch(self._urls[name], copy.etag if copy.body is not None else None)
        if answer is None:
            renewed = replace(copy, at=now, tried=now, failure=None)
        else:
            body, etag = answer
            reading = _read(body, horizon)
            if reading.timed_out:
                raise _Unreadable(f"it has more in it than can be read in {READING:g} s of processor time")
            if b"BEGIN:VCALENDAR" not in body or (reading.unplaced and not reading.occurrences):
                raise _Unreadable("what it answers is not a calendar")
            renewed = _Copy(body, etag, now, now)
            with self._lock:
                self._readings[name] = (body, horizon, reading)
        self._save(self._urls[name], renewed)
        return renewed

    def _busy(self, name: str, copy: _Copy, horizon: TimeRange, now: datetime) -> Busy:
        if copy.body is None or copy.at is None:
            return Busy(unknown=f"their busy feed cannot be read ({copy.failure or 'it was not read yet'})")
        known = self._readings.get(name)
        if known is None or known[0] is not copy.body or known[1] != horizon:
            known = self._readings[name] = (copy.body, horizon, _read(copy.body, horizon))
        reading = known[2]
        if now - copy.at > STALE:
            why = copy.failure or "it was not read since"
            return Busy(reading.occurrences, f"their busy feed was last read on {copy.at:%Y-%m-%d %H:%M} UTC ({why})")
        if reading.unplaced:
            return Busy(reading.occurrences, "something in their busy feed cannot be read, not even when it takes place")
        return Busy(reading.occurrences)

    def _file(self, url: str) -> Path:
        return self._folder / f"busy-{hashlib.sha256(url.encode()).hexdigest()[:20]}"

    def _load(self, url: str) -> _Copy:
        try:
            head, _, body = self._file(url).read_bytes().partition(b"\n")
            known = json.loads(head)
            return _Copy(body, known["etag"], datetime.fromisoformat(known["at"]))
        except (OSError, ValueError, KeyError, TypeError):
            return _Copy()

    def _save(self, url: str, copy: _Copy) -> None:
        """Keep the copy on disk, whole or not at all; a folder that cannot be written to costs only the copy."""
        assert copy.at is not None  # as every copy that was fetched has
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder)  # readable for its owner alone
            with os.fdopen(handle, "wb") as file:
                file.write(json.dumps({"etag": copy.etag, "at": copy.at.isoformat()}).encode() + b"\n" + (copy.body or b""))
            os.replace(name, self._file(url))
        except OSError as error:
            if self._keeps:
                _log.warning("no copies of busy feeds are kept in %s: %s", self._folder, error)
            self._keeps = False


def beside(config: Config) -> Path:
    """The folder for copies beside the calendar's file, or beside the last known calendar, where a service may write."""
    kept = config.calendar.url.removeprefix("sqlite:///") if config.calendar.is_embedded else config.calendar.cache
    return (config.folder / kept).parent / ".calsync"


def _read(body: bytes, horizon: TimeRange) -> Reading:
    """Return what a feed says, in events and in free/busy time."""
    parsed = parse(body)
    freebusy = read_freebusy(parsed, horizon)
    reading = read_occurrences(parsed, "", horizon, READING, publish=False)
    return replace(
        reading,
        occurrences=(*reading.occurrences, *freebusy.occurrences),
        unplaced=reading.unplaced or freebusy.unplaced,
    )


def _fetch(url: str, etag: str | None) -> tuple[bytes, str | None] | None:
    """The feed and its ETag; None where it is the known one (RFC 9110, section 15.4.5)."""
    headers = {"Accept": "text/calendar", **({"If-None-Match": etag} if etag else {})}
    try:
        answer = fetch("GET", url, headers=headers, seconds=MAX_SECONDS, max_bytes=MAX_BYTES)
    except FetchError as error:
        raise _Unreadable(f"it {error}") from None
    if answer.status == 304 and etag:
        return None
    if answer.status != 200:
        raise _Unreadable(f"it answers {answer.status}")
    return answer.body, answer.headers.get("etag")
