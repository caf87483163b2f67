"""Ana's and ben's week: who they are, a channel that remembers, and what is done to the week and read of it."""

from datetime import UTC, datetime

from calsync.booking.handoff import hand_off
from calsync.core.delivery import LEASE, NotSent
from calsync.core.weeks import Week
from calsync.notifications import updates
from calsync.notifications.dispatcher import Dispatcher
from calsync.schedule.sync import CalendarSync
from support.samples import configured, person

W49, W50 = Week(2026, 49), Week(2026, 50)
HREF = "train-2026-W49.ics"
ANA, BEN, CEM = person("ana", "Europe/Paris"), person("ben", "America/Denver"), person("cem", "Europe/Berlin")
TEAM = [
    {"name": "ana", "timezone": "Europe/Paris", "ticket_user": "Ana", "irc": "ana_"},
    {"name": "ben", "timezone": "America/Denver", "ticket_user": "Ben"},
    {"name": "cem", "timezone": "Europe/Berlin"},
]
NEAR = {"horizon": {"past": "30d", "future": "60d"}}
"""A horizon that is quickly read."""
NOTE = "blocked on T400002, over to you"
MIDWEEK = datetime(2026, 12, 2, 12, tzinfo=UTC)
"""Wednesday, between the European and the American slot."""


class Room:
    """A channel that remembers what was said; the first `down` tries fail."""

    def __init__(self, down=0):
        self.said, self.down = [], down

    def send(self, text):
        if self.down:
            self.down -= 1
            raise NotSent("the channel is down")
        self.said.append(text)


def handed(sync, destinations, to=BEN, note=NOTE, at=MIDWEEK):
    """Hand the week off and send what is due; the hand-off and its messages."""
    handoff = hand_off(sync, destinations.missing, W49, to, note, at, author="ana")
    return handoff, Dispatcher(sync, destinations).deliver(handoff.href, handoff.correlation_id, at)


def told(sync, destinations, text="group1 is out", sender="ana", at=MIDWEEK, **options):
    """Send an update; the update and its messages."""
    update = updates.post_update(Dispatcher(sync, destinations), W49, sender, text, at, **options)
    return update, Dispatcher(sync, destinations).deliver(update.href, update.correlation_id, at)


def settled(sync, destinations, at, rounds=7):
    """Let another process work until nothing is due any more; the messages of the week."""
    other = CalendarSync(sync.calendar, sync.config, at)
    dispatcher = Dispatcher(other, destinations)
    for n in range(rounds):
        other.refresh(at + n * LEASE)
        dispatcher.send_due(at + n * LEASE)
    return standing(other, at).deliveries


def outcomes(messages):
    return {message.target: message.state for message in messages}


def standing(sync, now=MIDWEEK):
    """The week as it is on the calendar."""
    return sync.refresh(now).reservation(W49)


def with_secrets_elsewhere(**environ):
    """A configuration that names both places; the secrets that `environ` does not have, other processes have."""
    tickets, notify = {"url": "https://phabricator.example.org"}, {"operations": "environment"}
    return configured(environ, conductors=TEAM, calendar=NEAR, notify=notify, tickets=tickets)
