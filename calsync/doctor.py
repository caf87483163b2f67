"""What needs care: what cannot be read, what people changed on reservations, conflicts of their slots, lost messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from calsync.agenda import Agenda
from calsync.conflicts import Conflict, blocking, standing
from calsync.deliveries import Delivery
from calsync.settings import Config
from calsync.weeks import Week


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings: defects by href, changes by people in sentences, conflicts of slots that are not over, and `messages`.

    Those failed, or nobody knows whether they arrived; each has the week that it is about.
    """

    defects: Mapping[str, tuple[str, ...]]
    changes: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    messages: tuple[tuple[Week, Delivery], ...] = ()

    @property
    def needs_care(self) -> bool:
        """Whether somebody should look; warnings alone do not ask for that."""
        return bool(self.defects or self.changes or blocking(self.conflicts) or self.messages)

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing at all to say."""
        return not (self.defects or self.changes or self.conflicts or self.messages)


def diagnose(config: Config, agenda: Agenda, now: datetime) -> Diagnosis:
    """Look at everything on the agenda at `now` (aware)."""
    held = list(standing(config, agenda, now))
    this_week = Week.containing(now.date())
    return Diagnosis(
        defects=agenda.defects,
        changes=tuple(
            change
            for entry in agenda.reservations
            if entry.reservation and not entry.reservation.released and entry.reservation.week >= this_week
            for change in entry.changes
        ),
        # Those without a slot are about the defects.
        conflicts=tuple(conflict for _, _, found in held for conflict in found if conflict.slot is not None),
        messages=tuple((week, one) for week, one in unsent(agenda, now) if one.state in ("failed", "unknown")),
    )


def unsent(agenda: Agenda, now: datetime) -> tuple[tuple[Week, Delivery], ...]:
    """The messages about the trains of this week and later ones that have not arrived, or may not have, by week."""
    this_week = Week.containing(now.date())
    return tuple(
        (entry.reservation.week, delivery)
        for entry in agenda.reservations
        if entry.reservation is not None and not entry.reservation.released and entry.reservation.week >= this_week
        for delivery in entry.deliveries
        if delivery.state not in ("sent", "skipped")
    )
