"""The last known calendar on disk, so that a restart while the server is away still has something to serve.

It is a copy and nothing more: the calendar is the truth, and a copy that is lost is created again. Several processes may
share the file. The copy is always the calendar at one sync token, and only what changed since that token is applied to it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from calsync.calendars.base import Changes, Resource, SyncToken
from calsync.core.settings import Config

_log = logging.getLogger("calsync")

_APPLICATION_ID = 0x63616C73  # "cals" in ASCII

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS state (calendar TEXT PRIMARY KEY, token TEXT NOT NULL, synced TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS notes (calendar TEXT, name TEXT, value TEXT NOT NULL, PRIMARY KEY (calendar, name))",
    "CREATE TABLE IF NOT EXISTS resources (calendar TEXT NOT NULL, href TEXT NOT NULL, etag TEXT NOT NULL, "
    "ics BLOB NOT NULL, PRIMARY KEY (calendar, href)) WITHOUT ROWID",
)

INTERVAL = timedelta(minutes=1)
"""How often the time of the last sync is written while nothing changes."""

_T = TypeVar("_T")


def open_cache(config: Config) -> CalendarCache | None:
    """Return the cache of the configured calendar; None for the embedded calendar, which is on disk itself."""
    if config.calendar.is_embedded:
        return None
    return CalendarCache(config.folder / config.calendar.cache, f"{config.calendar.url} {config.calendar.name}")


class CalendarCache:
    """The last known state of the calendar named `calendar`, in the SQLite file `file`.

    A file that cannot be used is logged once and otherwise ignored, because only a restart needs it.
    """

    def __init__(self, file: Path, calendar: str) -> None:
        self._file, self._calendar = file, calendar
        self._saved: datetime | None = None
        self._warned = False

    def load(self) -> tuple[Changes, datetime] | None:
        """Return the whole calendar as it was last known, and when that was (aware); None if nothing is known."""
        return self._with_file(self._load)

    def save(self, changes: Changes, since: SyncToken | None, synced: datetime) -> bool:
        """Bring the copy from the state that `since` names to the one after `changes`, read at `synced` (aware).

        Return False if the copy is in another state, which these changes do not fit, and leave it as it is. An unchanged
        calendar is written at most once a minute.
        """
        is_moved = changes.complete or changes.changed or changes.removed or changes.token != since
        if not is_moved and self._saved is not None and synced - self._saved < INTERVAL:
            return True
        fits = self._with_file(lambda connection: self._save(connection, changes, since, synced)) is not False
        self._saved = synced if fits else None
        return fits

    def note(self, name: str) -> str | None:
        """Return a note about the calendar."""
        statement = "SELECT value FROM notes WHERE calendar = ? AND name = ?"
        row = self._with_file(lambda connection: connection.execute(statement, [self._calendar, name]).fetchone())
        return str(row[0]) if row else None

    def set_note(self, name: str, value: str) -> None:
        """Keep something about the calendar that is expensive to find out."""
        statement = "INSERT OR REPLACE INTO notes VALUES (?, ?, ?)"
        self._with_file(lambda connection: connection.execute(statement, [self._calendar, name, value]))

    def _load(self, connection: sqlite3.Connection) -> tuple[Changes, datetime] | None:
        state = connection.execute("SELECT token, synced FROM state WHERE calendar = ?", [self._calendar]).fetchone()
        if state is None:
            return None
        statement = "SELECT href, etag, ics FROM resources WHERE calendar = ? ORDER BY href"
        resources = tuple(Resource(*row) for row in connection.execute(statement, [self._calendar]))
        return Changes(state[0], resources, (), complete=True), datetime.fromisoformat(state[1])

    def _save(self, connection: sqlite3.Connection, changes: Changes, since: SyncToken | None, synced: datetime) -> bool:
        name = self._calendar
        state = connection.execute("SELECT token FROM state WHERE calendar = ?", [name]).fetchone()
        saved = state[0] if state is not None else None
        if changes.complete:
            connection.execute("DELETE FROM resources WHERE calendar = ?", [name])
        elif saved is None or saved not in (since, changes.token):
            return False
        if changes.complete or saved == since:  # otherwise another process has saved these changes
            hrefs = [(name, href) for href in changes.removed]
            connection.executemany("DELETE FROM resources WHERE calendar = ? AND href = ?", hrefs)
            rows = [(name, resource.href, resource.etag, resource.ics) for resource in changes.changed]
            connection.executemany("INSERT OR REPLACE INTO resources VALUES (?, ?, ?, ?)", rows)
        connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", [name, changes.token, synced.isoformat()])
        return True

    def _with_file(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Return what `work` returns, in one transaction; None if the file cannot be used."""
        try:
            if not self._is_ours():
                raise sqlite3.DatabaseError("it is not a cache of calsync, which leaves it as it is")
            with contextlib.closing(sqlite3.connect(self._file, timeout=5, isolation_level=None)) as connection, connection:
                connection.execute("BEGIN IMMEDIATE")  # no other process writes between what `work` reads and writes
                if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                for statement in _SCHEMA:
                    connection.execute(statement)
                return work(connection)
        except (sqlite3.Error, OSError, ValueError) as error:
            if not self._warned:
                _log.warning("cannot use the cache %s: %s; set calendar.cache to a writable path", self._file, error)
            self._warned = True
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):  # damaged
                with contextlib.suppress(OSError):
                    if self._is_ours():
                        self._file.unlink()  # the next call creates it again
            return None

    def _is_ours(self) -> bool:
        """Return whether the file is calsync's, by its application id, or does not exist yet."""
        if not self._file.exists() or self._file.is_dir():
            return True
        with self._file.open("rb") as file:
            head = file.read(72)
        return not head or (head.startswith(b"SQLite format 3\0") and head[68:] == _APPLICATION_ID.to_bytes(4, "big"))
