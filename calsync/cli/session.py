"""What a command starts with: the configuration, the calendar, the time, and who calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import typer

from calsync.calendars.cache import open_cache
from calsync.calendars.open import open_calendar
from calsync.cli.output import err, plain
from calsync.core.conductors import Conductor, person
from calsync.core.config import load
from calsync.core.errors import Unreachable
from calsync.core.settings import Config
from calsync.core.windows import Role
from calsync.core.working_hours import Hours
from calsync.schedule.busy_feeds import Feeds
from calsync.schedule.sync import CalendarSync


@dataclass(frozen=True, slots=True)
class Session:
    """One call of the command line; `now` is aware."""

    config: Config
    sync: CalendarSync
    feeds: Feeds
    now: datetime


@contextmanager
def open_session(
    context: typer.Context,
    file: Path,
    *,
    needs: Literal["calendar", "copy", "nothing"],
    refresh_feeds: bool = True,
) -> Iterator[Session]:
    """Open the configuration and the calendar.

    A command that needs the `calendar` fails while the server is away. With `copy`, the last known copy is enough. A
    command that needs `nothing` reads the calendar by itself. With `refresh_feeds`, refresh the busy feeds first.
    Otherwise use the cached copies, so that the command does not wait for them.
    """
    config = load(file, os.environ)
    calendar = open_calendar(config)
    try:
        now = time_of(context)
        sync = CalendarSync(calendar, config, now, open_cache(config))
        feeds = Feeds(config)
        sync.busy = (feeds.refresh if refresh_feeds else feeds.cached)(sync.agenda.horizon, now)
        copy = sync.recall(now)
        if needs != "nothing":
            try:
                sync.refresh(now)
            except Unreachable as error:
                if needs == "calendar" or copy.token is None:
                    raise
                err.print(f"[yellow]calsync:[/] {plain(str(error))}", soft_wrap=True)
                err.print(f"[yellow]calsync:[/] Using the last known copy, of {copy.synced:%Y-%m-%d %H:%M:%S} UTC.")
        yield Session(config, sync, feeds, now)
    finally:
        calendar.close()


def time_of(context: typer.Context) -> datetime:
    """Return the time (aware) by the clock that `main` was given."""
    clock: Callable[[], datetime] | None = context.obj
    return clock() if clock else datetime.now(UTC)


def author() -> str | None:
    """Return the name of the account that runs the command."""
    return os.environ.get("USER") or os.environ.get("LOGNAME")


def conductor(config: Config, text: str, role: Role, hours: str | None = None, window: str | None = None) -> Conductor:
    """Return the person that `text` names, with the hours and the window of the options."""
    return person(config, text, role, hours=Hours.parse(hours) if hours else None, window=window)
