"""The calendar in a database, SQLite or PostgreSQL: resources in one table, through SQLAlchemy Core.

Every write is one transaction that first moves the calendar's revision on, which also makes writers wait for each other, so
that revisions become visible in their order. A resource's revision is that of its last write, so the changes since a sync
token are the rows with a greater one; removed resources stay as rows without bytes.

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

from calsync.calendars.base import NOTHING, Capability, Changes, Known, Resource, SyncToken
from calsync.calendars.postgresql import SET_UP_LOCK, connect, is_stranger, shown
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


_over = sa.Table(
    "over",
    _metadata,
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("ends", sa.Double, nullable=False, index=True),
)
"""When the resource that a revision wrote is over for good (seconds since 1970): what readers found, and may be missing."""


# Statements are made once: making one costs more than running it.
_HEAD = sa.select(_state.c.uuid, _state.c.revision)


# By revision, so that its index alone is read, however large the calendar is.
_SINCE = sa.select(_resources).where(_resources.c.revision > sa.bindparam("base")).order_by(_resources.c.revision)


_ALL = sa.select(_resources).where(_resources.c.ics.is_not(None)).order_by(_resources.c.revision)


# Both sides are read from an index, so that history costs next to nothing.
_ALL_BUT_OVER = _ALL.where(
    _resources.c.revision.in_(
        sa.select(_resources.c.revision).except_(sa.select(_over.c.revision).where(_over.c.ends < sa.bindparam("after")))
    )
    | _resources.c.revision.in_(
        sa.select(_resources.c.revision).where(_resources.c.href.in_(sa.bindparam("besides", expanding=True)))
    )
)


_MOVE_ON = sa.update(_state).values(revision=_state.c.revision + 1).returning(_state.c.revision)


_STANDING = sa.select(_resources.c.revision, _resources.c.ics.is_not(None).label("stands")).where(
    _resources.c.href == sa.bindparam("href")
)


_INSERT = sa.insert(_resources)


_UPDATE = (
    sa.update(_resources)
    .where(_resources.c.href == sa.bindparam("standing"))
    .values(revision=sa.bindparam("revision"), ics=sa.bindparam("ics"))
)


class SqlCalendar:
    """A `Calendar` in one SQL database; `name` is what people are told of it, `patience` bounds each transaction."""

    def __init__(self, engine: sa.Engine, name: str, patience: timedelta | None = None) -> None:
        self._engine, self._name, self._patience = engine, name, patience
        self._uuid: str | None = None
        self._setting_up = threading.Lock()

    @classmethod
    def sqlite(cls, file: Path) -> Self:
        """The calendar in the SQLite file at `file`, which is made if it is not there; its folder must be."""
        if not file.parent.is_dir():
            raise Refused(f"The folder {file.parent} of the calendar's file does not exist; make it first.")
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(file)), connect_args={"timeout": 30, "isolation_level": None}
        )
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
        calendar = cls(engine, str(file))
        calendar._set_up()
        return calendar

    @classmethod
    def postgresql(cls, url: str, username: str | None, password: SecretStr | None, patience: timedelta) -> Self:
        """The calendar in the PostgreSQL database at `url`; credentials come beside it. The first call connects."""
        engine = connect(url, username, password, patience)
        return cls(engine, shown(engine), patience)

    def changes(
        self,
        since: SyncToken | None,
        known: Mapping[str, Known] = NOTHING,  # noqa: ARG002
        after: datetime | None = None,
        besides: Sequence[str] = (),
    ) -> Changes:
        """See `Calendar.changes`."""
        with self._connect() as connection:
            head = connection.execute(_HEAD).one()
            self._uuid = head.uuid  # another one where the file was replaced since
            base = self._revision_of(since, head.revision)
            if base == head.revision:
                return Changes(self._token(head.revision), (), (), complete=False)
            if base is not None:
                rows = connection.execute(_SINCE, {"base": base}).all()
            elif after is not None:
                rows = connection.execute(_ALL_BUT_OVER, {"after": after.timestamp(), "besides": [*besides]}).all()
            else:
                rows = connection.execute(_ALL).all()
        return Changes(
            token=self._token(head.revision),
            changed=tuple(Resource(row.href, self._token(row.revision), row.ics) for row in rows if row.ics is not None),
            removed=tuple(row.href for row in rows if row.ics is None),
            complete=base is None,
        )

    def forget(self, over: Mapping[str, datetime]) -> None:
        """See `Calendar.forget`."""
        ends = {self._revision_of(etag, sys.maxsize): end for etag, end in over.items()}
        rows = [{"revision": revision, "ends": end.timestamp()} for revision, end in ends.items() if revision is not None]
        if rows:
            with self._connect(write=True) as connection:
                connection.execute(sa.delete(_over).where(_over.c.revision.not_in(sa.select(_resources.c.revision))))
                insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
                connection.execute(insert(_over).on_conflict_do_nothing(), rows)

    def put(self, href: str, ics: bytes, *, etag: str | None) -> Resource:
        """See `Calendar.put`."""
        with self._connect(write=True) as connection:
            revision = self._write(connection, href, ics, etag)
        return Resource(href, self._token(revision), ics)

    def delete(self, href: str, *, etag: str) -> None:
        """See `Calendar.delete`."""
        with self._connect(write=True) as connection:
            self._write(connection, href, None, etag)

    def probe(self) -> tuple[Capability, ...]:
        """See `Calendar.probe`: transactions keep every promise."""
        return ()

    def close(self) -> None:
        """See `Calendar.close`."""
        self._engine.dispose()

    def _write(self, connection: sa.Connection, href: str, ics: bytes | None, etag: str | None) -> int:
        revision: int = connection.execute(_MOVE_ON).scalar_one()
        found = connection.execute(_STANDING, {"href": href}).one_or_none()
        standing = self._token(found.revision) if found is not None and found.stands else None
        if standing != etag:
            raise Changed(
                f"{href} exists already."
                if etag is None
                else f"{href} is gone."
                if standing is None
                else f"{href} was changed."
            )
        if found is None:
            connection.execute(_INSERT, {"href": href, "revision": revision, "ics": ics})
        else:
            connection.execute(_UPDATE, {"standing": href, "revision": revision, "ics": ics})
        return revision

    def _token(self, revision: int) -> str:
        return f"{self._uuid}-{revision}"

    def _revision_of(self, token: SyncToken | None, head: int) -> int | None:
        """The revision that a token names; None where this calendar did not give it out."""
        owner, _, revision = (token or "").rpartition("-")
        known = owner == self._uuid and revision.isascii() and revision.isdigit() and int(revision) <= head
        return int(revision) if known else None

    def _set_up(self) -> None:
        """Make the schema where there is none, once; replicas that start together wait for each other."""
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
            fresh = {"id": 1, "schema_version": SCHEMA_VERSION, "uuid": uuid.uuid4().hex[:12], "revision": 0}
            connection.execute(sa.insert(_state).values(fresh))
            return str(fresh["uuid"])
        if state.schema_version != SCHEMA_VERSION:
            raise Refused(
                f"{self._name} has schema version {state.schema_version}, and this calsync knows version {SCHEMA_VERSION}; "
                "run the calsync that wrote it, or a newer one."
            )
        return str(state.uuid)

    @contextmanager
    def _connect(self, *, write: bool = False) -> Iterator[sa.Connection]:
        """A transaction on a database that is set up."""
        if self._uuid is None:
            self._set_up()
        with self._transaction(write=write) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[sa.Connection]:
        """A transaction; what goes wrong with the database leaves as one of calsync's errors."""
        options: dict[str, Any] = {"calsync_write": write}
        if self._engine.dialect.name == "postgresql":
            # A reader sees one state throughout; a writer waits for the revision's row and goes on from what it then finds.
            options["isolation_level"] = "READ COMMITTED" if write else "REPEATABLE READ"
        try:
            with (
                self._engine.connect().execution_options(**options) as connection,
                time_limit(connection.connection.dbapi_connection, self._patience),
                connection.begin(),
            ):
                yield connection
        except sa.exc.DBAPIError as error:
            said = " ".join(str(error.orig).split())
            if _is_passing(error):
                raise Unreachable(f"The calendar {self._name} is away or busy: {said}.", retry_after=5) from error
            remedy = " Set CALSYNC_CALENDAR_USERNAME and CALSYNC_CALENDAR_PASSWORD." if is_stranger(said) else ""
            raise Refused(f"The calendar {self._name} cannot be used: {said.rstrip('.')}.{remedy}") from error
        except sa.exc.TimeoutError as error:
            raise Unreachable(f"The calendar {self._name} is busy: too many calls at once.", retry_after=5) from error


def _is_passing(error: sa.exc.DBAPIError) -> bool:
    """Whether the same may succeed later: the database is busy, or its server away, starting or stopping."""
    said, state = str(error.orig), getattr(error.orig, "sqlstate", None)
    if state is not None:  # PostgreSQL's classes: connection, resources, operator, transaction rollback
        return str(state)[:2] in ("08", "53", "57", "40")
    if not isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return False
    if "sqlite3" in type(error.orig).__module__:
        return "locked" in said or "busy" in said
    return not (is_stranger(said) or "does not exist" in said)


def _prepare(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin(connection: sa.Connection) -> None:
    # A transaction that will write takes its lock at once: one that reads first and then finds somebody else writing
    # could only fail (SQLITE_BUSY_SNAPSHOT).
    write = connection.get_execution_options().get("calsync_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
