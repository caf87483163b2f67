"""Where messages go from this process: the channels and the ticket system that it can reach, and those that others can.

windows.toml is the same everywhere, and names the places; a secret may be missing where a process runs. What the
configuration names and this process cannot reach is left to those who can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from calsync.deliveries import Target
from calsync.notify import Channel, Channels, open_channels
from calsync.records import Reservation
from calsync.settings import Config, is_elsewhere
from calsync.tickets import Tickets, open_tickets

_NO_TICKETS = "no ticket system is set up; see [tickets]"
_NO_CHANNEL = "no channel is set up; see notify.operations"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where deliveries go from this process. `elsewhere` are the places that the configuration names and that are not open
    here, each with the variable whose secret is missing; what is neither open nor elsewhere is not set up at all.
    """

    tickets: Tickets | None = None
    channels: Channels = field(default_factory=Channels)
    elsewhere: Mapping[Target, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> Ports:
        """The ports that the configuration names; `Invalid` where one cannot be opened."""
        return cls(open_tickets(config), open_channels(config), elsewhere(config))

    def channel(self, target: Target) -> Channel | None:
        """The channel that deliveries with this target go to; None where it is not open here."""
        return self.channels.updates if target == "updates" else self.channels.operations

    def is_open(self, target: Target) -> bool:
        """Whether this process can send to this target."""
        return self.tickets is not None if target == "ticket" else self.channel(target) is not None

    def missing(self, target: Target, reservation: Reservation) -> str | None:
        """Why no process can send what is about the week to this target; None where one can."""
        if not self.is_open(target) and target not in self.elsewhere:
            return _NO_TICKETS if target == "ticket" else _NO_CHANNEL
        if target == "ticket" and not reservation.ticket:
            return f"the reservation of {reservation.week} has no ticket"
        return None


def elsewhere(config: Config) -> dict[Target, str]:
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


def absent(config: Config) -> tuple[str, ...]:
    """What this process cannot send for want of a secret, in sentences for whoever runs it."""
    return tuple(
        f"{variable} is not set here, so the messages that need it are left to processes that have it."
        for variable in dict.fromkeys(elsewhere(config).values())
    )
