"""Fetch people's own busy feeds over HTTP, within limits of size and time, and keep copies.

The last good copy of a feed is kept in memory and on disk, readable for its owner alone, so a restart or an outage changes
nothing. Without a copy younger than `STALE`, the availability of the feed's owner is unknown, never "free". The address of
a feed is often a secret, so no message and no log line has it.
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
"""How often a feed is fetched."""
STALE = timedelta(days=1)
"""The age from which on a copy is no longer relied on."""
MAX_BYTES = 2_000_000
"""The maximum size of a feed."""
MAX_SECONDS = 10.0
"""The maximum time for fetching a feed, from looking up its host to the last byte."""
READING = 3.0
"""The maximum processor time for expanding the events of a parsed feed, in seconds."""
AT_ONCE = 16
"""How many feeds are fetched at a time."""
_log = logging.getLogger("calsync")


class _Unreadable(Exception):
    """The feed cannot be used; the message says why, without its address."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """The last good copy of a feed, if there is one, and how the last attempt to fetch it went."""

    body: bytes | None = None
    etag: str | None = None
    at: datetime | None = None
    """When the server last confirmed the body."""
    tried: datetime | None = None
    """When the last attempt was made."""
    failure: str | None = None
    """Why it failed; None if it did not."""


class Feeds:
    """The busy feeds of the roster; safe to use from several threads.

    `folder` is where copies are kept; by default beside the calendar.
    """

    def __init__(self, config: Config, folder: Path | None = None) -> None:
        roster = config.roster.items()
        self._urls = {name: entry.calendar.get_secret_value() for name, entry in roster if entry.calendar is not None}
        self._folder = folder if folder is not None else _default_folder(config)
        self._copies = {name: self._load(url) for name, url in self._urls.items()}
        self._readings: dict[str, tuple[bytes, TimeRange, Reading]] = {}
        self._busy: Mapping[str, Busy] = {}
        self._lock = threading.Lock()
        self._can_save = True

    def cached(self, horizon: TimeRange, now: datetime) -> Mapping[str, Busy]:
        """Return what the copies say at `now` (aware), by name; the same object as long as that does not change."""
        with self._lock:
            busy = {name: self._busy_of(name, copy, horizon, now) for name, copy in self._copies.items()}
            if busy != self._busy:
                self._busy = busy
            return self._busy

    def failures(self, horizon: TimeRange, now: datetime) -> Mapping[str, str]:
        """Return why feeds cannot be relied on or could not be read the last time, by name."""
        failures = {}
        for name, busy in self.cached(horizon, now).items():
            copy = self._copies[name]
            if busy.unknown is not None:
                failures[name] = busy.unknown
            elif copy.failure is not None:
                used = f"the copy of {copy.at:%Y-%m-%d %H:%M} UTC is used"
                failures[name] = f"their busy feed cannot be read ({copy.failure}); {used}"
        return failures

    def refresh(self, horizon: TimeRange, now: datetime) -> Mapping[str, Busy]:
        """Fetch the feeds that were not fetched within `EVERY`, and return what the copies say then.

        A slow or broken feed does not delay the copies of the others.
        """
        with self._lock:
            due = [name for name, copy in self._copies.items() if copy.tried is None or now - copy.tried >= EVERY]
        if due:
            with ThreadPoolExecutor(min(AT_ONCE, len(due)), thread_name_prefix="busy") as pool:
                for name in due:
                    pool.submit(self._renew, name, horizon, now)
        return self.cached(horizon, now)

    def _renew(self, name: str, horizon: TimeRange, now: datetime) -> None:
        copy = self._copies[name]
        try:
            renewed = self._renewed(name, copy, horizon, now)
        except Exception as error:  # its text and its traceback may contain the address
            reason = str(error) if isinstance(error, _Unreadable) else f"it cannot be used: {type(error).__name__}"
            if copy.failure is None:
                _log.warning("the busy feed of %s cannot be read: %s", name, reason)
            renewed = replace(copy, tried=now, failure=reason)
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
                raise _Unreadable(f"reading it takes more than {READING:g} s of processor time")
            if b"BEGIN:VCALENDAR" not in body or (reading.unplaced and not reading.occurrences):
                raise _Unreadable("it is not a calendar")
            renewed = _Copy(body, etag, now, now)
            with self._lock:
                self._readings[name] = (body, horizon, reading)
        self._save(self._urls[name], renewed)
        return renewed

    def _busy_of(self, name: str, copy: _Copy, horizon: TimeRange, now: datetime) -> Busy:
        if copy.body is None or copy.at is None:
            return Busy(unknown=f"their busy feed cannot be read ({copy.failure or 'it has not been read yet'})")
        body, read_for, reading = self._readings.get(name, (b"", None, Reading()))
        if body is not copy.body or read_for != horizon:
            reading = _read(copy.body, horizon)
            self._readings[name] = (copy.body, horizon, reading)
        if now - copy.at > STALE:
            reason = copy.failure or "it has not been read since"
            return Busy(reading.occurrences, f"their busy feed was last read on {copy.at:%Y-%m-%d %H:%M} UTC ({reason})")
        if reading.unplaced:
            return Busy(reading.occurrences, "their busy feed has an event without a readable time")
        return Busy(reading.occurrences)

    def _file(self, url: str) -> Path:
        return self._folder / f"busy-{hashlib.sha256(url.encode()).hexdigest()[:20]}"

    def _load(self, url: str) -> _Copy:
        try:
            line, _, body = self._file(url).read_bytes().partition(b"\n")
            head = json.loads(line)
            return _Copy(body, head["etag"], datetime.fromisoformat(head["at"]))
        except (OSError, ValueError, KeyError, TypeError):
            return _Copy()

    def _save(self, url: str, copy: _Copy) -> None:
        """Keep the copy on disk, whole or not at all; a folder that cannot be written costs only the copy."""
        assert copy.at is not None  # every copy that was fetched has it
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder)  # readable for its owner alone
            with os.fdopen(handle, "wb") as file:
                file.write(json.dumps({"etag": copy.etag, "at": copy.at.isoformat()}).encode() + b"\n" + (copy.body or b""))
            os.replace(name, self._file(url))
        except OSError as error:
            if self._can_save:
                _log.warning("copies of busy feeds cannot be kept in %s: %s", self._folder, error)
            self._can_save = False


def _default_folder(config: Config) -> Path:
    """Return the folder for copies: beside the calendar's file, or beside `calendar.cache`, where a service may write."""
    file = config.calendar.url.removeprefix("sqlite:///") if config.calendar.is_embedded else config.calendar.cache
    return (config.folder / file).parent / ".calsync"


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
    """Return the feed and its ETag; None if it still has the given `etag` (RFC 9110, section 15.4.5)."""
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
