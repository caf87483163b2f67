"""Where messages go from this process: the channels and the ticket system that it can reach, and those that others can.

windows.toml is the same everywhere, and names the places; a secret may be missing where a process runs. What the
configuration names and this process cannot reach is left to those who can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from calsync.core.delivery import Target
from calsync.core.reservation import Reservation
from calsync.core.settings import Config, is_elsewhere
from calsync.notifications.channels import Channel, Channels, open_channels
from calsync.notifications.phabricator import TicketSystem, open_tickets

_NO_TICKETS = "no ticket system is set up; see [tickets]"
_NO_CHANNEL = "no channel is set up; see notify.operations"


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where deliveries go from this process.

    `unavailable_here` are the targets that the configuration names and that are not open here, each with the variable whose
    secret is missing. A target that is neither open nor in it is not set up at all.
    """

    tickets: TicketSystem | None = None
    channels: Channels = field(default_factory=Channels)
    unavailable_here: Mapping[Target, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> Destinations:
        """The ports that the configuration names; `Invalid` where one cannot be opened."""
        return cls(open_tickets(config), open_channels(config), unavailable_here(config))

    def channel(self, target: Target) -> Channel | None:
        """The channel that deliveries with this target go to; None where it is not open here."""
        return self.channels.updates if target == "updates" else self.channels.operations

    def is_open(self, target: Target) -> bool:
        """Whether this process can send to this target."""
        return self.tickets is not None if target == "ticket" else self.channel(target) is not None

    def missing(self, target: Target, reservation: Reservation) -> str | None:
        """Why no process can send what is about the week to this target; None where one can."""
        if not self.is_open(target) and target not in self.unavailable_here:
            return _NO_TICKETS if target == "ticket" else _NO_CHANNEL
        if target == "ticket" and not reservation.ticket:
            return f"the reservation of {reservation.week} has no ticket"
        return None


def unavailable_here(config: Config) -> dict[Target, str]:
    """The places that the configuration names and whose secret is not here, each with the variable that would hold it."""
    found: dict[Target, str] = {}
    if config.tickets.url is not None and config.ticket_token is None:
        found["ticket"] = "CALSYNC_TICKETS_TOKEN"
    if is_elsewhere(config.notify.operations):
        found["log"] = found["announcements"] = "CALSYNC_NOTIFY_OPERATIONS"
        if config.notify.updates is None:
            found["updates"] = "CALSYNC_NOTIFY_OPERATIONS"
    if is_elsewhere(config.notify.updates):
        found["updates"] = "CALSYNC_NOTIFY_UPDATES"
    return found


def missing_secrets(config: Config) -> tuple[str, ...]:
    """What this process cannot send for want of a secret, in sentences for whoever runs it."""
    return tuple(
        f"{variable} is not set here, so the messages that need it are left to processes that have it."
        for variable in dict.fromkeys(unavailable_here(config).values())
    )
