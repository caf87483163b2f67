"""Announcements of reserved slots: that one starts soon or has started, who conducts it, and its ticket.

An announcement is a delivery whose id is made of its slot and its kind, so each slot has one of each kind. Its text is made
again when it is sent, because time passes and people move and release slots.
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


def due_announcements(config: Config, week: CalendarObject, now: datetime, before: timedelta) -> Iterator[Delivery]:
    """Yield the week's announcements that are due at `now` (aware) and were not made, or not sent before the slot moved.

    Slots are announced `before` they start and when they start; zero announces starts alone.
    """
    made = {delivery.correlation_id: delivery for delivery in week.deliveries}
    for reservation, slot, kind in _announceable(week):
        since, until = _period(slot, kind, before)
        if not since <= now < until:
            continue
        earlier = made.get(_correlation_id(slot, kind))
        was_moved = earlier is not None and earlier.state == "failed" and not _is_same(earlier.expires_at, until)
        if earlier is None or earlier.state == "skipped" or was_moved:
            text = announcement_text(config, reservation, slot, now)
            lasts = until - now.replace(microsecond=0)
            yield new_delivery(_correlation_id(slot, kind), "announcements", text, now, lasts=lasts)


def announcement_times(week: CalendarObject, now: datetime, before: timedelta) -> Iterator[datetime]:
    """Yield when announcements of a week become due after `now` (aware)."""
    for _, slot, kind in _announceable(week):
        since, _ = _period(slot, kind, before)
        if since > now:
            yield since


def current_announcement(config: Config, week: CalendarObject, announcement: Delivery, now: datetime) -> Delivery:
    """Return an announcement with the text for `now` (aware), or skipped if its slot was moved or given up."""
    for reservation, slot, kind in _announceable(week):
        if _correlation_id(slot, kind) != announcement.correlation_id:
            continue
        since, until = _period(slot, kind, timedelta())
        if not _is_same(until, announcement.expires_at) or (kind == "start" and now < since):
            return announcement.settle("skipped", "the slot was moved")
        return replace(announcement, text=announcement_text(config, reservation, slot, now))
    return announcement.settle("skipped", "the slot was given up")


def announcement_text(config: Config, reservation: Reservation, slot: Slot, now: datetime) -> str:
    """Return the text that announces a slot at `now` (aware)."""
    window = config.windows[slot.window].title if slot.window in config.windows else slot.window
    if now < slot.start:
        when = f"starts in {format_duration(slot.start - now)}, at {slot.start.astimezone(UTC):%H:%M} UTC"
    else:
        when = f"has started and ends at {slot.end.astimezone(UTC):%H:%M} UTC"
    names = reservation.names(slot)
    conducts = f"{' and '.join(_with_nick(config, name) for name in names)} {'conduct' if len(names) > 1 else 'conducts'}"
    link = ticket_link(reservation.ticket, config.train.ticket_url) or reservation.ticket
    ticket = f"; ticket: {link}" if link else ""
    return f"{reservation.train_title} – {slot.stage or slot.window} ({window}) {when}; {conducts}{ticket}"


def _announceable(week: CalendarObject) -> Iterator[tuple[Reservation, Slot, Kind]]:
    """Yield every slot of the week with each kind of announcement; nothing for a released week."""
    reservation = week.reservation
    if reservation is not None and not reservation.released:
        for slot in reservation.slots:
            yield reservation, slot, "before"
            yield reservation, slot, "start"


def _period(slot: Slot, kind: Kind, before: timedelta) -> tuple[datetime, datetime]:
    """Return from when until when an announcement is true."""
    return (slot.start - before, slot.start) if kind == "before" else (slot.start, slot.end)


def _is_same(one: datetime, other: datetime) -> bool:
    """Return whether two times are the same up to rounding."""
    return abs(one - other) < timedelta(seconds=1)


def _correlation_id(slot: Slot, kind: Kind) -> str:
    return f"announce-{slot.id}-{kind}"


def _with_nick(config: Config, name: str) -> str:
    nick = config.nick(name)
    return f"{name} ({nick})" if nick and nick != name else name
