"""The port through which calsync reads and writes a calendar, and the choice of its engine.

The words are CalDAV's (RFC 4791, RFC 6578) on every engine: a *resource* is one iCalendar object at an *href* within the
calendar; its *etag* changes with every write; a *sync token* names a state of the whole calendar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from calsync.settings import Config

SyncToken = str
"""Opaque; what one calendar gave out means nothing to another."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One iCalendar object as it is stored: its `href`, its strong `etag`, and its bytes."""

    href: str
    etag: str
    ics: bytes


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of the calendar since a sync token; `token` names the state after it.

    Where `complete` is set, `changed` is every resource there is, and what is not in it is gone.
    """

    token: SyncToken
    changed: tuple[Resource, ...]
    removed: tuple[str, ...]
    complete: bool


class Calendar(Protocol):
    """A calendar that can be followed and written to conditionally; every engine is safe to use from several threads.

    All methods raise `Unreachable` where the calendar does not answer and `Refused` where it answers no.
    """

    def changes(self, since: SyncToken | None) -> Changes:
        """What changed since `since`; everything for None, and for a token the calendar no longer knows."""

    def put(self, href: str, ics: bytes, *, etag: str | None) -> Resource:
        """Store `ics` at `href`, durably, if the resource there has this etag; None: if there is none. Otherwise `Changed`.

        Returns the resource as the calendar stored it.
        """

    def delete(self, href: str, *, etag: str) -> None:
        """Remove the resource, durably, if it has this etag; otherwise `Changed`."""

    def close(self) -> None:
        """Let go of connections and files."""


def open_calendar(config: Config) -> Calendar:
    """The engine that `calendar.url` names."""
    from calsync.calendars.sql import SqlCalendar  # an engine is imported only where it is used

    return SqlCalendar.sqlite(config.folder / config.calendar.url.removeprefix("sqlite:///"))
