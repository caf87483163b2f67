"""What the page shows of the pair's week, for `rotation.html`: how to reach the pair, the rotation, absences, messages."""

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
"""How many weeks of the rotation are shown."""


@dataclass(frozen=True, slots=True)
class Header:
    """`reach` is the pair of `week`, the train that runs or comes next, whatever week the page is about.

    `rotation` is None where windows.toml has none; `doubts` say of whom it is not known whether they are away; `messages`
    are those that did not arrive, or may not have.
    """

    week: Week | None
    reach: tuple[OnCallStatus, ...]
    rotation: Rotation | None
    away: tuple[AbsenceView, ...]
    doubts: tuple[str, ...]
    messages: tuple[tuple[Week, Delivery], ...]


def header(state: AppState, now: datetime) -> Header:
    """What to show at `now` (aware)."""
    agenda, config = state.agenda, state.config
    found = status_at(agenda, now.astimezone(UTC))
    return Header(
        week=found.reservation.week if found.reservation is not None else None,
        reach=found.pair,
        rotation=rotation(agenda, now, WEEKS) if config.rotation.start is not None else None,
        away=tuple(list_absences(agenda, now)),
        doubts=unknown_absences(agenda, now),
        messages=unsent(agenda, now),
    )
