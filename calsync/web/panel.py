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
    """`rotation` is None where windows.toml has none; `messages` are those that did not arrive, or may not have.

    `doubts` say of whom it is not known whether they are away.
    """

    reach: tuple[Presence, ...]
    rotation: Rotation | None
    away: tuple[Standing, ...]
    doubts: tuple[str, ...]
    messages: tuple[tuple[Week, Delivery], ...]


def panel(service: Service, now: datetime) -> Panel:
    """What to show at `now` (aware)."""
    agenda, config = service.agenda, service.config
    return Panel(
        reach=watch(config, agenda, now.astimezone(UTC)).pair,
        rotation=rotation(config, agenda, now, WEEKS) if config.rotation.start is not None else None,
        away=tuple(listed(config, agenda, now)),
        doubts=doubts(config, agenda, now),
        messages=unsent(agenda, now),
    )
