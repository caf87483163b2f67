"""The calendar in a database, SQLite or PostgreSQL: resources in one table, through SQLAlchemy Core.

Every write is one transaction, which first increments the calendar's revision. Writers therefore wait for each other, and
revisions become visible in order. A resource carries the revision of its last write, so the changes since a sync token are
the rows with a greater revision. A removed resource remains as a row without bytes.

A write that was acknowledged survives a crash at any later moment, and one that was not leaves no trace: SQLite has a
write-ahead log and `synchronous=FULL`, PostgreSQL its `synchronous_commit`.
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.dialects import postgresql, sqlite

from calsync.calendars.base import NO_RESOURCES, Capability, Changes, HasEtag, Resource, SyncToken
from calsync.calendars.postgresql import SET_UP_LOCK, address_without_password, connect, is_login_failure
from calsync.core.errors import Changed, Refused, Unreachable
from calsync.http import time_limit

SCHEMA_VERSION = 1

_metadata = sa.MetaData()

_state = sa.Table(
    "calendar",
    _metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("uuid", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
)

_resources = sa.Table(
    "resources",
    _metadata,
    sa.Column("href", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False, index=True),
    sa.Column("ics", sa.LargeBinary),
)

_ended = sa.Table(
    "over",
    _metadata,
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("ends", sa.Double, nullable=False, index=True),
)
"""When the resource that a revision wrote ended for good (seconds since 1970), as far as readers have recorded it."""

# Statements are built once: building one costs more than running it.
_HEAD = sa.select(_state.c.uuid, _state.c.revision)

# The order makes the database read the index of revisions alone, however large the calendar is.
_SINCE = sa.select(_resources).where(_resources.c.revision > sa.bindparam("base")).order_by(_resources.c.revision)

_ALL = sa.select(_resources).where(_resources.c.ics.is_not(None)).order_by(_resources.c.revision)

# Both sides of EXCEPT are read from an index, so that history costs next to nothing.
_ALL_BUT_ENDED = _ALL.where(
    _resources.c.revision.in_(
        sa.select(_resources.c.revision).except_(
            sa.select(_ended.c.revision).where(_ended.c.ends < sa.bindparam("ended_before"))
        )
    )
    | _resources.c.revision.in_(
        sa.select(_resources.c.revision).where(_resources.c.href.in_(sa.bindparam("always_include", expanding=True)))
    )
)

_INCREMENT = sa.update(_state).values(revision=_state.c.revision + 1).returning(_state.c.revision)

_CURRENT = sa.select(_resources.c.revision, _resources.c.ics.is_not(None).label("is_present")).where(
    _resources.c.href == sa.bindparam("href")
)

_INSERT = sa.insert(_resources)

_UPDATE = (
    sa.update(_resources)
    .where(_resources.c.href == sa.bindparam("current_href"))
    .values(revision=sa.bindparam("revision"), ics=sa.bindparam("ics"))
)


class SqlCalendar:
    """A `Calendar` in one SQL database; `name` stands for it in messages, `timeout` limits each transaction."""

    def __init__(self, engine: sa.Engine, name: str, timeout: timedelta | None = None) -> None:
        self._engine, self._name, self._timeout = engine, name, timeout
        self._uuid: str | None = None
        self._setting_up = threading.Lock()

    @classmethod
    def sqlite(cls, file: Path) -> Self:
        """Open the calendar in the SQLite file `file`; create the file if necessary, but not its folder."""
        if not file.parent.is_dir():
            raise Refused(f"The folder {file.parent} for the calendar file does not exist. Create it first.")
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(file)), connect_args={"timeout": 30, "isolation_level": None}
        )
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
        calendar = cls(engine, str(file))
        calendar._set_up()
        return calendar

    @classmethod
    def postgresql(cls, url: str, username: str | None, password: SecretStr | None, timeout: timedelta) -> Self:
        """Open the calendar in the PostgreSQL database at `url`, which holds no credentials; the first call connects."""
        engine = connect(url, username, password, timeout)
        return cls(engine, address_without_password(engine), timeout)

    def changes(
        self,
        since: SyncToken | None,
        known: Mapping[str, HasEtag] = NO_RESOURCES,  # noqa: ARG002
        ended_before: datetime | None = None,
        always_include: Sequence[str] = (),
    ) -> Changes:
        """Implement `Calendar.changes`."""
        with self._connect() as connection:
            head = connection.execute(_HEAD).one()
            self._uuid = head.uuid  # differs if the file was replaced
            base = self._revision_of(since, head.revision)
            if base == head.revision:
                return Changes(self._token(head.revision), (), (), complete=False)
            if base is not None:
                rows = connection.execute(_SINCE, {"base": base}).all()
            elif ended_before is not None:
                rows = connection.execute(
                    _ALL_BUT_ENDED, {"ended_before": ended_before.timestamp(), "always_include": [*always_include]}
                ).all()
            else:
                rows = connection.execute(_ALL).all()
        return Changes(
            token=self._token(head.revision),
            changed=tuple(Resource(row.href, self._token(row.revision), row.ics) for row in rows if row.ics is not None),
            removed=tuple(row.href for row in rows if row.ics is None),
            complete=base is None,
        )

    def mark_ended(self, ended: Mapping[str, datetime]) -> None:
        """Implement `Calendar.mark_ended`."""
        ends = [(self._revision_of(etag, sys.maxsize), end.timestamp()) for etag, end in ended.items()]
        rows = [{"revision": revision, "ends": end} for revision, end in ends if revision is not None]
        if rows:
            with self._connect(write=True) as connection:
                connection.execute(sa.delete(_ended).where(_ended.c.revision.not_in(sa.select(_resources.c.revision))))
                insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
                connection.execute(insert(_ended).on_conflict_do_nothing(), rows)

    def put(self, href: str, ics: bytes, *, etag: str | None) -> Resource:
        """Implement `Calendar.put`."""
        with self._connect(write=True) as connection:
            revision = self._write(connection, href, ics, etag)
        return Resource(href, self._token(revision), ics)

    def delete(self, href: str, *, etag: str) -> None:
        """Implement `Calendar.delete`."""
        with self._connect(write=True) as connection:
            self._write(connection, href, None, etag)

    def probe(self) -> tuple[Capability, ...]:
        """Implement `Calendar.probe`; transactions need no trial."""
        return ()

    def close(self) -> None:
        """Implement `Calendar.close`."""
        self._engine.dispose()

    def _write(self, connection: sa.Connection, href: str, ics: bytes | None, etag: str | None) -> int:
        revision: int = connection.execute(_INCREMENT).scalar_one()
        row = connection.execute(_CURRENT, {"href": href}).one_or_none()
        current = self._token(row.revision) if row is not None and row.is_present else None
        if current != etag:
            state = "exists already" if etag is None else "is gone" if current is None else "was changed"
            raise Changed(f"{href} {state}.")
        if row is None:
            connection.execute(_INSERT, {"href": href, "revision": revision, "ics": ics})
        else:
            connection.execute(_UPDATE, {"current_href": href, "revision": revision, "ics": ics})
        return revision

    def _token(self, revision: int) -> str:
        return f"{self._uuid}-{revision}"

    def _revision_of(self, token: SyncToken | None, head: int) -> int | None:
        """Return the revision that a token names; None if this calendar did not issue it."""
        owner, _, revision = (token or "").rpartition("-")
        is_valid = owner == self._uuid and revision.isascii() and revision.isdigit() and int(revision) <= head
        return int(revision) if is_valid else None

    def _set_up(self) -> None:
        """Create the schema if necessary, once; replicas that start together wait for each other."""
        with self._setting_up:
            if self._uuid is None:
                with self._transaction(write=True) as connection:
                    if self._engine.dialect.name == "postgresql":
                        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SET_UP_LOCK)))
                    self._uuid = self._identity(connection)

    def _identity(self, connection: sa.Connection) -> str:
        _metadata.create_all(connection)
        state = connection.execute(sa.select(_state)).one_or_none()
        if state is None:
            identity = uuid.uuid4().hex[:12]
            values = {"id": 1, "schema_version": SCHEMA_VERSION, "uuid": identity, "revision": 0}
            connection.execute(sa.insert(_state).values(values))
            return identity
        if state.schema_version != SCHEMA_VERSION:
            raise Refused(
                f"{self._name} has schema version {state.schema_version}, but this calsync supports only version "
                f"{SCHEMA_VERSION}. Run the calsync that wrote it, or a newer one."
            )
        return str(state.uuid)

    @contextmanager
    def _connect(self, *, write: bool = False) -> Iterator[sa.Connection]:
        """Open a transaction; set the database up first if necessary."""
        if self._uuid is None:
            self._set_up()
        with self._transaction(write=write) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[sa.Connection]:
        """Open a transaction; translate the database's errors into calsync's."""
        options: dict[str, Any] = {"calsync_write": write}
        if self._engine.dialect.name == "postgresql":
            # A reader sees one state throughout; a writer waits for the revision's row and then reads its new value.
            options["isolation_level"] = "READ COMMITTED" if write else "REPEATABLE READ"
        try:
            with (
                self._engine.connect().execution_options(**options) as connection,
                time_limit(connection.connection.dbapi_connection, self._timeout),
                connection.begin(),
            ):
                yield connection
        except sa.exc.DBAPIError as error:
            message = " ".join(str(error.orig).split())
            if _is_temporary(error):
                raise Unreachable(f"The calendar {self._name} is away or busy: {message}.", retry_after=5) from error
            remedy = " Set CALSYNC_CALENDAR_USERNAME and CALSYNC_CALENDAR_PASSWORD." if is_login_failure(message) else ""
            raise Refused(f"The calendar {self._name} cannot be used: {message.rstrip('.')}.{remedy}") from error
        except sa.exc.TimeoutError as error:
            raise Unreachable(f"The calendar {self._name} is busy: too many calls at once.", retry_after=5) from error


def _is_temporary(error: sa.exc.DBAPIError) -> bool:
    """Return whether a retry may succeed: the database is busy, or its server is away, starting or stopping."""
    message, state = str(error.orig), getattr(error.orig, "sqlstate", None)
    if state is not None:  # PostgreSQL's classes: connection, resources, operator, transaction rollback
        return str(state)[:2] in ("08", "53", "57", "40")
    if not isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return False
    if "sqlite3" in type(error.orig).__module__:
        return "locked" in message or "busy" in message
    return not (is_login_failure(message) or "does not exist" in message)


def _prepare(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin(connection: sa.Connection) -> None:
    # A transaction that will write takes its lock at once: after reading first, it could only fail if another process
    # writes in between (SQLITE_BUSY_SNAPSHOT).
    write = connection.get_execution_options().get("calsync_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
