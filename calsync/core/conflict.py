"""Conflicts, free alternatives and possible cover, and the errors that carry conflicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from calsync.core.errors import CalsyncError
from calsync.core.settings import Kind


class Conflicted(CalsyncError):
    """Conflicts block the reservation, and it is not on the calendar; `alternatives` are free places for its slots."""

    def __init__(self, message: str, conflicts: Sequence[Conflict], alternatives: Sequence[Alternative] = ()) -> None:
        self.conflicts = tuple(conflicts)
        self.alternatives = tuple(alternatives)
        super().__init__(message)


class ReservedByAnother(Conflicted):
    """The week is reserved for another pair."""


@dataclass(frozen=True, slots=True)
class Cover:
    """Somebody who could conduct instead, and the reason for choosing them."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """What a slot conflicts with: an event, window, freeze or reservation; `start` and `end` are aware.

    `uid` is None for an event from somebody's own busy feed, which is private.
    """

    uid: str | None
    summary: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Conflict:
    """One reason against one slot, with a sentence as its `message`.

    `slot` is the slot's id, or None if any slot may be concerned. If the reason is that somebody is away, `absent` is their
    name and `cover` lists who could conduct instead.
    """

    kind: Kind
    blocking: bool
    slot: str | None
    message: str
    event: Event | None = None
    cover: tuple[Cover, ...] = ()
    absent: str | None = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """A free place for the slot with the id `instead_of`: in another train window, or at another time of the same day."""

    instead_of: str
    window: str
    start: datetime
    end: datetime


def blocking(conflicts: Sequence[Conflict]) -> tuple[Conflict, ...]:
    """Return the conflicts that block a reservation."""
    return tuple(conflict for conflict in conflicts if conflict.blocking)
