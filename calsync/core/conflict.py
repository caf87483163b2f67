"""Conflicts, free alternatives and possible cover, and the errors that carry them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from calsync.core.errors import CalsyncError
from calsync.core.settings import Kind


class Conflicted(CalsyncError):
    """Blocking conflicts; nothing stands on the calendar for having tried."""

    def __init__(self, message: str, conflicts: Sequence[Conflict], alternatives: Sequence[Alternative] = ()) -> None:
        self.conflicts = tuple(conflicts)
        self.alternatives = tuple(alternatives)
        super().__init__(message)


class ReservedByAnother(Conflicted):
    """Another reservation holds the week."""


@dataclass(frozen=True, slots=True)
class Cover:
    """Somebody who could conduct instead, and why they of all people."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """What a slot conflicts with: an event, window, freeze or reservation; `start` and `end` are aware.

    What stands in a person's own busy feed has no `uid` here, since it is private.
    """

    uid: str | None
    summary: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Conflict:
    """One reason against one slot, in a sentence. `slot` is the slot's id; None where it may concern any slot.

    Where somebody is away, `absent` is their name and `cover` names who could conduct instead.
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
    """A free place for the slot whose id is `instead_of`: in `window`, or beside it on the same day."""

    instead_of: str
    window: str
    start: datetime
    end: datetime


def blocking(conflicts: Sequence[Conflict]) -> tuple[Conflict, ...]:
    """The conflicts that stand in the way of a reservation."""
    return tuple(conflict for conflict in conflicts if conflict.blocking)
