"""Send deliveries, each at most once, whichever of several processes sends it and even if that process dies.

A process claims a delivery on the calendar, sends it, and records the outcome. If it dies in between, another process asks
the receiver whether the message arrived, where the receiver can tell; see `core/delivery.py`.
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
from calsync.notifications.announcements import current_announcement
from calsync.notifications.destinations import Destinations
from calsync.schedule.objects import CalendarObject
from calsync.schedule.sync import CalendarSync

GRACE = timedelta(seconds=10)
"""How long a new message is left to the process that made it, whose caller waits for the outcome."""
MAX_PAUSE = timedelta(seconds=10)
"""The longest pause between two rounds."""
BACKOFF = timedelta(minutes=1)
"""How long a week waits after the calendar refused to write it."""
ABANDONED = 2 * LEASE
"""How long a message must have expired before a process that could not have sent it gives it up."""
LATE = timedelta(seconds=30)
"""The age from which a message carries its date, even at the first attempt."""
ATTEMPTS = 12
"""The maximum number of attempts at a write when others write to the week first."""
_log = logging.getLogger("calsync")


class Dispatcher:
    """Sends what is due on the calendar of `sync` to the `destinations`. Any number of them may share a calendar."""

    def __init__(self, sync: CalendarSync, destinations: Destinations) -> None:
        self.sync, self.destinations = sync, destinations
        self._unrecorded: dict[tuple[str, str], tuple[Delivery, Delivery]] = {}
        """By href and id, deliveries as claimed and what they became, which the calendar could not record yet."""
        self._backoffs: dict[str, datetime] = {}
        """By href, when a week on which something went wrong is tried again."""

    def add(self, href: str, choose: Callable[[CalendarObject], Sequence[Delivery]], now: datetime) -> CalendarObject:
        """Add the deliveries that `choose` returns for the current week, and return the week; none write nothing.

        A delivery replaces the one of the same id. Raises `Changed` if the week is gone or changes too often, and the
        calendar's errors.
        """

        def attempt() -> CalendarObject:
            week = self.sync.refresh(now).objects.get(href)
            if week is None or week.reservation is None:
                raise Changed(f"{href} is gone from the calendar, or can no longer be read.")
            deliveries = choose(week)
            return put_deliveries(self.sync, week, deliveries, now) if deliveries else week

        return retry_write(self.sync, attempt, attempts=ATTEMPTS)

    def deliver(self, href: str, correlation_id: str, now: datetime) -> tuple[Delivery, ...]:
        """Send what is due of a hand-off or update at `now` (aware), and return all its deliveries.

        What this process cannot send stays pending, with what is missing here as its detail. Raises the calendar's errors.
        """
        self._send_due_of(href, _clock(now), correlation_id)
        week = self.sync.agenda.objects.get(href)
        deliveries = week.deliveries if week is not None else ()
        return tuple(self._explained(delivery) for delivery in deliveries if delivery.correlation_id == correlation_id)

    def send_due(self, now: datetime) -> None:
        """Send what is due on the whole calendar at `now` (aware); see `for_each`."""
        clock = _clock(now)
        unrecorded = [href for href, _ in list(self._unrecorded)]  # other threads record meanwhile
        hrefs = dict.fromkeys([*unrecorded, *(week.href for week in self.sync.agenda.reservations)])
        self.for_each(hrefs, lambda href: self._send_due_of(href, clock), now)

    def for_each(self, hrefs: Iterable[str], work: Callable[[str], None], now: datetime) -> None:
        """Call `work` for each week at `now` (aware). A week that fails is logged, backs off, and does not stop the others.

        Raises the calendar's error if the whole calendar is away.
        """
        for href in hrefs:
            if now < self._backoffs.get(href, now):
                continue
            try:
                work(href)
            except CalendarError as error:
                if isinstance(error, Unreachable):
                    self.sync.refresh(now)  # raises if it is not this week alone
                _log.warning("backing off from %s for %d s: %s", href, BACKOFF.total_seconds(), error)
                self._backoffs[href] = now + BACKOFF
            except Exception:  # a defect, or what somebody wrote there, must not stop the other weeks
                _log.exception("backing off from %s for %d s", href, BACKOFF.total_seconds())
                self._backoffs[href] = now + BACKOFF

    def is_due(self, now: datetime) -> bool:
        """Return whether `send_due` has something to do at `now` (aware), as far as the agenda shows."""
        return any(moment <= now for moment in self._due_times())

    def pause(self, now: datetime, others: Iterable[datetime] = ()) -> float:
        """Return the seconds from a round at `now` (aware) to the next one: until something is due, or one of `others`.

        At most `MAX_PAUSE`, because other processes write too.
        """
        longest = min(MAX_PAUSE, self.sync.config.calendar.interval)
        waits = (moment - now for moment in (*self._due_times(), *others) if moment > now)
        return min([longest, *waits]).total_seconds()

    def _due_times(self) -> Iterator[datetime]:
        for week in self.sync.agenda.reservations:
            backoff = self._backoffs.get(week.href)
            for delivery in week.deliveries:
                if (due := self._due_here(delivery)) is not None:
                    yield max(due, backoff) if backoff is not None else due

    def _due_here(self, delivery: Delivery) -> datetime | None:
        """Return when this process has something to do about a delivery; None if it is settled.

        A new message is first left to its maker. One that this process cannot send is left to others until long after it
        has expired.
        """
        due = delivery.next
        if due is None:
            return None
        if delivery.attempts == 0 and delivery.target != "announcements":  # nobody waits for an announcement's outcome
            due = max(due, delivery.created_at + GRACE)
        if not self.destinations.is_open(delivery.target):
            due = max(due, delivery.expires_at + ABANDONED)
        return due

    def _send_due_of(self, href: str, clock: Callable[[], datetime], correlation_id: str | None = None) -> None:
        """Record the week's outcomes that are not recorded yet, then send what is due, or all of `correlation_id`."""
        for (other, _), (claimed, outcome) in list(self._unrecorded.items()):
            if other == href:
                self._record(href, claimed, outcome, clock())
        week = self.sync.agenda.objects.get(href)
        for delivery in week.deliveries if week is not None else ():
            now = clock()  # sending takes time, and a claim starts when it is made
            if correlation_id is None:
                due = self._due_here(delivery)
            elif delivery.correlation_id == correlation_id and self.destinations.is_open(delivery.target):
                due = delivery.next
            else:
                due = None
            if due is not None and now >= due:
                self._attempt(href, delivery, now)

    def _explained(self, delivery: Delivery) -> Delivery:
        variable = self.destinations.unavailable_here.get(delivery.target)
        if variable is None or self.destinations.is_open(delivery.target) or delivery.settled or delivery.detail:
            return delivery
        return replace(delivery, detail=f"left to a process that has {variable}, which is not set here")

    def _attempt(self, href: str, delivery: Delivery, now: datetime) -> None:
        """Give up a delivery that has expired; otherwise claim it, send it, and record the outcome."""
        if delivery.state == "pending" and now >= delivery.expires_at:
            failed = delivery.settle("failed", delivery.detail or "it was not sent in time")
            if self._replace(href, delivery, failed, now):
                _log.warning("%s of %s has failed: %s", delivery.id, href, failed.detail)
            return
        claimed = self._claim(href, delivery, now)
        if claimed is None:
            return  # another process has it
        outcome = claimed
        if not claimed.settled:
            outcome = self._recover(href, claimed, now) if delivery.state == "claimed" else self._send(href, claimed, now)
        _log.info("%s of %s is %s%s", claimed.id, href, outcome.state, f": {outcome.detail}" if outcome.detail else "")
        if outcome is not claimed:
            self._record(href, claimed, outcome, now)

    def _claim(self, href: str, delivery: Delivery, now: datetime) -> Delivery | None:
        """Claim a delivery and return it as it is to be sent, or settled if it is no longer true.

        The claim and the week that the message is about are read and written together. None if another process has it.
        """
        lease_id = uuid.uuid4().hex[:12]
        claimed: Delivery | None = None

        def choose(week: CalendarObject) -> Sequence[Delivery]:
            nonlocal claimed
            # An earlier attempt may have arrived although its answer was lost.
            claimed = next((stored for stored in week.deliveries if stored.lease_id == lease_id), None)
            if claimed is not None or delivery not in week.deliveries:
                return ()
            # An expired claim keeps its ticket: the message may be there.
            current = (
                _brought_up_to_date(self.sync.config, week, delivery, now) if delivery.state == "pending" else delivery
            )
            claimed = current if current.settled else current.claim(lease_id, now)
            return (claimed,)

        try:
            self.add(href, choose, now)
        except Unreachable:
            # The claim may be stored, but nothing was sent. It is withdrawn once the calendar is back.
            if claimed is not None and not claimed.settled:
                self._unrecorded[href, claimed.id] = claimed, delivery
            raise
        return claimed

    def _record(self, href: str, claimed: Delivery, outcome: Delivery, now: datetime) -> None:
        """Write an outcome to the calendar; if the calendar is away, keep it until later."""
        self._unrecorded.pop((href, claimed.id), None)
        try:
            self._replace(href, claimed, outcome, now)
        except Changed as error:  # the week is gone, or else the claim expires
            _log.warning("the outcome of %s is not recorded: %s", claimed.id, error)
        except CalendarError:
            self._unrecorded[href, claimed.id] = claimed, outcome
            raise

    def _replace(self, href: str, delivery: Delivery, new: Delivery, now: datetime) -> bool:
        """Replace a delivery on the calendar; return False if somebody else has replaced it."""
        is_ours = False

        def choose(week: CalendarObject) -> Sequence[Delivery]:
            nonlocal is_ours
            # An earlier attempt may have arrived although its answer was lost.
            is_ours = new in week.deliveries or delivery in week.deliveries
            return () if new in week.deliveries or not is_ours else (new,)

        self.add(href, choose, now)
        return is_ours

    def _send(self, href: str, claimed: Delivery, now: datetime) -> Delivery:
        try:
            if claimed.target == "ticket":
                return self._post(href, claimed, now)
            channel = self.destinations.channel(claimed.target)
            assert channel is not None  # only what is open here is claimed
            channel.send(_message_text(claimed, now))
        except Hopeless as error:
            return claimed.settle("failed", str(error))
        except NotSent as error:
            return claimed.retry(str(error), now)
        except Exception as error:  # whatever went wrong, the message may have arrived
            return self._unclear(href, claimed, error)
        return claimed.settle("sent")

    def _post(self, href: str, claimed: Delivery, now: datetime) -> Delivery:
        assert self.destinations.tickets is not None  # only what is open here is claimed
        if claimed.ticket is None:
            raise Hopeless("the week no longer has a ticket")
        comment = f"{_message_text(claimed, now)}\n\n##{_mark(href, claimed)}##"
        self.destinations.tickets.post(claimed.ticket, comment, assign=claimed.assign)
        return claimed.settle("sent", claimed.remark)

    def _unclear(self, href: str, claimed: Delivery, error: Exception) -> Delivery:
        """Return the outcome of a message that was just sent without a clear answer."""
        if not isinstance(error, Unsure):
            _log.exception("%s of %s failed", claimed.id, href)
        if claimed.target != "ticket":
            return claimed.settle("unknown", f"it may have arrived: {error}")
        try:
            if self._has_arrived(href, claimed):
                return claimed.settle("sent", claimed.remark)
        except Exception as unclear:
            error = unclear
        # The ticket system may still be writing it. Only once the claim has expired does a missing comment mean not sent.
        return replace(claimed, detail=f"cannot tell yet whether it arrived: {error}")

    def _recover(self, href: str, claimed: Delivery, now: datetime) -> Delivery:
        """Return the outcome of a message whose earlier claim expired; still claimed if the ticket system cannot tell."""
        if claimed.target != "ticket":
            return claimed.settle(
                "unknown", "it may have arrived: the process that sent it ended before recording the outcome"
            )
        try:
            arrived = self._has_arrived(href, claimed)
        except Exception as error:  # asked again once the claim has expired
            if now >= claimed.expires_at:
                return claimed.settle("unknown", f"it may have arrived: {error}")
            return replace(claimed, detail=f"cannot tell yet whether it arrived: {error}")
        return claimed.settle("sent", claimed.remark) if arrived else claimed.retry("it did not arrive", now)

    def _has_arrived(self, href: str, claimed: Delivery) -> bool:
        """Return whether a message is on its ticket; raises `NotSent` if the ticket system cannot tell now."""
        if self.destinations.tickets is None or claimed.ticket is None:
            raise NotSent("no ticket system is set up here")
        return self.destinations.tickets.has(claimed.ticket, _mark(href, claimed))


def send_handoff(dispatcher: Dispatcher, handoff: Handoff, now: datetime) -> tuple[Handoff, tuple[Delivery, ...]]:
    """Send the messages of a hand-off at `now` (aware); return it with the week's new etag, and the messages.

    The etag stays the old one if somebody else has changed the reservation since. Raises the calendar's errors.
    """
    deliveries = dispatcher.deliver(handoff.href, handoff.correlation_id, now)
    week = dispatcher.sync.agenda.objects.get(handoff.href)
    if week is None or week.reservation != handoff.outcome.reservation:
        return handoff, deliveries
    return replace(handoff, outcome=replace(handoff.outcome, etag=week.etag)), deliveries


def _mark(href: str, delivery: Delivery) -> str:
    """Return the text by which a delivery is found again on its ticket."""
    return f"calsync:{href.removesuffix('.ics')}/{delivery.id}"


def _brought_up_to_date(config: Config, week: CalendarObject, delivery: Delivery, now: datetime) -> Delivery:
    """Return the message as it is to be sent at `now`, or skipped if it is no longer true.

    Before it is sent, people may hand off again, change the pair or the ticket, and move slots.
    """
    if delivery.target == "announcements":
        return current_announcement(config, week, delivery, now)
    reservation = week.reservation
    assert reservation is not None  # as `add` checks
    if reservation.released:
        return delivery.settle("skipped", f"{reservation.week} was released meanwhile")
    if delivery.to is not None and reservation.responsible is None:
        return delivery.settle("skipped", f"{reservation.week} now has another pair")
    if delivery.target != "ticket":
        return delivery
    assign = remark = None
    if delivery.to == reservation.in_charge.name:
        person = config.roster.get(delivery.to)
        assign = person.ticket_user if person is not None else None
        if assign is None:
            remark = f"commented only: conductors.ticket_user of {delivery.to} is not set, so the ticket is not assigned"
    elif delivery.to is not None:
        remark = f"commented only: {reservation.in_charge.name} is responsible now"
    return replace(delivery, ticket=reservation.ticket, assign=assign, remark=remark)


def _message_text(message: Delivery, now: datetime) -> str:
    """Return the text to send at `now`; a late message carries the date on which it was made."""
    text = strip_controls(message.text)
    if message.target == "announcements" or (message.attempts == 1 and now - message.created_at < LATE):
        return text
    return f"{text} [of {message.created_at:%a} {message.created_at.day} {message.created_at:%b %H:%M} UTC]"


def _clock(now: datetime) -> Callable[[], datetime]:
    """Return a clock that starts at `now`."""
    started = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - started)
