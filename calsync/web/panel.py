"""What the page shows of the pair's week, for `rotation.html`: how to reach the pair, the rotation, absences, messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from calsync.absences import Standing, doubts, listed
from calsync.deliveries import Delivery
from calsync.doctor import unsent
from calsync.rota import Rotation, rotation
from calsync.watch import Presence, watch
from calsync.web.service import Service
from calsync.weeks import Week

WEEKS = 8
"""How many weeks of the rotation are shown."""


@dataclass(frozen=True, slots=True)
class Panel:
    """`reach` is the pair of `week`, the train that runs or comes next, whatever week the page is about.

    `rotation` is None where windows.toml has none; `doubts` say of whom it is not known whether they are away; `messages`
    are those that did not arrive, or may not have.
    """

    week: Week | None
    reach: tuple[Presence, ...]
    rotation: Rotation | None
    away: tuple[Standing, ...]
    doubts: tuple[str, ...]
    messages: tuple[tuple[Week, Delivery], ...]


def panel(service: Service, now: datetime) -> Panel:
    """What to show at `now` (aware)."""
    agenda, config = service.agenda, service.config
    found = watch(config, agenda, now.astimezone(UTC))
    return Panel(
        week=found.reservation.week if found.reservation is not None else None,
        reach=found.pair,
        rotation=rotation(config, agenda, now, WEEKS) if config.rotation.start is not None else None,
        away=tuple(listed(config, agenda, now)),
        doubts=doubts(config, agenda, now),
        messages=unsent(agenda, now),
    )
