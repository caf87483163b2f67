"""The choice of the engine by the URL in `calendar.url`."""

from __future__ import annotations

from urllib.parse import urlsplit

from calsync.calendars.base import Calendar
from calsync.core.settings import Config


def open_calendar(config: Config) -> Calendar:
    """Return the engine for `calendar.url`; a server is first contacted by the first call."""
    # Imports are late because the library of an engine that is not used may not be installed.
    url = config.calendar.url
    match urlsplit(url).scheme:
        case "sqlite":
            from calsync.calendars.sql import SqlCalendar

            return SqlCalendar.sqlite(config.folder / url.removeprefix("sqlite:///"))
        case "postgresql":
            from calsync.calendars.sql import SqlCalendar

            return SqlCalendar.postgresql(url, config.username, config.password, config.calendar.timeout)
        case _:
            from calsync.calendars.cache import open_cache
            from calsync.calendars.caldav.calendar import CalDavCalendar

            timeout = round(config.calendar.timeout.total_seconds())
            notes = open_cache(config)
            return CalDavCalendar(url, config.calendar.name, config.username, config.password, timeout, notes=notes)
