"""Deliveries as properties of a week's resource: one `X-CALSYNC-DELIVERY` each, base64url of JSON, a plain token."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from icalendar import Calendar, Event, vText
from pydantic import TypeAdapter

from calsync.core.delivery import Delivery
from calsync.core.properties import DELIVERY
from calsync.core.weeks import LAST_YEAR

_record = TypeAdapter(Delivery)


def read_deliveries(ics: bytes) -> tuple[Delivery, ...]:
    """The deliveries on a resource; one that can be read no more is left out."""
    if DELIVERY.encode() not in ics:
        return ()
    calendar = Calendar.from_ical(ics)
    found: list[Delivery] = []
    for event in calendar.events if isinstance(calendar, Calendar) else []:
        for token in _tokens(event):
            try:
                delivery = _record.validate_json(base64.urlsafe_b64decode(token))
            except ValueError:
                continue  # it stood where anybody may write
            if _is_sound(delivery):
                found.append(delivery)
    return tuple(found)


def _is_sound(delivery: Delivery) -> bool:
    times = (delivery.created_at, delivery.expires_at, delivery.not_before, delivery.claimed_at or delivery.created_at)
    return (delivery.state == "claimed") == (delivery.claimed_at is not None) and max(times).year <= LAST_YEAR


def write_deliveries(ics: bytes, deliveries: Sequence[Delivery]) -> bytes:
    """The resource with these deliveries on its master and no others; all else stays as it is."""
    calendar = Calendar.from_ical(ics)
    assert isinstance(calendar, Calendar)  # what a resource is
    for event in calendar.events:
        event.pop(DELIVERY, None)
    master = next((event for event in calendar.events if "RECURRENCE-ID" not in event), calendar.events[0])
    for delivery in deliveries:
        master.add(DELIVERY, vText(_to_token(delivery)))
    return bytes(calendar.to_ical())


def _tokens(event: Event) -> list[str]:
    found = event.get(DELIVERY, [])
    return [str(token) for token in (found if isinstance(found, list) else [found])]


def _to_token(delivery: Delivery) -> str:
    return base64.urlsafe_b64encode(_record.dump_json(delivery, by_alias=True, exclude_none=True)).decode()
