"""What is announced of reserved slots: that one starts in a while or has started, who conducts it, and its ticket.

An announcement is a delivery whose id is that of its slot, so that each slot has one of a kind. What is said is found anew
when it is sent: until then, time goes by, and people move and release slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from calsync.core.delivery import Delivery, new_delivery
from calsync.core.reservation import Reservation
from calsync.core.settings import Config
from calsync.core.text import format_duration
from calsync.core.windows import Slot
from calsync.ical.reservation import ticket_link
from calsync.schedule.objects import CalendarObject

Kind = Literal["before", "start"]


def due_announcements(config: Config, entry: CalendarObject, now: datetime, before: timedelta) -> Iterator[Delivery]:
    """The announcements of a week that are due at `now` (aware) and not made yet, or not sent before the slot was moved.

    `before` is how long before its start a slot is announced; zero announces starts alone.
    """
    made = {delivery.correlation_id: delivery for delivery in entry.deliveries}
    for reservation, slot, kind in _all(entry):
        since, until = _span(slot, kind, before)
        if not since <= now < until:
            continue
        known = made.get(_correlation_id(slot, kind))
        if known is None or known.state == "skipped" or (known.state == "failed" and not _is_same(known.expires_at, until)):
            text = announcement_text(config, reservation, slot, now)
            lasts = until - now.replace(microsecond=0)
            yield new_delivery(_correlation_id(slot, kind), "announcements", text, now, lasts=lasts)


def announcement_times(entry: CalendarObject, now: datetime, before: timedelta) -> Iterator[datetime]:
    """When announcements of a week become due after `now` (aware)."""
    for _, slot, kind in _all(entry):
        since, _ = _span(slot, kind, before)
        if since > now:
            yield since


def retold(config: Config, entry: CalendarObject | None, made: Delivery, now: datetime) -> Delivery:
    """An announcement as it is to be sent at `now` (aware), about the week as it stands; `skipped` where that is not so."""
    for reservation, slot, kind in _all(entry):
        if _correlation_id(slot, kind) != made.correlation_id:
            continue
        since, until = _span(slot, kind, timedelta())
        if not _is_same(until, made.expires_at) or (kind == "start" and now < since):
            return made.settle("skipped", "the slot was moved")
        return replace(made, text=announcement_text(config, reservation, slot, now))
    return made.settle("skipped", "the slot was given up")


def announcement_text(config: Config, reservation: Reservation, slot: Slot, now: datetime) -> str:
    """What is announced of a slot at `now` (aware)."""
    window = config.windows[slot.window].title if slot.window in config.windows else slot.window
    if now < slot.start:
        when = f"starts in {format_duration(slot.start - now)}, at {slot.start.astimezone(UTC):%H:%M} UTC"
    else:
        when = f"has started and ends at {slot.end.astimezone(UTC):%H:%M} UTC"
    who = " and ".join(_called(config, name) for name in reservation.names(slot))
    conducts = f"{who} {'conduct' if len(reservation.names(slot)) > 1 else 'conducts'}"
    link = ticket_link(reservation.ticket, config.train.ticket_url) or reservation.ticket
    ticket = f"; ticket: {link}" if link else ""
    return f"{reservation.train_title} – {slot.stage or slot.window} ({window}) {when}; {conducts}{ticket}"


def _all(entry: CalendarObject | None) -> Iterator[tuple[Reservation, Slot, Kind]]:
    """Everything that there is to announce of a week."""
    reservation = entry.reservation if entry is not None else None
    if reservation is not None and not reservation.released:
        for slot in reservation.slots:
            yield reservation, slot, "before"
            yield reservation, slot, "start"


def _span(slot: Slot, kind: Kind, before: timedelta) -> tuple[datetime, datetime]:
    """From when and until when an announcement is true."""
    return (slot.start - before, slot.start) if kind == "before" else (slot.start, slot.end)


def _is_same(one: datetime, other: datetime) -> bool:
    """Whether two times are the same but for having been rounded."""
    return abs(one - other) < timedelta(seconds=1)


def _correlation_id(slot: Slot, kind: Kind) -> str:
    return f"announce-{slot.id}-{kind}"


def _called(config: Config, name: str) -> str:
    nick = config.nick(name)
    return f"{name} ({nick})" if nick and nick != name else name
