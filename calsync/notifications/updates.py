"""Updates: where news of a train reach the partner.

An update goes to the channel while the partner is within their working hours, and onto the ticket while they are not, or
are away. A decision always goes onto the ticket and into the log (`!log`): the partner reads it in either place.
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
from calsync.notifications.dispatcher import Dispatcher
from calsync.schedule.agenda import Agenda
from calsync.schedule.check import require_reservation
from calsync.schedule.objects import CalendarObject
from calsync.schedule.status import on_call_status

REPEATED = timedelta(minutes=10)
"""How long the same text from the same person counts as the same update."""
MAX_DELIVERIES = 200
"""The maximum number of deliveries on a week."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where an update goes, and the reason."""

    targets: tuple[Target, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Update:
    """An update that is on the calendar, in the week at `href`, with the correlation id of its deliveries."""

    href: str
    correlation_id: str
    route: Route


def post_update(
    dispatcher: Dispatcher,
    week: Week,
    sender: str,
    text: str,
    now: datetime,
    *,
    decision: bool = False,
) -> Update:
    """Add an update to the week on the calendar, for `dispatcher.deliver` to send; `now` is aware.

    The same text from the same person within ten minutes is the same update. If its destination is not set up, the update
    goes to the other one. Raises `Invalid` if neither is set up, if `sender` does not conduct the week or if the text is
    not a line, `NotReserved`, and the calendar's errors.
    """
    check_line("text", text, SENTENCE)
    config, destinations = dispatcher.sync.config, dispatcher.destinations
    agenda = dispatcher.sync.refresh(now)
    _, reservation = require_reservation(agenda, week, None)
    partner = partner_of(reservation, sender)
    route = _available(destinations, reservation, preferred_route(agenda, partner, decision, now))
    digest = hashlib.sha256(f"{sender}\n{text}\n{decision}".encode()).hexdigest()[:10]
    correlation_id = f"update-{now:%Y%m%dT%H%M%S}-{digest}"

    def choose(stored: CalendarObject) -> Sequence[Delivery]:
        nonlocal correlation_id
        for delivery in stored.deliveries:
            is_same = delivery.correlation_id.startswith("update-") and delivery.correlation_id.endswith(f"-{digest}")
            if is_same and now - delivery.created_at < REPEATED and delivery.state != "skipped":
                correlation_id = delivery.correlation_id
                return ()
        if len(stored.deliveries) >= MAX_DELIVERIES:
            raise Invalid(f"{week} has {MAX_DELIVERIES} messages already; write to the ticket or the channel yourself.")
        current = stored.reservation or reservation
        return [
            _delivery(config, destinations, current, sender, partner, correlation_id, target, text, now)
            for target in route.targets
        ]

    dispatcher.add(reservation_href(week), choose, now)
    return Update(reservation_href(week), correlation_id, route)


def partner_of(reservation: Reservation, sender: str) -> Conductor:
    """Return who an update of `sender` is for: the other one of the pair, or whoever is responsible instead of them.

    Raises `Invalid` if `sender` does not conduct the week.
    """
    pair, responsible = reservation.pair, reservation.in_charge
    if sender == pair.primary.name:
        return pair.backup if responsible.name in (sender, pair.backup.name) else responsible
    if sender == pair.backup.name:
        return pair.primary if responsible.name in (sender, pair.primary.name) else responsible
    if sender == responsible.name:
        return pair.primary
    names = " and ".join(dict.fromkeys([pair.primary.name, pair.backup.name, responsible.name]))
    raise Invalid(f'"{sender[:60]}" does not conduct {reservation.week}; updates come from {names}.')


def preferred_route(agenda: Agenda, partner: Conductor, decision: bool, at: datetime) -> Route:
    """Return where an update should reach `partner` at `at` (aware), whatever is set up."""
    if decision:
        return Route(("ticket", "log"), "a decision always goes onto the ticket and into the log")
    status = on_call_status(agenda, partner, at)
    local = f"{at.astimezone(zone(partner.timezone)):%H:%M}"
    if status.away_until is not None:
        return Route(("ticket",), f"{partner.name} is away until {status.away_until:%a %H:%M} {partner.timezone}")
    if status.working:
        doubt = f"; calsync cannot tell whether they are away: {status.unknown}" if status.unknown else ""
        reason = f"it is {local} for {partner.name}, who is within working hours until {status.until:%H:%M}{doubt}"
        return Route(("updates",), reason)
    reason = f"it is {local} for {partner.name}, who is outside working hours until {status.until:%a %H:%M}"
    return Route(("ticket",), reason)


def _available(destinations: Destinations, reservation: Reservation, preferred: Route) -> Route:
    """Return the preferred route, or the other destination if its own is not set up."""
    ticket, channel = destinations.missing("ticket", reservation), destinations.missing("updates", reservation)
    if ticket and channel:
        raise Invalid(f"There is nowhere to send it: {ticket}, and {channel}.")
    if preferred.targets == ("ticket",) and ticket:
        return Route(("updates",), f"{preferred.reason}; it goes to the channel instead, because {ticket}")
    if preferred.targets == ("updates",) and channel:
        return Route(("ticket",), f"{preferred.reason}; it goes onto the ticket instead, because {channel}")
    return preferred


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
    message = {
        "ticket": f"{text}\n\n{sender}",
        "log": f"!log {text} ({place}: {sender})",
        "updates": f"{config.nick(partner.name) or partner.name}: {text} ({sender}, {place})",
    }[target]
    ticket, skipped = (reservation.ticket if target == "ticket" else None), destinations.missing(target, reservation)
    return new_delivery(correlation_id, target, message, now, ticket=ticket, skipped=skipped)
