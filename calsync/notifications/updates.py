"""Updates: where news of a train reach the partner.

They go to the channel while the partner is within their working hours, and onto the ticket while they are not, or are away.
A decision always goes onto the ticket and into the log (`!log`), which the partner reads in either place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from calsync.core.conductors import Conductor
from calsync.core.delivery import Delivery, Target, new_delivery
from calsync.core.errors import Invalid
from calsync.core.reservation import Reservation
from calsync.core.settings import Config
from calsync.core.text import SENTENCE, check_line
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.ical.reservation import reservation_href
from calsync.notifications.destinations import Destinations
from calsync.notifications.dispatcher import add_deliveries
from calsync.schedule.agenda import Agenda
from calsync.schedule.check import require_reservation
from calsync.schedule.objects import CalendarObject
from calsync.schedule.status import on_call_status
from calsync.schedule.sync import CalendarSync

SAME = timedelta(minutes=10)
"""How long the same words of the same person are taken for the same update."""
MOST = 200
"""How many deliveries a week may have."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where an update goes, and why there."""

    targets: tuple[Target, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """An update that stands on the calendar: `about` names its deliveries on the week at `href`."""

    href: str
    correlation_id: str
    route: Route


def partner_of(reservation: Reservation, sender: str) -> Conductor:
    """Who an update of `sender` is for: the other one of the pair, or who is responsible, if the sender is neither."""
    pair, now = reservation.pair, reservation.in_charge
    if sender == pair.primary.name:
        return pair.backup if now.name in (sender, pair.backup.name) else now
    if sender == pair.backup.name:
        return pair.primary if now.name in (sender, pair.primary.name) else now
    if sender == now.name:
        return pair.primary
    names = " and ".join(dict.fromkeys([pair.primary.name, pair.backup.name, now.name]))
    raise Invalid(f'"{sender[:60]}" does not conduct {reservation.week}; updates come from {names}.')


def route(agenda: Agenda, partner: Conductor, decision: bool, at: datetime) -> Route:
    """Where an update for `partner` goes at `at` (aware)."""
    if decision:
        return Route(("ticket", "log"), "a decision always goes onto the ticket and into the log")
    found = on_call_status(agenda, partner, at)
    tz = zone(partner.timezone)
    local = f"{at.astimezone(tz):%H:%M}"
    if found.away is not None:
        until = f"{found.away:%a %H:%M}"
        return Route(("ticket",), f"{partner.name} is away until {until} {partner.timezone}")
    if found.working:
        until = f"{found.until:%H:%M}"
        unsure = f"; whether they are away is not known: {found.unknown}" if found.unknown else ""
        return Route(("updates",), f"it is {local} for {partner.name}, who is within working hours until {until}{unsure}")
    since = f"{found.until:%a %H:%M}"
    return Route(("ticket",), f"it is {local} for {partner.name}, who is within working hours from {since} on")


def update(
    sync: CalendarSync,
    destinations: Destinations,
    week: Week,
    sender: str,
    text: str,
    now: datetime,
    *,
    decision: bool = False,
) -> Told:
    """Put an update onto the week, to be delivered by its route; the same words again within a while are the same update.

    Where the route's place is not set up the other one is taken; raises `Invalid` where neither is and for a text that is
    no line, and `NotReserved`.
    """
    check_line("text", text, SENTENCE)
    agenda = sync.refresh(now)
    _, reservation = require_reservation(agenda, week, None)
    partner = partner_of(reservation, sender)
    chosen = _possible(destinations, reservation, route(agenda, partner, decision, now))
    digest = hashlib.sha256(f"{sender}\n{text}\n{decision}".encode()).hexdigest()[:10]
    correlation_id = f"update-{now:%Y%m%dT%H%M%S}-{digest}"

    def choose(entry: CalendarObject) -> Sequence[Delivery]:
        nonlocal correlation_id
        same = (
            one
            for one in entry.deliveries
            if one.correlation_id.startswith("update-") and one.correlation_id.endswith(f"-{digest}")
        )
        known = next((one for one in same if now - one.created_at < SAME and one.state != "skipped"), None)
        if known is not None:
            correlation_id = known.correlation_id
            return ()
        if len(entry.deliveries) >= MOST:
            raise Invalid(f"{week} has {MOST} messages already; write onto the ticket or the channel yourself.")
        found = entry.reservation or reservation
        return [
            _delivery(sync.config, destinations, found, sender, partner, correlation_id, target, text, now)
            for target in chosen.targets
        ]

    add_deliveries(sync, reservation_href(week), choose, now)
    return Told(reservation_href(week), correlation_id, chosen)


def _possible(destinations: Destinations, reservation: Reservation, wanted: Route) -> Route:
    """The route, or the other place where its own is not set up."""
    ticket, channel = destinations.missing("ticket", reservation), destinations.missing("updates", reservation)
    if ticket and channel:
        raise Invalid(f"There is nowhere to send it: {ticket}, and {channel}.")
    if wanted.targets == ("ticket",) and ticket:
        return Route(("updates",), f"{wanted.reason}; it goes to the channel all the same, since {ticket}")
    if wanted.targets == ("updates",) and channel:
        return Route(("ticket",), f"{wanted.reason}; it goes onto the ticket all the same, since {channel}")
    return wanted


def _delivery(
    config: Config,
    destinations: Destinations,
    reservation: Reservation,
    sender: str,
    partner: Conductor,
    correlation_id: str,
    target: Target,
    text: str,
    now: datetime,
) -> Delivery:
    place = ", ".join(part for part in (reservation.train_title, reservation.ticket) if part)
    said = {
        "ticket": f"{text}\n\n{sender}",
        "log": f"!log {text} ({place}: {sender})",
        "updates": f"{config.nick(partner.name) or partner.name}: {text} ({sender}, {place})",
    }[target]
    ticket = reservation.ticket if target == "ticket" else None
    return new_delivery(correlation_id, target, said, now, ticket=ticket, skipped=destinations.missing(target, reservation))
