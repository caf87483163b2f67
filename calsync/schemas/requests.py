"""The JSON and the queries that come into the API, checked before they reach a route or a command."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from calsync.core.conductors import Conductor, Pair, conductor
from calsync.core.errors import Invalid
from calsync.core.reservation import Reservation
from calsync.core.settings import Config, parse_duration
from calsync.core.text import LINE, SENTENCE, WORD
from calsync.core.weeks import Week
from calsync.core.windows import Role
from calsync.core.working_hours import Hours
from calsync.schedule.check import ReservationRequest
from calsync.schedule.feed import Filters

Word = Annotated[str, Field(min_length=1, max_length=WORD, pattern=LINE)]
Sentence = Annotated[str, Field(min_length=1, max_length=SENTENCE, pattern=LINE)]


def _check_text(value: object) -> object:
    """Refuse numbers, which pydantic would take for seconds since 1970."""
    if not isinstance(value, str) or not re.match(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise ValueError("write a day as 2026-12-01, and an instant as 2026-12-01T10:00:00+01:00")
    return value


Day = Annotated[date, BeforeValidator(_check_text)]
Instant = Annotated[AwareDatetime, BeforeValidator(_check_text)]
"""An aware time, written with its offset (RFC 3339)."""


class In(BaseModel):
    """What comes into the API; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class PersonIn(In):
    """A conductor. A name of the roster needs no `timezone`, and a timezone needs no `name`."""

    name: Word | None = None
    timezone: Word | None = Field(None, examples=["Europe/Paris"])
    hours: Word | None = Field(None, examples=["09:00-18:00"])
    window: Word | None = Field(None, description="The train window to sit in, whatever the hours say.")

    def conductor(self, config: Config, role: Role) -> Conductor:
        """Return the conductor, completed from the roster; raises `Invalid` if name and timezone are both missing."""
        if self.name is None and self.timezone is None:
            raise Invalid(f"{role}: give a name of the roster or a timezone.")
        hours = Hours.parse(self.hours) if self.hours else None
        return conductor(config, self.name or role, timezone=self.timezone, hours=hours, window=self.window)


Person = Annotated[PersonIn | Word, Field(examples=["conductor-eu", {"name": "ana", "timezone": "Europe/Paris"}])]


def conductor_of(config: Config, person: PersonIn | str, role: Role) -> Conductor:
    """Return the conductor that a body names."""
    return conductor(config, person) if isinstance(person, str) else person.conductor(config, role)


class ReservationIn(In):
    """A train week to reserve; without `week`, the next one whose train has not begun."""

    week: Word | None = Field(None, description="An ISO week, or any date in it.", examples=["2026-W49"])
    train: Word | None = Field(None, examples=["1.46.0-wmf.5"])
    ticket: Word | None = Field(None, examples=["T400001"])
    primary: Person
    backup: Person
    override: Sentence | None = Field(None, description="Why conflicts are accepted; recorded on the events.")

    def request(self, config: Config) -> ReservationRequest:
        """Return the request with its conductors and its week looked up."""
        return ReservationRequest(
            Pair(conductor_of(config, self.primary, "primary"), conductor_of(config, self.backup, "backup")),
            Week.parse(self.week) if self.week else None,
            self.train,
            self.ticket,
            self.override,
        )


class ReservationPatch(In):
    """What to change. A field that is left out stays as it is; null removes `train`, `ticket` or `override`."""

    train: Word | None = None
    ticket: Word | None = None
    primary: Person | None = None
    backup: Person | None = None
    override: Sentence | None = None

    @model_validator(mode="after")
    def _has_a_pair(self) -> ReservationPatch:
        for role in ("primary", "backup"):
            if role in self.model_fields_set and getattr(self, role) is None:
                raise ValueError(f"{role} cannot be removed; leave it out, or name somebody")
        return self

    def request(self, config: Config, current: Reservation) -> ReservationRequest:
        """Return the whole request: the current reservation with these changes."""
        primary = conductor_of(config, self.primary, "primary") if self.primary is not None else current.pair.primary
        backup = conductor_of(config, self.backup, "backup") if self.backup is not None else current.pair.backup
        given = self.model_fields_set
        return ReservationRequest(
            Pair(primary, backup),
            current.week,
            self.train if "train" in given else current.train,
            self.ticket if "ticket" in given else current.ticket,
            self.override if "override" in given else current.override,
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
    """Spans to check against the calendar, without a pair."""

    slots: Annotated[list[SpanIn], Field(min_length=1, max_length=100)]


class FeedQuery(BaseModel):
    """What the feed shows; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")

    window: list[str] = Field([], description="Only these windows, train or recurring; may be given several times.")
    conductor: str | None = Field(None, description="Only reserved slots in which this person sits.")
    only: Literal["reservations"] | None = Field(None, description="Only reserved slots.")
    alarm: str | None = Field(None, description="A reminder that long before each slot.", examples=["15m"])

    def filters(self, config: Config) -> Filters:
        """Return the filters; raises `Invalid` for an unknown window and for an invalid alarm."""
        for window in self.window:
            if window not in config.windows:
                raise Invalid(f'window "{window[:40]}" does not exist; there are {", ".join(config.windows)}.')
        alarm: timedelta | None = None
        if self.alarm is not None:
            try:
                alarm = parse_duration(self.alarm)
            except (ValueError, OverflowError):
                raise Invalid('alarm: write a whole number and a unit, such as "15m".') from None
            if alarm > timedelta(weeks=1):
                raise Invalid("alarm: a reminder is at most a week ahead.")
        return Filters(tuple(sorted(set(self.window))), self.conductor, self.only == "reservations", alarm)


def _parse_moment(value: object) -> date:
    """Parse a date, or a time with its offset. Refuse numbers, and midnight without an offset as a way to write a date."""
    moment: date | None = None
    with suppress(ValueError):
        if isinstance(value, str):
            moment = date.fromisoformat(value) if len(value) == len("2026-12-01") else datetime.fromisoformat(value)
    if moment is None or (isinstance(moment, datetime) and moment.tzinfo is None):
        raise ValueError("write a date such as 2026-12-01, or a time with its offset such as 2026-12-01T14:00:00+01:00")
    return moment


Moment = Annotated[AwareDatetime | date, BeforeValidator(_parse_moment)]


class AwayIn(In):
    """Who is away, and when: two dates, both included, or two times with their offsets."""

    conductor: Word = Field(examples=["conductor-eu"])
    start: Moment = Field(examples=["2026-12-01"])
    end: Moment = Field(examples=["2026-12-02"])
    note: Sentence | None = Field(None, examples=["conference"])


class HandoffIn(In):
    """Who takes the train over, and what they have to know."""

    to: Person
    note: Sentence


class UpdateIn(In):
    """News of the train from one of its conductors; `decision` if it decides something."""

    sender: Word = Field(alias="from", examples=["conductor-eu"])
    text: Sentence
    decision: bool = False
