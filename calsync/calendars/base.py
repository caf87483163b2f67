"""The protocol that every calendar engine implements, and its values.

The words are CalDAV's (RFC 4791, RFC 6578) on every engine: a *resource* is one iCalendar object at an *href* within the
calendar; its *etag* changes with every write; a *sync token* names one state of the whole calendar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

SyncToken = str
"""Opaque; it means nothing to any other calendar."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One iCalendar object as it is stored: its `href`, its strong `etag`, and its bytes."""

    href: str
    etag: str
    ics: bytes


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of a calendar since a sync token; `token` names the state after them.

    If `complete` is set, `changed` holds every resource, and any other is gone.
    """

    token: SyncToken
    changed: tuple[Resource, ...]
    removed: tuple[str, ...]
    complete: bool


class HasEtag(Protocol):
    """A resource that somebody has read: at least its etag."""

    @property
    def etag(self) -> str:
        """Return the etag of the resource as it was last read."""


NO_RESOURCES: Mapping[str, HasEtag] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a calendar was tried for: whether it holds, and a sentence for people about what that means."""

    holds: bool
    sentence: str


class Calendar(Protocol):
    """A calendar that reports its changes and takes conditional writes; every engine is safe to use from several threads.

    All methods raise `Unreachable` if the calendar does not answer, and `Refused` if it refuses. After `Unreachable` from
    `put` or `delete` the write may or may not have happened; only `changes` tells.
    """

    def changes(
        self,
        since: SyncToken | None,
        known: Mapping[str, HasEtag] = NO_RESOURCES,
        ended_before: datetime | None = None,
        always_include: Sequence[str] = (),
    ) -> Changes:
        """Return the changes since `since`; everything for None, and for a token that the calendar no longer knows.

        `known` has the caller's resources at `since`, by href. An engine compares them with the calendar if that cannot
        report changes by itself. A complete answer may leave out resources that ended before `ended_before`, except those
        at the hrefs in `always_include`.
        """

    def mark_ended(self, ended: Mapping[str, datetime]) -> None:
        """Record when resources, by etag, ended for good, so that complete answers of `changes` may leave them out."""

    def put(self, href: str, ics: bytes, *, etag: str | None) -> Resource:
        """Store `ics` at `href`, durably, if the resource there has this etag (None: if there is none).

        Return the resource as it was sent. Only `changes` tells what the calendar made of it, and its lasting etag. Raise
        `Changed` if the condition fails.
        """

    def delete(self, href: str, *, etag: str) -> None:
        """Remove the resource, durably, if it has this etag; otherwise raise `Changed`."""

    def probe(self) -> tuple[Capability, ...]:
        """Try out what the calendar can do and clean up; return nothing if the engine needs no trial."""

    def close(self) -> None:
        """Release connections and files; calling it again is harmless."""
