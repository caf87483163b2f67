"""A reservation: a train week as it is on the calendar. `ical/reservation.py` encodes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from calsync.core.conductors import Conductor, Pair
from calsync.core.planning import Seat
from calsync.core.weeks import Week
from calsync.core.windows import Slot


@dataclass(frozen=True, slots=True)
class Reservation:
    """A train week on the calendar: the pair, their seats, and their slots by start.

    A released week is free again; it stays on the calendar so that subscribers see the cancellation.
    """

    week: Week
    title: str
    pair: Pair
    primary: Seat
    backup: Seat
    slots: tuple[Slot, ...]
    modified: datetime
    """When it was last written; in UTC and whole seconds."""
    cancelled: tuple[Slot, ...] = ()
    """Slots that were reserved and then given up."""
    train: str | None = None
    ticket: str | None = None
    override: str | None = None
    """The reason for reserving it despite conflicts."""
    author: str | None = None
    """Who wrote it last."""
    sequence: int = 0
    """The number of writes since the first (RFC 5545, section 3.8.7.4)."""
    released: bool = False
    responsible: Conductor | None = None
    """Who the train was handed to; None if it was not handed to anybody."""

    @property
    def spans_regions(self) -> bool:
        """Whether the two sit in different windows."""
        return self.primary.window != self.backup.window

    @property
    def train_title(self) -> str:
        """The train's title with its version."""
        return " ".join(part for part in (self.title, self.train) if part)

    @property
    def in_charge(self) -> Conductor:
        """Who is responsible for the train now: who it was handed to, or the primary."""
        return self.responsible or self.pair.primary

    def ahead(self, now: datetime) -> tuple[Slot, ...]:
        """Return the slots that are not over at `now` (aware)."""
        return tuple(slot for slot in self.slots if slot.end > now)

    def conductors(self, slot: Slot) -> tuple[Conductor, ...]:
        """Return who sits in the slot: the conductor of its role, or both if they share a window."""
        return self.pair.seated(slot.role, together=not self.spans_regions)

    def names(self, slot: Slot) -> tuple[str, ...]:
        """Return the names of those responsible for the slot; `Slot.who` if it was over before that changed."""
        return slot.who or tuple(conductor.name for conductor in self.on_duty(slot))

    def on_duty(self, slot: Slot) -> tuple[Conductor, ...]:
        """Return whose hours and absences count for a coming slot: who the train was handed to, or those who sit in it."""
        return (self.responsible,) if self.responsible is not None else self.conductors(slot)
