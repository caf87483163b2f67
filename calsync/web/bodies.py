"""The JSON that comes into the API, checked; what it makes no sense of is refused."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from calsync.errors import Invalid
from calsync.hours import Hours
from calsync.planning import Conductor, Pair, conductor
from calsync.records import Reservation
from calsync.reservations import Request
from calsync.settings import Config
from calsync.texts import LINE, SENTENCE, WORD
from calsync.weeks import Week
from calsync.windows import Role

Word = Annotated[str, Field(min_length=1, max_length=WORD, pattern=LINE)]
Sentence = Annotated[str, Field(min_length=1, max_length=SENTENCE, pattern=LINE)]


def _written(value: object) -> object:
    """A day or an instant as text; a number, which would be taken for seconds since 1970, is a mistake."""
    if not isinstance(value, str) or not re.match(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise ValueError("write a day as 2026-12-01, and an instant as 2026-12-01T10:00:00+01:00")
    return value


Day = Annotated[date, BeforeValidator(_written)]
Instant = Annotated[AwareDatetime, BeforeValidator(_written)]
"""With its offset (RFC 3339)."""


class In(BaseModel):
    """What comes in; fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class PersonIn(In):
    """A conductor. `timezone` may be left out for a name of the roster, `name` for somebody who stays unnamed."""

    name: Word | None = None
    timezone: Word | None = Field(None, examples=["Europe/Paris"])
    hours: Word | None = Field(None, examples=["09:00-18:00"])
    window: Word | None = Field(None, description="The train window to sit in, whatever the hours say.")

    def conductor(self, config: Config, role: Role) -> Conductor:
        """The conductor meant, with what the roster knows; `Invalid` where that is nobody."""
        if self.name is None and self.timezone is None:
            raise Invalid(f"{role}: give a name of the roster or a timezone.")
        hours = Hours.parse(self.hours) if self.hours else None
        return conductor(config, self.name or role, timezone=self.timezone, hours=hours, window=self.window)


Person = Annotated[PersonIn | Word, Field(examples=["conductor-eu", {"name": "ana", "timezone": "Europe/Paris"}])]


def conductor_of(config: Config, person: PersonIn | str, role: Role) -> Conductor:
    """The conductor that a body names."""
    return conductor(config, person) if isinstance(person, str) else person.conductor(config, role)


class ReservationIn(In):
    """What to reserve; without a week, the next one whose train has not begun."""

    week: Word | None = Field(None, description="An ISO week, or any date in it.", examples=["2026-W49"])
    train: Word | None = Field(None, examples=["1.46.0-wmf.5"])
    ticket: Word | None = Field(None, examples=["T400001"])
    primary: Person
    backup: Person
    override: Sentence | None = Field(None, description="Why conflicts are accepted; recorded on the events.")

    def request(self, config: Config) -> Request:
        """The same for the core."""
        return Request(
            Pair(conductor_of(config, self.primary, "primary"), conductor_of(config, self.backup, "backup")),
            Week.parse(self.week) if self.week else None,
            self.train,
            self.ticket,
            self.override,
        )


class ReservationPatch(In):
    """What to change; a field that is left out stays, and `train` and `ticket` can be taken away with null."""

    train: Word | None = None
    ticket: Word | None = None
    primary: Person | None = None
    backup: Person | None = None
    override: Sentence | None = None

    @model_validator(mode="after")
    def _has_a_pair(self) -> ReservationPatch:
        for role in ("primary", "backup"):
            if role in self.model_fields_set and getattr(self, role) is None:
                raise ValueError(f"{role} cannot be taken away; leave it out, or name somebody")
        return self

    def request(self, config: Config, kept: Reservation) -> Request:
        """The whole reservation asked for, on top of the one that stands."""
        primary = conductor_of(config, self.primary, "primary") if self.primary is not None else kept.pair.primary
        backup = conductor_of(config, self.backup, "backup") if self.backup is not None else kept.pair.backup
        given = self.model_fields_set
        return Request(
            Pair(primary, backup),
            kept.week,
            self.train if "train" in given else kept.train,
            self.ticket if "ticket" in given else kept.ticket,
            self.override if "override" in given else kept.override,
        )


class SpanIn(In):
    """A span of time."""

    start: Instant
    end: Instant

    @model_validator(mode="after")
    def _in_order(self) -> SpanIn:
        if self.end <= self.start:
            raise ValueError("end is not after start; swap them")
        return self


class SlotsIn(In):
    """Spans to check against the agenda, whoever sits there."""

    slots: Annotated[list[SpanIn], Field(min_length=1, max_length=100)]
