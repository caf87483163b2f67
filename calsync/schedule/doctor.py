"""Find what needs care: unreadable resources, changed reservations, conflicts of reserved slots, undelivered messages.

Channels and busy feeds are checked elsewhere; `diagnose` takes what was found there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from calsync.core.conflict import Conflict, blocking
from calsync.core.delivery import Delivery
from calsync.core.weeks import Week
from calsync.schedule.agenda import Agenda
from calsync.schedule.conflicts import conflicts_of_reservations


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings about a calendar."""

    defects: Mapping[str, tuple[str, ...]]
    """What cannot be read in full, by href."""
    changes: tuple[str, ...]
    """What people changed on the reservations of this week and later ones, in sentences."""
    conflicts: tuple[Conflict, ...]
    """The conflicts of reserved slots that are not over."""
    messages: tuple[tuple[Week, Delivery], ...]
    """The messages that failed, whose outcome is unknown, or that are being retried; each with the week it is about."""
    channels: tuple[str, ...]
    """The channels of `[notify]` that cannot be opened, in sentences."""
    feeds: Mapping[str, str]
    """Why busy feeds were not read, by name."""

    @property
    def needs_care(self) -> bool:
        """Whether somebody should look; warnings alone need nobody."""
        lost = any(message.state != "pending" for _, message in self.messages)
        return bool(self.defects or self.changes or blocking(self.conflicts) or lost or self.channels)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.defects or self.changes or self.conflicts or self.messages or self.channels or self.feeds)


def diagnose(
    agenda: Agenda,
    now: datetime,
    *,
    channels: Sequence[str],
    feeds: Mapping[str, str],
) -> Diagnosis:
    """Return the findings about the agenda at `now` (aware), and those about channels and busy feeds."""
    this_week = Week.containing(now.date())
    return Diagnosis(
        defects=agenda.defects,
        changes=tuple(
            change for stored, reservation in agenda.reserved if reservation.week >= this_week for change in stored.changes
        ),
        conflicts=tuple(
            conflict
            for _, conflicts in conflicts_of_reservations(agenda, now)
            for conflict in conflicts
            if conflict.slot is not None  # the others are about defects
        ),
        messages=tuple(
            (week, message)
            for week, message in unsent(agenda, now)
            if message.state in ("failed", "unknown") or _was_tried(message)
        ),
        channels=tuple(channels),
        feeds=feeds,
    )


def _was_tried(message: Delivery) -> bool:
    return message.state == "pending" and message.attempts > 0


def unsent(agenda: Agenda, now: datetime) -> tuple[tuple[Week, Delivery], ...]:
    """Return the messages about this week and later ones that have not arrived, or may not have, each with its week."""
    this_week = Week.containing(now.date())
    return tuple(
        (reservation.week, delivery)
        for stored, reservation in agenda.reserved
        if reservation.week >= this_week
        for delivery in stored.deliveries
        if delivery.state not in ("sent", "skipped")
    )
