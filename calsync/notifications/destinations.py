"""Where messages go: the channels and the ticket system that this process can reach, and those that only others can.

windows.toml is the same for every process and names the destinations. A process may lack a secret. It leaves messages for
a destination that it cannot reach to the processes that can.
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
    """The destinations of this process. A target that is neither open nor `unavailable_here` is not set up at all."""

    tickets: TicketSystem | None = None
    channels: Channels = field(default_factory=Channels)
    unavailable_here: Mapping[Target, str] = field(default_factory=dict)
    """The targets that are set up but lack their secret here, each with the environment variable that would hold it."""

    @classmethod
    def of(cls, config: Config) -> Destinations:
        """Open the destinations that the configuration names; raises `Invalid` if one cannot be opened."""
        return cls(open_tickets(config), open_channels(config), unavailable_here(config))

    def channel(self, target: Target) -> Channel | None:
        """Return the channel of a target other than the ticket; None if it is not open here."""
        return self.channels.updates if target == "updates" else self.channels.operations

    def is_open(self, target: Target) -> bool:
        """Return whether this process can send to this target."""
        return self.tickets is not None if target == "ticket" else self.channel(target) is not None

    def missing(self, target: Target, reservation: Reservation) -> str | None:
        """Return why no process can send a message about the week to this target; None if one can."""
        if not self.is_open(target) and target not in self.unavailable_here:
            return _NO_TICKETS if target == "ticket" else _NO_CHANNEL
        if target == "ticket" and not reservation.ticket:
            return f"the reservation of {reservation.week} has no ticket"
        return None


def unavailable_here(config: Config) -> dict[Target, str]:
    """Return the targets that are set up but lack their secret here, each with the variable that would hold it."""
    variables: dict[Target, str] = {}
    if config.tickets.url is not None and config.ticket_token is None:
        variables["ticket"] = "CALSYNC_TICKETS_TOKEN"
    if is_elsewhere(config.notify.operations):
        variables["log"] = variables["announcements"] = "CALSYNC_NOTIFY_OPERATIONS"
        if config.notify.updates is None:
            variables["updates"] = "CALSYNC_NOTIFY_OPERATIONS"
    if is_elsewhere(config.notify.updates):
        variables["updates"] = "CALSYNC_NOTIFY_UPDATES"
    return variables


def missing_secrets(config: Config) -> tuple[str, ...]:
    """Return a sentence for each secret that is missing here, for whoever runs this process."""
    return tuple(
        f"{variable} is not set here, so the messages that need it are left to processes that have it."
        for variable in dict.fromkeys(unavailable_here(config).values())
    )
