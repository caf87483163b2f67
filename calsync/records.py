"""A reservation, and its record: the exact copy of it that its resource carries.

The record is base64url of JSON, so that it is a plain token which no calendar server rewrites.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from calsync.hours import Hours
from calsync.planning import Conductor, Pair, Seat
from calsync.weeks import Week
from calsync.windows import Slot
from calsync.zones import zone

RECORD, MARK = "X-CALSYNC-RECORD", "X-CALSYNC-MARK"
"""The properties of a resource that carry the record, and the token that names a write."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A train week on the calendar: the pair, where each of them sits, and the slots they hold, by start.

    `cancelled` are slots that were held and given up. `author` is who wrote it last, at `modified` (UTC, whole seconds);
    `sequence` counts the writes (RFC 5545, section 3.8.7.4). A `released` week is free again and kept for its subscribers.
    `responsible` is who the train was handed to; None as long as that is the primary.
    """

    week: Week
    title: str
    pair: Pair
    primary: Seat
    backup: Seat
    slots: tuple[Slot, ...]
    modified: datetime
    cancelled: tuple[Slot, ...] = ()
    train: str | None = None
    ticket: str | None = None
    override: str | None = None
    author: str | None = None
    sequence: int = 0
    released: bool = False
    responsible: Conductor | None = None

    @property
    def spans_regions(self) -> bool:
        """Whether the two sit in different windows."""
        return self.primary.window != self.backup.window

    @property
    def train_title(self) -> str:
        """The train with its version, as messages and titles name it."""
        return " ".join(part for part in (self.title, self.train) if part)

    @property
    def in_charge(self) -> Conductor:
        """Who is responsible for the train now."""
        return self.responsible or self.pair.primary

    def conductors(self, slot: Slot) -> tuple[Conductor, ...]:
        """Who sits in the slot: the one of its role, and both where they share a window."""
        return self.pair.seated(slot.role, together=not self.spans_regions)

    def names(self, slot: Slot) -> tuple[str, ...]:
        """Who is responsible for the slot: who the train was handed to, or else those who sit in it.

        For a slot that was over when that changed: who was.
        """
        return slot.who or tuple(conductor.name for conductor in self.on_duty(slot))

    def on_duty(self, slot: Slot) -> tuple[Conductor, ...]:
        """Whose hours and absences count for a slot ahead: who the train was handed to, or else those who sit in it."""
        return (self.responsible,) if self.responsible is not None else self.conductors(slot)


def timezone_of(slot: Slot) -> str:
    """The name of the timezone that the slot's start and end are in."""
    return str(slot.start.tzinfo)  # a pytz timezone prints as its name


def to_token(reservation: Reservation) -> str:
    """The reservation as a plain token: base64url of JSON."""

    def person(conductor: Conductor) -> dict[str, Any]:
        return {
            "name": conductor.name,
            "timezone": conductor.timezone,
            "hours": str(conductor.hours),
            "override": conductor.window,
        }

    def seated(conductor: Conductor, seat: Seat) -> dict[str, Any]:
        return {**person(conductor), "window": seat.window, "reason": seat.reason}

    def place(slot: Slot) -> dict[str, Any]:
        return {
            "window": slot.window,
            "date": str(slot.date),
            "timezone": timezone_of(slot),
            "start": f"{slot.start.astimezone(UTC):%Y%m%dT%H%M%SZ}",
            "end": f"{slot.end.astimezone(UTC):%Y%m%dT%H%M%SZ}",
            "role": slot.role,
            "stage": slot.stage,
            "who": list(slot.who),
        }

    record = {
        "version": 1,
        "week": str(reservation.week),
        "title": reservation.title,
        "primary": seated(reservation.pair.primary, reservation.primary),
        "backup": seated(reservation.pair.backup, reservation.backup),
        "slots": [place(slot) for slot in reservation.slots],
        "cancelled": [place(slot) for slot in reservation.cancelled],
        "modified": f"{reservation.modified:%Y%m%dT%H%M%SZ}",
        "train": reservation.train,
        "ticket": reservation.ticket,
        "override": reservation.override,
        "author": reservation.author,
        "sequence": reservation.sequence,
        "released": reservation.released,
        "responsible": person(reservation.responsible) if reservation.responsible else None,
    }
    return base64.urlsafe_b64encode(json.dumps(record, separators=(",", ":")).encode()).decode()


def from_token(token: str) -> Reservation:
    """The reservation of a record; raises whatever comes of a token that somebody else wrote."""
    return _from_record(json.loads(base64.urlsafe_b64decode(token)))


def _from_record(record: dict[str, Any]) -> Reservation:
    def text(value: object) -> str:
        if not isinstance(value, str):
            raise TypeError(f"{value!r} is not a text")
        return value

    def maybe(value: object) -> str | None:
        return None if value is None else text(value)

    def person(entry: dict[str, Any]) -> Conductor:
        zone(entry["timezone"])
        return Conductor(text(entry["name"]), entry["timezone"], Hours.parse(entry["hours"]), maybe(entry["override"]))

    def seat(entry: dict[str, Any]) -> Seat:
        return Seat(text(entry["window"]), text(entry["reason"]))

    def slot(entry: dict[str, Any]) -> Slot:
        tz = zone(entry["timezone"])
        start, end = _stamp(entry["start"]).astimezone(tz), _stamp(entry["end"]).astimezone(tz)
        role = entry["role"] if entry["role"] in ("primary", "backup") else None
        who = tuple(text(name) for name in entry["who"])
        return Slot(text(entry["window"]), date.fromisoformat(entry["date"]), start, end, role, maybe(entry["stage"]), who)

    return Reservation(
        week=Week.parse(record["week"]),
        title=text(record["title"]),
        pair=Pair(person(record["primary"]), person(record["backup"])),
        primary=seat(record["primary"]),
        backup=seat(record["backup"]),
        slots=tuple(slot(entry) for entry in record["slots"]),
        cancelled=tuple(slot(entry) for entry in record["cancelled"]),
        modified=_stamp(record["modified"]),
        train=maybe(record["train"]),
        ticket=maybe(record["ticket"]),
        override=maybe(record["override"]),
        author=maybe(record["author"]),
        sequence=int(record["sequence"]),
        released=bool(record["released"]),
        responsible=person(record["responsible"]) if record.get("responsible") else None,
    )


def _stamp(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
