"""What only PostgreSQL needs: connecting to it, and a time limit for every transaction, which its driver does not have."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from calsync.core.errors import Refused
from calsync.http import time_limit

SET_UP_LOCK = 0x63616C73796E63
"""The advisory lock under which replicas create the schema one after the other: "calsync" in ASCII."""


def connect(url: str, username: str | None, password: SecretStr | None, timeout: timedelta) -> sa.Engine:
    """Return the SQLAlchemy engine for the database at `url`, which holds no credentials; the first call connects."""
    try:
        import psycopg  # an optional extra
    except ImportError:
        raise Refused(
            "PostgreSQL needs a library that is not installed. Install it with: pip install 'calsync[postgres]'."
        ) from None
    address = sa.make_url(url).set(drivername="postgresql+psycopg")
    if username is not None:
        address = address.set(username=username)
    if password is not None:
        address = address.set(password=password.get_secret_value())
    seconds = max(1, round(timeout.total_seconds()))
    engine = sa.create_engine(address, connect_args={"connect_timeout": seconds}, pool_timeout=seconds, pool_recycle=300)

    def ping(driver: Any, _record: Any, _proxy: Any) -> None:
        """Make the pool reconnect if the server closed the connection, or does not answer in time."""
        try:
            with time_limit(driver, timeout):
                engine.dialect.do_ping(driver)
        except psycopg.Error as error:
            raise sa.exc.DisconnectionError from error

    sa.event.listen(engine, "checkout", ping)
    return engine


def address_without_password(engine: sa.Engine) -> str:
    """Return the database's URL for messages."""
    return engine.url.render_as_string(hide_password=True).replace("+psycopg", "")


def is_login_failure(message: str) -> bool:
    """Return whether PostgreSQL rejected the credentials."""
    return "authentication failed" in message or "no password supplied" in message
