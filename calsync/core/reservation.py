"""A reservation, and its record: the exact copy of it that its resource carries.

The record is base64url of JSON, so that it is a plain token which no calendar server rewrites.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from calsync.core.conductors import Conductor, Pair
from calsync.core.planning import Seat
from calsync.core.weeks import Week
from calsync.core.windows import Slot


@dataclass(frozen=True, slots=True)
class Reservation:
    """A train week on the calendar: the pair, where each of them sits, and the slots they hold, by start.

    `cancelled` are slots that were held and given up. `author` is who wrote it last, at `modified` (UTC, whole seconds);
    `sequence` counts the writes (RFC 5545, section 3.8.7.4). A `released` week is free again and kept for its subscribers.
    `responsible` is who the train was handed to; None as long as that is the primary.
    """

    week: Week
    title: str
    pair: Pair
    primary: Seat
    backup: Seat
    slots: tuple[Slot, ...]
    modified: datetime
    cancelled: tuple[Slot, ...] = ()
    train: str | None = None
    ticket: str | None = None
    override: str | None = None
    author: str | None = None
    sequence: int = 0
    released: bool = False
    responsible: Conductor | None = None

    @property
    def spans_regions(self) -> bool:
        """Whether the two sit in different windows."""
        return self.primary.window != self.backup.window

    @property
    def train_title(self) -> str:
        """The train with its version, as messages and titles name it."""
        return " ".join(part for part in (self.title, self.train) if part)

    @property
    def in_charge(self) -> Conductor:
        """Who is responsible for the train now."""
        return self.responsible or self.pair.primary

    def conductors(self, slot: Slot) -> tuple[Conductor, ...]:
        """Who sits in the slot: the one of its role, and both where they share a window."""
        return self.pair.seated(slot.role, together=not self.spans_regions)

    def names(self, slot: Slot) -> tuple[str, ...]:
        """Who is responsible for the slot: who the train was handed to, or else those who sit in it.

        For a slot that was over when that changed: who was.
        """
        return slot.who or tuple(conductor.name for conductor in self.on_duty(slot))

    def on_duty(self, slot: Slot) -> tuple[Conductor, ...]:
        """Whose hours and absences count for a slot ahead: who the train was handed to, or else those who sit in it."""
        return (self.responsible,) if self.responsible is not None else self.conductors(slot)


def timezone_of(slot: Slot) -> str:
    """The name of the timezone that the slot's start and end are in."""
    return str(slot.start.tzinfo)  # a pytz timezone prints as its name
