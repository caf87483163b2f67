"""Encode and decode deliveries: one `X-CALSYNC-DELIVERY` each on the master of a week, base64url of JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from icalendar import Calendar, vText
from pydantic import TypeAdapter

from calsync.core.delivery import Delivery
from calsync.core.properties import DELIVERY
from calsync.core.weeks import LAST_YEAR
from calsync.ical.components import values_of

_RECORD = TypeAdapter(Delivery)


def read_deliveries(calendar: Calendar) -> tuple[Delivery, ...]:
    """Return the deliveries on a parsed resource, without those that cannot be read."""
    deliveries: list[Delivery] = []
    for event in calendar.events:
        for token in values_of(event, DELIVERY):
            try:
                delivery = _RECORD.validate_json(base64.urlsafe_b64decode(str(token)))
            except ValueError:
                continue  # anybody may write there
            if _is_sound(delivery):
                deliveries.append(delivery)
    return tuple(deliveries)


def _is_sound(delivery: Delivery) -> bool:
    times = (delivery.created_at, delivery.expires_at, delivery.not_before, delivery.claimed_at or delivery.created_at)
    return (delivery.state == "claimed") == (delivery.claimed_at is not None) and max(times).year <= LAST_YEAR


def put_deliveries(calendar: Calendar, deliveries: Sequence[Delivery]) -> None:
    """Put these deliveries, and no others, on the master of a week."""
    for event in calendar.events:
        event.pop(DELIVERY, None)
    master = next((event for event in calendar.events if "RECURRENCE-ID" not in event), calendar.events[0])
    for delivery in deliveries:
        master.add(DELIVERY, vText(_to_token(delivery)))


def write_deliveries(ics: bytes, deliveries: Sequence[Delivery]) -> bytes:
    """Return the resource with these deliveries and no others; everything else stays as it is."""
    calendar = Calendar.from_ical(ics)
    assert isinstance(calendar, Calendar)  # as the agenda has read it
    put_deliveries(calendar, deliveries)
    return bytes(calendar.to_ical())


def _to_token(delivery: Delivery) -> str:
    return base64.urlsafe_b64encode(_RECORD.dump_json(delivery, by_alias=True, exclude_none=True)).decode()
