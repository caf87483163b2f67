"""Sending deliveries, so that each arrives once at the most, whoever of several processes sends it and dies meanwhile.

Claim on the calendar, send, write down the outcome. A delivery that is claimed by a process that ended is looked for where
the receiver can tell; see `deliveries`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from calsync.booking.handoff import Handoff
from calsync.booking.store import put_deliveries, retry_write
from calsync.core.delivery import LEASE, Delivery, Hopeless, NotSent, Unsure
from calsync.core.errors import CalendarError, Changed, Unreachable
from calsync.core.settings import Config
from calsync.core.text import strip_controls
from calsync.notifications.announcements import retold
from calsync.notifications.destinations import Destinations
from calsync.schedule.objects import CalendarObject
from calsync.schedule.sync import CalendarSync


def send_handoff(
    dispatcher: Dispatcher, sync: CalendarSync, found: Handoff, now: datetime
) -> tuple[Handoff, tuple[Delivery, ...]]:
    """Send what a hand-off has to tell at `now` (aware); returns it with the etag that its week has then, and its messages.

    The etag stays where somebody else has changed the reservation meanwhile. Raises the calendar's errors.
    """
    sent = dispatcher.deliver(found.href, found.correlation_id, now)
    entry = sync.agenda.objects.get(found.href)
    if entry is None or entry.reservation != found.outcome.reservation:
        return found, sent
    return replace(found, outcome=replace(found.outcome, etag=entry.etag)), sent


GRACE = timedelta(seconds=10)
"""How long a new message is left to the process that made it, whose caller waits for the outcome."""
PAUSE = timedelta(seconds=10)
"""After what time at the latest it is looked for what is due."""
REST = timedelta(minutes=1)
"""How long a week is left alone on which the calendar refused a write."""
FORSAKEN = 2 * LEASE
"""How long a message must be over until a process that could not have sent it settles it."""
LATE = timedelta(seconds=30)
"""How old a message is that says of when it is; one that did not go through at once says so anyhow."""
ATTEMPTS = 12
"""How often a write is tried anew when somebody else wrote to the week first."""
_log = logging.getLogger("calsync")


def mark(href: str, delivery: Delivery) -> str:
    """The text by which a delivery is found again where it went."""
    return f"calsync:{href.removesuffix('.ics')}/{delivery.id}"


def add_deliveries(
    sync: CalendarSync, href: str, choose: Callable[[CalendarObject], Sequence[Delivery]], now: datetime
) -> CalendarObject:
    """Put the deliveries that `choose` makes of a week onto it, and return the week with them; none: nothing is written.

    Raises `Changed` where the week is gone or changes all the time, and the calendar's errors.
    """

    def attempt() -> CalendarObject:
        entry = sync.refresh(now).objects.get(href)
        if entry is None or entry.reservation is None:
            raise Changed(f"{href} is gone from the calendar, or cannot be read any more.")
        more = choose(entry)
        return put_deliveries(sync, entry, more, now) if more else entry

    return retry_write(sync, attempt, attempts=ATTEMPTS)


class Dispatcher:
    """Sends what is due; any number of them may work on one calendar."""

    def __init__(self, sync: CalendarSync, destinations: Destinations) -> None:
        self._sync, self._destinations = sync, destinations
        self._unrecorded: dict[tuple[str, str], tuple[Delivery, Delivery]] = {}
        """What is known here alone, since the calendar was away: a claim, and what came of it or has its place."""
        self._resting: dict[str, datetime] = {}
        """Until when a week is left alone on which something went wrong."""

    def deliver(self, href: str, correlation_id: str, now: datetime) -> tuple[Delivery, ...]:
        """Send what is due of a hand-off or update at `now` (aware); returns all of it as it stands then.

        What this process cannot send stays pending, and says what is missing here. Raises the calendar's errors.
        """
        self._work(href, _clock(now), correlation_id)
        entry = self._sync.agenda.objects.get(href)
        return tuple(
            self._explained(found)
            for found in (entry.deliveries if entry else ())
            if found.correlation_id == correlation_id
        )

    def settle(self, now: datetime) -> None:
        """Send whatever is due on the whole calendar at `now` (aware), each week by itself; see `each`."""
        clock = _clock(now)
        unrecorded = [href for href, _ in self._unrecorded]
        hrefs = dict.fromkeys([*unrecorded, *(entry.href for entry in self._sync.agenda.reservations)])
        self.each(hrefs, lambda href: self._work(href, clock), now)

    def each(self, hrefs: Iterable[str], work: Callable[[str], None], now: datetime) -> None:
        """Work on weeks at `now` (aware); one that fails is logged, rests for a while, and keeps no other waiting.

        Raises the calendar's error where it is away altogether.
        """
        for href in hrefs:
            if now < self._resting.get(href, now):
                continue
            try:
                work(href)
            except CalendarError as error:
                if isinstance(error, Unreachable):
                    self._sync.refresh(now)  # which tells whether it is this week alone
                _log.warning("%s is left alone for a while: %s", href, error)
                self._resting[href] = now + REST
            except Exception:  # a defect, or what somebody wrote there, must not silence the others
                _log.exception("%s is left alone for a while", href)
                self._resting[href] = now + REST

    def is_due(self, now: datetime) -> bool:
        """Whether there is something for `settle` to do at `now` (aware), as far as is known."""
        return any(moment <= now for moment in self._moments())

    def pause(self, now: datetime, others: Iterable[datetime] = ()) -> float:
        """How many seconds after a round at `now` (aware) the next one is due, as far as is known; never many, since other
        processes write too. `others` are moments that the caller waits for.
        """
        longest = min(PAUSE, self._sync.config.calendar.interval)
        return min([longest, *(moment - now for moment in (*self._moments(), *others) if moment > now)]).total_seconds()

    def _moments(self) -> Iterator[datetime]:
        for entry in self._sync.agenda.reservations:
            rests = self._resting.get(entry.href)
            for delivery in entry.deliveries:
                if (moment := self._moment(delivery)) is not None:
                    yield max(moment, rests) if rests is not None else moment

    def _work(self, href: str, clock: Callable[[], datetime], correlation_id: str | None = None) -> None:
        for (where, _), (mine, outcome) in list(self._unrecorded.items()):
            if where == href:
                self._record(href, mine, outcome, clock())
        entry = self._sync.agenda.objects.get(href)
        for delivery in entry.deliveries if entry is not None else ():
            now = clock()  # sending takes its time, and a claim counts from when it is made
            if correlation_id is None:
                moment = self._moment(delivery)
            else:
                moment = (
                    delivery.next
                    if delivery.correlation_id == correlation_id and self._destinations.is_open(delivery.target)
                    else None
                )
            if moment is not None and now >= moment:
                self._attempt(href, delivery, now)

    def _moment(self, delivery: Delivery) -> datetime | None:
        """When this process has something to do about a delivery; None for one that is settled.

        A new one is left to who made it, and one that cannot be sent from here to those who can until it is long over.
        """
        moment = delivery.next
        if moment is None:
            return None
        if delivery.attempts == 0 and delivery.target != "announcements":  # those are made by who waits for nothing
            moment = max(moment, delivery.created_at + GRACE)
        if not self._destinations.is_open(delivery.target):
            moment = max(moment, delivery.expires_at + FORSAKEN)
        return moment

    def _explained(self, delivery: Delivery) -> Delivery:
        variable = self._destinations.unavailable_here.get(delivery.target)
        if variable is None or self._destinations.is_open(delivery.target) or delivery.settled or delivery.detail:
            return delivery
        return replace(delivery, detail=f"left to a process that has {variable}, which is not set here")

    def _attempt(self, href: str, known: Delivery, now: datetime) -> None:
        if known.state == "pending" and now >= known.expires_at:
            given_up = known.settle("failed", known.detail or "its time was over")
            if self._write(href, known, given_up, now):
                _log.warning("%s of %s is given up: %s", known.id, href, given_up.detail)
            return
        mine = self._claim(href, known, now)
        if mine is None:
            return  # somebody else has it
        outcome = mine
        if not mine.settled:
            outcome = self._recover(href, mine, now) if known.state == "claimed" else self._send(href, mine, now)
        _log.info("%s of %s is %s%s", mine.id, href, outcome.state, f": {outcome.detail}" if outcome.detail else "")
        if outcome is not mine:
            self._record(href, mine, outcome, now)

    def _claim(self, href: str, known: Delivery, now: datetime) -> Delivery | None:
        """Claim the message, as it is to be sent about the week that stands in that write, or settle it if it is untrue.

        None where somebody else has it.
        """
        token = uuid.uuid4().hex[:12]
        mine: Delivery | None = None

        def choose(entry: CalendarObject) -> Sequence[Delivery]:
            nonlocal mine
            # A write whose answer was lost may have come to the calendar meanwhile.
            mine = next((one for one in entry.deliveries if one.lease_id == token), None)
            if mine is not None or known not in entry.deliveries:
                return ()
            # One that is claimed is looked for where it may be.
            told = _as_it_stands(self._sync.config, entry, known, now) if known.state == "pending" else known
            mine = told if told.settled else told.claim(token, now)
            return (mine,)

        try:
            add_deliveries(self._sync, href, choose, now)
        except Unreachable:
            # The claim may stand, and nothing was sent: it is given back as soon as the calendar is there.
            if mine is not None and not mine.settled:
                self._unrecorded[href, mine.id] = mine, known
            raise
        return mine

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

        def choose(entry: CalendarObject) -> Sequence[Delivery]:
            nonlocal stood
            # A write whose answer was lost may have come to the calendar meanwhile.
            stood = new in entry.deliveries or known in entry.deliveries
            return () if new in entry.deliveries or not stood else (new,)

        add_deliveries(self._sync, href, choose, now)
        return stood

    def _send(self, href: str, mine: Delivery, now: datetime) -> Delivery:
        try:
            if mine.target == "ticket":
                return self._to_ticket(href, mine, now)
            channel = self._destinations.channel(mine.target)
            assert channel is not None  # it would have been left alone
            channel.send(_message_text(mine, now))
        except Hopeless as error:
            return mine.settle("failed", str(error))
        except NotSent as error:
            return mine.retry(str(error), now)
        except Exception as error:  # whatever went wrong, the message may be out
            return self._doubt(href, mine, error)
        return mine.settle("sent")

    def _to_ticket(self, href: str, mine: Delivery, now: datetime) -> Delivery:
        assert self._destinations.tickets is not None  # as above
        if mine.ticket is None:
            raise Hopeless("the week has no ticket any more")
        comment = f"{_message_text(mine, now)}\n\n##{mark(href, mine)}##"
        self._destinations.tickets.post(mine.ticket, comment, assign=mine.assign)
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
        """What became of a message whose claim was over; the claim stays, as long as it may, where nobody can say that."""
        if mine.target != "ticket":
            return mine.settle("unknown", "it may have arrived: the process that sent it ended before it could tell")
        try:
            found = self._is_there(href, mine)
        except Exception as error:  # it is looked for again when the claim is over
            if now >= mine.expires_at:
                return mine.settle("unknown", f"it may have arrived: {error}")
            return replace(mine, detail=f"it is not known whether it arrived: {error}")
        return mine.settle("sent", mine.remark) if found else mine.retry("it did not arrive", now)

    def _is_there(self, href: str, mine: Delivery) -> bool:
        """Whether a message stands on its ticket; `NotSent` where that cannot be told now."""
        if self._destinations.tickets is None or mine.ticket is None:
            raise NotSent("no ticket system is set up here")
        return self._destinations.tickets.has(mine.ticket, mark(href, mine))


def _as_it_stands(config: Config, entry: CalendarObject, made: Delivery, now: datetime) -> Delivery:
    """A message as it is to be sent at `now` about the week as it stands; `skipped` where it is true no more.

    Until it is sent, people hand off again, change the pair or the ticket, and move slots.
    """
    if made.target == "announcements":
        return retold(config, entry, made, now)
    reservation = entry.reservation
    assert reservation is not None  # as `add` promises
    if reservation.released:
        return made.settle("skipped", f"{reservation.week} was released meanwhile")
    if made.to is not None and reservation.responsible is None:
        return made.settle("skipped", f"{reservation.week} has another pair by now")
    if made.target != "ticket":
        return made
    assign = remark = None
    if made.to == reservation.in_charge.name:
        known = config.roster.get(made.to)
        assign = known.ticket_user if known is not None else None
        if assign is None:
            remark = f"commented only: conductors.ticket_user of {made.to} is not set, so the ticket is not assigned"
    elif made.to is not None:
        remark = f"commented only: {reservation.in_charge.name} is responsible by now"
    return replace(made, ticket=reservation.ticket, assign=assign, remark=remark)


def _message_text(message: Delivery, now: datetime) -> str:
    """What is sent of a message at `now`: one that comes late says of when it is."""
    text = strip_controls(message.text)
    if message.target == "announcements" or (message.attempts == 1 and now - message.created_at < LATE):
        return text
    return f"{text} [of {message.created_at:%a} {message.created_at.day} {message.created_at:%b %H:%M} UTC]"


def _clock(now: datetime) -> Callable[[], datetime]:
    """A clock that shows `now` at first."""
    begun = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - begun)
