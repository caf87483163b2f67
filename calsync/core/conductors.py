"""Conductors and pairs, and how a name, a timezone or `NAME@TIMEZONE` becomes a conductor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import pytz

from calsync.core.errors import Invalid
from calsync.core.settings import Config
from calsync.core.text import WORD, check_line
from calsync.core.timezones import suggestions, zone
from calsync.core.windows import Role
from calsync.core.working_hours import DEFAULT_HOURS, WORKDAYS, Hours


@dataclass(frozen=True, slots=True)
class Conductor:
    """Somebody who conducts trains. `hours` are on the wall clock of `timezone`; `window` overrides where they sit."""

    name: str
    timezone: str
    hours: Hours
    window: str | None = None

    def works(self, start: datetime, end: datetime) -> bool:
        """Whether the whole span from `start` to `end` (aware) is within their working hours."""
        return self.hours.cover(start, end, zone(self.timezone))

    def hours_text(self, start: datetime, end: datetime) -> str:
        """Return how the span relates to their working hours: `lies in 09:00-18:00 Europe/Paris`."""
        where = f"{self.hours} {self.timezone}"
        if self.works(start, end):
            return f"lies in {where}"
        if self.hours.daily.cover(start, end, zone(self.timezone)):
            return f"is on a day off, outside {where if self.hours.days != WORKDAYS else f'mon-fri {where}'}"
        return f"is outside {where}"


@dataclass(frozen=True, slots=True)
class Pair:
    """The week's two conductors."""

    primary: Conductor
    backup: Conductor

    def seated(self, role: Role | None, *, together: bool) -> tuple[Conductor, ...]:
        """Return who sits in a slot of that role: both, if they sit `together` in one window."""
        if together:
            return (self.primary, self.backup)
        return (self.backup,) if role == "backup" else (self.primary,)


def conductor(
    config: Config, who: str, *, timezone: str | None = None, hours: Hours | None = None, window: str | None = None
) -> Conductor:
    """Return the conductor called `who`. Given arguments override the roster.

    Raises `Invalid` if the roster does not list `who` and there is no timezone, and `UnknownTimezone`.
    """
    entry = config.roster.get(who)
    if entry is not None:
        usual = entry.working
        if hours is not None and hours.days == WORKDAYS:  # hours without days are on their usual days
            hours = replace(hours, days=usual.days)
        return Conductor(who, timezone or entry.timezone, hours or usual, window or entry.window)
    if timezone is None:
        near = suggestions(who)
        hint = f'did you mean the timezone "{near[0]}"?' if near else "give a timezone too, or add them to [[conductors]]."
        raise Invalid(f'"{who[:60]}" is not in the roster; {hint}')
    check_line("A name", who, WORD)
    zone(timezone)
    return Conductor(who, timezone, hours or DEFAULT_HOURS, window)


def person(config: Config, who: str, role: Role, *, hours: Hours | None = None, window: str | None = None) -> Conductor:
    """Return the conductor that `who` means: a name from the roster, `NAME@TIMEZONE`, or a timezone alone.

    A timezone alone means somebody unnamed, who is called by their role. Raises `Invalid` and `UnknownTimezone`.
    """
    if not who.strip("@ "):
        raise Invalid(f"The {role} has no name; give a name from the roster, a timezone, or NAME@TIMEZONE.")
    name, at, timezone = who.rpartition("@")
    if who in config.roster or not at:
        unnamed = who in pytz.all_timezones_set and who not in config.roster
        name, timezone = (role, who) if unnamed else (who, "")
    return conductor(config, name if name.strip() else role, timezone=timezone or None, hours=hours, window=window)
