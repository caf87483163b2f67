"""Sending deliveries, so that each arrives once at the most, whoever of several processes sends it and dies meanwhile.

Claim on the calendar, send, write down the outcome. A delivery that is claimed by a process that ended is looked for where
the receiver can tell; see `deliveries`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from calsync.agenda import Entry, Follower
from calsync.deliveries import Delivery, NotSent, Unsure
from calsync.errors import CalendarError, Changed, Unreachable
from calsync.notify import Channel, Channels, open_channels
from calsync.reservations import attach
from calsync.settings import Config
from calsync.tickets import Tickets, open_tickets
from calsync.writes import trying

GRACE = timedelta(seconds=10)
"""How long a new message is left to the process that made it, whose caller waits for the outcome."""
ATTEMPTS = 12
"""How often a write is tried anew when somebody else wrote to the week first."""

_log = logging.getLogger("calsync")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where deliveries go; what is None is not set up."""

    tickets: Tickets | None = None
    channels: Channels = field(default_factory=Channels)

    @classmethod
    def of(cls, config: Config) -> Ports:
        """The ports that the configuration names; `Invalid` where one cannot be opened."""
        return cls(open_tickets(config), open_channels(config))

    def channel(self, delivery: Delivery) -> Channel | None:
        """The channel that a delivery goes to."""
        return self.channels.updates if delivery.target == "updates" else self.channels.operations


def mark(href: str, delivery: Delivery) -> str:
    """The text by which a delivery is found again where it went."""
    return f"calsync:{href.removesuffix('.ics')}/{delivery.id}"


def add(follower: Follower, href: str, choose: Callable[[Entry], Sequence[Delivery]], now: datetime) -> Entry:
    """Put the deliveries that `choose` makes of a week onto it, and return the week with them; none: nothing is written.

    Raises `Changed` where the week is gone or changes all the time, and the calendar's errors.
    """

    def attempt() -> Entry:
        entry = follower.sync(now).entries.get(href)
        if entry is None or entry.reservation is None:
            raise Changed(f"{href} is gone from the calendar, or cannot be read any more.")
        more = choose(entry)
        return attach(follower, entry, more, now) if more else entry

    return trying(follower, attempt, attempts=ATTEMPTS)


class Courier:
    """Sends what is due; any number of them may work on one calendar."""

    def __init__(self, follower: Follower, ports: Ports) -> None:
        self._follower, self._ports = follower, ports
        self._unrecorded: dict[tuple[str, str], tuple[Delivery, Delivery]] = {}
        """What is known here alone, since the calendar was away: a claim, and what came of it or has its place."""

    def deliver(self, href: str, about: str, now: datetime) -> tuple[Delivery, ...]:
        """Send what is due of a hand-off or update at `now` (aware); returns all of it as it stands then."""
        self._work(now, href, about)
        entry = self._follower.agenda.entries.get(href)
        return tuple(found for found in (entry.deliveries if entry else ()) if found.about == about)

    def settle(self, now: datetime) -> int:
        """Send whatever is due on the whole calendar at `now` (aware); returns how many were worked on."""
        return self._work(now)

    def _work(self, now: datetime, only: str | None = None, about: str | None = None) -> int:
        started, begun = now, time.monotonic()
        for key, (mine, outcome) in list(self._unrecorded.items()):
            self._record(key[0], mine, outcome, now)
        count = 0
        for entry in self._follower.agenda.reservations:
            if only not in (None, entry.href):
                continue
            for delivery in entry.deliveries:
                if about is None and _is_young(delivery, now):
                    continue
                if delivery.is_due(now) and about in (None, delivery.about):
                    # Sending takes its time, and a claim counts from when it is made.
                    now = started + timedelta(seconds=time.monotonic() - begun)
                    self._attempt(entry.href, delivery, now)
                    count += 1
        return count

    def _attempt(self, href: str, known: Delivery, now: datetime) -> None:
        if known.state == "pending" and now >= known.until:
            self._write(href, known, known.settle("failed", known.detail or "its time was over"), now)
            return
        mine = known.claim(uuid.uuid4().hex[:12], now)
        try:
            if not self._write(href, known, mine, now):
                return  # somebody else has it
        except Unreachable:
            # The claim may stand, and nothing was sent: it is given back as soon as the calendar is there.
            self._unrecorded[href, mine.id] = mine, known
            raise
        outcome = self._recover(href, mine, now) if known.state == "claimed" else self._send(href, mine, now)
        _log.info("%s of %s is %s%s", mine.id, href, outcome.state, f": {outcome.detail}" if outcome.detail else "")
        self._record(href, mine, outcome, now)

    def _record(self, href: str, mine: Delivery, outcome: Delivery, now: datetime) -> None:
        """Write an outcome down, or keep it until the calendar is back."""
        self._unrecorded.pop((href, mine.id), None)
        try:
            self._write(href, mine, outcome, now)
        except Changed as error:  # the week is gone; where it is not, the claim will be found to be over
            _log.warning("what became of %s is not written down: %s", mine.id, error)
        except CalendarError:
            self._unrecorded[href, mine.id] = mine, outcome
            raise

    def _write(self, href: str, known: Delivery, new: Delivery, now: datetime) -> bool:
        """Put `new` in the place of `known`, once; False where neither is what stands there any more."""
        stood = False

        def choose(entry: Entry) -> Sequence[Delivery]:
            nonlocal stood
            # A write whose answer was lost may have come to the calendar meanwhile.
            stood = new in entry.deliveries or known in entry.deliveries
            return () if new in entry.deliveries or not stood else (new,)

        add(self._follower, href, choose, now)
        return stood

    def _send(self, href: str, mine: Delivery, now: datetime) -> Delivery:
        try:
            if mine.target == "ticket":
                return self._to_ticket(href, mine)
            channel = self._ports.channel(mine)
            if channel is None:
                raise NotSent("no channel is set up here")
            channel.send(mine.text)
        except NotSent as error:
            return mine.retry(str(error), now)
        except Exception as error:  # whatever went wrong, the message may be out
            return self._doubt(href, mine, error)
        return mine.settle("sent")

    def _to_ticket(self, href: str, mine: Delivery) -> Delivery:
        if self._ports.tickets is None or mine.ticket is None:
            raise NotSent("no ticket system is set up here")
        comment = f"{mine.text}\n\n##{mark(href, mine)}##"
        self._ports.tickets.post(mine.ticket, comment, assign=mine.assign)
        return mine.settle("sent", mine.remark)

    def _doubt(self, href: str, mine: Delivery, error: Exception) -> Delivery:
        """What became of a message that was just sent without a clear answer."""
        if not isinstance(error, Unsure):
            _log.exception("%s of %s failed", mine.id, href)
        if mine.target != "ticket":
            return mine.settle("unknown", f"it may have arrived: {error}")
        try:
            if self._is_there(href, mine):
                return mine.settle("sent", mine.remark)
        except Exception as unclear:
            error = unclear
        # The receiver may still be at work on it, so that only a claim which is over tells that it did not arrive.
        return replace(mine, detail=f"it is not known whether it arrived: {error}")

    def _recover(self, href: str, mine: Delivery, now: datetime) -> Delivery:
        """What became of a message whose claim was over; the claim stays where nobody can say that now."""
        if mine.target != "ticket":
            return mine.settle("unknown", "it may have arrived: the process that sent it ended before it could tell")
        try:
            found = self._is_there(href, mine)
        except Exception as error:  # it is looked for again when the claim is over
            return replace(mine, detail=f"it is not known whether it arrived: {error}")
        return mine.settle("sent", mine.remark) if found else mine.retry("it did not arrive", now)

    def _is_there(self, href: str, mine: Delivery) -> bool:
        """Whether a message stands on its ticket; `NotSent` where that cannot be told now."""
        if self._ports.tickets is None or mine.ticket is None:
            raise NotSent("no ticket system is set up here")
        return self._ports.tickets.has(mine.ticket, mark(href, mine))


def _is_young(delivery: Delivery, now: datetime) -> bool:
    """Whether whoever made it is about to send it; announcements are made by who waits for nothing."""
    return delivery.target != "announcements" and delivery.attempts == 0 and now < delivery.made + GRACE
