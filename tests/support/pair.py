"""Ana's and ben's week: who they are, a channel that remembers, and what is done to the week and read of it."""

from datetime import UTC, datetime

from icalendar import Calendar

from calsync.booking.handoff import hand_off
from calsync.core.absence import AbsenceRecord
from calsync.core.delivery import LEASE, NotSent
from calsync.core.weeks import Week
from calsync.ical.absence import encode_absence
from calsync.notifications import updates
from calsync.notifications.dispatcher import Dispatcher
from calsync.schedule.conflicts import conflicts_of_reservations
from calsync.schedule.rotation import rotation
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
ROTATION = {"order": ["ana", "ben", "cem"], "start": "2026-W49"}
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


def december(day, hour, minute=0):
    return datetime(2026, 12, day, hour, minute, tzinfo=UTC)


def busy_slots(sync, now):
    """The slots of the week in which somebody is away, and who could cover."""
    ((_, conflicts),) = conflicts_of_reservations(sync.refresh(now), now)
    return [(one.slot, [who.name for who in one.cover]) for one in conflicts if one.kind == "busy"]


def be_away(sync, who, start, end, timezone="Europe/Paris", note=None):
    """Somebody is away, as another calsync has written down."""
    record = AbsenceRecord(who, timezone, note)
    name = f"{who}-{start:%Y%m%d}"
    ics = encode_absence(record, name, start, end, datetime(2026, 11, 1, tzinfo=UTC))
    sync.calendar.put(f"away-{name}.ics", ics, etag=None)


def take_off(sync, week, now):
    """Remove every slot of the week, as people do in their clients."""
    entry = sync.refresh(now).reservation(week)
    calendar = Calendar.from_ical(entry.ics)
    for event in calendar.events:
        if "X-CALSYNC-SLOT" in event:
            event["STATUS"] = "CANCELLED"
    sync.calendar.put(entry.href, calendar.to_ical(), etag=entry.etag)


def turns(sync, now, weeks=4):
    """Who is primary and who is backup in the coming weeks, by the rotation."""
    return [(turn.primary, turn.backup) for turn in rotation(sync.refresh(now), now, weeks).turns]
