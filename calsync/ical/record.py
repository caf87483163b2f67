"""Encode and decode the record of a reservation: everything calsync needs exactly, as base64url of JSON.

A record is a plain token, which no server rewrites. It is the value of `X-CALSYNC-RECORD` on the master of a week.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime
from typing import Any

from calsync.core.conductors import Conductor, Pair
from calsync.core.planning import Seat
from calsync.core.reservation import Reservation
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.core.windows import Slot
from calsync.core.working_hours import Hours

_INSTANT = "%Y%m%dT%H%M%SZ"


def to_token(reservation: Reservation) -> str:
    """Return the record of the reservation."""
    record = {
        "version": 1,
        "week": str(reservation.week),
        "title": reservation.title,
        "primary": _from_seat(reservation.pair.primary, reservation.primary),
        "backup": _from_seat(reservation.pair.backup, reservation.backup),
        "slots": [_from_slot(slot) for slot in reservation.slots],
        "cancelled": [_from_slot(slot) for slot in reservation.cancelled],
        "modified": f"{reservation.modified:{_INSTANT}}",
        "train": reservation.train,
        "ticket": reservation.ticket,
        "override": reservation.override,
        "author": reservation.author,
        "sequence": reservation.sequence,
        "released": reservation.released,
        "responsible": _from_conductor(reservation.responsible) if reservation.responsible else None,
    }
    return base64.urlsafe_b64encode(json.dumps(record, separators=(",", ":")).encode()).decode()


def from_token(token: str) -> Reservation:
    """Return the reservation of a record; raises any error for a token that somebody else wrote."""
    record = json.loads(base64.urlsafe_b64decode(token))
    return Reservation(
        week=Week.parse(record["week"]),
        title=_text(record["title"]),
        pair=Pair(_to_conductor(record["primary"]), _to_conductor(record["backup"])),
        primary=_to_seat(record["primary"]),
        backup=_to_seat(record["backup"]),
        slots=tuple(_to_slot(slot) for slot in record["slots"]),
        cancelled=tuple(_to_slot(slot) for slot in record["cancelled"]),
        modified=_to_instant(record["modified"]),
        train=_text_or_none(record["train"]),
        ticket=_text_or_none(record["ticket"]),
        override=_text_or_none(record["override"]),
        author=_text_or_none(record["author"]),
        sequence=int(record["sequence"]),
        released=bool(record["released"]),
        responsible=_to_conductor(record["responsible"]) if record.get("responsible") else None,
    )


def _from_conductor(conductor: Conductor) -> dict[str, Any]:
    return {
        "name": conductor.name,
        "timezone": conductor.timezone,
        "hours": str(conductor.hours),
        "override": conductor.window,
    }


def _to_conductor(record: dict[str, Any]) -> Conductor:
    zone(record["timezone"])
    window = _text_or_none(record["override"])
    return Conductor(_text(record["name"]), record["timezone"], Hours.parse(record["hours"]), window)


def _from_seat(conductor: Conductor, seat: Seat) -> dict[str, Any]:
    return {**_from_conductor(conductor), "window": seat.window, "reason": seat.reason}


def _to_seat(record: dict[str, Any]) -> Seat:
    return Seat(_text(record["window"]), _text(record["reason"]))


def _from_slot(slot: Slot) -> dict[str, Any]:
    return {
        "window": slot.window,
        "date": str(slot.date),
        "timezone": slot.timezone,
        "start": f"{slot.start.astimezone(UTC):{_INSTANT}}",
        "end": f"{slot.end.astimezone(UTC):{_INSTANT}}",
        "role": slot.role,
        "stage": slot.stage,
        "who": list(slot.who),
    }


def _to_slot(record: dict[str, Any]) -> Slot:
    tz = zone(record["timezone"])
    return Slot(
        _text(record["window"]),
        date.fromisoformat(record["date"]),
        _to_instant(record["start"]).astimezone(tz),
        _to_instant(record["end"]).astimezone(tz),
        record["role"] if record["role"] in ("primary", "backup") else None,
        _text_or_none(record["stage"]),
        tuple(_text(name) for name in record["who"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _to_instant(text: str) -> datetime:
    return datetime.strptime(text, _INSTANT).replace(tzinfo=UTC)
