"""What needs care: what cannot be read, what people changed on reservations, conflicts of their slots, lost messages.

And of what is asked elsewhere: channels that cannot be opened, busy feeds that cannot be read.
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
    """The findings: defects by href, changes by people in sentences, conflicts of slots that are not over, and `messages`.

    Those failed, or nobody knows whether they arrived, or they are tried again after having failed; each has the week that
    it is about. `channels` are sentences about addresses of `[notify]`; `feeds` says by name why a busy feed was not read.
    """

    defects: Mapping[str, tuple[str, ...]]
    changes: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    messages: tuple[tuple[Week, Delivery], ...]
    channels: tuple[str, ...]
    feeds: Mapping[str, str]

    @property
    def needs_care(self) -> bool:
        """Whether somebody should look; warnings alone do not ask for that."""
        lost = any(message.state != "pending" for _, message in self.messages)
        return bool(self.defects or self.changes or blocking(self.conflicts) or lost or self.channels)

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing at all to say."""
        return not (self.defects or self.changes or self.conflicts or self.messages or self.channels or self.feeds)


def diagnose(
    agenda: Agenda,
    now: datetime,
    *,
    channels: Sequence[str],
    feeds: Mapping[str, str],
) -> Diagnosis:
    """Look at everything on the agenda at `now` (aware), beside what was found of channels and busy feeds."""
    held = list(conflicts_of_reservations(agenda, now))
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
        conflicts=tuple(conflict for _, found in held for conflict in found if conflict.slot is not None),
        messages=tuple(
            (week, one) for week, one in unsent(agenda, now) if one.state in ("failed", "unknown") or _was_tried(one)
        ),
        channels=tuple(channels),
        feeds=feeds,
    )


def _was_tried(message: Delivery) -> bool:
    return message.state == "pending" and message.attempts > 0


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
