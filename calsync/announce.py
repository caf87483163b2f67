"""Announcements: the channel hears when a reserved slot starts (and a while before), who conducts it, and its ticket.

An announcement is a delivery whose id is that of its slot, put onto the week by a conditional write, so that of any number
of announcers one makes it, and one that starts in mid-window finds it made. What was missed is announced as long as it is
still true: until the slot starts, or until it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from calsync import courier, deliveries
from calsync.agenda import Entry, Follower
from calsync.courier import Courier
from calsync.deliveries import Delivery
from calsync.errors import CalendarError
from calsync.events import ticket_link
from calsync.planning import spoken
from calsync.records import Reservation
from calsync.settings import Config
from calsync.windows import Slot

_log = logging.getLogger("calsync")


def announce(follower: Follower, now: datetime, before: timedelta) -> None:
    """Put onto the calendar what is to be announced at `now` (aware); `before` of zero announces starts alone."""
    for entry in follower.agenda.reservations:
        if any(due(follower.config, entry, now, before)):
            courier.add(follower, entry.href, lambda standing: list(due(follower.config, standing, now, before)), now)


def due(config: Config, entry: Entry, now: datetime, before: timedelta) -> Iterator[Delivery]:
    """The announcements of a week that are due at `now` and not made yet."""
    reservation = entry.reservation
    if reservation is None or reservation.released:
        return
    made = {delivery.about for delivery in entry.deliveries}
    for slot in reservation.slots:
        if slot.start - before <= now < slot.start:
            kind, until = "before", slot.start
        elif slot.start <= now < slot.end:
            kind, until = "start", slot.end
        else:
            continue
        about = f"announce-{slot.id}-{kind}"
        if about not in made:
            text = said(config, reservation, slot, now)
            yield deliveries.make(about, "announcements", text, now, lasts=until - now)


def said(config: Config, reservation: Reservation, slot: Slot, now: datetime) -> str:
    """What is announced of a slot at `now`."""
    window = config.windows[slot.window].title if slot.window in config.windows else slot.window
    if now < slot.start:
        when = f"starts in {spoken(slot.start - now)}, at {slot.start.astimezone(UTC):%H:%M} UTC"
    else:
        when = f"has started and ends at {slot.end.astimezone(UTC):%H:%M} UTC"
    who = " and ".join(_called(config, name) for name in reservation.names(slot))
    conducts = f"{who} {'conduct' if len(reservation.names(slot)) > 1 else 'conducts'}"
    link = ticket_link(reservation.ticket, config.train.ticket_url) or reservation.ticket
    ticket = f"; ticket: {link}" if link else ""
    return f"{reservation.train_title} – {slot.stage or slot.window} ({window}) {when}; {conducts}{ticket}"


def _called(config: Config, name: str) -> str:
    nick = {entry.name: entry.irc for entry in config.conductors}.get(name)
    return f"{name} ({nick})" if nick and nick != name else name


def run(
    follower: Follower,
    sender: Courier,
    clock: Callable[[], datetime],
    wait: Callable[[float], bool],
    before: timedelta,
) -> None:
    """Announce, and send what is due, until `wait` (seconds) says to stop; a calendar that is away is waited for."""
    away: bool | None = None
    seconds = follower.config.calendar.interval.total_seconds()
    while True:
        now = clock()
        try:
            follower.sync(now)
            announce(follower, now, before)
            sender.settle(now)
            if away is not False:
                _log.info("announcing; the calendar has %d reservations", len(follower.agenda.reservations))
            away = False
        except CalendarError as error:
            if not away:
                _log.error("the calendar is away: %s", error)
            away = True
        except Exception:  # a defect must not silence the channel for good
            _log.exception("announcing failed")
        if wait(seconds):
            return
