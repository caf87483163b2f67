"""Conductors and pairs, and whom people mean by a name, a timezone or `NAME@TIMEZONE`."""

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
    """Somebody who conducts a train. `hours` are on the wall clock of `timezone`; `window` overrides where they sit."""

    name: str
    timezone: str
    hours: Hours
    window: str | None = None

    def works(self, start: datetime, end: datetime) -> bool:
        """Whether the whole span from `start` to `end` (aware) is within their working hours."""
        return self.hours.cover(start, end, zone(self.timezone))

    def placed(self, start: datetime, end: datetime) -> str:
        """How the span lies to their working hours: `lies in 09:00-18:00 Europe/Paris`."""
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
        """Who sits in a slot of that role: both where they sit `together` in one window."""
        if together:
            return (self.primary, self.backup)
        return (self.backup,) if role == "backup" else (self.primary,)


def conductor(
    config: Config, who: str, *, timezone: str | None = None, hours: Hours | None = None, window: str | None = None
) -> Conductor:
    """The conductor called `who`: from the roster, or, with a timezone, anybody. What is given goes before the roster.

    Raises `Invalid` and `UnknownTimezone` for what is nobody.
    """
    known = config.roster.get(who)
    if known is not None:
        usual = known.working
        if hours is not None and hours.days == WORKDAYS:  # other hours for once, on their days
            hours = replace(hours, days=usual.days)
        return Conductor(who, timezone or known.timezone, hours or usual, window or known.window)
    if timezone is None:
        near = suggestions(who)
        raise Invalid(
            f'"{who[:60]}" is nobody in windows.toml'
            + (
                f'; did you mean the timezone "{near[0]}"?'
                if near
                else "; give a timezone too, or add them as [[conductors]]."
            )
        )
    check_line("A name", who, WORD)
    zone(timezone)
    return Conductor(who, timezone, hours or DEFAULT_HOURS, window)


def person(config: Config, who: str, role: Role, *, hours: Hours | None = None, window: str | None = None) -> Conductor:
    """The conductor that people mean by `who`: one of the roster, `NAME@TIMEZONE`, or a timezone for somebody unnamed.

    Somebody unnamed is called by their role. Raises `Invalid` and `UnknownTimezone` for what is nobody.
    """
    if not who.strip("@ "):
        raise Invalid(f"The {role} has no name; give a name of the roster, a timezone, or NAME@TIMEZONE.")
    name, at, timezone = who.rpartition("@")
    if who in config.roster or not at:
        unnamed = who in pytz.all_timezones_set and who not in config.roster
        name, timezone = (role, who) if unnamed else (who, "")
    return conductor(config, name if name.strip() else role, timezone=timezone or None, hours=hours, window=window)
