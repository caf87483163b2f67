"""The port through which calsync reads and writes a calendar, and the choice of its engine.

The words are CalDAV's (RFC 4791, RFC 6578) on every engine: a *resource* is one iCalendar object at an *href* within the
calendar; its *etag* changes with every write; a *sync token* names a state of the whole calendar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

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


class Known(Protocol):
    """What is known of a resource: at least its etag."""

    @property
    def etag(self) -> str:
        """The etag of the resource as it was last read."""


NOTHING: Mapping[str, Known] = MappingProxyType({})
"""Nothing is known of any resource."""


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a calendar was tried for: whether it holds, and what that means, in a sentence for a person."""

    holds: bool
    sentence: str


class Calendar(Protocol):
    """A calendar that can be followed and written to conditionally; every engine is safe to use from several threads.

    All methods raise `Unreachable` where the calendar does not answer and `Refused` where it answers no. After
    `Unreachable` from `put` or `delete` the write may stand or not; only `changes` tells.
    """

    def changes(
        self,
        since: SyncToken | None,
        known: Mapping[str, Known] = NOTHING,
        after: datetime | None = None,
        besides: Sequence[str] = (),
    ) -> Changes:
        """What changed since `since`; everything for None, and for a token the calendar no longer knows.

        `known` are the resources, by href, that whoever holds `since` has; with them an engine finds what became of a
        calendar that cannot tell by itself. A complete answer may leave out what was over before `after`, but for what is
        at the hrefs in `besides`.
        """

    def forget(self, over: Mapping[str, datetime]) -> None:
        """Take note of when resources, by etag, are over for good, so that `changes` need not tell of them again."""

    def put(self, href: str, ics: bytes, *, etag: str | None) -> Resource:
        """Store `ics` at `href`, durably, if the resource there has this etag; None: if there is none. Otherwise `Changed`.

        Returns the resource that was put. What the calendar made of it, and its lasting etag, only `changes` tells.
        """

    def delete(self, href: str, *, etag: str) -> None:
        """Remove the resource, durably, if it has this etag; otherwise `Changed`."""

    def probe(self) -> tuple[Capability, ...]:
        """Try out what the calendar promises, and leave nothing behind; empty where the engine needs no trying."""

    def close(self) -> None:
        """Let go of connections and files; again is harmless."""
