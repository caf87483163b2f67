"""What is PostgreSQL's own: connecting to it, and a limit in time for every transaction, which its driver does not have."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from calsync.core.errors import Refused
from calsync.http import time_limit

SET_UP_LOCK = 0x63616C73796E63
"""The advisory lock under which replicas make the schema one after the other: "calsync" in ASCII."""


def connect(url: str, username: str | None, password: SecretStr | None, patience: timedelta) -> sa.Engine:
    """The engine for the database at `url`; credentials come beside it. The first call connects."""
    try:
        import psycopg  # only those who use PostgreSQL have it
    except ImportError:
        raise Refused(
            "PostgreSQL needs a library that is not installed; install it with: pip install 'calsync[postgres]'."
        ) from None
    address = sa.make_url(url).set(drivername="postgresql+psycopg")
    if username is not None:
        address = address.set(username=username)
    if password is not None:
        address = address.set(password=password.get_secret_value())
    seconds = max(1, round(patience.total_seconds()))
    engine = sa.create_engine(address, connect_args={"connect_timeout": seconds}, pool_timeout=seconds, pool_recycle=300)

    def ping(driver: Any, _record: Any, _proxy: Any) -> None:
        """Have the pool connect anew where the server has left, or has not answered in time."""
        try:
            with time_limit(driver, patience):
                engine.dialect.do_ping(driver)
        except psycopg.Error as error:
            raise sa.exc.DisconnectionError from error

    sa.event.listen(engine, "checkout", ping)
    return engine


def shown(engine: sa.Engine) -> str:
    """The database's address without its password."""
    return engine.url.render_as_string(hide_password=True).replace("+psycopg", "")


def is_stranger(said: str) -> bool:
    """Whether PostgreSQL does not let the user in."""
    return "authentication failed" in said or "no password supplied" in said
