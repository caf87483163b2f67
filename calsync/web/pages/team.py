"""The team section of the week page: whom to ask first, who is away, whose turn it is, messages that did not arrive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from calsync.core.delivery import Delivery
from calsync.core.weeks import Week
from calsync.schedule.absences import AbsenceView, list_absences, unknown_absences
from calsync.schedule.doctor import unsent
from calsync.schedule.rotation import Rotation, rotation
from calsync.schedule.status import OnCallStatus, status_at
from calsync.web.state import AppState

WEEKS = 8
"""How many weeks of the rotation the page shows."""


@dataclass(frozen=True, slots=True)
class Team:
    """What `team.html` shows, whatever week the page is about."""

    week: Week | None
    """The week of the train that runs or comes next."""
    pair: tuple[OnCallStatus, ...]
    """The pair of that week."""
    rotation: Rotation | None
    """None if windows.toml has no rotation."""
    absences: tuple[AbsenceView, ...]
    unknown: tuple[str, ...]
    """A sentence for everybody whose availability is unknown."""
    messages: tuple[tuple[Week, Delivery], ...]
    """The messages that did not arrive, or may not have."""


def team_at(state: AppState, now: datetime) -> Team:
    """Return the team as it is at `now` (aware)."""
    agenda, config = state.agenda, state.config
    status = status_at(agenda, now.astimezone(UTC))
    return Team(
        week=status.reservation.week if status.reservation is not None else None,
        pair=status.pair,
        rotation=rotation(agenda, now, WEEKS) if config.rotation.start is not None else None,
        absences=tuple(list_absences(agenda, now)),
        unknown=unknown_absences(agenda, now),
        messages=unsent(agenda, now),
    )
